"""How many samples there are: kept in checkpoints, for with other data a run would go on at no sensible position."""

from mtlcluster.problem import Problem
from mtlcluster.training.resume.checkpoint import Unfit


def samples(problem: Problem) -> dict[str, int]:
    data = {"training": problem.train, "validation": problem.validation, "test": problem.test}
    return {name: len(part) if part is not None else 0 for name, part in data.items()}  # type: ignore[arg-type]


def refuse_other_samples(before: dict[str, int], now: dict[str, int]) -> None:
    """Raises Unfit where some data had another number of samples when the checkpoint was saved."""
    for name, count in before.items():
        if now[name] != count:
            raise Unfit(
                f"the {name} data had {count:,} samples when this run was saved, and have {now[name]:,} now: put the "
                "former data back, or begin anew: mtlcluster retry … --restart"
            )
