"""A run trained by several processes (gloo, on the CPU) has the history of one process that sees whole batches."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from rig.slurm_cluster import free_ports
from rig.tiny_runs import PROJECT, assert_same

from mtlcluster.config.run import RunConfig
from mtlcluster.config.yaml_file import dump
from mtlcluster.sweep.history import read_history
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.distributed import Together
from mtlcluster.training.train import load_run, prepare

LIBRARY = PROJECT.parents[2]
METHODS = {
    "sum": {"accumulate": 2, "method": {"schedule": "dsg", "weighting": "uncertainty"}},
    "gramian": {"method": {"schedule": "difficulty_sampling", "weighting": "gradnorm", "gradient": "pcgrad"}},
    "jacobian": {"accumulate": 2, "method": {"weighting": "famo", "gradient": "graddrop"}},
    "elsewhere": {"method": {"weighting": "gls", "gradient": {"name": "mgda", "at": "representation", "every": 3}}},
}
KEEP_WEIGHTS = """
import os
import sys
from pathlib import Path
import torch
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.train import load_run, prepare
folder = Path(sys.argv[1])
config, build = load_run(folder)
trainer = prepare(build, config, folder, Callbacks())
trainer.run()
torch.save(trainer.model.state_dict(), folder / f"weights-{trainer.ranks.rank}.pt")
os._exit(0)  # as a training process of a sweep: gloo's threads may abort an ordinary exit
"""
DROPOUT = {"model": {"width": 16, "dropout": 0.5}, "method": "pcgrad"}


def configure(folder, **settings):
    """Configures a run. The last batch of an epoch has one sample; half of the labels of one task are missing."""
    folder.mkdir(parents=True)
    config = RunConfig(
        **{
            "job": f"{LIBRARY}/jobs/digits.py:build", "data": {"pairs": 97, "unlabelled": 0.5}, "epochs": 2,
            "model": {"width": 16, "dropout": 0.0}, "batch_size": 32, "optimizer": {"lr": 0.003}, **settings,
        }
    )  # fmt: skip
    (folder / "config.yaml").write_text(dump(config.model_dump()))
    return folder


def start(folder, ranks, program=("-m", "mtlcluster._entry", "child")):
    [port] = free_ports(1)
    processes = []
    for rank in range(ranks):
        environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"}
        if ranks > 1:
            environment |= {
                "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        null = os.open(os.devnull, os.O_WRONLY)
        first = rank == 0
        processes.append(
            subprocess.Popen(
                [sys.executable, *program, str(folder), str(null if first else -1)],
                stdin=subprocess.PIPE if first else subprocess.DEVNULL, text=True, env=environment,
                pass_fds=[null] if first else [], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
        os.close(null)
    return processes


def train(folder, ranks, codes=(0,)):
    processes = start(folder, ranks)
    return finish(processes, codes)


def here(folder):
    """A trainer of the run in this process."""
    config, build = load_run(folder)
    return prepare(build, config, folder, Callbacks())


def finish(processes, codes=(0,)):
    """Returns what each process printed. Standard input of the first one stays open until its end."""
    printed = []
    for process in processes:
        process.wait(timeout=120)
        printed.append(process.stdout.read())
    assert {process.returncode for process in processes} <= set(codes), "\n".join(printed)
    return printed


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_two_ranks_give_the_history_of_one(settings, tmp_path):
    alone, together = (configure(tmp_path / name, **settings) for name in ("alone", "together"))
    history = here(alone).run()
    train(together, 2)
    other = read_history(together / "history.pkl")
    relative_to = other["info"]["relative_to"]
    for task, entry in history["info"]["relative_to"].items():
        assert relative_to[task]["output"] == pytest.approx(entry["output"], rel=1e-6)
        assert relative_to[task]["validation"] == pytest.approx(entry["validation"], rel=1e-6)
    one, two = history["series"], other["series"]
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name]["value"], one[name]["value"], rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.long  # tests/slurm/test_slurm_ranks.py stops and starts two ranks, too
def test_stopped_and_started_again_two_ranks_end_the_same_and_another_number_says_what_changes(tmp_path):
    whole = configure(tmp_path / "whole", **DROPOUT)
    train(whole, 2)
    series = read_history(whole / "history.pkl")["series"]
    folder = configure(tmp_path / "stopped", **DROPOUT)
    processes = start(folder, 2)
    processes[0].stdin.close()  # the end of rank 0's input asks for a stop
    finish(processes, codes=[3])
    other = shutil.copytree(folder, tmp_path / "other")
    train(folder, 2)
    assert_same(read_history(folder / "history.pkl")["series"], series)
    trainer = here(other)
    trainer.run()
    assert "2 ranks before, 1 from here on: dropout and augmentation draw other numbers" in trainer.reporter.notes[0]


def test_a_sample_that_breaks_one_rank_ends_all_and_is_named(tmp_path):
    """Sample 7 of the tiny job is infinite, and only one rank has it."""
    folder = configure(
        tmp_path / "broken", job=f"{PROJECT}/jobs/tiny.py:build", data={"broken": True, "metrics": False}, model={},
        batch_size=8, seed=1,
    )  # fmt: skip
    printed = train(folder, 2, codes=[1])
    assert "sample 7: inputs: a value that is not finite" in "\n".join(printed)


LAST_LAYER = {"gradient": {"name": "mgda", "at": "last_layer"}}


@pytest.mark.parametrize(
    "method", ["pcgrad", *(pytest.param(method, marks=pytest.mark.long) for method in ("moco", LAST_LAYER))], ids=str
)
def test_what_a_model_skips_on_one_rank_is_summed_all_the_same(method, tmp_path):
    """Otherwise the gradients of the ranks, or which parameters have one, would differ."""
    job = f"{PROJECT}/jobs/skipping.py:build"
    folder = configure(tmp_path / "run", job=job, data={}, model={}, batch_size=8, epochs=4, method=method)
    finish(start(folder, 2, ["-c", KEEP_WEIGHTS]))
    first, second = (torch.load(folder / f"weights-{rank}.pt") for rank in range(2))
    for name in first:
        assert torch.equal(first[name], second[name])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_every_sample_of_a_batch_has_one_rank(size):
    batch, seen = torch.arange(100, 100 + size), []
    for rank in range(3):
        ranks = object.__new__(Together)
        ranks.rank, ranks.size = rank, 3
        mine = ranks.take(batch)
        assert len(mine) >= 1
        if not ranks.is_idle(size):
            seen += mine.tolist()
            assert torch.equal(batch[ranks.part(size)], mine)
            assert torch.equal(ranks.own(torch.arange(size), size), torch.arange(len(mine)))
    assert seen == batch.tolist()
