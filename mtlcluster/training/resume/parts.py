"""The parts of a run that keep state, saved and restored together by their names."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from mtlcluster.training.resume.checkpoint import State, Unfit

MISFIT = re.compile(r"Error\(s\) in loading state_dict")


class Stateful(Protocol):
    """A part of a run with a state, such as a module or an optimizer."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


Parts = Mapping[str, Stateful]


def states_of(parts: Parts) -> State:
    """The state of every part, by name."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore(parts: Parts, state: State) -> None:
    """Puts the parts into the states that `state` has for them, in the order of `parts`.

    Raises:
        Unfit: The model is another one than the saved one.
    """
    try:
        for name, part in parts.items():
            if name in state:  # older checkpoints lack the buffers
                part.load_state_dict(state[name])
    except RuntimeError as error:
        if not MISFIT.match(str(error)):
            raise
        first = next(iter(str(error).splitlines()[1:]), "").strip()
        raise Unfit(
            f"the job makes another model than the one in the checkpoint: {first} Use the job that the run was "
            "started with, or begin anew: mtlcluster retry … --restart"
        ) from error
