"""Finds the feature files of a folder, one for each clip and kind (`<clip>_<kind>.npy`), and checks them.

Mistakes are collected, so that a user hears of all bad files at once.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlcluster.errors import UserError, nearest
from mtlcluster.progress import Say, followed

CHECKS = [
    "2-D [segments, width], at least one segment, one width per kind",
    "floating point of 16, 32 or 64 bits, stored as float32",
    "no NaN, nothing infinite as float32",
]
Sums = Mapping[str, tuple[str, ...]]
Headers = dict[Path, tuple[int, int]]  # (length, width) of a file


class Sequence(NamedTuple):
    """The values of a clip and a kind.

    Attributes:
        paths: the source file, or several, whose sum the values are.
        length: segments, from the headers.
        width: values in a segment.
    """

    paths: tuple[Path, ...]
    length: int
    width: int


@dataclass
class Source:
    """The content of a folder of features.

    Attributes:
        folder: the folder.
        files: files[kind][clip] is a file.
        stored: stored[kind][clip] are the files of a sequence to store.
        others: names that are not `<clip>_<kind>.npy`, or not in UTF-8.
        digest: over the names, sizes and times of the files, and the sums.
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


def read_sums(texts: Iterable[str]) -> Sums:
    """Reads ["video=rgb+flow"] as {"video": ("rgb", "flow")}. Raises UserError for anything else."""
    sums: dict[str, tuple[str, ...]] = {}
    for text in texts:
        kind, _, parts = text.partition("=")
        names = tuple(parts.split("+"))
        distinct = len({kind, *names}) == 1 + len(names)
        if len(names) < 2 or not all(map(_is_kind, (kind, *names))) or kind in sums or not distinct:
            raise UserError(f"--add {text}: expected a new kind and those that it is the sum of: --add video=rgb+flow")
        sums[kind] = names
    return sums


def scan(folder: Path, sums: Sums) -> Source:
    """Finds the files of a folder, without its subfolders.

    Args:
        folder: the folder.
        sums: kinds to store in place of those that they are the sum of.

    Raises:
        UserError: a sum is of kinds that are not there.
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
        if kind in files:
            raise UserError(f"--add: files of kind '{kind}' are there already; give the sum another name")
        whole = set.intersection(*(set(files[part]) for part in each))
        stored[kind] = {clip: tuple(files[part][clip] for part in each) for clip in sorted(whole)}
        if not stored[kind]:
            raise UserError(f"--add: no clip has all of {' and '.join(each)}")
    return stored


def read_headers(source: Source, problems: list[str], say: Say) -> Headers:
    """Reads the headers. Returns those of sound files; `problems` gets what is wrong with others."""
    headers = {}
    for kind, files in source.files.items():
        found = {}
        for path in followed(f"reading headers of {kind}", files.values(), say):
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
    _find_unequal_parts(source, headers, problems)
    return headers


def _find_unequal_parts(source: Source, headers: Headers, problems: list[str]) -> None:
    for of_kind in source.stored.values():
        for first, *others in of_kind.values():
            for path in others:
                if first in headers and path in headers and headers[first] != headers[path]:
                    shapes = f"{list(headers[path])}, {first.name} has {list(headers[first])}"
                    problem = f"{path.name}: shape {shapes}; they cannot be added"
                    problems += [problem] if problem not in problems else []


def sequences_of(source: Source, headers: Headers) -> dict[str, dict[str, Sequence]]:
    """The sequences to store, by kind and clip."""
    return {
        kind: {clip: Sequence(paths, *headers[paths[0]]) for clip, paths in of_kind.items()}
        for kind, of_kind in source.stored.items()
    }


def _shape(path: Path) -> tuple[int, int]:
    """Reads (length, width) from a header. Raises ValueError with what is wrong if it is not a whole sequence."""
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


def load_sum(sequence: Sequence, problems: list[str]) -> NDArray[np.float32] | None:
    """Loads a sequence, [length, width], float32. Returns None if its files are broken; `problems` then gets more."""
    loaded = [load(path, (sequence.length, sequence.width), problems) for path in sequence.paths]
    values = [each for each in loaded if each is not None]
    if len(values) < len(loaded):
        return None
    with np.errstate(over="ignore"):
        total: NDArray[np.float32] = sum(values[1:], values[0])
    names = " + ".join(path.name for path in sequence.paths)
    return total if len(values) == 1 or _finite(names, total, problems) else None


def load(path: Path, shape: tuple[int, int], problems: list[str]) -> NDArray[np.float32] | None:
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
