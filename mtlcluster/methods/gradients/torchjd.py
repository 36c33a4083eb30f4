import inspect
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mtlcluster.errors import nearest
from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Options

PLAIN = vars(nn.Module())  # what every module has, beside what its class gives it
KEPT = (Tensor, int, float, tuple, type(None))
State = dict[str, dict[str, tuple[Any, bool]]]  # by module and name; whether it lay with the Jacobian on a GPU
INSTALL = "pip install 'mtlcluster[torchjd]'"


class TorchJD(Gradient):
    """Any aggregator of TorchJD, by its class name.

    It sees the gradients of the active tasks; some aggregators need a certain number of them. Its state is in the
    checkpoint, but for that of NashMTL, which starts anew when a run is resumed (`nash_mtl` has none). Random draws are
    seeded at each step from the methods' own generator, so all ranks of a run draw alike.

    Args:
        aggregator: the name of the class in torchjd.aggregation.
        options: the parameters of its constructor; a list of numbers becomes a vector.
    """

    paper = "Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232, 2024 (the library)"
    needs: ClassVar[Literal["jacobian"]] = "jacobian"

    def __init__(self, context: Context, *, aggregator: str, options: Options = None) -> None:
        super().__init__(context)
        self.aggregator, self.options = aggregator, options or {}
        self.built: list[nn.Module] = []  # in a list, so that its state is no module's state but the extra state
        self.saved: State = {}
        self._build(torch.empty(0))  # a mistake should show at once

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        if not self.built:
            self.built = [self._build(jacobian)]
            for name, module in self.built[0].named_modules():
                for key, (value, with_jacobian) in self.saved.get(name, {}).items():
                    setattr(module, key, value.to(jacobian.device) if with_jacobian else value)
        seed = int(torch.randint(2**63 - 1, (), generator=self.context.generator))
        with torch.random.fork_rng([jacobian.device] if jacobian.is_cuda else []):
            torch.manual_seed(seed)
            found: Tensor = self.built[0](jacobian)
        return found

    def _build(self, like: Tensor) -> nn.Module:
        """The aggregator, with its vectors on the device of `like`. Raises ValueError for a wrong name or option."""
        try:
            from torchjd import aggregation
        except ImportError as error:
            raise ValueError(f"TorchJD is not installed: {INSTALL}") from error
        known = aggregators(aggregation)
        if self.aggregator not in known:
            raise ValueError(f"TorchJD has no aggregator '{self.aggregator}'{nearest(self.aggregator, known)}")
        parameters = inspect.signature(known[self.aggregator]).parameters
        if unknown := [name for name in self.options if name not in parameters]:
            raise ValueError(f"{self.aggregator} has no option '{unknown[0]}'{nearest(unknown[0], parameters)}")
        try:
            vectors = {k: like.new_tensor(v) if isinstance(v, list) else v for k, v in self.options.items()}
            return known[self.aggregator](**vectors)
        except ImportError as error:  # of its solver
            raise ValueError(f"{error}, or {INSTALL}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.aggregator}: {error}") from error

    def get_extra_state(self) -> State:
        if not self.built:
            return self.saved
        return {name: _state(module) for name, module in self.built[0].named_modules()}

    def set_extra_state(self, state: State) -> None:
        self.saved, self.built = state, []


def aggregators(aggregation: ModuleType) -> dict[str, type[nn.Module]]:
    """Those of TorchJD that can be made from options, by name."""
    bases = {aggregation.Aggregator, aggregation.WeightedAggregator, aggregation.GramianWeightedAggregator}
    return {
        name: found
        for name, found in vars(aggregation).items()
        if isinstance(found, type) and issubclass(found, aggregation.Aggregator) and found not in bases
    }


def _state(module: nn.Module) -> dict[str, tuple[Any, bool]]:
    """The state of an aggregator's module: its buffers, and its own attributes of plain types."""
    own = {name: value for name, value in vars(module).items() if name not in PLAIN and isinstance(value, KEPT)}
    state = {**own, **dict(module.named_buffers(recurse=False))}
    return {name: (value, isinstance(value, Tensor) and not value.is_cpu) for name, value in state.items()}
