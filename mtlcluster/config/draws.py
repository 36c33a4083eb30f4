"""Random values in a grid: {uniform: …}, {loguniform: …} and {choice: …}, drawn from one Sobol sequence."""

import functools
import math
from typing import TYPE_CHECKING, Any

import pydantic

from mtlcluster.errors import shown
from mtlcluster.pydantic_errors import Checked

if TYPE_CHECKING:
    import numpy as np

COLUMNS = 64  # of the sequence: at most so many keys are searched
DIGITS = 4  # significant digits of a drawn number


class Uniform(Checked):
    """A number between two bounds, each equally likely: {uniform: [low, high]}."""

    uniform: list[float]

    @pydantic.field_validator("uniform")
    @classmethod
    def _two_bounds(cls, bounds: list[float]) -> list[float]:
        return _checked_bounds(bounds)

    def at(self, share: float) -> float:
        """The value at a share of the way from the lower to the upper bound, from 0 to 1."""
        low, high = self.uniform
        return _rounded_inside(low + share * (high - low), low, high)


class Loguniform(Checked):
    """A number between two bounds, each order of magnitude equally likely: {loguniform: [low, high]}."""

    loguniform: list[float]

    @pydantic.field_validator("loguniform")
    @classmethod
    def _two_bounds(cls, bounds: list[float]) -> list[float]:
        if bounds and min(bounds) <= 0:
            raise ValueError(f"should have bounds above 0, found {shown(bounds)}")
        return _checked_bounds(bounds)

    def at(self, share: float) -> float:
        """The value at a share of the way from the logarithm of the lower to that of the upper bound."""
        low, high = self.loguniform
        return _rounded_inside(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), low, high)


class Choice(Checked):
    """One of some values, each equally likely: {choice: [value, …]}."""

    choice: list[Any] = pydantic.Field(min_length=1)

    def at(self, share: float) -> Any:
        """The value at a share of the way through the list."""
        return self.choice[min(int(share * len(self.choice)), len(self.choice) - 1)]


Draw = Uniform | Loguniform | Choice
KINDS: dict[str, type[Draw]] = {"uniform": Uniform, "loguniform": Loguniform, "choice": Choice}


def is_draw(value: Any) -> bool:
    """True if a value of a grid file has the form of a draw, such as {uniform: [0, 1]}."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in KINDS


def read_draw(value: dict[str, Any]) -> Draw:
    """Reads a draw. Raises pydantic.ValidationError."""
    return KINDS[next(iter(value))].model_validate(value)


def sequence(seed: int, count: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The first points of the scrambled Sobol sequence: [count or more, 64], from 0 to 1.

    More points begin with the same ones. Versions of scipy scramble differently; so trials.json keeps the values.
    (Sobol 1967; scrambled as by Matoušek 1998.)

    Args:
        seed: Scrambles the sequence.
        count: At least so many points are wanted.
    """
    return _sequence(seed, max(0, count - 1).bit_length())


@functools.lru_cache(maxsize=4)
def _sequence(seed: int, exponent: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    import numpy as np
    from scipy.stats import qmc  # takes a second to import: only grids that draw pay for it

    points: np.ndarray[Any, np.dtype[np.float64]]
    points = qmc.Sobol(d=COLUMNS, scramble=True, seed=np.random.default_rng(seed)).random_base2(exponent)
    return points


def _checked_bounds(bounds: list[float]) -> list[float]:
    if len(bounds) != 2 or bounds[0] >= bounds[1]:
        raise ValueError(f"should be [low, high] with low below high, found {shown(bounds)}")
    return bounds


def _rounded_inside(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), float(low)), float(high))
