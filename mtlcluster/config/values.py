"""Lists of values in short forms: {range: …}, {linspace: …} and {logspace: …}."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import pydantic

from mtlcluster.errors import nearest, shown
from mtlcluster.pydantic_errors import Checked

DIGITS = 6  # significant digits of the values of linspace and logspace
MOST = 100_000  # values of one linspace or logspace


class Range(Checked):
    """Whole numbers: {range: 5}, {range: [start, stop]} or {range: [start, stop, step]}, as in Python."""

    range: int | list[int]

    @pydantic.field_validator("range", mode="wrap")
    @classmethod
    def _either_form(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> int | list[int]:
        with suppress(pydantic.ValidationError):  # it would name a mistake of each form
            bounds: int | list[int] = check(value)
            if isinstance(bounds, int) or (2 <= len(bounds) <= 3 and bounds[2:] != [0]) or len(bounds) == 1:
                return bounds
        raise ValueError(f"should be a count or [start, stop] or [start, stop, step], found {shown(value)}")

    def values(self) -> Sequence[int]:
        return range(*([self.range] if isinstance(self.range, int) else self.range))


class Linspace(Checked):
    """Evenly spaced numbers: {linspace: [first, last, count]}. Both ends are among them."""

    linspace: list[float]

    @pydantic.field_validator("linspace", mode="wrap")
    @classmethod
    def _two_ends(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> list[float]:
        return _ends_and_count(value, check)

    def values(self) -> Sequence[float]:
        first, last, count = self.linspace
        return _spaced(first, last, int(count))


class Logspace(Checked):
    """Numbers with the same ratio between neighbours: {logspace: [first, last, count]}.

    Both ends are among them. They are the numbers themselves, not exponents as in numpy: {logspace: [0.001, 0.1, 3]} is
    0.001, 0.01, 0.1.
    """

    logspace: list[float]

    @pydantic.field_validator("logspace", mode="wrap")
    @classmethod
    def _two_ends(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> list[float]:
        ends = _ends_and_count(value, check)
        if min(ends[:2]) <= 0:
            raise ValueError(f"should have ends above 0 (they are numbers, not exponents), found {shown(value)}")
        return ends

    def values(self) -> Sequence[float]:
        first, last, count = self.logspace
        inner = _spaced(math.log(first), math.log(last), int(count), digits=17)[1:-1]
        return [float(first), *(_rounded(math.exp(value), DIGITS) for value in inner), float(last)]


SHORT_FORMS: dict[str, type[Range | Linspace | Logspace]] = {"range": Range, "linspace": Linspace, "logspace": Logspace}


def list_or_short_form(value: Any, _: pydantic.ValidatorFunctionWrapHandler) -> list[Any] | Range | Linspace | Logspace:
    """Reads a list of values in any of its forms."""
    if isinstance(value, dict):
        form = next((form for name, form in SHORT_FORMS.items() if name in value), None)
        if form is None:
            raise ValueError(unknown_form(value, SHORT_FORMS))
        return form.model_validate(value)
    if isinstance(value, list | Range | Linspace | Logspace):
        return value
    raise ValueError(f"should be a list of values, or {{range: …}}, found {shown(value)}")


def unknown_form(value: dict[str, Any], forms: Iterable[str]) -> str:
    """What is wrong with a mapping that is none of these short forms."""
    if len(value) == 1:
        key = str(next(iter(value)))
        return f"unknown key '{key}'{nearest(key, forms)}"
    return f"should be a list of values, or one of its short forms ({', '.join(sorted(forms))}), found {shown(value)}"


Values = Annotated[list[Any] | Range | Linspace | Logspace, pydantic.WrapValidator(list_or_short_form)]


def listed(given: list[Any] | Range | Linspace | Logspace) -> Sequence[Any]:
    """The values that a list stands for, in any of its forms."""
    return given if isinstance(given, list) else given.values()


def length(values: Sequence[Any]) -> int:
    """`len`, also of ranges that are too long for it."""
    if not isinstance(values, range):
        return len(values)
    return (values[-1] - values[0]) // values.step + 1 if values else 0


def _ends_and_count(value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> list[float]:
    with suppress(pydantic.ValidationError):
        ends: list[float] = check(value)
        if len(ends) == 3 and ends[0] != ends[1] and type(value[2]) is int and 2 <= value[2] <= MOST:
            return ends
    words = f"should be [first, last, count] with two different numbers and a count from 2 to {MOST:,}"
    raise ValueError(f"{words}, found {shown(value)}")


def _spaced(first: float, last: float, count: int, digits: int = DIGITS) -> list[float]:
    inner = [_rounded(first + (last - first) * i / (count - 1), digits) for i in range(1, count - 1)]
    return [float(first), *inner, float(last)]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
