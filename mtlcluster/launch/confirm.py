"""Finds the confirming runs of a sweep that need a job, while its trials are submitted.

A confirming run trains the chosen setting of its method with another seed. Its job is submitted with the trials, under
a placeholder (see sweep/choices.py), and starts when they have ended. A choice that is made changes here alone: if
there are new trials, they are chosen from anew when they have ended; and if a trial was retried, `submit` looks again.
"""

from collections.abc import Collection
from dataclasses import dataclass

from mtlcluster.config.grid import Grid
from mtlcluster.config.run import SweepRunConfig, read_sweep_run_config
from mtlcluster.launch import choose, run_folders
from mtlcluster.launch.hand_over import Submitted
from mtlcluster.launch.packing import Unit
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.launch.sweep_file import SweepFile, read_sweep_file
from mtlcluster.sweep import submissions
from mtlcluster.sweep.choices import Choice, parse_placeholder, placeholder, read_choices, write_choices
from mtlcluster.sweep.files import remove
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import PLACEHOLDER, fits, hash_of
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, read_search


def refuse_damaged(sweep: Sweep) -> None:
    """Raises UserError if a choice can't be read, or is one of a trial that is not there."""
    search = read_search(sweep.trials)
    for method in search.methods.values() if search else ():
        for choice in read_choices(sweep.folder, method.name):
            choose.chosen_trial(sweep, method, choice)


def units(sweep: Sweep, cluster: str, new: Collection[str], result: Submitted) -> list[Unit]:
    """The confirming runs that need a job on this cluster. The sweep is locked, and the trials have their folders.

    Args:
        sweep: The sweep.
        cluster: The name of the cluster. A method's confirming runs are where its newest trial is.
        new: The trials that get a job now.
        result: Gets notes about choices that change, and the runs that are made.
    """
    search = read_search(sweep.trials)
    if search is None or not search.confirming_seeds:
        return []
    confirming = _Confirming(sweep, search, result)
    found: list[Unit] = []
    for method in search.methods.values():
        config = confirming.config_of_newest(method)
        if config is not None and config.origin.cluster == cluster:
            found += confirming.units(method, config, {hash_of(name) for name in new})
    if waiting := sum(bool(unit.after) for unit in found):
        result.notes.append(f"{waiting:,} of them confirm what is chosen, after the trials of their method")
    return found


def units_after(grid: Grid, trials: Collection[Unit]) -> list[Unit]:
    """For a dry run: the confirming runs of the methods that get trials now, as if none were there already."""
    if grid.search is None:
        return []
    new, found = {hash_of(unit.name): unit for unit in trials}, []
    for method in grid.search.methods.values():
        if tried := [new[run] for trial in method.trials for run in trial.runs.values() if run in new]:
            after = tuple(unit.name for unit in tried)
            names = [placeholder(method.name, 1, seed) for seed in grid.search.confirming_seeds]
            found += [Unit(name, tried[-1].resources, tried[-1].code, after) for name in names]
    return found


def again(sweep: Sweep, names: Collection[str]) -> dict[str, tuple[Unit, SweepRunConfig]]:
    """The units of placeholders that get a job again, each with the configuration of its method's newest trial.

    Placeholders of methods without trials here are left out.
    """
    search = read_search(sweep.trials) if names else None
    if search is None:
        return {}
    confirming, found = _Confirming(sweep, search, Submitted(sweep, "")), {}
    for name in names:
        parsed = parse_placeholder(name)
        method = search.methods.get(parsed[0]) if parsed else None
        config = method and confirming.config_of_newest(method)
        if method and config:
            found[name] = (confirming.waiting_unit(method, name, config), config)
    return found


