"""A search written by hand: the runs of a plain grid are taken for its trials. Draws are other tests' matter."""

from pathlib import Path

from mtlcluster.config.grid import Grid
from mtlcluster.launch.hand_over import sweep_of
from mtlcluster.methods.catalog import method_label
from mtlcluster.sweep.files import make_folder
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, write_search


def as_search(grid: Grid, runs_folder: Path, confirming: list[int]) -> Sweep:
    """Writes trials.json: a trial for each learning rate or word of a method, as `submit` would before it submits."""
    seeds = sorted({run.config.seed for run in grid.runs})
    search = Search(0, "mean_loss", "min", seeds, confirming)
    for run in grid.runs:
        name = method_label(run.config.method)
        method = search.methods.setdefault(name, SearchedMethod(name, {}))
        values = {key: value for key, value in run.varied.items() if key not in ("method", "seed")}
        trial = next((trial for trial in method.trials if trial.values == values), None)
        if trial is None:
            trial = Trial(len(method.trials), values, {})
            method.trials.append(trial)
        trial.runs[run.config.seed] = run.hash
    sweep = sweep_of(grid, runs_folder)
    make_folder(sweep.folder)
    write_search(sweep.trials, search)
    return sweep
