"""Repeats a failed step, and finds where it stopped being finite, module by module, and why."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mtlcluster.data.tensor_data import map_tensors
from mtlcluster.problem import Task
from mtlcluster.training.batch_check import BatchError, check_batch, some
from mtlcluster.training.gradients.backward import Backward, StepResult
from mtlcluster.training.nonfinite.blame import guilty_samples, has_finite_gradient
from mtlcluster.training.resume.checkpoint import State

LARGE = 1e4  # a weight beyond it is worth a word
FP16_LARGEST = 65504


@dataclass(frozen=True)
class Range:
    """The range of a module's output, or of the gradient at its output, in one of the step's batches.

    Attributes:
        module: the name of the module.
        kind: its class.
        batch: the number of the batch.
        shape: the shape of the tensor.
        lowest, highest: over its finite values; NaN if there are none.
        non_finite: how many values are not finite.
        rows: the samples of the batch whose values are not all finite. None if the first dimension is not the batch.
    """

    module: str
    kind: str
    batch: int
    shape: tuple[int, ...]
    lowest: float
    highest: float
    non_finite: int
    rows: list[int] | None


class Watcher(AbstractContextManager["Watcher"]):
    """Records the range of every module's output and of the gradient at it, in the order of computation."""

    def __init__(self, model: nn.Module, sizes: Sequence[int]) -> None:
        """sizes: the sizes of the step's batches."""
        self.model, self.sizes = model, sizes
        self.outputs: list[Range] = []
        self.gradients: list[Range] = []
        self.batch = 0
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> "Watcher":
        for name, module in self.model.named_modules():
            if name:
                self.handles.append(module.register_forward_hook(self._noting(name)))
        self.handles.append(self.model.register_forward_hook(self._next_batch))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()

    def _next_batch(self, *_: Any) -> None:
        self.batch += 1

    def _noting(self, name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            batch, kind = self.batch, type(module).__name__

            def see(tensor: Tensor) -> Tensor:
                if tensor.is_floating_point() and tensor.numel():
                    self.outputs.append(self._range(name, kind, batch, tensor.detach()))
                    if tensor.requires_grad:
                        tensor.register_hook(lambda g: self.gradients.append(self._range(name, kind, batch, g)))
                return tensor

            map_tensors(output, see)

        return note

    def _range(self, name: str, kind: str, batch: int, tensor: Tensor) -> Range:
        finite = tensor.isfinite()
        present = tensor[finite]
        lowest, highest = (float(present.min()), float(present.max())) if len(present) else (float("nan"),) * 2
        rows = None
        if tensor.ndim and len(tensor) == self.sizes[min(batch, len(self.sizes) - 1)]:
            rows = (~finite.flatten(1).all(1) if tensor.ndim > 1 else ~finite).nonzero().flatten().tolist()
        return Range(name, kind, batch, tuple(tensor.shape), lowest, highest, int((~finite).sum()), rows)


@dataclass(frozen=True)
class Diagnosis:
    """The findings about a step that is not finite.

    Attributes:
        found: the result of the step.
        tasks: names of the tasks that trained.
        outputs: ranges of the modules' outputs.
        gradients: ranges of the gradients at them.
        blamed: tasks whose loss is not finite; if there are none, tasks whose gradient is not.
        guilty: samples whose loss is not finite, if all outputs are.
        broken_batch: what is wrong with the data (see training/batch_check.py), or None.
        largest_weight: name and largest value of the parameter with the largest; NaN if it is not finite.
        largest_gradient: likewise.
        precision: the run's precision.
        names: for each batch the names of its samples.
    """

    found: StepResult
    tasks: list[str]
    outputs: list[Range]
    gradients: list[Range]
    blamed: list[str]
    guilty: list[str]
    broken_batch: str | None
    largest_weight: tuple[str, float]
    largest_gradient: tuple[str, float]
    precision: str
    names: list[list[str]] = field(repr=False)

    def first(self, ranges: list[Range]) -> Range | None:
        return next((one for one in ranges if one.non_finite), None)

    def sentence(self) -> str:
        """One line: what went wrong, and where it began."""
        tasks = ", ".join(f"'{name}'" for name in self.blamed)
        name, gradient = self.largest_gradient
        losses = [float(loss) for loss in self.found.losses]
        number = next((loss for loss in losses if loss != loss or abs(loss) == float("inf")), None)
        if number is not None:
            words = [f"the loss of task {tasks} is {number}"]
        elif self.first(self.outputs):
            words = ["an output is not finite, though the losses are"]
        elif self.blamed:
            words = [f"the gradient of task {tasks} is not finite, though the losses are"]
        elif not all(bool(tensor.isfinite().all()) for tensor in (self.found.weights, self.found.total)):
            words = ["a loss weight or the weighted sum of the losses is not finite, though the losses are"]
        elif gradient != gradient:
            words = [f"the gradient of {name} is not finite, though the losses are"]
        elif not torch.cat(self.found.extremes).isfinite().all():
            words = ["an input is not finite"]
        elif gradient > LARGE:
            words = [f"the gradient, {gradient:.2g} in {name}, is too large for its norm to be finite"]
        else:
            words = ["something was not finite, but made again the step is"]
        if output := self.first(self.outputs):
            words.append(f"first non-finite output: {output.module} ({output.kind}) for {self._samples(output)}")
        elif place := self.first(self.gradients):
            words.append(
                f"first non-finite gradient: at the output of {place.module} ({place.kind}) for {self._samples(place)}"
            )
        elif self.guilty:
            words.append(f"of {some(self.guilty)}")
        else:
            words.append(f"in the batch of {some([name for names in self.names for name in names])}")
        return "; ".join([*words, self._cause()])

    def _samples(self, place: Range) -> str:
        names = self.names[min(place.batch, len(self.names) - 1)]
        return some([names[row] for row in place.rows] if place.rows else names)

    def _cause(self) -> str:
        name, weight = self.largest_weight
        if self.broken_batch:
            return f"the batch is broken: {self.broken_batch}"
        if weight != weight:
            return f"the step before made {name} infinite: try a lower learning rate"
        if self.precision == "fp16":
            return f"fp16 holds no more than {FP16_LARGEST:,}: try precision bf16 or fp32"
        large = f"the largest weight is {weight:.2g}, in {name}: " if weight > LARGE else ""
        return f"{large}try a lower learning rate or a gradient_clip"


def random_before_step(device: torch.device, generator: torch.Generator) -> State:
    """The state of torch's random generators, from which a step draws.

    A step cannot be repeated exactly if the model draws from other generators or reads buffers that it changes in
    training. A compiled model with dropout draws other numbers.
    """
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"random": torch.get_rng_state(), "cuda_random": cuda, "generator": generator.get_state()}


