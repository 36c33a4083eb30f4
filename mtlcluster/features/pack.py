"""Packs features of one file per clip and kind, `<clip>_<kind>.npy`, into one file; `packed.py` says how it looks.

Kinds that are always used as their sum can be stored as that: `sums` says which, {"video": ("rgb", "flow")}.

Two passes. The first reads headers and lays the file out, HDF5 structure and all, as `<name>.partial` beside the
target. The second copies the values to their places without HDF5, so that nothing but values is ever half written,
and notes every few seconds how many sequences are in; who is interrupted goes on from that note. A target has its
name only when everything is in it and has passed.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from mtlcluster.errors import UserError, nearest
from mtlcluster.features.packed import FORMAT, PackedFeatures
from mtlcluster.progress import progress
from mtlcluster.sweep.files import try_lock

CHECKS = [
    "2-D [segments, width], at least one segment, one width per kind",
    "floating point of 16, 32 or 64 bits, stored as float32",
    "no NaN, nothing infinite as float32",
]
NOTE = 2.0          # seconds of work that an interruption may cost
NEWS = 30.0         # seconds between two lines of news where there is no terminal for a bar
UNBEGUN = -1        # the note while the structure may be torn
SHOWN = 5           # names in a message
ALIGNED = 4096      # bytes, a page: rows that begin anywhere take longer to copy
T = TypeVar("T")
Say = Callable[[str], object]
Sums = Mapping[str, tuple[str, ...]]
Headers = dict[Path, tuple[int, int]]       # (length, width) of a source file


class Sequence(NamedTuple):
    """One clip's values of a kind: of one source file, or the sum of several; and what their headers say."""

    paths: tuple[Path, ...]
    length: int
    width: int


@dataclass
class Source:
    """What lies in a folder: files[kind][clip], and the names that are no `<clip>_<kind>.npy`, or not in UTF-8; and
    the files of each sequence to store, stored[kind][clip].
    """

    folder: Path
    files: dict[str, dict[str, Path]] = field(default_factory=dict)
    stored: dict[str, dict[str, tuple[Path, ...]]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    digest: str = ""

    @property
    def count(self) -> int:
        return sum(map(len, self.stored.values()))

    @property
    def clips(self) -> list[str]:
        return sorted(set().union(*self.files.values()))


def pack(folder: Path, target: Path, force: bool, say: Say, sums: Sums = MappingProxyType({})) -> None:
    """Packs `folder` into `target`, or goes on with it; tells `say` what a user should know. `sums`: kinds to store in
    place of the kinds that they are the sum of; a clip has a sum where it has all its parts.

    Raises UserError where files are bad (the first few by name, and how many), or where `target` is there, made of
    something else, and `force` is not given.
    """
    if target.is_dir():
        raise UserError(f"{target} is a folder; name a file to write, such as {target / 'features.h5'}")
    source = scan(folder, sums)
    if not source.files:
        raise UserError(f"{folder} holds no files named <clip>_<kind>.npy, such as TkZFuKHXa7w_2_rgb.npy")
    if not force and _is_there(target, source):
        say(f"{target} is complete already: {_of(source)}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with _owned(partial) as file:
        done = _noted(partial, source)
        if done is None:
            _begin(partial, source, say)
            done = 0
        else:
            say(f"going on with {partial}: {done:,} of {source.count:,} sequences are in")
        try:
            _fill(file, partial, source, done, say)
        except KeyboardInterrupt:
            say(f"interrupted; the same call goes on with {partial}")
            raise
        if scan(folder, sums).digest != source.digest:
            raise UserError(f"files in {folder} changed while they were packed; call it again when they are at rest")
        os.replace(partial, target)
    _tell(source, target, say)


def read_sums(texts: Iterable[str]) -> Sums:
    """["video=rgb+flow"] as {"video": ("rgb", "flow")}. Raises UserError for anything else."""
    sums: dict[str, tuple[str, ...]] = {}
    for text in texts:
        kind, _, parts = text.partition("=")
        names = tuple(parts.split("+"))
        if len(names) < 2 or not all(map(_is_kind, (kind, *names))) or kind in sums:
            raise UserError(f"--add {text}: expected a new kind and those that it is the sum of: --add video=rgb+flow")
        sums[kind] = names
    return sums


def scan(folder: Path, sums: Sums) -> Source:
    """The files of a folder, not of folders in it. The digest is over names, sizes and times of change, and sums.

    Raises UserError for sums of kinds that are not there.
    """
    source, digest = Source(folder), hashlib.sha256(json.dumps(sorted(sums.items())).encode())
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if entry.is_file()), key=lambda entry: entry.name)
    for entry in found:
        clip, _, kind = entry.name.removesuffix(".npy").rpartition("_")
        readable = os.fsencode(entry.name).decode(errors="backslashreplace")
        if not (entry.name.endswith(".npy") and clip and _is_kind(kind) and readable == entry.name):
            source.others.append(readable)
            continue
        source.files.setdefault(kind, {})[clip] = Path(entry.path)
        status = entry.stat()
        digest.update(f"{entry.name}/{status.st_size}/{status.st_mtime_ns}/".encode())
    source.digest = digest.hexdigest()
    source.stored = _stored(source.files, sums) if source.files else {}
    return source


