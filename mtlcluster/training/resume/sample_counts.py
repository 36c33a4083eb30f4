"""The numbers of samples, kept in checkpoints: with other data a position inside an epoch would mean nothing."""

from mtlcluster.problem import Problem
from mtlcluster.training.resume.checkpoint import Unfit


def samples(problem: Problem) -> dict[str, int]:
    """The numbers of samples of the training, validation and test data."""
    data = {"training": problem.train, "validation": problem.validation, "test": problem.test}
    return {name: len(part) if part is not None else 0 for name, part in data.items()}  # type: ignore[arg-type]


def refuse_other_samples(before: dict[str, int], now: dict[str, int]) -> None:
    """Compares the numbers of samples of a checkpoint with those of now.

    Raises:
        Unfit: They differ.
    """
    for name, count in before.items():
        if now[name] != count:
            raise Unfit(
                f"the {name} data had {count:,} samples when this run was saved, and have {now[name]:,} now: put the "
                "former data back, or begin anew: mtlcluster retry … --restart"
            )
