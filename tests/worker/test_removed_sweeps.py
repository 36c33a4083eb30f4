"""A sweep that is removed while it trains, and submitted anew: the old processes end and write nothing into the new
runs, those that wait are not begun; the new runs train.
"""

import shutil
import time
from pathlib import Path

import pytest
from rig.local_sweep import LocalSweep


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


@pytest.mark.parametrize("all_of_it", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_old_worker_does_not_touch_the_new_runs(project, make_grid, submit_locally, fake_child, all_of_it):
    code = project / "jobs" / "tiny.py"
    grid = {"grid": {"data.path": ["endless"], "seed": [0, 1] if all_of_it else [0]}, "resources": {"cpus": 64}}
    old = submit_locally(make_grid(**grid))
    old.wait("seed=0", "running")
    first = old.status("seed=0")
    folder = old.sweep.folder
    removed = folder if all_of_it else old.sweep.run(old.run("seed=0")).folder
    while removed.exists():  # its processes may be writing into it
        shutil.rmtree(removed, ignore_errors=True)
    code.write_text(code.read_text() + "\n")  # so that the old code is not there
    new: LocalSweep = submit_locally(make_grid(**grid))
    new.wait("seed=0", "running", seconds=30)
    assert new.status("seed=0").job_id == new.submitted.job_ids[0] != first.job_id
    if all_of_it:
        deadline = time.monotonic() + 30
        while alive(old.worker):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert {status.state for run in new.sweep.runs() if (status := new.status(run.name))} == {"running"}
    assert new.status("seed=0").job_id == new.submitted.job_ids[0]


def test_a_lock_that_is_purged_as_an_old_file_ends_no_run(make_grid, submit_locally, fake_child):
    sweep = submit_locally(make_grid(grid={"data.path": ["endless"]}))
    sweep.wait("", "running")
    [run] = sweep.sweep.runs()
    run.lock.unlink()
    run.cancel.touch()  # its worker writes at once, and the run may save
    assert sweep.wait("", "cancelled").stops_without_progress == 0