def _is_kind(name: str) -> bool:
    return name.replace("-", "").isalnum()


def _stored(files: dict[str, dict[str, Path]], sums: Sums) -> dict[str, dict[str, tuple[Path, ...]]]:
    parts = {part for each in sums.values() for part in each}
    for part in sorted(parts - set(files)):
        raise UserError(f"--add: there are no files of kind '{part}'{nearest(part, list(files))}")
    stored: dict[str, dict[str, tuple[Path, ...]]] = {
        kind: {clip: (path,) for clip, path in of_kind.items()} for kind, of_kind in files.items() if kind not in parts
    }
    for kind, each in sums.items():
        if kind in stored:
            raise UserError(f"--add: files of kind '{kind}' are there already; give the sum another name")
        whole = set.intersection(*(set(files[part]) for part in each))
        stored[kind] = {clip: tuple(files[part][clip] for part in each) for clip in sorted(whole)}
        if not stored[kind]:
            raise UserError(f"--add: no clip has all of {' and '.join(each)}")
    return stored


def _is_there(target: Path, source: Source) -> bool:
    """Whether `target` is whole and made of these very files. Raises UserError where it is anything else."""
    if not target.exists():
        return False
    try:
        PackedFeatures(target)
        with h5py.File(target, "r", locking=False) as file:
            if file.attrs["source"] == source.digest:
                return True
        why = f"was packed from other files than those in {source.folder} now"
    except ValueError:
        why = "is there and is no packed features"
    raise UserError(f"{target} {why}; choose another name, or replace it with --force")


@contextmanager
def _owned(partial: Path) -> Iterator[BinaryIO]:
    """The file, for one process at a time. What an interruption leaves stays; an empty one is removed."""
    with open(partial, "a+b") as opened, open(partial, "r+b") as file:
        if not try_lock(opened.fileno()):
            raise UserError(f"another mtlcluster pack-features is writing {partial}; wait for it, or stop it")
        try:
            yield file
        finally:
            if partial.exists() and not partial.stat().st_size:
                partial.unlink()


def _noted(partial: Path, source: Source) -> int | None:
    """How many of these very source files are in a partial file already; None where it is to be begun anew."""
    try:
        with h5py.File(partial, "r", locking=False) as file:
            done = int(file["packed"][0])
            return done if done >= 0 and file.attrs["source"] == source.digest else None
    except (OSError, KeyError):
        return None


def _begin(partial: Path, source: Source, say: Say) -> None:
    """Reads all headers and lays the file out. Raises UserError for bad files, or too small a disk."""
    problems: list[str] = []
    headers = _headers(source, problems, say)
    _refuse_unequal_parts(source, headers, problems)
    if problems:
        say(f"{_bad(problems)}; looking at the values of the others before saying which")
        for path, shape in _followed("looking at values", headers.items(), say):
            _load(path, shape, problems)
        raise UserError(_refusal(source, problems))
    sequences = _sequences(source, headers)
    needed = sum(4 * length * width for of_kind in sequences.values() for _, length, width in of_kind.values())
    free = shutil.disk_usage(partial.parent).free
    if free < needed:
        raise UserError(f"{partial.parent} has {free / 2**30:.1f} GiB free; the features take {needed / 2**30:.1f}")
    _lay_out(partial, source, sequences)


