"""The keys of a grid file, their types and defaults."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import pydantic
from pydantic import Field

from mtlcluster.config.run import Resources
from mtlcluster.errors import shown
from mtlcluster.pydantic_errors import Checked
from mtlcluster.sweep import names


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


def _list_or_range(value: Any, _: pydantic.ValidatorFunctionWrapHandler) -> list[Any] | Range:
    if isinstance(value, dict):
        return Range.model_validate(value)
    if isinstance(value, list | Range):
        return value
    raise ValueError(f"should be a list of values, or {{range: …}}, found {shown(value)}")


Values = Annotated[list[Any] | Range, pydantic.WrapValidator(_list_or_range)]


class GridFile(Checked):
    """A grid file, before it is expanded into runs."""

    name: str
    job: str | None = None
    base: str | None = None
    set: dict[str, Any] = {}
    grid: dict[str, Values] = {}
    zip: list[dict[str, list[Any]]] = []
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    resources: Resources = Resources()
    runs_per_job: int = Field(default=1, gt=0)
    at_once: int = Field(default=1, gt=0)
    code: list[str] = []
    cluster: str | None = None

    @pydantic.field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not names.fits(names.SWEEP, name):
            raise ValueError(
                f"name should be at most 100 letters, digits, '.', '_' and '-', first a letter or digit, not {name!r}"
            )
        return name

    @pydantic.model_validator(mode="after")
    def _packs_fit(self) -> "GridFile":
        if self.at_once > self.runs_per_job:
            raise ValueError(f"at_once ({self.at_once}) should be at most runs_per_job ({self.runs_per_job})")
        return self
