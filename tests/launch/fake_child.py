"""Stands in for mtlcluster/training/child.py where a test is about the worker: keeps the protocol and trains nothing.

What it does is the word in `data.path` of its configuration.
"""

import json
import os
import select
import signal
import sys
import time
from pathlib import Path

import yaml

folder, reports = Path(sys.argv[1]), os.fdopen(int(sys.argv[2]), "w", buffering=1)
behaviour = yaml.safe_load((folder / "config.yaml").read_text())["data"]["path"]


def report(event, **values):
    reports.write(json.dumps({"event": event, **values}) + "\n")


def told_to_stop(seconds=0.05):
    return bool(select.select([0], [], [], seconds)[0])


ignored = [n for n in ("USR2", "TERM", "INT") if signal.getsignal(getattr(signal, f"SIG{n}")) == signal.SIG_IGN]
seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
print("seen", json.dumps({**seen, "cwd": Path.cwd().name, "ignored": ignored}), flush=True)
if behaviour == "import-error":
    import no_such_module  # noqa: F401
if behaviour == "never-ready":
    time.sleep(60)
step_file = folder / "step"
step = int(step_file.read_text()) if step_file.exists() else 0
report("started", epoch=0, epochs=3, step=step, steps=30, device="cpu", notes=[])
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "fails":
    report("failed", error="ValueError: the loss of task a is no number")
    sys.exit(1)
while behaviour in ("endless", "stubborn"):
    if told_to_stop():
        if behaviour == "endless":
            step_file.write_text(str(step + 1))
            report("saved", step=step + 1)
        report("stopped", epoch=0, step=step + 1)
        sys.exit(3)
print("begin", time.time(), flush=True)
for epoch in (1, 2, 3):
    if told_to_stop(0.2):
        report("stopped", epoch=epoch, step=step)
        sys.exit(3)
    report("epoch", epoch=epoch, step=10 * epoch, seconds_left=1.0, latest={"train/a/loss": 1 / epoch}, best=None)
print("end", time.time(), flush=True)
report("done", epoch=3, step=30)
