"""Checkpoints: the two newest and the best, each with a checksum; loading never executes code."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mtlcluster.sweep.files import checksum_file, has_valid_checksum, replace, write_checksum

KEEP = 2
FAILURE = "failure.pt"
State = dict[str, Any]


def save(path: Path, state: State) -> None:
    """Writes `state`, then its checksum: whatever lacks one that fits was not finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum_file(path).unlink(missing_ok=True)
    replace(path, lambda file: torch.save(state, file))
    write_checksum(path)


def check(path: Path) -> None:
    """Raises ValueError for a file whose checksum does not fit."""
    if not has_valid_checksum(path):
        raise ValueError(f"{path.name} is torn or corrupt: its checksum does not fit")


def load(path: Path) -> State:
    """Raises ValueError for a file whose checksum does not fit."""
    check(path)
    with torch.serialization.safe_globals(list(_named_tuples(path))):
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _named_tuples(path: Path) -> Iterator[type]:
    """The named tuples in a file, as far as they have been imported: of those the batches of a failed step may be."""
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(path):
        module, _, attribute = name.rpartition(".")
        found = getattr(sys.modules.get(module), attribute, None)
        if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields"):
            yield found


class Checkpoints:
    """A run's checkpoints/: `step-<n>.pt`, to go on from; `best-<n>.pt`, the model after the best validation; and
    `failure.pt`, a step that was refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best_of: dict[int, int | None] = {}        # which best checkpoint each one that is kept names

    def save(self, step: int, state: State) -> None:
        """Saves what to go on from at `step`, and removes what is neither newest nor the best of a newest."""
        save(self._step(step), state)
        self.best_of[step] = state["best"] and state["best"]["step"]
        newest_first = self._newest_first()
        for path in newest_first[KEEP:]:
            self._remove(path)
            self.best_of.pop(_number(path), None)
        for path in self.folder.glob("best-*.pt"):
            if _number(path) not in self.best_of.values():
                self._remove(path)

    def save_best(self, step: int, model: State) -> None:
        save(self._best(step), {"step": step, "model": model})

    def load_best(self, step: int) -> State:
        """The model's state after the best validation. Raises ValueError for a file that is not there, torn or corrupt.
        """
        if not self._best(step).exists():
            words = "a run that was trained on a remote cluster gets it by mtlcluster collect SWEEP --checkpoints best"
            raise ValueError(f"{self._best(step).name} is not here; {words}")
        model: State = load(self._best(step))["model"]
        return model

    def save_failure(self, moment: State) -> None:
        save(self.folder / FAILURE, moment)

    def load_failure(self) -> State:
        """Raises ValueError where no step failed, or the file is torn or corrupt."""
        if not (self.folder / FAILURE).exists():
            raise ValueError("no step of this run failed")
        return load(self.folder / FAILURE)

    def remove_failure(self) -> None:
        self._remove(self.folder / FAILURE)

    def newest(self) -> tuple[State | None, list[str]]:
        """The newest state to go on from whose own and whose best checkpoint are whole, or None, and a note for each
        newer one that had to be passed over. What is torn or corrupt is removed.
        """
        notes: list[str] = []
        newest: State | None = None
        for path in self.folder.glob(".*.new"):         # left by a process that was killed while it wrote
            path.unlink()
        for path in self._newest_first():
            try:
                state = load(path)
                if state["best"] is not None:
                    check(self._best(state["best"]["step"]))
            except Exception as error:  # a file with a fitting checksum from another version can fail in any way
                if newest is None:
                    notes.append(f"passed over {path.name}: {error}")
                self._remove(path)
                continue
            newest = newest or state
            self.best_of[_number(path)] = state["best"] and state["best"]["step"]
        return newest, notes

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), key=_number, reverse=True)

    def _remove(self, path: Path) -> None:
        checksum_file(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _step(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.pt"

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:09d}.pt"


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])
