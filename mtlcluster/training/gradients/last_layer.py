"""The tasks' gradients at the last shared layer: for GradNorm, and for gradient methods with `at: last_layer`."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtlcluster.training.gradients.jacobian import Jacobian, Memory
from mtlcluster.training.gradients.linear_layers import Layer, LinearLayers


class LastLayer:
    """The weight of the last shared layer."""

    def __init__(self, weight: nn.Parameter, linear_layers: LinearLayers) -> None:
        """linear_layers: the layer itself, if the norms can be had without its gradients (see linear_layers.py)."""
        self.weight, self.linear_layers, self.memory = weight, linear_layers, Memory()

    def jacobian(self, tasks: int, layers: Sequence[Layer] = ()) -> Jacobian:
        """An empty Jacobian [tasks, n] at the weight, or at the layer's output."""
        return Jacobian(tasks, [self.weight], layers, memory=self.memory)

    def norms(self, jacobian: Jacobian, scale: float) -> Tensor | None:
        """Norms [A] of the gradients at the weight. None after an overflow in fp16.

        Args:
            jacobian: gradients at this weight and maybe others, all times `scale`.
            scale: the loss scale.
        """
        norms = jacobian.norms(self.weight)
        if scale == 1:  # the check of every step will see whether these are finite
            return norms
        return norms / scale if bool(norms.isfinite().all()) else None
