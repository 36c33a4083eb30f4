"""The interface of the three sources of gradients, and their common parts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from mtlcluster.training.gradients.aggregate import Aggregation
from mtlcluster.training.gradients.forward import ForwardResult, Forwards, StepData
from mtlcluster.training.gradients.jacobian import Memory
from mtlcluster.training.gradients.last_layer import LastLayer
from mtlcluster.training.gradients.linear_layers import LinearLayers


@dataclass
class Parts:
    """The parts that a source works with. They are the same for all steps.

    Attributes:
        forwards: runs the model.
        shared: the trainable shared parameters.
        heads: for each task of the run the trainable parameters of its head.
        linear_layers: the layers whose gradients SharedJacobian need not compute.
        last_layer: the last shared layer; None when the method does not look at it.
        needs_norms: true if the weighting asks for the norms at the last shared layer.
        needs_losses: true if the loss weights depend on the losses.
        at_representation: true if ProxyGramian looks at the representation; else at the last shared layer.
        memory: the memory of SharedJacobian's matrix.
    """

    forwards: Forwards
    shared: list[nn.Parameter]
    heads: list[list[nn.Parameter]]
    linear_layers: LinearLayers
    last_layer: LastLayer | None
    needs_norms: bool
    needs_losses: bool
    at_representation: bool
    memory: Memory = field(default_factory=Memory)


class Source(ABC):
    """The gradients of the A active tasks of one step. Make a new one for each step; call its methods in this order.

    1. `forward`. Afterwards `losses` are known.
    2. `gramian`, if the gradient method needs it.
    3. `write_gradients` or `write_direction`. Afterwards `result` and `norms` are complete.

    Micro-batches and ranks are hidden: all values are of the whole step.

    Attributes:
        losses: [A]. Before `write_gradients` they may be zeros when the loss weights do not depend on them.
        result: losses and extremes of this rank's forwards.
        backwards: the backward passes through the trunk that it makes. Those of micro-batches count as one; those that
            end at the last shared layer or at the representation do not count.
        norms: [A], norms of the tasks' unweighted gradients at the last shared layer. None when the weighting does not
            ask for them, and after an overflow in fp16.
    """

    losses: Tensor
    backwards: int = 1
    norms: Tensor | None = None

    def __init__(self, parts: Parts, data: StepData) -> None:
        self.parts, self.data, self.forwards = parts, data, parts.forwards
        self.result = ForwardResult()

    @abstractmethod
    def forward(self) -> None:
        """Runs the model far enough to compute the losses."""

    def gramian(self) -> Tensor:
        """Inner products [A, A] of the tasks' unweighted gradients, each times the scale; float64, on the device."""
        raise NotImplementedError

    def write_direction(self, weights: Tensor, direction: Callable[[Tensor], Tensor]) -> Aggregation:
        """Fills the `.grad` of all trainable parameters of the model, those of the trunk with a direction.

        Args:
            weights: [A], the loss weights, on the device. A head gets the gradient of its own weighted loss.
            direction: gets the Jacobian [A, n] of the weighted losses, which it may change, and returns [n].

        Returns:
            Cosines and norms of the tasks' unweighted gradients.
        """
        raise NotImplementedError

    @abstractmethod
    def write_gradients(self, weights: Tensor, factors: Tensor | None) -> None:
        """Fills the `.grad` of all trainable parameters of the model.

        Args:
            weights: [A], the loss weights, on the device. A head gets the gradient of its own weighted loss.
            factors: [A], on the CPU. The trunk gets Σ factors_i · weights_i · g_i. None: all are 1.
        """
