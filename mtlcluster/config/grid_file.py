"""The keys of a grid file, their types and defaults."""

from typing import Annotated, Any

import pydantic
from pydantic import Field

from mtlcluster.config.draws import KINDS, Choice, Loguniform, Uniform, is_draw, read_draw
from mtlcluster.config.run import Resources
from mtlcluster.config.search_keys import Confirm, Tune
from mtlcluster.config.values import SHORT_FORMS, Linspace, Logspace, Range, Values, list_or_short_form, unknown_form
from mtlcluster.pydantic_errors import Checked
from mtlcluster.sweep import names


def _values_or_draw(value: Any, _: pydantic.ValidatorFunctionWrapHandler) -> Any:
    if is_draw(value):
        return read_draw(value)
    if isinstance(value, dict) and not value.keys() & SHORT_FORMS.keys():
        raise ValueError(unknown_form(value, [*SHORT_FORMS, *KINDS]))
    return list_or_short_form(value, _)


ValuesOrDraw = Annotated[
    list[Any] | Range | Linspace | Logspace | Uniform | Loguniform | Choice, pydantic.WrapValidator(_values_or_draw)
]


class GridFile(Checked):
    """A grid file, before it is expanded into runs."""

    name: str
    job: str | None = None
    base: str | None = None
    set: dict[str, Any] = {}
    grid: dict[str, ValuesOrDraw] = {}
    zip: list[dict[str, Values]] = []
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    tune: Tune | None = None
    confirm: Confirm | None = None
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
