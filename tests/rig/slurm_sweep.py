import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig.slurm_cluster import SlurmCluster, started, wait_for

from mtlcluster.launch.hand_over import Submitted
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.status import Status, read_status


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[SlurmCluster]:
    with started() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_session: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A Slurm without accounting, its queue empty before and after the test."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_session.conf))
    yield slurm_session
    slurm_session.clear()


@pytest.fixture
def slurm_with_accounting(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    with started(accounting=True) as cluster:
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        yield cluster


class SlurmSweep:
    """A sweep on Slurm, as a test looks at it."""

    def __init__(self, submitted: Submitted) -> None:
        self.submitted, self.sweep = submitted, submitted.sweep

    def statuses(self) -> list[Status]:
        return [read_status(run.status) or Status() for run in self.sweep.runs()]

    def states(self) -> set[str]:
        return {status.state for status in self.statuses()}

    def wait(self, condition: Callable[[Status], object], what: str, seconds: float = 60) -> None:
        """Until `condition` holds for every run."""
        wait_for(lambda: all(condition(status) for status in self.statuses()), f"{what}: {self.output()}", seconds)

    def wait_until_training(self) -> None:
        """Until every run is beyond its first epoch."""
        self.wait(lambda status: status.state == "running" and status.epoch >= 1, "runs to train")

    def wait_until_done(self) -> None:
        deadline = time.monotonic() + 90
        while self.states() != {"done"}:
            assert time.monotonic() < deadline, f"{self.statuses()} {self.output()}"
            assert "failed" not in self.states(), self.statuses()
            time.sleep(0.2)

    def output(self) -> str:
        return "\n".join(path.read_text() for path in self.sweep.folder.glob("submissions/*/*.out"))


@pytest.fixture
def submit_to_slurm(project: Path) -> Callable[..., SlurmSweep]:
    def submit_grid(grid, runs: str = "runs", cluster: str = "slurm") -> SlurmSweep:
        return SlurmSweep(submit(grid, project / runs, cluster, print))

    return submit_grid
