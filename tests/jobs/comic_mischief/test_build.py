"""The experiment as a grid names it: its options, its paths, the shipped configurations, and a step of it."""

import pytest
import torch
from rig.comic_mischief import JOB, ROOT, config
from torch.utils.data import DataLoader

from mtlcluster import train
from mtlcluster.config.grid import read_grid
from mtlcluster.config.run import RunConfig, read_run_config, run_hash
from mtlcluster.training.train import load_build

TASKS = ["mischief", "mature", "gory", "slapstick", "sarcasm"]


def test_it_trains_and_says_what_it_found(clips, tmp_path, capsys):
    data = {"similar_length": True, "class_weights": "balanced"}
    run = config(clips, data, best={"value": "mean_f1", "direction": "max"})
    history = train(load_build(JOB, ROOT, run), run, tmp_path)
    for task in TASKS:
        assert len(history["series"][f"validation/{task}/f1"]["value"]) == 1
    assert 0 <= history["series"]["test/mischief/roc_auc"]["value"][0] <= 1
    said = capsys.readouterr().out
    assert "texts: 40 of 40 encoded again from their words" in said
    assert "clips: 27 for train, 8 for validation, 5 for test" in said


def test_its_data_are_the_same_in_a_process_that_was_spawned(clips):
    problem = load_build(JOB, ROOT, config(clips))()
    assert [task.name for task in problem.tasks] == TASKS
    loader = DataLoader(
        problem.train, batch_size=16, num_workers=1, collate_fn=problem.collate, multiprocessing_context="spawn"
    )
    for i, (inputs, targets) in enumerate(loader):
        here, labels = problem.collate([problem.train[j] for j in range(16 * i, min(16 * i + 16, len(problem.train)))])
        assert all(torch.equal(inputs[name].values, here[name].values) for name in here)
        assert all(torch.equal(targets[task], labels[task]) for task in labels)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"features": "data/clips.h5"}, "data.features: 'data/clips.h5' would be looked for wherever a job happens"),
        ({"annotations": "/nowhere/clips.json"}, "/nowhere/clips.json: No such file"),
        ({"feature": "x"}, "no option 'feature'; did you mean 'features'"),
        ({"missing_video": "ignore"}, "data.missing_video should be 'refuse' or 'drop', found 'ignore'"),
        ({"validation_share": "a"}, "data.validation_share should be a valid number.*, found 'a'"),
        ({"test_share": 0.9}, "together less than 1"),
    ],
)
def test_options_that_cannot_be_are_refused(clips, data, words):
    with pytest.raises(ValueError, match=words):
        load_build(JOB, ROOT, config(clips, data))()


def test_what_it_needs_is_asked_for():
    with pytest.raises(ValueError, match="data should say annotations"):
        load_build(JOB, ROOT, RunConfig(job=JOB))


def test_paths_are_from_the_folder_of_the_file_in_which_they_stand(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/mine.py").write_text("def build(data, model): ...\n")
    (tmp_path / "base.yaml").write_text("job: mine\ndata: {base: ./a.h5, name: a.h5}\nmodel: {weights: [./w.pth]}\n")
    text = "name: s\nbase: ../base.yaml\ngrid: {data.grid: [../b.h5, /b/c.h5], seed: [0]}\n"
    (tmp_path / "sub/grid.yaml").write_text(text)
    first, second = (run.config for run in read_grid(tmp_path / "sub/grid.yaml").runs)
    here = str(tmp_path)
    assert first.data == {"base": f"{here}/a.h5", "name": "a.h5", "grid": f"{here}/b.h5"}
    assert second.data["grid"] == "/b/c.h5"
    alone = read_run_config(tmp_path / "base.yaml")
    assert alone.model == first.model == {"weights": [f"{here}/w.pth"]}
    elsewhere = {"data": {**alone.data, "base": "/scratch/a.h5"}, "model": {"weights": ["~/w.pth"]}}
    moved = alone.model_copy(update=elsewhere)
    assert run_hash(moved) == run_hash(alone) != run_hash(alone.model_copy(update={"model": {"weights": ["/x.pth"]}}))


def test_the_shipped_configurations_are_sound():
    one = read_run_config(ROOT / "configs/comic_mischief.yaml")
    assert one.data["features"] == str(ROOT / "data/comic_mischief/features.h5")
    methods = read_grid(ROOT / "configs/comic_mischief-methods.yaml").runs
    assert {run.config.batch_size for run in methods} == {16}
    single = {run.config.method["schedule"].get("task") for run in methods} - {None}
    assert single == set(TASKS)
    assert len(read_grid(ROOT / "configs/comic_mischief-demo.yaml").runs) >= 12
