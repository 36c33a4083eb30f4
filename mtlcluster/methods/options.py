"""The types that a method's options may have, beside Python's own. Imports nothing heavy."""

from typing import Annotated

from annotated_types import Ge, Gt, Le

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
PerTask = dict[str, Annotated[float, Ge(0)]]
