"""Finds changes of a model by its first step that neither the optimizer nor a checkpoint knows of."""

from torch import nn

from mtlcluster.training.early_checks import Foreseen
from mtlcluster.training.resume.number_attributes import notes_on_changes, numbers_in


class LateChanges:
    """Compares a model after a step with the model before the training."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = {name for name, _ in model.named_parameters()}
        self.numbers = numbers_in(model)

    def refuse_parameters(self) -> None:
        """Raises Foreseen for a parameter that a forward has made: it would never be trained."""
        if late := [name for name, _ in self.model.named_parameters() if name not in self.parameters]:
            raise Foreseen(
                f"the model has made the parameter '{late[0]}' in its first step; the optimizer does not know it, and "
                "it would never be trained: make it in the job's build, or by a lazy layer such as nn.LazyLinear"
            )

    def notes(self) -> list[str]:
        """Returns a sentence on numbers that the step has changed and no checkpoint keeps, if there are any."""
        return notes_on_changes(self.numbers, numbers_in(self.model))
