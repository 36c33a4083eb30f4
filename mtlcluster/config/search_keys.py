"""The keys `tune` and `confirm` of a grid file: each method's settings are searched, and its best one is confirmed."""

from typing import Any

import pydantic
from pydantic import Field

from mtlcluster.config.values import Range, Values, length, listed
from mtlcluster.errors import shown
from mtlcluster.pydantic_errors import Checked


class Prune(Checked):
    """Trials that are behind stop early. tests/sweep/test_pruning_replayed.py measures what the defaults save and lose.

    Attributes:
        at: The shares of the training after which a trial is compared with the others.
        keep: The share of the trials that go on.
    """

    at: list[float] = Field(default=[0.1, 0.2, 0.3], min_length=1)
    keep: float = Field(default=0.5, gt=0, lt=1)

    @pydantic.field_validator("at")
    @classmethod
    def _rising_shares(cls, at: list[float]) -> list[float]:
        if not all(low < high for low, high in zip([0.0, *at], [*at, 1.0], strict=True)):
            raise ValueError(f"should be rising shares of the training, between 0 and 1, found {shown(at)}")
        return at


class Tune(Checked):
    """The search of a setting for each method.

    Attributes:
        trials: The settings that are tried of each method.
        seeds: Every trial is trained with each of these seeds.
        value: The validation value that chooses; None: the value of `best`.
        draw_seed: Another one draws other settings.
        prune: Stops trials that are behind; None: all are trained to the end.
    """

    trials: int = Field(gt=0)
    seeds: Values = [0]
    value: str | None = Field(default=None, min_length=1)
    draw_seed: int = Field(default=0, ge=0, lt=2**63)
    prune: Prune | None = None

    @pydantic.field_validator("seeds")
    @classmethod
    def _whole_numbers(cls, seeds: Any) -> Any:
        return _checked_seeds(seeds)

    @property
    def seed_list(self) -> list[int]:
        return list(listed(self.seeds))


class Confirm(Checked):
    """The runs that confirm the chosen setting of each method.

    Attributes:
        seeds: Its seeds, or their count: the integers after the largest seed of `tune`.
    """

    seeds: int | Values

    @pydantic.field_validator("seeds", mode="wrap")
    @classmethod
    def _count_or_list(cls, seeds: Any, check: pydantic.ValidatorFunctionWrapHandler) -> Any:
        if type(seeds) is not int:
            return _checked_seeds(check(seeds) if isinstance(seeds, dict | list | Range) else seeds)
        if not 0 < seeds <= MOST_SEEDS:
            raise ValueError(f"should be a count from 1 to {MOST_SEEDS:,}, or a list of seeds, found {seeds}")
        return seeds

    def seed_list(self, tuning: list[int]) -> list[int]:
        """The seeds.

        Args:
            tuning: The seeds of `tune`.
        """
        if isinstance(self.seeds, int):
            return list(range(max(tuning) + 1, max(tuning) + 1 + self.seeds))
        return list(listed(self.seeds))


MOST_SEEDS = 10_000
LARGEST_SEED = 2**63 - MOST_SEEDS  # so many may follow on the largest seed of `tune`


def _checked_seeds(seeds: Any) -> Any:
    if isinstance(seeds, list | Range) and 0 < length(listed(seeds)) <= MOST_SEEDS:
        each = list(listed(seeds))
        if all(type(seed) is int and 0 <= seed < LARGEST_SEED for seed in each) and len(set(each)) == len(each):
            return seeds
    found = seeds.model_dump() if isinstance(seeds, pydantic.BaseModel) else seeds
    raise ValueError(f"should be a list of different seeds, such as [0, 1], or {{range: 2}}, found {shown(found)}")
