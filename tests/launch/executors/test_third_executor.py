"""A third engine is one class and one line: here it runs each job's worker as a child of the test's own process."""

import subprocess
import sys

import pytest
from rig.slurm_cluster import wait_for

from mtlcluster import _entry
from mtlcluster.errors import UserError
from mtlcluster.launch import executors
from mtlcluster.launch.cancel import cancel
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.executors import EXECUTORS
from mtlcluster.launch.executors.base import Executor, JobState
from mtlcluster.launch.live_status import pause
from mtlcluster.launch.packing import pack
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.submit import submit
from mtlcluster.processes.environment import headless


class Children(Executor):
    """The children of this process."""

    name = "children"
    has_queue = False

    def __init__(self):
        self.workers = {}  # by job id

    def limits(self, sweep, array, cluster):
        return "children may have one core" if array.cpus > 1 else ""

    def arrays(self, units, packing, cluster):
        return pack(units, packing, largest_array=1)

    def script(self, sweep, submission, array, cluster):
        return f"a child trains {array.jobs[0]}"

    def submit(self, sweep, submission, array, cluster, say):
        code = sweep.code / array.code
        command = [sys.executable, *_entry.python_arguments("worker", code), str(sweep.folder), submission]
        worker = subprocess.Popen(command, cwd=code, env=headless(PYTHONPATH=str(code)), stdin=subprocess.DEVNULL)
        self.workers[job := f"{self.name}:{worker.pid}"] = worker
        return [job]

    def states(self, jobs, owners):
        return {job: JobState("gone" if self.workers[job].poll() is not None else "running") for job in jobs}

    def cancel(self, job_ids):
        for job in job_ids:
            self.workers[job].kill()


@pytest.fixture
def children(monkeypatch):
    executor = Children()
    monkeypatch.setitem(EXECUTORS, executor.name, executor)
    yield executor
    executor.cancel(executor.workers)


def states(sweep):
    return {run.run.rpartition("-")[0]: run.state for run in observe([sweep])}


@pytest.mark.usefixtures("fake_child")
def test_it_shows_submits_watches_cancels_and_retries(project, make_grid, children):
    grid = make_grid(grid={"data.path": ["fine", "endless"]})
    shown = preview(grid, project / "runs", "children")
    assert "2 of 2 runs to submit" in shown
    assert "a child trains ['path=fine" in shown
    submitted = submit(grid, project / "runs", "children", print)
    sweep, (_, job) = submitted.sweep, submitted.job_ids
    assert submitted.job_ids == [*children.workers]
    wait_for(lambda: states(sweep) == {"path=fine": "done", "path=endless": "running"}, "one run to end")
    [endless] = [run for run in observe([sweep]) if run.state == "running"]
    assert (endless.cluster, endless.job_id, endless.verified) == ("children", job, True)
    assert pause([endless], 0.0) == 1.0
    assert [run.state for run in cancel(sweep, [endless], print)] == ["cancelled"]
    [job] = resubmit(sweep, [endless.run], restart=False, say=print).job_ids
    wait_for(lambda: states(sweep)["path=endless"] == "running", "the run to begin again")
    executors.cancel([job])
    wait_for(lambda: states(sweep)["path=endless"] == "lost", "its job to be gone")


def test_what_it_cannot_do_is_refused(project, make_grid, children):
    grid = make_grid(grid={"seed": [0]}, resources={"cpus": 2})
    with pytest.raises(UserError, match=r"sweep.yaml: children may have one core"):
        submit(grid, project / "runs", "children", print)
    assert not (project / "runs").exists()
