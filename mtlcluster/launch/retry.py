"""`mtlcluster retry`: gives runs that have ended a job again."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster import Cluster
from mtlcluster.config.cluster_files import FILE_NAME
from mtlcluster.config.run import SweepRunConfig
from mtlcluster.errors import UserError
from mtlcluster.launch import confirm, run_folders
from mtlcluster.launch.choose_cluster import ready_cluster, refuse_impossible_runs
from mtlcluster.launch.code import changes
from mtlcluster.launch.hand_over import Submitted, close_interrupted, hand_over, writing
from mtlcluster.launch.packing import Unit
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.sweep_file import SweepFile, read_sweep_file, source_of
from mtlcluster.progress import Say
from mtlcluster.sweep.files import remove
from mtlcluster.sweep.folder import Sweep, forget_results
from mtlcluster.sweep.locks import is_locked
from mtlcluster.sweep.names import PLACEHOLDER, fits

Configs = dict[str, SweepRunConfig]  # by run


def resubmit(sweep: Sweep, names: list[str], restart: bool, say: Say) -> Submitted:
    """Gives runs of this machine a job again, each on its cluster, with the resources that the grid asks for now.

    A run goes on from its checkpoint, with the code that it has. A run without a checkpoint takes the code as it is
    now: what has stopped it may have been mended.

    Args:
        sweep: Their sweep.
        names: The runs.
        restart: True if all of them begin anew, with the code as it is now.
        say: Gets lines for the user.

    Raises:
        UserError: A run has a job by now, or its cluster or its code is not there.
        SchedulerError: Slurm refuses.
    """
    sweep = Sweep(sweep.folder.absolute())
    with writing(sweep, say):
        configs, unreadable = read_configs(sweep, names)
        clusters = _clusters(sweep, configs)
        anew = {name for name in configs if _begins_anew(sweep, name, restart)}
        code, remarks = _code_now(sweep, anew, restart)
        if restart:
            for remark in remarks:
                say(remark)
        notes = [] if restart else _notes_on_code(sweep, configs, anew, code, remarks)
        result = resubmit_runs(sweep, configs, clusters, code, restart)
        result.notes[:0] = notes
        result.unreadable = unreadable
    return result


def read_configs(sweep: Sweep, names: list[str]) -> tuple[Configs, dict[str, str]]:
    """The configurations of these runs; and why some can't be read. Raises UserError if none can.

    A confirming run whose setting is not chosen yet has that of its method's newest trial.
    """
    waiting = [name for name in names if fits(PLACEHOLDER, name)]
    configs, unreadable = run_folders.read_configs(sweep, [name for name in names if name not in waiting])
    configs |= {name: config for name, (_, config) in confirm.again(sweep, waiting).items()}
    if unreadable and not configs:
        raise UserError("\n".join(unreadable.values()))
    return configs, unreadable


def resubmit_runs(
    sweep: Sweep, configs: Configs, clusters: Mapping[str, Cluster], code: str, restart: bool
) -> Submitted:
    """Submits runs that have ended once more, with their sweep locked.

    Args:
        sweep: Their sweep.
        configs: Their configurations, by run.
        clusters: The cluster of each of them, by run.
        code: The hash of the code for runs that begin anew; it is in code/<hash>/. "" if they keep what they have.
        restart: True if all runs begin anew. Otherwise only those begin anew that have saved nothing.

    Raises:
        UserError: A run has a job, or its code is damaged and can't be mended.
        SchedulerError: Slurm refuses.
    """
    close_interrupted(sweep)
    _refuse_taken(sweep, configs)
    anew = {name for name in configs if code and _begins_anew(sweep, name, restart)}
    codes = {name: code if name in anew else config.origin.code for name, config in configs.items()}
    changes.mend(sweep, codes.values())
    file = read_sweep_file(sweep)
    units: dict[str, list[Unit]] = {}
    for name, config in configs.items():
        run, resources = sweep.run(name), file.resources_of(config)
        if fits(PLACEHOLDER, name):
            remove(run.folder)
            continue
        if restart:
            forget_results(run)
        run_folders.update_config(run, config, codes[name], resources)
        remove(run.cancel)
        units.setdefault(clusters[name].name, []).append(Unit(name, resources, codes[name]))
    for name, (unit, _) in confirm.again(sweep, [name for name in configs if fits(PLACEHOLDER, name)]).items():
        units.setdefault(clusters[name].name, []).append(unit)
    result = Submitted(sweep, ", ".join(units), there=[*configs])
    for cluster in {cluster.name: cluster for cluster in clusters.values()}.values():
        hand_over(sweep, cluster, units[cluster.name], file.packing, result)
    return result


def _begins_anew(sweep: Sweep, name: str, restart: bool) -> bool:
    """True if a run takes other code. One whose setting is not chosen yet gets the code of its trial."""
    return not fits(PLACEHOLDER, name) and (restart or not sweep.run(name).has_saved)


def _clusters(sweep: Sweep, configs: Configs) -> dict[str, Cluster]:
    """The cluster of each run, as its configuration says. Raises UserError if runs can't start there."""
    file = read_sweep_file(sweep)
    grid_folder = _folder_of_cluster_file(sweep, file)
    clusters: dict[str, Cluster] = {}
    for name in dict.fromkeys(config.origin.cluster for config in configs.values()):
        wanted = [file.resources_of(config) for config in configs.values() if config.origin.cluster == name]
        clusters[name] = ready_cluster(name, grid_folder, "try again later")
        refuse_impossible_runs(clusters[name], sweep, wanted, file.packing, sweep.grid)
    return {run: clusters[config.origin.cluster] for run, config in configs.items()}


