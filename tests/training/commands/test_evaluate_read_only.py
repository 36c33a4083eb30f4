"""A run that may only be read is evaluated, its predictions written elsewhere."""

import os
import subprocess

import pytest
import yaml
from click.testing import CliRunner

from mtlcluster.cli import app
from mtlcluster.config.run import RunConfig
from mtlcluster.errors import UserError
from mtlcluster.training.commands.evaluate import main
from mtlcluster.training.train import load_build, train

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")


@pytest.fixture
def run(project, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "small", folder], check=True)
    config = RunConfig(job=f"{project}/jobs/tiny.py:build", data={"metrics": False}, epochs=1)
    train(load_build("jobs/tiny.py:build", project, config), config, folder / "run")
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(config.model_dump()))
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield folder / "run"
    subprocess.run(["umount", "-l", folder], check=True)


def test_predictions_go_where_out_says_and_without_it_one_sentence_says_so(run, tmp_path):
    with pytest.raises(UserError, match=f"{run} can't be written to; name another file with --out"):
        main(run, "test", run / "predictions-test.csv")
    main(run, "test", tmp_path / "elsewhere.csv")
    assert len((tmp_path / "elsewhere.csv").read_text().splitlines()) == 61


@pytest.mark.long
def test_the_command_line_says_it_without_a_traceback(run, tmp_path, capfd):
    assert CliRunner().invoke(app, ["evaluate", str(run)]).exit_code == 2
    said = capfd.readouterr()
    assert "can't be written to; name another file with --out" in said.err
    assert "Traceback" not in said.err
    assert CliRunner().invoke(app, ["evaluate", str(run), "--out", str(tmp_path / "x.csv")]).exit_code == 0