def _followed(what: str, items: Collection[T], say: Say) -> Iterator[T]:
    """`items`, with a bar where they take long, or a line now and then where there is no terminal."""
    with progress(what, len(items)) as advance:
        told_at = time.monotonic()
        for number, item in enumerate(items):
            yield item
            advance()
            if not sys.stderr.isatty() and time.monotonic() - told_at > NEWS:
                say(f"{what}: {number + 1:,} of {len(items):,} files")
                told_at = time.monotonic()


def _headers(source: Source, problems: list[str], say: Say) -> Headers:
    """What the headers say, of those files in which nothing is wrong so far."""
    headers = {}
    for kind, files in source.files.items():
        found = {}
        for path in _followed(f"reading headers of {kind}", files.values(), say):
            try:
                found[path] = _shape(path)
            except (ValueError, OSError) as error:
                problems.append(f"{path.name}: {error}")
        widths = [width for _, width in found.values()]
        usual = max(set(widths), key=widths.count, default=0)
        for path, (length, width) in found.items():
            if width == usual:
                headers[path] = length, width
            else:
                problems.append(f"{path.name}: width {width}, other clips' {kind} have {usual}")
    return headers


def _refuse_unequal_parts(source: Source, headers: Headers, problems: list[str]) -> None:
    for of_kind in source.stored.values():
        for first, *others in of_kind.values():
            for path in others:
                if first in headers and path in headers and headers[first] != headers[path]:
                    shapes = f"{list(headers[path])}, {first.name} has {list(headers[first])}"
                    problems.append(f"{path.name}: shape {shapes}; they cannot be added")


def _sequences(source: Source, headers: Headers) -> dict[str, dict[str, Sequence]]:
    return {
        kind: {clip: Sequence(paths, *headers[paths[0]]) for clip, paths in of_kind.items()}
        for kind, of_kind in source.stored.items()
    }


def _shape(path: Path) -> tuple[int, int]:
    """(length, width) from the header. Raises ValueError, saying what is wrong, for anything but a whole sequence."""
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except ValueError as error:
            raise ValueError(f"unreadable, no .npy file or cut short ({error})") from None
        present = path.stat().st_size - file.tell()
    if dtype.hasobject:
        raise ValueError("holds pickled objects, which could run anything when loaded; save it as a float32 array")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"type {dtype}, expected float32 (float16 and float64 are converted)")
    if len(shape) != 2:
        raise ValueError(f"shape {list(shape)}, expected [segments, width]")
    if not shape[0] or not shape[1]:
        raise ValueError(f"shape {list(shape)}: nothing in it; leave the file out where a clip lacks the kind")
    expected = shape[0] * shape[1] * dtype.itemsize
    if present < expected:
        raise ValueError(f"cut short: {present:,} of {expected:,} bytes of values")
    return shape[0], shape[1]


def _load_sum(sequence: Sequence, problems: list[str]) -> NDArray[np.float32] | None:
    """[length, width], float32; None, and one more problem for each file whose values are not all finite."""
    loaded = [_load(path, (sequence.length, sequence.width), problems) for path in sequence.paths]
    values = [each for each in loaded if each is not None]
    if len(values) < len(loaded):
        return None
    with np.errstate(over="ignore"):
        total: NDArray[np.float32] = sum(values[1:], values[0])
    names = " + ".join(path.name for path in sequence.paths)
    return total if len(values) == 1 or _finite(names, total, problems) else None


def _load(path: Path, shape: tuple[int, int], problems: list[str]) -> NDArray[np.float32] | None:
    try:
        with np.errstate(over="ignore"):
            values: NDArray[np.float32] = np.load(path, allow_pickle=False).astype("<f4", order="C", copy=False)
        if values.shape != shape:
            raise ValueError("changed while it was packed")
    except (ValueError, OSError, EOFError) as error:
        problems.append(f"{path.name}: {error}")
        return None
    return values if _finite(path.name, values, problems) else None


def _finite(name: str, values: NDArray[np.float32], problems: list[str]) -> bool:
    finite = np.isfinite(values)
    if finite.all():
        return True
    segment, column = np.argwhere(~finite)[0].tolist()
    others = finite.size - int(finite.sum()) - 1
    more = f" and {others:,} more such value{'s' * (others != 1)}" if others else ""
    problems.append(f"{name}: {values[segment, column]} at segment {segment}, column {column}{more}")
    return False


