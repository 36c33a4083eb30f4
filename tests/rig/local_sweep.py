import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtlcluster.launch.code import snapshot
from mtlcluster.launch.executors import local
from mtlcluster.launch.hand_over import Submitted
from mtlcluster.launch.submit import submit
from mtlcluster.sweep import submissions
from mtlcluster.sweep.status import read_status

FAKE_CHILD = Path(__file__).with_name("fake_child.py").read_bytes()


class LocalSweep:
    """A sweep on this machine, as a test looks at it."""

    def __init__(self, submitted: Submitted) -> None:
        self.submitted, self.sweep = submitted, submitted.sweep
        self.worker = int(submitted.job_ids[0].split(":")[2]) if submitted.job_ids else None
        self.requeued: list[int] = []

    def begin_again(self) -> None:
        """What Slurm does with a requeued job: the same worker of the same submission once more."""
        self.worker = local.start_worker(self.sweep, "0001", next(self.sweep.code.iterdir()).name)
        self.requeued.append(self.worker)

    def kill_workers(self) -> None:
        jobs = [job for submission in submissions.read(self.sweep.submissions) for job in submission.job_ids]
        for worker in [*self.requeued, *(int(job.split(":")[2]) for job in jobs)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    def run(self, part: str) -> str:
        return next(run.name for run in self.sweep.runs() if part in run.name)

    def status(self, part: str = ""):
        return read_status(self.sweep.run(self.run(part)).status)

    def wait(self, part: str, *states: str, seconds: float = 20):
        """The run's status once it is in one of `states`."""
        deadline = time.monotonic() + seconds
        while (status := self.status(part)) is None or status.state not in states:
            log = self.sweep.submission_folder("0001") / "worker.log"
            assert time.monotonic() < deadline, f"{part} is {status}; {log.read_text()}"
            time.sleep(0.05)
        return status

    def log(self, part: str = "") -> str:
        return self.sweep.run(self.run(part)).log.read_text()


@pytest.fixture
def fake_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots hold the fake child instead of the training process."""
    take = snapshot.take

    def take_fake(*of):
        real = take(*of)
        files = {**real.files, "mtlcluster/training/commands/child.py": FAKE_CHILD}
        sooner = real.files["mtlcluster/worker/rank_process.py"].replace(b"GRACE = 10.0", b"GRACE = 2.0")
        files["mtlcluster/worker/rank_process.py"] = sooner
        sooner = real.files["mtlcluster/worker/attempt.py"].replace(b"STEP_TIMEOUT = 60.0", b"STEP_TIMEOUT = 2.0")
        files["mtlcluster/worker/attempt.py"] = sooner
        return dataclasses.replace(real, hash=f"fake{real.hash[4:]}", files=files)

    monkeypatch.setattr(snapshot, "take", take_fake)


@pytest.fixture
def submit_locally(project: Path) -> Iterator[Callable[..., LocalSweep]]:
    """Submits a grid to this machine; at the test's end its workers are stopped."""
    sweeps: list[LocalSweep] = []

    def submit_grid(grid) -> LocalSweep:
        sweeps.append(LocalSweep(submit(grid, project / "runs", "local", print)))
        return sweeps[-1]

    yield submit_grid
    for sweep in sweeps:
        sweep.kill_workers()
