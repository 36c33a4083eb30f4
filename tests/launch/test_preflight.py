"""`submit --check`: one real step of every method, in another process."""

import pytest

from mtlcluster.errors import UserError
from mtlcluster.launch.preflight import check


def test_every_method_makes_one_step_and_nothing_is_left_behind(project, make_grid):
    with open(project / "jobs" / "tiny.py", "a") as job:
        job.write("print('a job may print')\n")
    said = []
    check(make_grid(grid={"method": ["equal", "pcgrad"], "seed": [0, 1]}), said.append)
    assert said == ["checking 2 methods: one training step of each"]
    assert not (project / "runs").exists()


def test_a_method_that_fails_is_named_with_its_error(make_grid):
    grid = make_grid(grid={"method": ["equal", {"weighting": {"name": "static", "weights": {"a": 1.0, "zz": 1.0}}}]})
    with pytest.raises(UserError, match=r"sweep.yaml: method static.*zz"):
        check(grid, print)


def test_a_job_that_cannot_be_imported_is_told(project, make_grid):
    with open(project / "jobs" / "tiny.py", "a") as job:
        job.write("import no_such_module\n")
    with pytest.raises(UserError, match="no_such_module"):
        check(make_grid(grid={"seed": [0]}), print)
