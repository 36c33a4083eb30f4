"""Says where a weighting that learns has learned next to nothing: its run is then nearly one with equal weights."""

from mtlcluster.methods.base import Weighting

HARDLY = 0.05  # a weight that has changed by no more than this share, relative to the others, has hardly moved


def hardly_moved(name: str, weighting: Weighting) -> list[str]:
    """A note if no learned weight has changed by more than HARDLY since the start, else none.

    The weights are compared with their mean: a common factor is not a change of one task against another.

    Args:
        name: The weighting's name in the configuration.
        weighting: The weighting at the end of the training.
    """
    learned = weighting.learned_weights()
    if learned is None or len(learned) < 2:
        return []
    weights = learned.detach().double()
    change = float((weights / weights.mean() - 1).abs().max())
    if not change <= HARDLY:
        return []
    return [
        f"the weighting {name} has hardly moved: at the end each task's weight is within {change:.1%} of its start, "
        "relative to the others; a larger lr of its own would let it learn"
    ]
