"""What a step of every method costs: gradients of all parameters, without the optimizer.

    python tests/benchmarks/methods.py [--rounds 15] [--trunk mlp] [--tasks 5] [--method upgrad] [--threads 1]
        [--device cuda]

The floor is one forward, the heads' backward, and T plain backwards through the trunk, nothing else. Each way is timed
between two runs of what it is compared with, round by round in one process; figures are medians of the ratios. With
one thread the time is the CPU's own, which others on the machine disturb less. Memory is the peak of what lives beside
model and batch, in copies of the shared gradients, less what one plain summed backward needs beyond its one copy.
"""

import argparse
import contextlib
import statistics
import time
import weakref
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torchjd import aggregation
from torchjd.autojac import jac_to_grad, mtl_backward

from mtlcluster import MultiTaskModel, Task
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method
from mtlcluster.training.gradients.backward import Backward
from mtlcluster.training.gradients.jacobian import Memory

GRAMIAN = ["pcgrad", "gradvac", "mgda", "cagrad", "imtl_g", "nash_mtl", "fairgrad", "aligned_mtl", "upgrad", "config"]
THEIRS: dict[str, Callable[[int], nn.Module]] = {
    "pcgrad": lambda tasks: aggregation.PCGrad(),
    "mgda": lambda tasks: aggregation.MGDA(),
    "imtl_g": lambda tasks: aggregation.IMTLG(),
    "aligned_mtl": lambda tasks: aggregation.AlignedMTL(),
    "upgrad": lambda tasks: aggregation.UPGrad(),
    "config": lambda tasks: aggregation.ConFIG(),
    "cagrad": lambda tasks: aggregation.CAGrad(c=0.5),
    "nash_mtl": lambda tasks: aggregation.NashMTL(n_tasks=tasks),
    "gradvac": lambda tasks: aggregation.GradVac(),
    "fairgrad": lambda tasks: aggregation.FairGrad(alpha=2.0),
}
OF_LOSSES = ["equal", "rlw", "uncertainty", "imtl_l", "scale_invariant", "gls"]
BATCH = 64


