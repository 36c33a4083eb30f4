"""What tests of several parts share: a project of one's own, and grids made of it."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlcluster.config.grid import Grid, read_grid

PROJECT = Path(__file__).parent / "rig" / "project"
pytest_plugins = ["rig.local_sweep", "rig.slurm_sweep"]  # sweeps on this machine and on a real Slurm

# What tests start is to hear Ctrl-C, also where they were started in the background, which has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """With MTLCLUSTER_NO_SKIPS, as in CI, a test that is skipped has failed."""
    report = yield
    if report.skipped and os.environ.get("MTLCLUSTER_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, which MTLCLUSTER_NO_SKIPS forbids: {report.longrepr}"
    return report


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tests/rig/project, in which a test may do as it likes.

    With a home and a TMPDIR of its own, so that neither the user's cluster files nor other runs of this machine matter.
    """
    for variable in ("HOME", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT.parents[2]))
    for variable in ("MTLCLUSTER_RUNS", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copytree(PROJECT, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def make_grid(project: Path) -> Callable[..., Grid]:
    """`make_grid(name, grid=…, set=…, …)`: writes <name>.yaml in the project, of job `tiny` unless told; reads it."""

    def make(name: str = "sweep", **keys: Any) -> Grid:
        path = project / f"{name}.yaml"
        keys["set"] = {"data.metrics": False, **keys.get("set", {})}
        resources = {"memory": "500M", "time": "5m", **keys.pop("resources", {})}
        keys = {"name": name, "job": "tiny", **keys, "resources": resources}
        path.write_text(json.dumps(keys, indent=1))  # which is YAML, too
        return read_grid(path)

    return make
