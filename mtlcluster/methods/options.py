"""Types of a method's options, in addition to Python's own. Imports nothing heavy."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
PerTask = dict[str, Annotated[float, Ge(0)]]
At = Literal["shared", "representation", "last_layer"]  # which gradients a Gramian is of
Layer = str | None  # where gradients are taken: a module's name, USED_LAST, or null: the layer registered last
USED_LAST = "used_last"  # the shared layer that the first forward calls last
Options = dict[str, Any] | None  # of a class of another library
Stages = dict[Annotated[int, Ge(0)], list[str]] | None  # tasks by the epoch from which on they train
