"""What tests of several parts share: a project of one's own, and grids made of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtlcluster.config.grid import Grid, read_grid

PROJECT = Path(__file__).parent / "project"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tests/project, in which a test may do as it likes; with a home and a TMPDIR of its own, so that neither
    the user's cluster files nor other runs of this machine matter."""
    for variable in ("HOME", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT.parents[1]))
    monkeypatch.delenv("MTLCLUSTER_RUNS", raising=False)
    shutil.copytree(PROJECT, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def make_grid(project: Path) -> Callable[..., Grid]:
    """`make_grid(name, grid=…, set=…, …)`: writes <name>.yaml in the project, of job `tiny` unless told, and reads it."""

    def make(name: str = "sweep", **keys: Any) -> Grid:
        path = project / f"{name}.yaml"
        resources = {"memory": "500M", "time": "5m", **keys.pop("resources", {})}
        path.write_text(yaml.safe_dump({"name": name, "job": "tiny", **keys, "resources": resources}))
        return read_grid(path)

    return make
