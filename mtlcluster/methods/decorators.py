"""`@schedule`, `@weighting` and `@gradient`: what makes a class of one's own a method of that slot.

    @gradient
    class Halves:
        def __init__(self, context, *, share: float = 0.5): ...
        def weights(self, gramian, active): ...

The class gets the slot's base (see base.py), which is set up before its own `__init__` runs: buffers, parameters and
`self.context` are there at once.
"""

from typing import Any, TypeVar

from mtlcluster.methods.base import Context, Gradient, Schedule, Slot, Weighting

Class = TypeVar("Class", bound=type)


def schedule(cls: Class) -> Class:
    """A class with `active(step)`; see base.Schedule."""
    return _filling(cls, Schedule)


def weighting(cls: Class) -> Class:
    """A class with `forward(losses, active)`; see base.Weighting."""
    return _filling(cls, Weighting)


def gradient(cls: Class) -> Class:
    """A class with `weights(gramian, active)`, or with `needs = "jacobian"` and `direction(jacobian, active)`; see
    base.Gradient.
    """
    return _filling(cls, Gradient)


def _filling(cls: Class, base: type[Slot]) -> Class:
    if issubclass(cls, base):
        return cls

    init: Any = vars(cls).get("__init__")

    def __init__(self: Any, context: Context, **options: Any) -> None:
        base.__init__(self, context)
        if init is not None:
            init(self, context, **options)

    kept = {name: vars(cls)[name] for name in ("__doc__", "__module__")}
    return type(cls.__name__, (cls, base), {**kept, "__init__": __init__})  # type: ignore[return-value]
