"""Compares the histories that this checkout and an earlier commit compute, for every method.

    python tests/same_histories.py [--before 181dc13] [--ranks 2] [--only gradnorm]

Both commits train the same short runs from the same seeds, each in processes of its own. One line is printed for each
run; the exit code is 1 when any differs. With one process, histories must be equal bit for bit; with several, up to
rounding (`TOLERANCE`). Runs called "resumed" are stopped half-way by the earlier commit and finished by this checkout.

Only the public API is used, so the script works whatever the modules are called.
"""

import argparse
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4  # with several ranks: of the largest value of a series
SAMPLES, BATCH = 44, 16
STOP_AFTER = 7  # batches; of runs that are stopped half-way

GRAMIAN = (
    "aligned_mtl", "cagrad", "config", "fairgrad", "gradvac", "imtl_g", "mgda", "nash_mtl", "pcgrad", "upgrad",
)  # fmt: skip
JACOBIAN: tuple[Any, ...] = (
    "graddrop", "db_mtl", "moco", {"name": "torchjd", "aggregator": "UPGrad"},
)  # fmt: skip
WEIGHTINGS: tuple[Any, ...] = (
    "equal", "dwa", "famo", "gls", "gradnorm", "imtl_l", "rlw", "scale_invariant", {"name": "stch", "warmup": 1},
    {"name": "static", "weights": {"sort": 2.0, "sign": 0.3}}, "uncertainty",
)  # fmt: skip
SCHEDULES: tuple[Any, ...] = (
    {"name": "single", "task": "value"}, "round_robin", "sequential",
    {"name": "dsg", "tolerance": 0.2, "patience": 1, "every": 3},
    {"name": "curriculum", "assess": 1}, {"name": "curriculum", "stages": {0: ["sort"], 2: ["sort", "sign"]}},
    {"name": "difficulty_sampling", "every": 2},
)  # fmt: skip
PLACES = ("shared", "representation", "last_layer")
ONE_TASK_A_STEP = ("single", "round_robin", "sequential")


@dataclass(frozen=True)
class Run:
    """A training. trunk: "linear", "convolutional" or "noisy". settings: keys of a run's configuration."""

    trunk: str
    settings: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False


def runs(ranks: int) -> dict[str, Run]:
    """Every run by its name."""
    found: dict[str, Run] = {}

    def add(name: str, trunk: str, method: dict[str, Any], resumed: bool = False, **settings: Any) -> None:
        about = [f"{key} {value}" for key, value in settings.items()]
        words = ["resumed:"] * resumed + [name, "/", trunk, *about]
        assert " ".join(words) not in found
        found[" ".join(words)] = Run(trunk, {"method": method, **settings}, resumed)

    def both(gradient: Any, weighting: Any = "equal") -> dict[str, Any]:
        return {"gradient": gradient, "weighting": weighting}

    for gradient in GRAMIAN:
        for at in PLACES if ranks == 1 else ("shared",):  # the solvers do not know of ranks
            for every in (1, 3):
                options = {"name": gradient, "at": at, "every": every}
                add(f"{gradient} at {at} every {every}", "linear", both(options))
    for at in PLACES:
        for every in (1, 3):
            options = {"name": "upgrad", "at": at, "every": every}
            for accumulate in (1, 3):
                add(f"upgrad at {at} every {every}", "convolutional", both(options), accumulate=accumulate)
            for weighting in ("gradnorm", "famo"):
                add(f"{weighting}, upgrad at {at} every {every}", "noisy", both(options, weighting), accumulate=3)
            add(f"gradnorm, upgrad at {at} every {every}", "linear", both(options, "gradnorm"))
    for gradient in ("sum", *JACOBIAN):
        name = label(gradient)
        for trunk in ("linear", "convolutional", "noisy"):
            for accumulate in (1, 3):
                add(name, trunk, {"gradient": gradient}, accumulate=accumulate)
    for weighting in WEIGHTINGS:
        for accumulate in (1, 3):
            for trunk, gradient in (("noisy", "sum"), ("linear", "pcgrad")):
                add(f"{label(weighting)}, {gradient}", trunk, both(gradient, weighting), accumulate=accumulate)
        add(f"{label(weighting)}, graddrop", "linear", both("graddrop", weighting))
        at_last = {"name": "mgda", "at": "last_layer"}
        add(f"{label(weighting)}, mgda at last_layer", "convolutional", both(at_last, weighting))
    for schedule in SCHEDULES:
        for gradient in ("sum",) if label(schedule) in ONE_TASK_A_STEP else ("sum", "upgrad", "moco"):
            method = {"schedule": schedule, "gradient": gradient}
            kind = " by hand" if isinstance(schedule, dict) and "stages" in schedule else ""
            add(f"{label(schedule)}{kind}, {gradient}", "linear", method)
            add(f"{label(schedule)}{kind}, {gradient}", "linear", method, accumulate=3, batch_size=2)
    shares = {"schedule": SCHEDULES[-1], "weighting": "gradnorm"}
    add("shares, gradnorm, mgda at representation", "noisy",
        {**shares, "gradient": {"name": "mgda", "at": "representation", "every": 3}}, accumulate=3)  # fmt: skip
    for clip in (None, 0.1):
        add("sum", "linear", {}, gradient_clip=clip)
        add("pcgrad", "linear", {"gradient": "pcgrad"}, gradient_clip=clip)
    for precision in ("bf16", "fp16"):
        for gradient in ("sum", "upgrad", "moco", {"name": "mgda", "at": "representation"}):
            add(label(gradient), "linear", both(gradient, "gradnorm"), precision=precision, accumulate=1)
            add(label(gradient), "convolutional", both(gradient, "famo"), precision=precision, accumulate=3)
    if ranks == 1:
        elsewhere = {"name": "gradvac", "at": "representation", "every": 3}
        for gradient in ({"name": "pcgrad", "every": 3}, elsewhere, "moco"):
            for weighting in ("gradnorm", "famo", "uncertainty"):
                method = {"gradient": gradient, "weighting": weighting, "schedule": SCHEDULES[-1]}
                add(f"{weighting}, {label(gradient)}", "noisy", method, resumed=True)
        add("upgrad", "linear", {"gradient": {"name": "upgrad", "every": 3}}, resumed=True, precision="fp16")
    return found