def _folder_of_cluster_file(sweep: Sweep, file: SweepFile) -> Path | None:
    """The folder of a sweep's cluster file.

    For a sweep that the user's other machine has sent here, that is the sweep's own folder. None if neither the sweep
    nor its grid was submitted from here.
    """
    if (sweep.folder / FILE_NAME).exists() and submitted_here.is_mine(sweep.folder):
        return sweep.folder
    grid_folder = Path(source_of(sweep, file).grid).parent
    return grid_folder if submitted_here.has_grids(grid_folder) else None


def _refuse_taken(sweep: Sweep, configs: Configs) -> None:
    """Refuses runs that have a job, or whose training process is still alive."""
    taken = [run.run for run in observe([sweep], configs) if not run.ended]
    taken += [name for name in configs if is_locked(sweep.run(name).lock)]
    if taken:
        raise UserError(f"{', '.join(dict.fromkeys(taken))}: still at work; nothing was submitted")


def _code_now(sweep: Sweep, names: Collection[str], needed: bool) -> tuple[str, list[str]]:
    """Keeps the code of these runs as it is now in code/<hash>/.

    Returns:
        Its hash, and what the user should know about it. "" if there are no such runs, or if the project is not on this
        machine and the code is not needed.
    """
    if needed or (names and changes.CurrentCode(sweep).is_here):
        return changes.CurrentCode(sweep).keep(list(names))
    return "", []


def _notes_on_code(
    sweep: Sweep, configs: Configs, anew: Collection[str], code: str, remarks: Sequence[str]
) -> list[str]:
    """Lines about the runs that take the code as it is now, and about those that keep other code.

    Args:
        sweep: Their sweep.
        configs: Their configurations, by run.
        anew: The runs that have saved nothing.
        code: The hash of the code as it is now; "" if it is not here.
        remarks: Lines for the user about that code.
    """
    taken = sum(configs[name].origin.code != code for name in anew) if code else 0
    notes = [f"{taken:,} of them with the code as it is now, because nothing had been saved", *remarks] if taken else []
    kept = {config.origin.code for name, config in configs.items() if name not in anew}
    changes.mend(sweep, kept)
    return notes + changes.remark(sweep, kept, 0, len(configs) - len(anew))
