"""A grid with `tune` on remote clusters: each method on one of them, from `submit` to the choices brought home."""

import json
import shutil

from rig.slurm_cluster import wait_for

from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.trials import read_search

LR = {"loguniform": [1e-3, 1e-1]}


def write_grid(project, trials=2, confirm=1, methods=("equal", "gradnorm")):
    """The grid file itself: what it plans depends on the sweep that is there."""
    keys = {
        "name": "sweep",
        "job": "tiny",
        "set": {"epochs": 1, "data.metrics": False},
        "grid": {"method": [*methods], "optimizer.lr": LR},
        "tune": {"trials": trials, "value": "mean_loss"},
        "confirm": {"seeds": confirm},
        "resources": {"memory": "500M", "time": "5m"},
    }
    (project / "sweep.yaml").write_text(json.dumps(keys))


def methods_on(cluster):
    runs = Sweep(cluster.login.home / "mtlcluster" / "runs" / "sweep").runs()
    return {run.name.partition("-")[0] for run in runs}


def test_a_method_lives_on_one_cluster_with_its_confirming_runs(laptop, arnold, uh, project):
    laptop.describe(arnold={}, uh={})
    write_grid(project)
    assert "submitted 6 runs" in laptop("submit", "sweep.yaml", "--split", "arnold,uh")
    assert sorted([*methods_on(arnold), *methods_on(uh)]) == ["equal", "gradnorm"]
    for cluster in (arnold, uh):
        assert len(cluster.slurm.jobs()) == 3
    runs = laptop.status("sweep")
    waiting = runs["equal-choice=1-seed=1"]
    assert (waiting["state"], waiting["roles"], waiting["notes"]) == (
        "queued",
        ["confirm"],
        ["waits for the trials of equal"],
    )
    assert {runs[run]["cluster"] for run in runs if run.startswith("equal")} == {waiting["cluster"]}
    assert "does not exist yet: waits for the trials of equal" in laptop("logs", "sweep", "equal-choice=1-seed=1")
    home = waiting["cluster"]
    other = "uh" if home == "arnold" else "arnold"
    write_grid(project, trials=3, methods=["equal"])
    refused = laptop("submit", "sweep.yaml", "--cluster", other, code=2)
    assert f"the trials of equal are on {home}; submit to it, too: --cluster {home}" in refused
    write_grid(project, trials=3)
    assert "submitted 2 runs" in laptop("submit", "sweep.yaml", "--split", "arnold,uh")
    assert (len(methods_on(arnold)), len(methods_on(uh))) == (1, 1)
    assert "cancelled 8 runs" in laptop("cancel", "sweep", "--yes")
    assert (arnold.slurm.jobs(), uh.slurm.jobs()) == ({}, {})


def test_another_laptop_first_brings_home_what_the_sweep_keeps(laptop, arnold, project):
    laptop.describe(arnold={})
    write_grid(project, confirm=1)
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    there = Sweep(arnold.login.home / "mtlcluster" / "runs" / "sweep")
    trials, names = there.trials.read_text(), methods_on(arnold)
    shutil.rmtree(project / "runs")
    write_grid(project, methods=("equal", "gradnorm", "pcgrad"))
    refused = laptop("submit", "sweep.yaml", "--cluster", "arnold", code=2)
    assert "sweep sweep, which is on arnold and not here, has trials that are drawn already" in refused
    there.grid.write_text(there.grid.read_text().replace("defaults: 2", "defaults: 1"))
    refused = laptop("submit", "sweep.yaml", "--cluster", "arnold", code=2)
    assert "which is on arnold and not here, was submitted under the defaults of version 1" in refused
    assert (there.trials.read_text(), methods_on(arnold), (project / "runs").exists()) == (trials, names, False)
    laptop.run("collect", "sweep")  # nothing has finished yet, but the files come
    said = laptop("submit", "sweep.yaml", "--cluster", "arnold", "--yes")
    assert "was submitted under older defaults and keeps them: best.value mean_loss" in said
    assert methods_on(arnold) == {*names, "pcgrad"}


def test_there_it_tunes_chooses_and_confirms_and_the_choice_comes_home(laptop, arnold, project):
    laptop.describe(arnold={"partition": "main"})
    write_grid(project)
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    wait_for(lambda: {run["state"] for run in laptop.status("sweep").values()} == {"done"}, "the runs", 120)
    write_grid(project, confirm=2)
    assert "submitted 2 runs" in laptop("submit", "sweep.yaml", "--cluster", "arnold")
    wait_for(lambda: {run["state"] for run in laptop.status("sweep").values()} == {"done"}, "two more", 120)
    laptop("collect", "sweep")
    here = Sweep(project / "runs" / "sweep")
    search = read_search(here.trials)
    for name in search.methods:
        [choice] = read_choices(here.folder, name)
        assert [*choice.runs] == search.confirming_seeds == [1, 2]
        assert all(here.run(run).history.exists() for run in choice.runs.values())
