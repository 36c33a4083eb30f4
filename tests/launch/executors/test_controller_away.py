"""If Slurm is installed but its controller does not answer, a plain `submit` trains nothing on that login node."""

import os
import socket

import pytest
from click.testing import CliRunner

from mtlcluster.cli import app
from mtlcluster.processes import slurm_commands


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def slurm_conf_of_nobody(tmp_path):
    """A correct configuration whose controller is gone."""
    conf = tmp_path / "slurm.conf"
    conf.write_text(f"ClusterName=c\nSlurmctldHost={socket.gethostname()}(127.0.0.1)\nSlurmctldPort=1\nNodeName=n1\n")
    return conf


AWAY = ["no configuration", "controller is down", "hangs", "no scontrol", "cannot be executed"]


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_plain_submit_is_refused_and_names_the_way(
    project, make_grid, tmp_path, monkeypatch, slurm_conf_of_nobody, away, dry_run
):
    programs = tmp_path / "bin"
    programs.mkdir()
    if away in ("hangs", "no scontrol", "cannot be executed"):
        program(programs, "sbatch", "exit 0")
        monkeypatch.setenv("PATH", f"{programs}" + (":/usr/bin:/bin" if away == "hangs" else ""))
        if away == "hangs":
            program(programs, "scontrol", "sleep 100")
            monkeypatch.setattr(slurm_commands, "COMMAND_TIMEOUT", 0.2)
        if away == "cannot be executed":
            (programs / "scontrol").write_bytes(b"\x00\x01")
            (programs / "scontrol").chmod(0o755)
    else:
        conf = os.devnull if away == "no configuration" else slurm_conf_of_nobody
        monkeypatch.setenv("SLURM_CONF", str(conf))
    monkeypatch.chdir(project)
    grid = make_grid(grid={"seed": [0]})
    outcome = CliRunner().invoke(app, ["submit", str(grid.path), *(["--dry-run"] if dry_run else [])])
    assert outcome.exit_code == 2, outcome.output
    assert "does not answer" in outcome.output
    assert "--cluster local" in outcome.output
    assert not (project / "runs").exists()
    chosen = CliRunner().invoke(app, ["submit", str(grid.path), "--cluster", "local", "--dry-run"])
    assert "on this machine" in chosen.output


def test_where_slurm_is_not_installed_this_machine_trains(project, make_grid, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = CliRunner().invoke(app, ["submit", str(make_grid(grid={"seed": [0]}).path), "--dry-run"])
    assert "on this machine" in outcome.output
