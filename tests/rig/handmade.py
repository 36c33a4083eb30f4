"""Sweep folders written by hand, with the library's own writers, so that every state can be had without training."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.status import Status, write_status


def local_job(pid: int) -> str:
    start_time = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"local:{os.uname().nodename}:{pid}:{start_time}"


def new_sweep(runs_folder: Path, name: str = "digits") -> Sweep:
    sweep = Sweep(runs_folder / name)
    sweep.folder.mkdir(parents=True)
    sweep.grid.write_text(f"name: {name}\n")
    return sweep


def add_runs(sweep: Sweep, job_id: str, runs: dict[str, Status | None], submission: str = "0001") -> None:
    """One job with these runs, accepted; a status is written as its worker would."""
    cluster = "local" if job_id.startswith("local:") else "slurm"
    submissions.append(sweep.submissions, "begin", submission, cluster=cluster, code="c0de", jobs=[list(runs)])
    submissions.append(sweep.submissions, "end", submission, jobs=[job_id])
    for name, status in runs.items():
        sweep.run(name).folder.mkdir(exist_ok=True)
        if status is not None:
            status.submission, status.job_id = submission, job_id
            write_status(sweep.run(name).status, status)


def at_epoch(epoch: int, state: str = "running", **more: object) -> Status:
    values = {
        "state": state,
        "host": "n1",
        "device": "cpu",
        "attempt": 1,
        "epoch": epoch,
        "epochs": 20,
        "step": 30 * epoch,
        "steps": 600,
        "started": time.time(),
        "elapsed": 12.5 * epoch,
        "seconds_left": 12.5 * (20 - epoch),
        "heartbeat": time.time(),
        "latest": {"train/total_loss": 1.5, "validation/mean_loss": 1.25},
        "best": {"value": "mean_loss", "direction": "min", "number": 1.2, "epoch": epoch},
    }
    return Status(**(values | more))


def fake_program(folder: Path, monkeypatch, name: str, script: str) -> None:
    """Puts a program of this name before the real one."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    if str(program.parent) not in os.environ["PATH"].split(":"):
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.1)