@dataclass
class _Confirming:
    """The confirming runs of all methods."""

    sweep: Sweep
    search: Search
    result: Submitted

    def __post_init__(self) -> None:
        self.file: SweepFile = read_sweep_file(self.sweep)
        self.folders = self.sweep.by_identity()
        history = submissions.read(self.sweep.submissions)
        self.without_job = run_folders.without_job(self.sweep, history)
        self.waiting = {name for name in submissions.latest(history) if fits(PLACEHOLDER, name)}
        self.observed: dict[str, RunStatus] = {}
        self.trials: choose.Trials | None = None

    def config_of_newest(self, method: SearchedMethod) -> SweepRunConfig | None:
        """The configuration of the method's newest trial; None if it has no folder."""
        names = self._runs(method.trials[-1]) if method.trials else []
        return read_sweep_run_config(self.sweep.run(names[0]).config) if names else None

    def _runs(self, trial: Trial) -> list[str]:
        return [self.folders[run].name for run in trial.runs.values() if run in self.folders]

    def waiting_unit(self, method: SearchedMethod, name: str, config: SweepRunConfig) -> Unit:
        """A placeholder's unit: the resources and the code of the method's newest trial."""
        after = tuple(run for trial in method.trials for run in self._runs(trial))
        return Unit(name, self.file.resources_of(config), config.origin.code, after)

    def units(self, method: SearchedMethod, config: SweepRunConfig, new: set[str]) -> list[Unit]:
        """The confirming runs of one method that need a job.

        Args:
            method: The method.
            config: The configuration of its newest trial.
            new: The identities of the runs that get a job now.
        """
        choices = read_choices(self.sweep.folder, method.name)
        pending = {
            parsed[1] for name in self.waiting if (parsed := parse_placeholder(name)) and parsed[0] == method.name
        }
        held = choices[-1] if choices else None
        number = max(pending, default=0)
        has_new = any(run in new for trial in method.trials for run in trial.runs.values())
        if pending and self._is_alive(method, number):  # it chooses from the new trials, too
            pass
        elif held is not None and len(method.trials) == len(held.candidates) and not has_new:
            return self._units_of_choice(method, choices)
        elif pending and not has_new:
            return []  # its jobs have ended without a choice: they are left to `retry`
        else:
            number = max(number, held.number if held else 0) + 1
        names = [placeholder(method.name, number, seed) for seed in self.search.confirming_seeds]
        return [self.waiting_unit(method, name, config) for name in names if name not in self.waiting]

    def _is_alive(self, method: SearchedMethod, number: int) -> bool:
        """True if a job still waits to make this choice."""
        if not self.observed:
            self.observed = {run.run: run for run in observe([self.sweep], self.waiting)}
        names = [placeholder(method.name, number, seed) for seed in self.search.confirming_seeds]
        return any(name in self.observed and not self.observed[name].ended for name in names)

    def _units_of_choice(self, method: SearchedMethod, choices: list[Choice]) -> list[Unit]:
        """The runs of the choice that holds, those of them that have no job. Looks first whether it still holds."""
        choices = [*choices[:-1], self._completed(method, choices[-1])]
        if changed := self._changed(method, choices[-1]):
            choices.append(changed)
        if choices != read_choices(self.sweep.folder, method.name):
            write_choices(self.sweep.folder, method.name, choices)
        made = set(choose.make_runs(self.sweep, method, choices[-1]))
        self.result.new += sorted(made)
        wanted = [run for run in choices[-1].runs.values() if run in made | self.without_job]
        for name in wanted:  # a `cancel` while it had no job
            remove(self.sweep.run(name).cancel)
        configs, unreadable = run_folders.read_configs(self.sweep, wanted)
        self.result.unreadable |= unreadable
        return [Unit(name, self.file.resources_of(one), one.origin.code) for name, one in configs.items()]

    def _completed(self, method: SearchedMethod, choice: Choice) -> Choice:
        """The choice with a run for each confirming seed."""
        missing = [seed for seed in self.search.confirming_seeds if seed not in choice.runs]
        if missing:
            trial = choose.chosen_trial(self.sweep, method, choice)
            configs = choose.confirming_configs(self.sweep, method, trial, missing)
            choice.runs |= {seed: name for seed, (name, _) in configs}
        return choice

    def _changed(self, method: SearchedMethod, held: Choice) -> Choice | None:
        """The choice that the trials' files give now, if it is another one. None while a trial has not ended."""
        if self.trials is None:
            self.trials = choose.look_at_trials(self.sweep, self.search.methods.values())
        trials = self.trials
        if choose.unended(method, trials):
            return None
        now = choose.candidates(method, trials)
        if [(one.number, one.state) for one in now] == [(one.number, one.state) for one in held.candidates]:
            return None
        changed = choose.decide(self.sweep, self.search, method, trials, held.number + 1)
        if changed is None or changed.trial == held.trial:
            return None
        was, is_now = (next(c.number for c in changed.candidates if c.trial == t) for t in (held.trial, changed.trial))
        self.result.notes.append(
            f"{method.name}: trial {changed.trial} ({_number(is_now)}) is chosen in place of trial {held.trial} "
            f"({_number(was)}), because a trial was retried; the runs of the earlier choice stay"
        )
        return changed


def _number(value: float | None) -> str:
    return "not done" if value is None else f"{value:.4g}"