def _lay_out(partial: Path, source: Source, sequences: dict[str, dict[str, Sequence]]) -> None:
    """The whole structure, with the values' places reserved; only once it is on the disk can a note count."""
    with h5py.File(partial, "w", locking=False, alignment_threshold=ALIGNED, alignment_interval=ALIGNED) as file:
        clips = source.clips
        file["ids"] = clips
        for kind, of_kind in sequences.items():
            lengths = [of_kind[clip].length if clip in of_kind else 0 for clip in clips]
            width = next(iter(of_kind.values())).width
            offsets = np.cumsum([0, *lengths], dtype=np.int64)
            reserved = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            reserved.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            reserved.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            total = int(offsets[-1])
            file.create_dataset(f"kinds/{kind}/values", (total + 1, width), "<f4", dcpl=reserved)[total] = 0
            file[f"kinds/{kind}/offsets"] = offsets
        file["packed"] = np.array([UNBEGUN], "<i8")
        file.attrs.update(
            format=FORMAT, sequences=source.count, source=source.digest, checks=json.dumps(CHECKS),
        )  # fmt: skip
        file.flush()


def _places(partial: Path, source: Source) -> tuple[list[tuple[Sequence, int]], int]:
    """Every sequence with the byte at which its values begin, in the file's own order; and the note's byte."""
    places = []
    with h5py.File(partial, "r", locking=False) as file:
        for kind, of_kind in source.stored.items():
            values, offsets = file[f"kinds/{kind}/values"], file[f"kinds/{kind}/offsets"][:].tolist()
            width, start = values.shape[1], values.id.get_offset()
            for i, clip in enumerate(source.clips):
                if clip in of_kind:
                    sequence = Sequence(of_kind[clip], offsets[i + 1] - offsets[i], width)
                    places.append((sequence, start + 4 * width * offsets[i]))
        note_at: int = file["packed"].id.get_offset()
    return places, note_at


def _fill(file: BinaryIO, partial: Path, source: Source, done: int, say: Say) -> None:
    """Copies what is not in yet. Bad values are collected; then the partial file is of no use and goes."""
    places, note_at = _places(partial, source)
    problems: list[str] = []

    def note() -> None:
        file.flush()
        os.fsync(file.fileno())     # the values before the note that they are there
        os.pwrite(file.fileno(), np.array(done, "<i8").tobytes(), note_at)
        os.fsync(file.fileno())

    note()
    noted_at = time.monotonic()
    try:
        for sequence, place in _followed("packing", places[done:], say):
            values = _load_sum(sequence, problems)
            if values is not None and not problems:
                file.seek(place)
                file.write(values.data)
                done += 1
                if time.monotonic() - noted_at > NOTE:
                    note()
                    noted_at = time.monotonic()
    finally:
        note()
    if problems:
        partial.unlink()
        raise UserError(_refusal(source, problems))


def _refusal(source: Source, problems: list[str]) -> str:
    shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
    more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    files = sum(map(len, source.files.values()))
    return (
        f"{_bad(problems)} of {files:,} in {source.folder}; nothing was packed:{shown}{more}\n"
        "mend or remove them, and call it again"
    )


def _bad(problems: list[str]) -> str:
    return f"{len(problems):,} bad file{'s' * (len(problems) != 1)}"


def _of(source: Source) -> str:
    return f"{len(source.clips):,} clips, {', '.join(source.stored)}"


def _names(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _tell(source: Source, target: Path, say: Say) -> None:
    for kind, of_kind in source.stored.items():
        if lacking := [clip for clip in source.clips if clip not in of_kind]:
            say(f"{len(lacking):,} of {len(source.clips):,} clips have no {kind}: {_names(lacking)}")
    if source.others:
        files = f"{len(source.others):,} file{'s' * (len(source.others) != 1)}"
        say(f"left out, not named <clip>_<kind>.npy in UTF-8: {files}: {_names(source.others)}")
    say(f"{target}: {_of(source)}, {target.stat().st_size / 2**20:,.1f} MiB")
