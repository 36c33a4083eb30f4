"""The user's settings of matplotlib and Python change no report. (rsync, ssh and pip: tests/remote/test_tools.py.)"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import write_history
from mtlcluster.sweep.status import Status, write_status

RC = """text.usetex: True
font.family: serif
font.size: 30
savefig.dpi: 20
savefig.transparent: True
savefig.bbox: tight
savefig.format: svg
axes.prop_cycle: cycler('color', ['red'])
axes.formatter.use_locale: True
axes.titlesize: 40
figure.facecolor: black
figure.constrained_layout.use: False
figure.autolayout: True
lines.linewidth: 9
lines.antialiased: False
path.sketch: 5, 100, 2
pdf.compression: 0
pdf.use14corefonts: True
image.cmap: jet
image.origin: lower
xtick.direction: in
ytick.right: True
legend.loc: center
backend: TkAgg
toolbar: toolmanager
no such key: 1
line without a colon
"""
COLLECT = [sys.executable, "-m", "mtlcluster", "collect", "sweep"]


@pytest.fixture
def sweep(project: Path) -> Sweep:
    """Two finished runs of two methods."""
    sweep = Sweep(project / "runs" / "sweep")
    sweep.folder.mkdir(parents=True)
    sweep.grid.write_text("name: sweep\n")
    epochs, steps = np.arange(1, 4), np.arange(1, 10)
    for name in ("equal", "pcgrad"):
        run = sweep.run(name)
        run.folder.mkdir()
        write_status(run.status, Status(state="done"))
        method = {"schedule": {"name": "all"}, "weighting": {"name": "equal"}, "gradient": {"name": name}}
        series = {
            f"{part}/{key}": {"epoch": epochs, "value": 1 / epochs}
            for part in ("validation", "test")
            for key in ("a/loss", "a/mae", "mean_loss")
        }
        series |= {key: {"step": steps, "value": 1 / steps} for key in ("train/a/loss", "active/a", "weight/a")}
        info = {
            "seed": 0, "method": name, "config": {"method": method, "seed": 0}, "varied": {}, "finished": True,
            "tasks": [{"name": "a", "kind": "regression", "metrics": {"mae": "min"}}], "attempts": [{}],
            "best": {"value": "mean_loss", "direction": "min", "number": 0.3, "epoch": 3}, "device": "cpu",
            "versions": {},
        }  # fmt: skip
        write_history(run.history, {"series": series, "measured": {}, "info": info})
    return sweep


def digests(sweep: Sweep, cwd: Path, **variables: str) -> tuple[dict[str, str], str]:
    """The checksums of all files of a new report, by name; and what was said on standard error."""
    done = subprocess.run(
        COLLECT,
        cwd=cwd,
        env={**os.environ, "MTLCLUSTER_RUNS": str(sweep.folder.parent), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files = {
        path.relative_to(sweep.report).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sweep.report.rglob("*.*")
        if path.is_file() and path.name != ".made.json"
    }
    (sweep.report / ".made.json").unlink()
    return files, done.stderr


def test_no_setting_of_matplotlib_or_python_changes_a_report(sweep, tmp_path):
    """Settings in the project's folder, in the home, or in variables; wrong, unreadable, or in a read-only home."""
    plain, _ = digests(sweep, tmp_path)
    assert {"figures/results.png", "figures/results.pdf", "figures/schedule.pdf", "index.html"} <= plain.keys()
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "matplotlibrc").write_text(RC)
    # Files that matplotlib itself can't get past.
    undecodable = tmp_path / "undecodable"
    undecodable.mkdir()
    (undecodable / "matplotlibrc").write_bytes(b"font.family: caf\xe9\n")
    cases = [
        (settings, {"PYTHONWARNINGS": "error", "MPLBACKEND": "no such one", "PYTHONOPTIMIZE": "2", "LC_ALL": "C"}),
        (undecodable, {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "SOURCE_DATE_EPOCH": "junk"}),
        (tmp_path, {"MATPLOTLIBRC": str(undecodable), "MPLCONFIGDIR": "/proc/no-home", "PYTHONIOENCODING": "ascii"}),
    ]
    for cwd, variables in cases:
        found, said = digests(sweep, cwd, **variables)
        assert found == plain, variables
        assert said == "", "matplotlib's own remarks are not for the user"


def test_no_folder_to_be_in(sweep, tmp_path):
    """The working folder was removed. A sweep with an absolute path is collected all the same."""
    script = f'mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "$@"'
    command = ["sh", "-c", script, "sh", *COLLECT]
    variables = {**os.environ, "MTLCLUSTER_RUNS": str(sweep.folder.parent)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((sweep.report / ".made.json").read_text())["files"]
