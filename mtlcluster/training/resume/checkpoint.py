"""Checkpoints of a run: the two newest and the best, each with a checksum. Loading never executes code."""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mtlcluster.sweep.checksums import checksum_file, has_valid_checksum, write_checksum
from mtlcluster.sweep.files import replace
from mtlcluster.training.resume import plain_pickle

KEEP = 2  # the number of newest checkpoints that are kept
FAILURE = "failure.pt"
OWN = re.compile(r"(step|best)-([0-9]{9,})\.pt")  # other files in the folder belong to the user
UNFINISHED = re.compile(r"\.(step-[0-9]+|best-[0-9]+|failure)\.pt(\.sha256)?\.[0-9]+\.new")
PLAIN = "numbers, text, None, tensors, numpy arrays of numbers, and dicts, lists, tuples and sets of them"
REFUSED = re.compile(r"WeightsUnpickler error: (.+?)(?:\. |\.?\n|$)")
State = dict[str, Any]


class Unreadable(ValueError):
    """A checkpoint cannot hold this state; or a checkpoint cannot be loaded, though its checksum fits."""


class Unfit(ValueError):
    """The run cannot continue from its checkpoint: configuration, model or data have changed."""


def save(path: Path, state: State) -> None:
    """Writes a state, then its checksum. A file without a fitting checksum was not finished.

    An older file at `path` is replaced only after the new one has been read back.

    Raises:
        Unreadable: The state could not be loaded again.
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(file: Any) -> None:
        torch.save(state, file, pickle_module=plain_pickle)
        file.flush()
        try:
            _load(Path(file.name), mmap=True)  # without the contents of the tensors: milliseconds
        except RuntimeError:  # a file system without mmap
            _load(Path(file.name))
        checksum_file(path).unlink(missing_ok=True)

    try:
        replace(path, write)
    except OSError:
        raise
    except Exception:  # pickle and torch raise anything
        refuse_unreadable(state)
        raise
    write_checksum(path)


def refuse_unreadable(state: State) -> None:
    """Checks in milliseconds that a state could be loaded again.

    Raises:
        Unreadable: It could not; the message names the key.
    """
    if found := _culprit(state):
        key, kind = found
        raise Unreadable(
            f"'{key}' cannot be kept in a checkpoint: a value of type {kind} could not be read back; use only {PLAIN}"
        )


def _culprit(value: Any, key: str = "") -> tuple[str, str] | None:
    """Finds the value of a state that cannot be read back: its key, such as `schedule.history`, and its type."""
    if _is_readable(value):
        return None
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    inside = (_culprit(inner, f"{key}.{name}" if key else str(name)) for name, inner in items)
    return next((found for found in inside if found), (key, type(value).__name__))


def _is_readable(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file, pickle_module=plain_pickle.Hollow)
        _load(file)
    except Exception:  # pickle and torch raise anything
        return False
    return True


def check(path: Path) -> None:
    """Raises ValueError for a file whose checksum does not fit."""
    if not has_valid_checksum(path):
        raise ValueError(f"{path.name} is torn or corrupt: its checksum does not fit")


def load(path: Path) -> State:
    """Loads a checkpoint.

    Raises:
        ValueError: The checksum does not fit.
        Unreadable: It fits, but the file is no checkpoint that can be read.
    """
    check(path)
    try:
        return _load(path)
    except Exception as error:  # a file of another version can fail in any way
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if found := REFUSED.search(str(error)):  # torch's message is long and speaks of its own options
            reason = f"it holds more than plain values: {found[1]}"
        raise Unreadable(f"{path.name} is whole, but cannot be read: {reason}") from error


def _load(source: Path | io.BytesIO, mmap: bool = False) -> State:
    if isinstance(source, io.BytesIO):
        source.seek(0)
    admitted: list[Any] = [plain_pickle.numpy_scalar, plain_pickle.numpy_array, *_named_tuples(source)]
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with torch.serialization.safe_globals(admitted):
        state: State = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    return state


def _named_tuples(source: Any) -> Iterator[type]:
    """The classes of named tuples in a file that are imported already: the batches of a failed step may have them."""
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(source):
        module, _, attribute = name.rpartition(".")
        found = getattr(sys.modules.get(module), attribute, None)
        if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields"):
            yield found


class Checkpoints:
    """A run's folder checkpoints/.

    It holds `step-<n>.pt`, to go on from; `best-<n>.pt`, the model after the best validation; and `failure.pt`, a step
    that was refused because it was not finite.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best_of: dict[int, int | None] = {}  # by the step of each kept checkpoint: the step of its best one

    def save(self, step: int, state: State) -> None:
        """Saves the state of step `step`, and removes all but the KEEP newest checkpoints and their best ones."""
        save(self._step(step), state)
        self.best_of[step] = state["best"] and state["best"]["step"]
        for old in sorted(self.best_of)[:-KEEP]:
            del self.best_of[old]
        for path in self._own("step"):
            if _number(path) < step and _number(path) not in self.best_of:
                self._remove(path)
        for path in self._own("best"):
            if _number(path) not in self.best_of.values():
                self._remove(path)

    def save_best(self, step: int, state: State) -> None:
        """Saves the state of the model and its buffers after the best validation."""
        save(self._best(step), {"step": step, **state})

    def load_best(self, step: int) -> State:
        """Loads what `save_best` has saved.

        Raises:
            ValueError: The file is missing, torn or corrupt.
        """
        if not self._best(step).exists():
            words = "a run that was trained on a remote cluster gets it by mtlcluster collect SWEEP --checkpoints best"
            raise ValueError(f"{self._best(step).name} is not here; {words}")
        return load(self._best(step))

    def save_failure(self, moment: State) -> None:
        """Saves a step that was refused, with all that is needed to repeat it."""
        save(self.folder / FAILURE, moment)

    def load_failure(self) -> State:
        """Loads what `save_failure` has saved.

        Raises:
            ValueError: No step was refused, or the file is torn or corrupt.
        """
        if not (self.folder / FAILURE).exists():
            raise ValueError("no step of this run failed")
        return load(self.folder / FAILURE)

    def remove_failure(self) -> None:
        """Removes what `save_failure` has saved, if anything."""
        self._remove(self.folder / FAILURE)

    def newest(self) -> tuple[State | None, list[str]]:
        """Loads the newest state to go on from: its own file and that of its best checkpoint are whole.

        Checkpoints that are torn or corrupt are removed, whole ones never.

        Returns:
            The state, or None if there is none; and a note for each newer checkpoint that was passed over.

        Raises:
            Unreadable: The newest whole checkpoint cannot be loaded. To begin anew would end the same way.
        """
        notes: list[str] = []
        newest: State | None = None
        for path in self.folder.glob(".*.new"):
            if UNFINISHED.fullmatch(path.name) and path.is_file():  # a killed process has left it
                path.unlink()
        for path in sorted(self._own("step"), key=_number, reverse=True):
            try:
                check(path)
            except ValueError as error:
                if newest is None:
                    notes.append(f"passed over {path.name}: {error}")
                self._remove(path)
                continue
            try:
                state = self._state(path)
                if state["best"] is not None:
                    check(self._best(state["best"]["step"]))
            except Unreadable:
                if newest is None:
                    raise
                continue
            except ValueError as error:
                if newest is None:
                    notes.append(f"passed over {path.name}: {error}")
                continue
            newest = newest or state
            self.best_of[_number(path)] = state["best"] and state["best"]["step"]
        return newest, notes

    def _state(self, path: Path) -> State:
        state = load(path)
        if not isinstance(state, dict) or "best" not in state:
            raise Unreadable(f"{path.name} is whole, but holds no run's state")
        return state

    def _own(self, kind: str) -> list[Path]:
        """The run's files of a kind, "step" or "best"."""
        files = self.folder.iterdir() if self.folder.is_dir() else ()
        own = [path for path in files if (name := OWN.fullmatch(path.name)) and name[1] == kind]
        return [path for path in own if path.is_file()]

    def _remove(self, path: Path) -> None:
        for part in (checksum_file(path), path):
            if not part.is_dir():
                part.unlink(missing_ok=True)

    def _step(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.pt"

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:09d}.pt"


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])