def restore_random(moment: State, generator: torch.Generator) -> None:
    """Sets the random generators to the state of `random_before_step`."""
    torch.set_rng_state(moment["random"])
    if torch.cuda.is_available() and moment["cuda_random"] is not None:
        torch.cuda.set_rng_state(moment["cuda_random"])
    generator.set_state(moment["generator"])


def diagnose(
    backward: Backward, tasks: Sequence[Task], generator: torch.Generator, moment: State, precision: str
) -> Diagnosis | None:
    """Makes a failed step once more, up to its gradients, and looks at every module.

    Args:
        backward: computes the gradients. Model and methods are in the state that they had before the step.
        tasks: all tasks of the run.
        generator: the random generator of the methods.
        moment: what Trainer keeps of a step that failed.
        precision: the run's precision.

    Returns:
        What was found, or None if the batches have no labels.
    """
    model, batches, active = backward.model, moment["batches"], moment["active"]
    model.train()
    broken = None
    try:
        for batch, names in zip(batches, moment["names"], strict=True):
            check_batch(batch, [tasks[i] for i in active], names)
    except BatchError as error:
        broken = str(error)
    with torch.compiler.set_stance("force_eager"):
        restore_random(moment, generator)
        model.zero_grad()
        with Watcher(model, [len(names) for names in moment["names"]]) as watcher:
            found = backward(batches, active, moment["scale"], moment["shares"])
        if found is None:
            return None
        gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
        blamed = [i for i, loss in zip(found.active, found.losses, strict=True) if not loss.isfinite()]
        guilty = []
        if not any(one.non_finite for one in watcher.outputs):
            if blamed:
                restore_random(moment, generator)
                rows = guilty_samples(backward, batches, blamed[0])
                guilty = [names[row] for names, own in zip(moment["names"], rows, strict=True) for row in own]
            else:
                for i in active:
                    restore_random(moment, generator)
                    if not has_finite_gradient(backward, batches, i, moment["scale"], moment["shares"]):
                        blamed.append(i)
    return Diagnosis(
        found, [tasks[i].name for i in found.active], watcher.outputs, watcher.gradients,
        [tasks[i].name for i in blamed], guilty, broken, largest(model.named_parameters()), largest(gradients),
        precision, moment["names"],
    )  # fmt: skip


def largest(tensors: Iterable[tuple[str, Tensor]]) -> tuple[str, float]:
    """The name of the tensor with the largest absolute value, and that value. NaN for the first one not finite."""
    found = ("", 0.0)
    for name, tensor in tensors:
        value = float(tensor.detach().abs().max()) if tensor.numel() else 0.0
        if value != value or value == float("inf"):
            return name, float("nan")
        found = max(found, (name, value), key=lambda pair: pair[1])
    return found
