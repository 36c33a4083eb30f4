"""What a submission can take at most: trials and confirming runs of each method, and hours of GPUs or CPUs."""

from collections import Counter

from mtlcluster.config.grid import Grid
from mtlcluster.config.run import Resources
from mtlcluster.config.units import seconds
from mtlcluster.launch.packing import Unit
from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.trials import Search


def budget(sweep: Sweep, grid: Grid, units: list[Unit]) -> list[str]:
    """Lines about what these runs, and the confirming runs after them, take at most.

    Args:
        sweep: The sweep.
        grid: The grid.
        units: The runs to submit.
    """
    wanted = [unit.resources for unit in units]
    if grid.search is None:
        return [_most(wanted)] if wanted else []
    submitted = {unit.name for unit in units}
    grown = {run.method for run in grid.runs if run.name in submitted}
    resources = {run.method: run.config.resources for run in grid.runs if run.method}
    for method, of_run in resources.items():
        wanted += [of_run] * len(_unconfirmed(sweep, grid.search, method, method in grown))
    return [*_methods(grid, grid.search), _most(wanted)]


def _methods(grid: Grid, search: Search) -> list[str]:
    """A line for each method of the grid."""
    runs, confirming = Counter(run.method for run in grid.runs if run.method), len(search.confirming_seeds)
    lines = ["search:"]
    for method, count in runs.items():
        trials = len(search.methods[method].trials)
        seeds = f" with {len(search.tuning_seeds)} seeds, {count} runs" if len(search.tuning_seeds) > 1 else ""
        alone = " (nothing of it is searched)" if not search.methods[method].searched else ""
        lines.append(f"  {method}: {trials} trial{'s' * (trials != 1)}{seeds}{alone}, {confirming} confirming runs")
    if not confirming:
        lines.append("  no confirming runs: tuned and tested on the same seeds; `confirm: {seeds: 5}` adds them")
    return lines


def _unconfirmed(sweep: Sweep, search: Search, method: str, grown: bool) -> set[int]:
    """The seeds with which the setting that will be chosen may still have to be trained."""
    choices = read_choices(sweep.folder, method)
    made = choices[-1].runs.keys() if choices and not grown else set()
    return set(search.confirming_seeds) - made


def _most(wanted: list[Resources]) -> str:
    gpu_hours = sum(seconds(of_run.time) / 3600 * of_run.nodes * of_run.gpu_count for of_run in wanted)
    cpu_hours = sum(seconds(of_run.time) / 3600 * of_run.nodes * of_run.cpus for of_run in wanted)
    hours = f"{gpu_hours:,.1f} GPU hours" if gpu_hours else f"{cpu_hours:,.1f} CPU hours"
    return f"at most {hours}: {len(wanted):,} run{'s' * (len(wanted) != 1)}, each for its whole time"
