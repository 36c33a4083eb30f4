"""`@schedule`, `@weighting` and `@gradient`: the older way to write a method. Files of users still have them.

    @gradient
    class Halves:
        def __init__(self, context, *, share: float = 0.5): ...
        def weights(self, gramian, active): ...

The decorated class gets the base class of its slot (see base.py). The `__init__` of the base runs first. So the class's
own `__init__` can make buffers and parameters, and use `self.context`.
"""

from typing import Any, TypeVar

from mtlcluster.methods.base import Context, Gradient, Schedule, Slot, Weighting

Class = TypeVar("Class", bound=type)


def schedule(cls: Class) -> Class:
    """Makes a class a schedule. In new code, subclass `Schedule`.

    Args:
        cls: a class that defines `active(step)`.

    Returns:
        The class with the base `Schedule`.
    """
    return _with_base(cls, Schedule)


def weighting(cls: Class) -> Class:
    """Makes a class a weighting. In new code, subclass `Weighting`.

    Args:
        cls: a class that defines `forward(losses, active)`.

    Returns:
        The class with the base `Weighting`.
    """
    return _with_base(cls, Weighting)


def gradient(cls: Class) -> Class:
    """Makes a class a gradient method. In new code, subclass `Gradient`.

    Args:
        cls: a class that defines `weights(gramian, active)`, or has `needs = "jacobian"` and defines
            `direction(jacobian, active)`.

    Returns:
        The class with the base `Gradient`.
    """
    return _with_base(cls, Gradient)


def _with_base(cls: Class, base: type[Slot]) -> Class:
    """A class of the same name, with `base` as a further base class."""
    if issubclass(cls, base):
        return cls

    init: Any = vars(cls).get("__init__")

    def __init__(self: Any, context: Context, **options: Any) -> None:
        base.__init__(self, context)
        if init is not None:
            init(self, context, **options)

    kept = {name: vars(cls)[name] for name in ("__doc__", "__module__")}
    return type(cls.__name__, (cls, base), {**kept, "__init__": __init__})  # type: ignore[return-value]