class Encoder(nn.Module):
    """Four transformer layers over 32 tokens, 3 M parameters; the mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(248, 4, 992, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs).mean(1)


def mlp() -> tuple[nn.Module, Tensor, int]:
    sizes = [512, 1024, 1024, 1024, 512]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(BATCH, 512), 512


def transformer() -> tuple[nn.Module, Tensor, int]:
    return Encoder(), torch.randn(BATCH, 32, 248), 248


def convolutional() -> tuple[nn.Module, Tensor, int]:
    layers = [m for a, b in ((3, 32), (32, 64), (64, 128)) for m in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.randn(BATCH, 3, 32, 32), 128


TRUNKS = {"mlp": mlp, "transformer": transformer, "convolutional": convolutional}


class Setting:
    """A trunk, T heads of ten classes and one batch; every way of taking a step on them leaves `.grad` filled."""

    def __init__(self, trunk: str, count: int, device: torch.device) -> None:
        torch.manual_seed(0)
        body, inputs, width = TRUNKS[trunk]()
        self.count, self.device = count, device
        self.tasks = [Task(f"t{i}", F.cross_entropy, "classification") for i in range(count)]
        self.model = MultiTaskModel(body, {task.name: nn.Linear(width, 10) for task in self.tasks}).to(device)
        self.batch = (inputs.to(device), {t.name: torch.randint(10, (BATCH,)).to(device) for t in self.tasks})
        self.shared = self.model.shared_parameters()

    def losses(self, representation: Tensor) -> list[Tensor]:
        return [F.cross_entropy(self.model.heads[t.name](representation), self.batch[1][t.name]) for t in self.tasks]

    def forward(self) -> None:
        self.losses(self.model.trunk(self.batch[0]))

    def floor(self) -> None:
        representation = self.model.trunk(self.batch[0])
        entering = representation.detach().requires_grad_()
        for i, loss in enumerate(self.losses(entering)):
            arriving, *_ = torch.autograd.grad(loss, [entering, *self.model.heads[self.tasks[i].name].parameters()])
            torch.autograd.grad(representation, self.shared, arriving, retain_graph=i < self.count - 1)

    def summed(self) -> None:
        self.model.zero_grad()
        torch.stack(self.losses(self.model.trunk(self.batch[0]))).sum().backward()

    def ours(self, method: object, plain: bool = False) -> Callable[..., None]:
        context = Context(self.tasks, torch.Generator().manual_seed(0), total_steps=1000, steps_per_epoch=100)
        _, weighting, gradient = build_method(check_method(method), context, self.device)
        update = Backward(
            self.model, self.tasks, weighting, gradient, contextlib.nullcontext, self.device, linear_layers=not plain
        )

        def step(anew: bool = False) -> None:
            update.parts.memory = Memory() if anew else update.parts.memory
            self.model.zero_grad()
            for parameter in update.learned:
                parameter.grad = None
            found = update([self.batch], range(self.count))
            assert found is not None
            update.learn(found)

        return step

    def torchjd(self, name: str) -> Callable[[], None]:
        aggregator = THEIRS[name](self.count)
        heads = [list(self.model.heads[t.name].parameters()) for t in self.tasks]

        def step() -> None:
            self.model.zero_grad()
            representation = self.model.trunk(self.batch[0])
            losses = self.losses(representation)
            mtl_backward(losses, features=representation, tasks_params=heads, shared_params=self.shared)
            jac_to_grad(self.shared, aggregator)

        return step


class Peak(TorchDispatchMode):
    """The most bytes of tensors made inside that lived at one moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = {tensor.untyped_storage()._cdata for tensor in tree_iter((args, kwargs)) if isinstance(tensor, Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return result

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak(step: Callable[..., None], **options: bool) -> int:
    step()
    with Peak() as found:
        step(**options)
    return found.most


def seconds(step: Callable[[], None], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def ratios(
    ways: dict[str, Callable[[], None]], reference: Callable[[], None], rounds: int, device: torch.device
) -> tuple[dict[str, float], float]:
    """Of each way to the reference, which goes before it and after it in every round; and the reference's seconds."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    of_reference: list[float] = []
    for number in range(rounds + 2):
        before = seconds(reference, device)
        for name, step in ways.items():
            own, after = seconds(step, device), seconds(reference, device)
            if number >= 2:
                found[name].append(2 * own / (before + after))
                of_reference.append(after)
            before = after
    return {name: statistics.median(of_way) for name, of_way in found.items()}, statistics.median(of_reference)


def goal(what: str, found: float, limit: float) -> None:
    print(f"goal: {what}: at most {limit:.2f}, found {found:.2f}, {'met' if found <= limit else 'NOT MET'}", flush=True)


def gramian_methods(trunk: str, count: int, methods: list[str], rounds: int, device: torch.device) -> None:
    """Each method our way, by plain gradients where that differs, and TorchJD's; against the floor."""
    setting = Setting(trunk, count, device)
    worst = {"": 0.0, " plain": 0.0, "of TorchJD's time": 0.0}
    for name in methods:
        ways = {"": setting.ours({"gradient": name}), " plain": setting.ours({"gradient": name}, plain=True)}
        ways["torchjd"] = setting.torchjd(name)
        found, floor = ratios(ways, setting.floor, rounds, device)
        print(
            f"| {trunk} | {count} | {floor * 1e3:.1f} | {name:11} | {found['']:.2f} | {found[' plain']:.2f} | "
            f"{found['torchjd']:.2f} | {found['torchjd'] / found['']:.2f} |", flush=True,
        )  # fmt: skip
        found["of TorchJD's time"] = found[""] / found["torchjd"]
        worst = {kind: max(most, found[kind]) for kind, most in worst.items()}
    goal(f"{trunk}, T = {count}, by plain gradients", worst[" plain"], 1.05 if trunk == "transformer" else 1.3)
    if trunk == "mlp" and count > 2:
        goal(f"{trunk}, T = {count}, by linear layers", worst[""], 0.95)
    goal(f"{trunk}, T = {count}, of TorchJD's time", worst["of TorchJD's time"], 1.0)


def others(trunk: str, count: int, rounds: int, device: torch.device) -> None:
    """The methods that need no Gramian, against a plain summed backward; and those that need the Jacobian."""
    setting = Setting(trunk, count, device)
    ways = {name: setting.ours({"weighting": name}) for name in [*OF_LOSSES, "gradnorm", "famo"]}
    found, _ = ratios({**ways, "forward": setting.forward}, setting.summed, rounds, device)
    shown = ", ".join(f"{name} {of_it:.3f}" for name, of_it in found.items())
    print(f"{trunk}, T = {count}, against a summed backward: {shown}")
    goal(f"{trunk}, T = {count}, weightings of the losses", max(found[name] for name in OF_LOSSES), 1.03)
    goal(f"{trunk}, T = {count}, gradnorm", found["gradnorm"], 1.15)
    goal(f"{trunk}, T = {count}, famo beyond one forward", found["famo"] - found["forward"], 1.03)
    ways = {name: setting.ours({"gradient": name}) for name in ("graddrop", "db_mtl", "moco")}
    for at in ("representation", "last_layer"):
        ways[f"mgda at {at}"] = setting.ours({"gradient": {"name": "mgda", "at": at}})
    found, _ = ratios({**ways, "summed": setting.summed}, setting.floor, rounds, device)
    shown = ", ".join(f"{name} {of_it:.2f}" for name, of_it in found.items())
    print(f"{trunk}, T = {count}, against the floor: {shown}", flush=True)


def memory(trunk: str, count: int, device: torch.device) -> None:
    setting = Setting(trunk, count, device)
    copy = sum(p.numel() * p.element_size() for p in setting.shared)
    beyond = peak(setting.summed) - copy  # activations and what a backward needs in passing
    ways = {"upgrad": setting.ours("upgrad"), "upgrad plain": setting.ours("upgrad", plain=True)}
    ways["graddrop"] = setting.ours("graddrop")
    sizes = {name: peak(step, anew=True) for name, step in ways.items()}  # with the memory that steps share
    sizes["upgrad torchjd"] = peak(setting.torchjd("upgrad"))
    found = ", ".join(f"{name} {(size - beyond) / copy:.2f}" for name, size in sizes.items())
    print(f"{trunk}, T = {count}, peak memory in copies of the shared gradients: {found}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--trunk", choices=TRUNKS, action="append")
    parser.add_argument("--tasks", type=int, action="append")
    parser.add_argument("--method", choices=GRAMIAN, action="append")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    on, trunks, counts = torch.device(given.device), given.trunk or list(TRUNKS), given.tasks or [2, 5, 10]
    print("| trunk | T | floor, ms | method | ours / floor | plain / floor | TorchJD / floor | TorchJD / ours |")
    print("|---|---|---|---|---|---|---|---|")
    for body in trunks:
        for tasks in counts:
            gramian_methods(body, tasks, given.method or GRAMIAN, given.rounds, on)
    for body in trunks:
        for tasks in counts:
            others(body, tasks, given.rounds, on)
    for body in trunks:
        for tasks in counts:
            memory(body, tasks, on)
