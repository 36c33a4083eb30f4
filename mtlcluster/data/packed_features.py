"""Reads a file that `mtlcluster pack-features` wrote: the sequences of many clips, mapped into memory.

The file is HDF5. Each kind of features is a group `kinds/<kind>` of

    values      [total + 1, width], float32, contiguous: the sequences of all clips, one after another, and a row of
                zeros, which batches repeat where there is nothing
    offsets     [clips + 1], int64: clip i has the rows offsets[i] to offsets[i + 1]; none where it lacks the kind

The file also has `ids` [clips], the names of the clips in the same order, and `packed` [1], the number of sequences so
far. Its attributes are `format`; `sequences`, the number of sequences that it will have; `source`, a digest of the
names, sizes and times of the source files; and `checks`, the checks that every sequence has passed, as JSON.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mtlcluster.errors import nearest
from mtlcluster.sweep.disk import DiskError, naming_the_disk

if TYPE_CHECKING:
    from mtlcluster.data.sequences import Padded

FORMAT = "mtlcluster features 2"


class PackedFeatures:
    """The features of many clips in one file.

    It holds mappings only, no HDF5 handle, and is pickled as its path. So it is safe in the processes of a data loader,
    forked or spawned, and they share the pages that the system has read.

    Args:
        path: the file, as `mtlcluster pack-features` wrote it.

    Attributes:
        ids: the names of the clips.
        kinds: the kinds of features.

    Raises:
        ValueError: the file is missing, cut short, unfinished or something else.

    Example:
        >>> features = PackedFeatures("features.h5")
        >>> video = features.batch("video", ["clip1", "clip2"], longest=100)  # values [2, L, width], L ≤ 100
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        try:
            with naming_the_disk(self.path), h5py.File(self.path, "r", locking=False) as file:
                self._read(file)
        except DiskError:
            raise
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; mtlcluster pack-features SOURCE_DIR {path} makes it") from None
        except (OSError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path}: no packed features, or cut short ({reason}); copy it again, or make it anew with "
                "mtlcluster pack-features"
            ) from None

    def _read(self, file: h5py.File) -> None:
        if file.attrs.get("format") != FORMAT:
            raise OSError(f"its format is {file.attrs.get('format')!r}, not {FORMAT!r}")
        done, sequences = int(file["packed"][0]), int(file.attrs["sequences"])
        if done < sequences:
            raise ValueError(
                f"{self.path}: unfinished, holds {done:,} of {sequences:,} sequences; the same "
                "mtlcluster pack-features as before goes on with it"
            )
        self.ids: list[str] = file["ids"].asstr()[:].tolist()
        groups = file["kinds"]
        self.kinds = list(groups)
        self._index = {clip: i for i, clip in enumerate(self.ids)}
        self._offsets: dict[str, NDArray[np.int64]] = {kind: groups[kind]["offsets"][:] for kind in self.kinds}
        self._values = {kind: self._map(groups[kind]["values"]) for kind in self.kinds}

    def _map(self, values: h5py.Dataset) -> NDArray[np.float32]:
        offset = values.id.get_offset()
        if offset is None or values.dtype != "<f4" or offset + values.nbytes > self.path.stat().st_size:
            raise OSError(f"{values.name} is not whole")
        # A plain array over the mapping: slices of np.memmap itself take ten times as long.
        mapped: NDArray[np.float32] = np.memmap(self.path, "<f4", "r", offset, values.shape).view(np.ndarray)
        return mapped

    def __reduce__(self) -> tuple[Callable[[Path], Any], tuple[Path]]:
        return PackedFeatures, (self.path,)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, clip: object) -> bool:
        return clip in self._index

    def get(self, kind: str, clip: str) -> NDArray[np.float32]:
        """The features of one clip.

        Args:
            kind: the kind of features.
            clip: the name of the clip.

        Returns:
            [length, width], float32, a view into the file that cannot be written; length 0 if the clip lacks the kind.

        Raises:
            ValueError: there is no such kind or clip; the message says the nearest name.
        """
        first, end = self._rows(kind, clip)
        return self._values[kind][first:end]

    def batch(self, kind: str, clips: Sequence[str], longest: int | None = None) -> "Padded":
        """The features of several clips, by one copy from the file.

        Args:
            kind: the kind of features.
            clips: the names of N clips.
            longest: longer sequences are cut to this length. None: none is cut.

        Returns:
            Values [N, L, width], L the longest length. A clip that lacks the kind has one segment of zeros, which the
            mask calls valid.

        Raises:
            ValueError: there is no such kind or clip; the message says the nearest name.
        """
        import torch

        from mtlcluster.data.sequences import Padded

        try:
            index, offsets = np.array([self._index[clip] for clip in clips]), self._offsets[kind]
        except KeyError:
            raise self._unknown(kind, clips) from None
        first, lengths = offsets[index], offsets[index + 1] - offsets[index]
        most = max(1, int(lengths.max()))
        segments = np.arange(most if longest is None else min(most, longest))
        mask = segments < lengths[:, None]
        rows = np.where(mask, first[:, None] + segments, offsets[-1])  # elsewhere the row of zeros
        mask[:, 0] = True
        values = self._values[kind].take(rows, 0, mode="clip")  # faster than torch.index_select on one thread
        return Padded(torch.from_numpy(values), torch.from_numpy(mask))

    def length(self, kind: str, clip: str) -> int:
        """The length of a sequence.

        Args:
            kind: the kind of features.
            clip: the name of the clip.

        Returns:
            The number of segments; 0 if the clip lacks the kind.

        Raises:
            ValueError: there is no such kind or clip.
        """
        first, end = self._rows(kind, clip)
        return end - first

    def width(self, kind: str) -> int:
        """The width of a kind of features.

        Args:
            kind: the kind of features.

        Returns:
            The number of values in a segment.

        Raises:
            ValueError: there is no such kind.
        """
        if kind not in self._values:
            raise self._unknown(kind, [])
        return int(self._values[kind].shape[1])

    def _rows(self, kind: str, clip: str) -> tuple[int, int]:
        try:
            offsets, index = self._offsets[kind], self._index[clip]
        except KeyError:
            raise self._unknown(kind, [clip]) from None
        return offsets.item(index), offsets.item(index + 1)

    def _unknown(self, kind: str, clips: Sequence[str]) -> ValueError:
        if kind not in self._values:
            return ValueError(f"{self.path} has no features of kind '{kind}'{nearest(kind, self.kinds)}")
        clip = next(clip for clip in clips if clip not in self._index)
        close = nearest(clip, self.ids) if len(self.ids) < 10_000 else ""
        return ValueError(f"{self.path} has no clip '{clip}'{close}")
