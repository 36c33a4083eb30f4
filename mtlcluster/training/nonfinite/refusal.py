"""Refusing a step that is not finite: the step is kept for `mtlcluster replay`, and the error says where it began."""

from typing import NoReturn

from mtlcluster.training.distributed import Ranks
from mtlcluster.training.nonfinite.diagnosis import Diagnosis
from mtlcluster.training.nonfinite.guard import NonFinite
from mtlcluster.training.resume.checkpoint import Checkpoints, State, Unreadable


def refuse_step(moment: State, diagnosis: Diagnosis | None, ranks: Ranks, checkpoints: Checkpoints) -> NoReturn:
    """Keeps the step of the first rank that has a part in it, or of rank 0 where none has.

    Args:
        moment: All it takes to make this rank's part of the step again.
        diagnosis: The findings of this rank in its part; None if it had no labels.
        ranks: The processes that train the run.
        checkpoints: The checkpoints, which keep the step.

    Raises:
        NonFinite: Always. It says what went wrong, the same on every rank.
    """
    seen = ranks.all_of((bool(diagnosis and diagnosis.blamed), diagnosis.sentence() if diagnosis else ""))
    culprit = next((rank for rank, (blamed, _) in enumerate(seen) if blamed), 0)
    message = f"step {moment['step'] + 1}: {seen[culprit][1]}"
    try:
        if culprit == ranks.rank and diagnosis:
            checkpoints.save_failure({**moment, "losses": diagnosis.found.losses.cpu()})
    except (OSError, Unreadable) as error:
        raise NonFinite(f"{message}; it could not be kept: {error}") from error
    raise NonFinite(message, kept=True)
