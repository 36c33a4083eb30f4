"""Stands in for the training process (training/commands/child.py) where a test is about the worker: trains nothing.

What it does is the word in `data.path` of its configuration. A `scored` one gets its learning rate as its best value.
"""

import json
import os
import select
import signal
import sys
import time
from pathlib import Path

import yaml

folder, report_fd = Path(sys.argv[1]), int(sys.argv[2])
reports = os.fdopen(report_fd, "w", buffering=1) if report_fd >= 0 else None
config = yaml.safe_load((folder / "config.yaml").read_text())
behaviour = config["data"]["path"]
best = {"value": "mean_loss", "direction": "min", "number": config["optimizer"]["lr"], "epoch": 1}


def report(event, **values):
    reports.write(json.dumps({"event": event, **values}) + "\n")


def told_to_stop(seconds=0.05):
    return bool(select.select([0], [], [], seconds)[0])


def has_ended(name):
    """Whether the process that has left its id is a zombie or gone."""
    pid = (folder / name).read_text() if (folder / name).exists() else ""
    stat = Path("/proc", pid, "stat")
    try:
        return bool(pid) and ") Z " in stat.read_text()
    except OSError:
        return True


def rank_beside_the_first():
    """Trains until rank 0 says by a file how it ended, as ranks that agree on everything do."""
    if "rank-1-fails" in behaviour and rank == "1":
        (folder / "rank-1").write_text(str(os.getpid()))
        print("ValueError: rank 1 is unwell", flush=True)
        os._exit(1)
    while behaviour == "killed-and-missed":
        if has_ended("rank-0"):
            print("RuntimeError: connection closed by peer", flush=True)
            os._exit(1)
    while behaviour not in ("hung", "deaf") and not (folder / "over").exists():
        time.sleep(0.05)
    if behaviour in ("hung", "deaf"):
        time.sleep(600)
    sys.exit(int((folder / "over").read_text()))


def end(event, status=0, **values):
    (folder / "over.new").write_text(str(status))
    (folder / "over.new").rename(folder / "over")
    report(event, **values)
    sys.exit(status)


ignored = [n for n in ("USR2", "TERM", "INT") if signal.getsignal(getattr(signal, f"SIG{n}")) == signal.SIG_IGN]
seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
print("seen", json.dumps({**seen, "cwd": Path.cwd().name, "ignored": ignored}), flush=True)
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURMD_NODENAME")
stdin = str(Path("/proc/self/fd/0").readlink())
print("rank", json.dumps({**{name: os.environ.get(name) for name in VARIABLES}, "stdin": stdin, "pid": os.getpid(),
                          "threads": os.environ["OMP_NUM_THREADS"], "args": sys.argv[2]}), flush=True)  # fmt: skip
if (rank := os.environ.get("RANK", "0")) != "0":
    rank_beside_the_first()
(folder / "over").unlink(missing_ok=True)
if behaviour == "import-error":
    import no_such_module  # noqa: F401
if behaviour == "never-ready":
    time.sleep(60)
step_file = folder / "step"
step = int(step_file.read_text()) if step_file.exists() else 0
report("started", epoch=0, epochs=3, step=step, steps=30, device="cpu", notes=[],
       last_validation={"epoch": 0, "step": 0})  # fmt: skip
if behaviour.startswith("killed"):
    (folder / "rank-0").write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "fails":
    report("failed", error="ValueError: the loss of task a is no number")
    sys.exit(1)
while behaviour == "rank-1-fails-both-do":
    if has_ended("rank-1"):
        report("failed", error="RuntimeError: connection closed by peer")
        sys.exit(1)
while behaviour == "rank-1-fails":
    time.sleep(1)
worker = os.getppid()
while behaviour == "deaf" and os.getppid() == worker:  # never comes to a step's end
    time.sleep(0.1)
while behaviour == "writes":  # until it can't, as one that saves
    try:
        with open(folder / "data", "ab") as file:
            file.write(bytes(2**13))
    except OSError as error:
        report("failed", error=f"OSError: {error}")
        sys.exit(1)
    time.sleep(0.1)
if behaviour == "frozen":
    os.kill(os.getpid(), signal.SIGSTOP)
if behaviour == "slow-save":  # longer than a run that does not save may take to end
    while not told_to_stop():
        pass
    report("saving")
    time.sleep(4)
    report("saved", step=step + 1)
    end("stopped", 3, epoch=0, step=step + 1)
while behaviour in ("endless", "stubborn", "hung"):
    if told_to_stop():
        if behaviour in ("endless", "hung"):
            step_file.write_text(str(step + 1))
            report("saved", step=step + 1)
        end("stopped", 3, epoch=0, step=step + 1)
if behaviour == "rung":  # a validation ends while it is told to stop
    while not told_to_stop():
        pass
    report("epoch", epoch=1, step=15, seconds_left=1.0, latest={}, best=best,
           last_validation={"epoch": 1, "step": 15})  # fmt: skip
    end("stopped", 3, epoch=1, step=15)
print("begin", time.time(), flush=True)
for epoch in (1, 2, 3):
    if told_to_stop(0.2):
        end("stopped", 3, epoch=epoch, step=step)
    report("epoch", epoch=epoch, step=10 * epoch, seconds_left=1.0, latest={"train/a/loss": 1 / epoch},
           best=best if behaviour == "scored" else None)  # fmt: skip
print("end", time.time(), flush=True)
end("done", epoch=3, step=30)
