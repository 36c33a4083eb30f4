"""A method for a user's own training loop, without a grid and without `train`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster.errors import nearest
from mtlcluster.methods.answers import active_tasks
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.distributed import ALONE
from mtlcluster.training.gradients.backward import Backward, StepResult
from mtlcluster.training.gradients.batch import Batch
from mtlcluster.training.gradients.forward import ForwardResult, Forwards, StepData, autocast
from mtlcluster.training.gradients.last_used import LastUsed
from mtlcluster.training.seeding import mix_seed


class MultiTaskMethod(nn.Module):
    """A method to call in your own loop. It computes gradients of the tasks' losses, as a step of `train` does.

    If its weighting learns parameters, give them to the optimizer, without weight decay. Its `state_dict` holds all
    that it needs to continue, including the state of its random generator. It works in one process. Your loop makes the
    forward passes. So the option `at: representation` and schedules that draw samples can't be used.

    Args:
        method: as in a run's configuration: a name, such as "pcgrad", or a mapping of slots, such as
            `{"schedule": "dsg", "weighting": {"name": "gradnorm", "alpha": 0.5}, "gradient": "pcgrad"}`.
        model: the model, already on its device. The parameters outside its `heads` are the shared ones.
        tasks: the tasks, or their names; None: all heads of the model. A name alone means a classification task. Only
            name, kind and metrics of a task are used, and only by a few methods (`uncertainty`: the kind; `dsg`: the
            direction of the score).
        total_steps: number of optimizer steps of the whole training. Some schedules need it.
        steps_per_epoch: number of optimizer steps of an epoch. Some schedules need it.
        seed: seed of the method's own random generator.

    Attributes:
        step_count: number of steps so far.

    Raises:
        ValueError: the method is unknown, has a wrong option, does not fit the tasks or cannot work in such a loop; or
            the model has nothing to train for a task.

    Example:
        >>> method = MultiTaskMethod({"weighting": "gradnorm", "gradient": "pcgrad"}, model)
        >>> optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=0.1)
        >>> for inputs, targets in loader:
        ...     outputs = model(inputs, method.active)
        ...     method.backward({task: F.cross_entropy(outputs[task], targets[task]) for task in method.active})
        ...     optimizer.step()
    """

    def __init__(
        self,
        method: str | Mapping[str, Any],
        model: MultiTaskModel,
        tasks: Sequence[Task | str] | None = None,
        total_steps: int = 1,
        steps_per_epoch: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        config = check_method(method if isinstance(method, str) else dict(method))
        self.tasks = [_named(task) if isinstance(task, str) else task for task in tasks or list(model.heads)]
        if unknown := [task.name for task in self.tasks if task.name not in model.heads]:
            raise ValueError(f"the model has no head '{unknown[0]}'{nearest(unknown[0], model.heads)}")
        device = next(model.parameters()).device
        self.generator = torch.Generator().manual_seed(mix_seed("methods", seed))
        context = Context(self.tasks, self.generator, total_steps, steps_per_epoch)
        self.schedule, self.weighting, self.gradient = build_method(config, context, device)
        if self.schedule.shares(0) is not None:
            name = config["schedule"]["name"]
            raise ValueError(f"schedule '{name}' draws the samples of each task, which only train() can do")
        if self.gradient.at == "representation":
            raise ValueError(
                "at: representation looks into a forward pass, which only train() can do; use at: last_layer"
            )
        self.step_count = 0
        self.model = [model]  # in a list, so that its parameters do not become parameters of the method
        self.losses_before: StepResult | None = None  # kept until `after_step`
        self.sums = torch.zeros(len(self.tasks), dtype=torch.float64, device=device)  # of this epoch's losses
        self.counts = torch.zeros_like(self.sums)
        self.compute = Backward(
            model, self.tasks, self.weighting, self.gradient, lambda: autocast("fp32", device), device,
            linear_layers=False, ranks=ALONE, forwards=GivenLosses,
        )  # fmt: skip

    @property
    def active(self) -> list[str]:
        """The names of the tasks that train at this step, in the tasks' order. The other tasks need no loss."""
        return [self.tasks[i].name for i in active_tasks(self.schedule, self.step_count)]

    @property
    def needs_losses_after(self) -> bool:
        """True if you must call `after_step` after each step (the weighting `famo`)."""
        return self.weighting.needs_losses_after

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Fills the `.grad` of all trainable parameters of the model and of the method, and replaces older values.

        It counts as one step; call `optimizer.step()` afterwards.

        Args:
            losses: by task, a scalar with its autograd graph: the mean over the samples that have a label. Leave out a
                task without labels. Losses of tasks that are not active are ignored. If there is no loss at all, there
                are no gradients.

        Raises:
            ValueError: a loss belongs to an unknown task or is no scalar, no loss has a graph, or `after_step` has not
                been called.
        """
        names = [task.name for task in self.tasks]
        for name, loss in losses.items():
            if name not in names:
                raise ValueError(f"there is no task '{name}'{nearest(name, names)}")
            if loss.ndim:
                raise ValueError(f"the loss of task '{name}' should be a scalar, found {list(loss.shape)}")
        if losses and not any(loss.requires_grad for loss in losses.values()):
            raise ValueError("no loss has a graph: compute them from the model's outputs, without detaching them")
        if self.losses_before is not None:
            raise ValueError("the method needs the losses after each step: call after_step before the next backward")
        for parameter in self.model[0].parameters():
            parameter.grad = None
        active = active_tasks(self.schedule, self.step_count)
        self.step_count += 1
        given = [losses.get(names[i]) for i in active]
        result = self.compute([given], active) if active else None
        if result is None:
            return
        self.losses_before = result if self.needs_losses_after else None
        result.losses_again = None
        self.compute.learn(result)
        self.schedule.observe_losses(result.losses, result.index)
        self.sums[result.index] += result.losses
        self.counts[result.index] += 1

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Shows the method the losses after a step. Call it after each `optimizer.step()` if `needs_losses_after`.

        Args:
            losses: by task, the scalar loss of the same samples, computed again with the new model weights.
        """
        before, self.losses_before = self.losses_before, None
        if before is not None:
            after = torch.stack([losses[self.tasks[i].name].detach() for i in before.active])
            self.weighting.observe_losses_after(before.losses, after, before.index)

    def end_epoch(self, validation: Mapping[str, float] | None = None) -> None:
        """Tells the method that an epoch has ended; methods that count epochs need it (`dwa`, `stch`, `dsg`).

        Args:
            validation: the values of a validation, with keys `<task>/loss` and `<task>/<metric>`. None: no validation.
        """
        self.weighting.observe_epoch((self.sums / self.counts).cpu())
        self.sums.zero_()
        self.counts.zero_()
        if validation is not None:
            self.schedule.observe_validation(validation)

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "step_count": self.step_count, "sums": self.sums.clone(), "counts": self.counts.clone(),
            "generator": self.generator.get_state(), "compute": self.compute.state_dict(),
        }  # fmt: skip

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.step_count = state["step_count"]
        self.sums.copy_(state["sums"])
        self.counts.copy_(state["counts"])
        self.generator.set_state(state["generator"])
        self.compute.load_state_dict(state["compute"])


class GivenLosses(Forwards):
    """Losses that the user's loop has computed. A batch is a list of one loss per active task; None: it has no loss."""

    given: Sequence[Tensor]
    watched: LastUsed | None = None  # until the first step: its forward is the user's

    def prepare(
        self,
        batches: list[Any],
        active: Sequence[int],
        scale: float = 1.0,
        shares: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> StepData | None:
        [losses] = batches
        present = [i for i, loss in zip(active, losses, strict=True) if loss is not None]
        self.given = [loss for loss in losses if loss is not None]
        if not present:
            return None
        return StepData([Batch(None, {}, [], [], [])], [None], present, self._index(present), scale, None)

    def watch(self) -> None:
        self.watched = LastUsed(self.model)

    def end_watch(self) -> None:
        if self.watched is not None:
            self.watched.end()

    def last_used(self, data: StepData) -> str | None:
        return self.watched.name if self.watched is not None else None

    def losses(self, data: StepData, number: int, result: ForwardResult) -> list[Tensor]:
        result.losses = torch.stack(list(self.given)).detach()
        return list(self.given)


def _named(name: str) -> Task:
    return Task(name, nn.functional.cross_entropy, "classification")