def label(method: Any) -> str:
    return str(method["name"]) if isinstance(method, dict) else method


# One checkout's side: trains the runs ---------------------------------------------------------------------------------


def record(part: str, folder: Path, only: str, ranks: int, port: int) -> None:
    """Writes {name: (series, seconds)} to a file named after the part.

    part: "before" trains all runs, and the resumed ones once more up to half-way; "now" trains all others; "rest"
    finishes the halves.
    """
    import torch.distributed as dist

    first = os.environ.get("RANK", "0") == "0"
    meeting = dist.TCPStore("127.0.0.1", port, is_master=first, wait_for_workers=False) if ranks > 1 else None
    found = {}
    for number, (name, run) in enumerate(chosen(ranks, only).items()):
        if (part == "now" and run.resumed) or (part == "rest" and not run.resumed):
            continue
        if meeting:
            group = meet(meeting, number, first)
        half = folder / "halves" / str(number)
        began = time.perf_counter()
        try:
            if part == "before" and run.resumed:
                stop_half_way(run, half)
            with tempfile.TemporaryDirectory() as scratch:
                series = train_run(run, half if part == "rest" else Path(scratch))
        except Exception:
            traceback.print_exc()
            sys.stderr.write(f"this was the run: {name}\n")
            os._exit(1)  # the process group would wait for the other ranks
        found[name] = (series, time.perf_counter() - began)
        if meeting:
            dist.destroy_process_group()
            del group
    if first:
        (folder / f"{part}.pkl").write_bytes(pickle.dumps(found))


def meet(meeting: Any, number: int, first: bool) -> Any:
    """Lets the ranks of a run find each other in a store of this run alone: its keys must not be those of an earlier
    run. Returns the store on the first rank, which must keep it.
    """
    import torch.distributed as dist

    group = None
    if first:
        group = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        meeting.set(str(number), str(group.port))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": meeting.get(str(number)).decode()}
    os.environ |= {**place, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return group


def train_run(run: Run, folder: Path, batches: int | None = None, **more: Any) -> dict[str, Any]:
    """The series of a run. batches: how many of the training data can be read."""
    from mtlcluster import train

    settings = {"epochs": 4, "batch_size": BATCH, "optimizer": {"lr": 0.01}, **run.settings, **more}
    series: dict[str, Any] = train(lambda: problem(run.trunk, batches), settings, folder)["series"]
    return series


def stop_half_way(run: Run, folder: Path) -> None:
    """Leaves a checkpoint: the data cannot be read any further."""
    try:
        train_run(run, folder, STOP_AFTER, checkpoint_every="0.000001s")
    except EOFError:
        return
    raise AssertionError("it was not stopped")


def problem(trunk: str, batches: int | None = None) -> Any:
    """Three tasks, two of them with missing labels. batches: how many of the training data can be read."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from mtlcluster import MultiTaskModel, Problem, Task, TensorData

    class Data(TensorData):
        left = batches

        def __getitem__(self, index: Any) -> Any:
            if self.left is not None:
                if not self.left:
                    raise EOFError
                self.left -= 1
            return super().__getitem__(index)

    def data(samples: int, kind: type[TensorData]) -> TensorData:
        generator = torch.Generator().manual_seed(samples)
        inputs = torch.randn(samples, 3, 6, 6, generator=generator)
        sort = inputs.mean((2, 3)).argmax(1)
        sort[torch.rand(samples, generator=generator) < 0.3] = -1
        value = 3 * inputs[:, 0].mean((1, 2)) + inputs[:, 1, 0, 0]
        value[torch.rand(samples, generator=generator) < 0.4] = float("nan")
        return kind(inputs, {"sort": sort, "value": value, "sign": (inputs.mean((1, 2, 3)) > 0).float()})

    trunks = {
        "linear": lambda: [nn.Flatten(), nn.Linear(108, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh()],
        "convolutional": lambda: [
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 64), nn.ReLU(),
        ],
        "noisy": lambda: [
            nn.Flatten(), nn.Linear(108, 64), nn.LayerNorm(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 64),
            nn.BatchNorm1d(64),
        ],
    }  # fmt: skip
    tasks = [
        Task("sort", F.cross_entropy, "classification", missing=-1),
        Task("value", lambda o, t: F.mse_loss(o.flatten(), t), "regression", missing=float("nan")),
        Task("sign", lambda o, t: F.binary_cross_entropy_with_logits(o.flatten(), t), "classification"),
    ]
    heads = {"sort": nn.Linear(64, 3), "value": nn.Linear(64, 1), "sign": nn.Linear(64, 1)}
    model = MultiTaskModel(nn.Sequential(*trunks[trunk]()), heads)
    return Problem(model, tasks, data(SAMPLES, Data), data(20, TensorData))


def chosen(ranks: int, only: str) -> dict[str, Run]:
    return {name: run for name, run in runs(ranks).items() if only in name}


# Both sides -----------------------------------------------------------------------------------------------------------


@contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """A git worktree of the commit, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "before"
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], check=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


