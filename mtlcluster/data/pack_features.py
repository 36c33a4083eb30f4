"""Packs feature files, one for each clip and kind (`<clip>_<kind>.npy`), into one file (see packed_features.py).

Kinds that are always used as their sum can be stored as the sum, such as {"video": ("rgb", "flow")}.

There are two passes. The first reads the headers and lays out the whole HDF5 file as `<name>.partial` beside the
target. The second copies the values to their places without HDF5, so that only values can be half written. Every few
seconds it notes how many sequences are in; after an interruption it goes on from there. The file gets its name when
everything is in it and has passed the checks.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import h5py
import numpy as np

from mtlcluster.data.feature_files import (
    CHECKS,
    Sequence,
    Source,
    Sums,
    load,
    load_sum,
    read_headers,
    scan,
    sequences_of,
)
from mtlcluster.data.packed_features import FORMAT, PackedFeatures
from mtlcluster.errors import UserError
from mtlcluster.progress import Say, followed
from mtlcluster.sweep.disk import naming_the_disk
from mtlcluster.sweep.locks import try_lock

NOTE = 2.0  # seconds of work that an interruption may cost
UNBEGUN = -1  # the note while the structure may be torn
SHOWN = 5  # names in a message
ALIGNED = 4096  # bytes, a page: rows that begin anywhere take longer to copy


def pack(folder: Path, target: Path, force: bool, say: Say, sums: Sums = MappingProxyType({})) -> None:
    """Packs a folder, or goes on with it.

    Args:
        folder: the feature files.
        target: the file to write.
        force: write it also if it is there, made of something else.
        say: tells the user something.
        sums: kinds to store in place of the kinds that they are the sum of. A clip has a sum if it has all its parts.

    Raises:
        UserError: files are bad (the message names the first few), or the target is there and `force` is not given.
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
    with naming_the_disk(partial), _owned(partial) as file:
        done = _noted(partial, source)
        if done is None:
            _begin(partial, source, say)
            done = 0
        else:
            say(f"going on with {partial}: {done:,} of {source.count:,} sequences are in")
        try:
            _fill(file, partial, source, done, say)
        except KeyboardInterrupt:
            say(f"interrupted; the same command goes on with {partial}")
            raise
        if scan(folder, sums).digest != source.digest:
            raise UserError(
                f"files in {folder} changed while they were packed; run the command again when they no longer change"
            )
        os.replace(partial, target)
    _tell(source, target, say)


def _is_there(target: Path, source: Source) -> bool:
    """True if `target` is complete and made of exactly these files. Raises UserError if it is something else."""
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
    """Opens the file for one process at a time. It stays after an interruption, unless it is empty."""
    with open(partial, "a+b") as opened, open(partial, "r+b") as file:
        if not try_lock(opened.fileno()):
            raise UserError(f"another mtlcluster pack-features is writing {partial}; wait for it, or stop it")
        try:
            yield file
        finally:
            if partial.exists() and not partial.stat().st_size:
                partial.unlink()


def _noted(partial: Path, source: Source) -> int | None:
    """The number of sequences that are in a partial file of these source files. None: it must be started again."""
    try:
        with h5py.File(partial, "r", locking=False) as file:
            done = int(file["packed"][0])
            return done if done >= 0 and file.attrs["source"] == source.digest else None
    except (OSError, KeyError):
        return None


def _begin(partial: Path, source: Source, say: Say) -> None:
    """Reads all headers and lays out the file. Raises UserError for bad files or a disk that is too small."""
    problems: list[str] = []
    headers = read_headers(source, problems, say)
    if problems:
        say(f"{_bad(problems)}; looking at the values of the others before saying which")
        for path, shape in followed("looking at values", headers.items(), say):
            load(path, shape, problems)
        raise UserError(_refusal(source, problems))
    sequences = sequences_of(source, headers)
    needed = sum(4 * length * width for of_kind in sequences.values() for _, length, width in of_kind.values())
    free = shutil.disk_usage(partial.parent).free
    if free < needed:
        raise UserError(f"{partial.parent} has {free / 2**30:.1f} GiB free; the features take {needed / 2**30:.1f}")
    _lay_out(partial, source, sequences)


def _lay_out(partial: Path, source: Source, sequences: dict[str, dict[str, Sequence]]) -> None:
    """Writes the whole structure with places for the values. Notes count only once it is on the disk."""
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
    """Every sequence with the byte at which its values begin, in the order of the file; and the byte of the note."""
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
    """Copies the sequences that are not in yet. If there are bad values, they are collected and the file is removed."""
    places, note_at = _places(partial, source)
    problems: list[str] = []

    def note() -> None:
        file.flush()
        os.fsync(file.fileno())  # the values before the note that they are there
        os.pwrite(file.fileno(), np.array(done, "<i8").tobytes(), note_at)
        os.fsync(file.fileno())

    note()
    noted_at = time.monotonic()
    try:
        for sequence, place in followed("packing", places[done:], say):
            values = load_sum(sequence, problems)
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
        "mend or remove them, and run the command again"
    )


def _bad(problems: list[str]) -> str:
    files = {problem.partition(": ")[0] for problem in problems}
    return f"{len(files):,} bad file{'s' * (len(files) != 1)}"


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