def start(part: str, checkout: Path, folder: Path, only: str, ranks: int) -> list[subprocess.Popen[bytes]]:
    """The processes that train with the code of a checkout, one for each rank."""
    environment = {
        **os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore::FutureWarning", "TORCH_CPP_LOG_LEVEL": "ERROR",
    }  # fmt: skip
    command = [sys.executable, __file__, "--record", part, str(folder), only, str(ranks), str(free_port())]
    processes = []
    for rank in range(ranks):
        if ranks > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        processes.append(subprocess.Popen(command, env=dict(environment), cwd=checkout))
    return processes


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    """Raises SystemExit when one of them failed; the others are then killed."""
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            for process in processes:
                process.kill()
        time.sleep(0.05)
    if any(process.returncode for process in processes):
        sys.exit("a training failed")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def compare(commit: str, ranks: int, only: str) -> bool:
    """Prints a line for each run, and whether all are equal."""
    with checkout_of(commit) as before, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        finish([*start("before", before, folder, only, ranks), *start("now", HERE, folder, only, ranks)])
        if any(run.resumed for run in chosen(ranks, only).values()):
            finish(start("rest", HERE, folder, only, ranks))
        found = {path.name: pickle.loads(path.read_bytes()) for path in folder.glob("*.pkl")}
    olds, news = found["before.pkl"], {**found["now.pkl"], **found.get("rest.pkl", {})}
    differing = 0
    print(f"{'run':76} {'histories':10} {'difference':>10} {'before':>8} {'now':>8}")
    for name, (old, old_seconds) in olds.items():
        new, new_seconds = news[name]
        same, difference = differences(old, new)
        good = same or (ranks > 1 and difference <= TOLERANCE)
        differing += not good
        verdict = "equal" if same else "rounding" if good else "DIFFERENT"
        print(f"{name:76} {verdict:10} {difference:10.1e} {old_seconds:6.2f} s {new_seconds:6.2f} s")
    print(f"{len(olds) - differing} of {len(olds)} histories are as at {commit}")
    return not differing


def differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[bool, float]:
    """Whether all series are equal bit for bit, and the largest difference, relative to the largest of a series."""
    if old.keys() != new.keys() or any(old[name].keys() != new[name].keys() for name in old):
        return False, float("inf")
    same, largest = True, 0.0
    for name in old:
        for key, left in old[name].items():
            right = new[name][key]
            if left.shape != right.shape or left.dtype != right.dtype or (np.isnan(left) != np.isnan(right)).any():
                return False, float("inf")
            same &= left.tobytes() == right.tobytes()
            if not same and np.isfinite(left).any():
                size = np.nanmax(np.abs(left))
                largest = max(largest, float(np.nanmax(np.abs(left - right)) / (size or 1.0)))
    return same, largest


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        part, place, only, ranks, port = sys.argv[2:]
        record(part, Path(place), only, int(ranks), int(port))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="181dc13", help="the commit to compare with")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train a run together")
    parser.add_argument("--only", default="", help="only runs whose names contain this")
    given = parser.parse_args()
    sys.exit(not compare(given.before, given.ranks, given.only))
