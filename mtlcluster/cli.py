"""The command line: parses, calls, prints. What is heavy is imported inside the verb that needs it.

Exit codes: 0; 1 where a run failed (`submit --wait`, `train`), Slurm refused, a cluster can't be reached or the user
said no; 2 for a mistake in the call or a file; 130 after Ctrl-C, which never stops a submitted run.
"""

import atexit
import errno
import gc
import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click
from click.exceptions import Exit

from mtlcluster import printable
from mtlcluster.errors import ClusterError, SchedulerError, UserError
from mtlcluster.terminal import can_redraw, echo, say, standard_streams

if TYPE_CHECKING:
    from mtlcluster.launch.hand_over import Submitted
    from mtlcluster.launch.run_status import RunStatus
    from mtlcluster.remote.clusters import Fleet
    from mtlcluster.remote.download import Checkpoints

DEFAULT_RUNS = "runs"
INTERRUPTED = 130


class Place(click.Path):
    """A path, whose `~` the shell may have left alone, as in --folder=~/x."""

    def __init__(self, kind: Literal["file", "folder", "any"] = "any") -> None:
        super().__init__(file_okay=kind != "folder", dir_okay=kind != "file", path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        expanded = _expanded(value)
        if not expanded:
            self.fail("expected a path, found nothing", param, ctx)
        if expanded.startswith("~"):
            self.fail(f"there is no home of {expanded.partition('/')[0]}", param, ctx)
        return super().convert(expanded, param, ctx)


FILE, FOLDER = Place("file"), Place("folder")


def _expanded(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - Path's own raises where there is no such user


class Verbs(click.Group):
    """Turns what a user can mend into one message and an exit code; anything else is a bug, and shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _fail(str(error), 2)
        except (SchedulerError, ClusterError) as error:
            _fail(str(error), 1)
        except OSError as error:
            if not error.filename and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _fail(f"{error.filename or 'disk'}: {error.strerror}", 2)
        except (KeyboardInterrupt, click.Abort):  # the latter at a question
            raise Exit(INTERRUPTED) from None


def _fail(message: str, code: int) -> NoReturn:
    say(f"mtlcluster: {printable.text(message)}", err=True)
    raise Exit(code)


def _version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from mtlcluster._version import __version__

        say(f"mtlcluster {__version__}")
        context.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def app() -> None:
    """Compare multi-task-learning methods: a grid file in, figures and tables out, on Slurm or on this machine."""


runs_folder = click.option(
    "--runs",
    metavar="FOLDER",
    type=Place(),
    envvar="MTLCLUSTER_RUNS",
    default=DEFAULT_RUNS,
    help="Where the sweeps are; also from the environment, as MTLCLUSTER_RUNS.",
)
dont_ask = click.option("-y", "--yes", is_flag=True, help="Don't ask.")


@app.command()
@click.argument("config", type=FILE)
@click.option("--folder", metavar="FOLDER", type=FOLDER, help="Where its results go.")
def train(config: Path, folder: Path | None) -> None:
    """Train one run, here and now.

    CONFIG is its configuration, in YAML. Called again, it goes on from its last checkpoint. Without --folder the
    results go into trained/, under the name of the file.
    """
    from mtlcluster.processes.environment import fix_hashes
    from mtlcluster.training.commands.terminal import train_file

    fix_hashes()
    raise Exit(train_file(config, folder or Path("trained") / config.stem))


@app.command()
@click.argument("grid", type=FILE)
@click.option(
    "--cluster", metavar="NAME", help="local, slurm, or a name from clusters.yaml; by default Slurm where it is there."
)
@click.option("--split", metavar="NAME,NAME", help="Deal the runs out over clusters.")
@runs_folder
@click.option("--dry-run", is_flag=True, help="Show runs and batch script; write nothing.")
@click.option("--wait", is_flag=True, help="Show progress until every run has ended.")
@click.option("--check", is_flag=True, help="First make one training step of every method, here.")
@click.option("--max-runs", metavar="N", type=click.IntRange(1), default=10_000, help="Refuse a grid of more points.")
@dont_ask
def submit(
    grid: Path,
    cluster: str | None,
    split: str | None,
    runs: Path,
    dry_run: bool,
    wait: bool,
    check: bool,
    max_runs: int,
    yes: bool,
) -> None:
    """Train every run of a grid that is not there yet.

    GRID is a file in YAML. With --wait, Ctrl-C leaves the runs going (exit code 130), and a run that failed makes the
    exit code 1.
    """
    from mtlcluster.config.grid import read_grid
    from mtlcluster.remote.clusters import fleet_of
    from mtlcluster.remote.dispatch import previews, submit_to

    planned = read_grid(grid, max_runs)
    targets = _targets(cluster, split)
    if planned.repeated:
        say(f"points of the grid that are the same run as another one: {planned.repeated:,}")
    if check:
        from mtlcluster.launch.preflight import check as check_methods

        check_methods(planned, say)
    if dry_run:
        for shown in previews(planned, runs, targets):
            say(shown)
        return
    if any(not path.name.startswith(".") for path in (runs / planned.file.name).glob("*")):
        _confirm_code(runs / planned.file.name, "submit", yes)
    with fleet_of([planned.path.parent]) as fleet:
        submitted = submit_to(planned, runs, targets, fleet, say)
        _tell_there(submitted, runs)
        _tell(submitted, runs)
        if wait:
            _wait(submitted, runs, fleet)
        if submitted.unreadable:
            raise Exit(2)


@app.command()
@click.argument("sweep", required=False)
@runs_folder
@click.option("--all", "everything", is_flag=True, help="Every run, however many there are.")
@click.option("--watch", is_flag=True, help="Redraw in place until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs; docs/status-json.md explains it.")
def status(sweep: str | None, runs: Path, everything: bool, watch: bool, as_json: bool) -> None:
    """Show state, progress and values of runs.

    SWEEP is the name of a grid; by default all are shown.
    """
    from mtlcluster.launch import live_status, status_table
    from mtlcluster.remote.all_runs import Everywhere

    if as_json and watch:
        raise UserError("--json and --watch don't go together; for programs, repeat `mtlcluster status --json`")
    with Everywhere(runs, sweep) as everywhere:
        if as_json:
            found = everywhere.observe()
            say(status_table.as_json(found, everywhere.unreachable))
        elif watch:
            if not can_redraw():
                raise UserError("--watch needs a terminal; without one, repeat `mtlcluster status`")
            with suppress(KeyboardInterrupt):  # how one stops watching
                live_status.watch(everywhere.observe, False, lambda: everywhere.unreachable)
        elif found := everywhere.observe():
            _print(status_table.overview(found, _width(), everything, _again(runs), everywhere.unreachable))
            _tell_changed(found, runs)
        else:
            _print(status_table.remarks([], everywhere.unreachable))
            say(f"{sweep or runs} holds no runs yet; mtlcluster submit GRID{_again(runs)} starts some")


@app.command()
@click.argument("sweep", required=False)
@runs_folder
@click.option(
    "--checkpoints",
    type=click.Choice(["best", "all"]),
    help="Bring these home from remote clusters, too: for `evaluate`, say.",
)
def collect(sweep: str | None, runs: Path, checkpoints: "Checkpoints | None") -> None:
    """Make figures, tables and a page of what has finished.

    SWEEP is the name of a grid; by default all are collected. What remote clusters have of it, and this machine has
    not, is brought home first.
    """
    from mtlcluster.collect.collect import NothingFinished
    from mtlcluster.collect.collect import collect as collect_sweep
    from mtlcluster.remote.download import fetch

    chosen, failed = fetch(runs, sweep, checkpoints, say)
    early = []
    for one in chosen:
        try:
            say(str(collect_sweep(one, say)))
        except NothingFinished as error:
            early.append(f"{error}; see mtlcluster status {shlex.quote(one.name)}{_again(runs)}")
    if not chosen and failed is None:
        raise UserError(f"{runs} holds no sweep yet; mtlcluster submit GRID{_again(runs)} starts one")
    if failed is None and len(early) == len(chosen):
        raise UserError("\n".join(early))
    for words in early:
        say(words)
    if failed is not None:
        raise failed


@app.command()
def clusters() -> None:
    """List the clusters, and whether each is ready."""
    from mtlcluster.remote.setup import states

    _print(states())


@app.command()
@click.option("--cluster", metavar="NAME", required=True, help="As in the cluster file.")
def setup(cluster: str) -> None:
    """Make or update mtlcluster's environment on a cluster.

    Python is looked for there, a virtual environment is made, and this very version of mtlcluster goes into it. Called
    again, it checks what is there and brings it up to date.
    """
    from mtlcluster.remote.setup import set_up

    set_up(cluster, say)


@app.command()
@click.argument("sweep")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@dont_ask
@runs_folder
def cancel(sweep: str, names: tuple[str, ...], yes: bool, runs: Path) -> None:
    """Stop runs that have not ended.

    Of SWEEP, the name of a grid, all; or each RUN, a name or a part of one. They save a checkpoint first, so that
    `retry` can go on from there.
    """
    from mtlcluster.launch import select_runs
    from mtlcluster.remote.all_runs import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        stopping = [run for run in select_runs.meant(sweep, everywhere.observe(), names) if not run.ended]
        if not stopping:
            say(f"nothing to cancel: every run of {sweep} that is meant has ended")
            return
        warning = ""
        if jobs := sorted({run.job_id for run in everywhere.by_cluster(stopping).get("", []) if run.job_id}):
            named = ", ".join(jobs[:3]) + (f" and {len(jobs) - 3:,} more" if len(jobs) > 3 else "")
            warning = _of_a_stranger(everywhere.sweep.folder, f"cancel ends the jobs that it names: {named}")
        _confirm(f"{warning}Cancel {_runs(len(stopping))} of {sweep}?", yes)
        after = everywhere.cancel(stopping, say)
    if ended := sum(run.ended for run in after):
        say(f"cancelled {_runs(ended)} of {sweep}; to go on: mtlcluster retry {shlex.quote(sweep)}{_again(runs)}")
    if ended < len(after):
        soon = "will end within a minute: each saves and stops, or is killed"
        say(f"{_runs(len(after) - ended)} {soon}; to watch: mtlcluster status {shlex.quote(sweep)}{_again(runs)}")


@app.command()
@click.argument("sweep")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@click.option("--restart", is_flag=True, help="From scratch, with today's code.")
@dont_ask
@runs_folder
def retry(sweep: str, names: tuple[str, ...], restart: bool, yes: bool, runs: Path) -> None:
    """Submit failed, lost and cancelled runs once more.

    Of SWEEP, the name of a grid, all; or each RUN, a name or a part of one. They go on from their last checkpoint, with
    the code that they began with.
    """
    from mtlcluster.launch import select_runs
    from mtlcluster.remote.all_runs import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        again = select_runs.to_retry(sweep, everywhere.observe(), names, restart)
        if not again:
            named = "; --restart trains those that are done only where they are named" if restart else ""
            say(f"nothing to retry: no run of {sweep} failed, was lost or was cancelled{named}")
            return
        if everywhere.sweep.folder.exists() and (restart or "" in everywhere.by_cluster(again)):
            _confirm_code(everywhere.sweep.folder, "retry", yes)
        if restart:
            _confirm(f"Remove the results of {_runs(len(again))} of {sweep} and train from scratch?", yes)
        retried = everywhere.retry(again, restart, say)
        _tell(retried, runs)
        if retried.unreadable:
            raise Exit(2)


@app.command()
@click.argument("run")
@dont_ask
@runs_folder
def replay(run: str, yes: bool, runs: Path) -> None:
    """Repeat the step at which a run stopped being finite.

    Where its loss or gradient began to be NaN or infinite, and what every module gave out there, over which range.
    Nothing is changed. With the code that the run began with. RUN is a run's folder, SWEEP/RUN, or a part of its name.
    """
    from mtlcluster.launch.run_module import run_module, sweep_of
    from mtlcluster.launch.select_runs import find_run

    folder = find_run(runs, run)
    _confirm_code(sweep_of(folder), "replay", yes)
    raise Exit(run_module("replay", folder))


@app.command()
@click.argument("config", type=FILE)
def check(config: Path) -> None:
    """Check all the data of a run.

    CONFIG is its configuration, in YAML. Looks at masks, padding, finite values and labels. The first batches are
    checked in training as well.
    """
    from mtlcluster.processes.environment import fix_hashes
    from mtlcluster.training.commands.terminal import check_file

    fix_hashes()
    raise Exit(check_file(config))


@app.command()
@click.argument("sweep")
@click.argument("name", metavar="[RUN]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("-n", "--lines", metavar="N", type=click.IntRange(min=0), default=50, help="How many of the last lines.")
@runs_folder
def logs(sweep: str, name: str | None, follow: bool, lines: int, runs: Path) -> None:
    """Show what a run printed.

    SWEEP is the name of a grid, RUN the run's name or a part of it. Without RUN: the only one that runs, or that
    failed.
    """
    from mtlcluster.launch import logs as reading
    from mtlcluster.remote.all_runs import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        run = reading.choose(sweep, everywhere.observe(), name)
        if (code := everywhere.logs(run, lines, follow)) is not None:
            raise Exit(code)
    chosen = everywhere.sweep
    log = chosen.run(run.run).log
    there = os.path.lexists(log)
    text, position = reading.tail(log, lines) if there else ("", 0)
    _write(text)
    if follow:
        reading.follow(chosen, run.run, position, _write)
    elif not there:
        say(reading.no_log(chosen, run))


@app.command()
@click.argument("run")
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", help="Which part of the data."
)
@click.option("--out", metavar="FILE", type=FILE, help="By default predictions-<split>.csv in the run's folder.")
@dont_ask
@runs_folder
def evaluate(run: str, split: str, out: Path | None, yes: bool, runs: Path) -> None:
    """Evaluate a run's best checkpoint; write predictions.

    With the code that the run began with. The predictions are a CSV file, one row a sample: label, and probability and
    decision, of every task. RUN is a run's folder, SWEEP/RUN, or a part of its name.
    """
    from mtlcluster.launch.run_module import run_module, sweep_of
    from mtlcluster.launch.select_runs import find_run

    folder = find_run(runs, run)
    _confirm_code(sweep_of(folder), "evaluate", yes)
    options = ["--split", split, *(["--out", str(out.absolute())] if out else [])]
    raise Exit(run_module("evaluate", folder, *options))


@app.command("pack-features")
@click.argument("source", metavar="SOURCE_DIR", type=FOLDER)
@click.argument("target", metavar="OUT.h5", type=FILE)
@click.option(
    "--add", metavar="SUM=KIND+KIND", multiple=True, help="Store a sum, as video=rgb+flow, in place of its parts."
)
@click.option("--force", is_flag=True, help="Replace OUT.h5, whatever it was made of.")
def pack_features(source: Path, target: Path, add: tuple[str, ...], force: bool) -> None:
    """Check features and pack them into one file, OUT.h5.

    In SOURCE_DIR they are files named <clip>_<kind>.npy. Interrupted and called again, it goes on from where it was.
    """
    from mtlcluster.data.feature_files import read_sums
    from mtlcluster.data.pack_features import pack

    pack(source, target, force, say, read_sums(add))


@app.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List the methods with options, or say all about NAME."""
    from mtlcluster.methods import listing

    width = min(_width() or 100, 100)
    for line in listing.one_method(name, width) if name else listing.all_methods(width):
        say(line)


def _targets(cluster: str | None, split: str | None) -> list[str | None]:
    """The names of the clusters that a grid is submitted to; None is whatever fits."""
    if split is None:
        return [cluster]
    names: list[str | None] = [name.strip() for name in split.split(",")]
    if cluster is not None or "" in names or len(set(names)) < max(2, len(names)):
        raise UserError(f"--split takes two or more clusters, such as arnold,uh, and no --cluster; found {split}")
    return names


def _again(runs: Path) -> str:
    """What a command to type next needs so that it finds the same runs folder."""
    usual = Path(_expanded(os.environ.get("MTLCLUSTER_RUNS") or DEFAULT_RUNS))
    return "" if runs == usual else f" --runs {shlex.quote(str(runs))}"


def _runs(count: int) -> str:
    return f"{count:,} run" if count == 1 else f"{count:,} runs"


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write(text: str) -> None:
    sys.stdout.write(printable.text(text))
    sys.stdout.flush()


def _print(lines: Any) -> None:
    from mtlcluster.launch import live_status, status_table

    if sys.stdout.isatty():
        live_status.print_lines(list(lines))
    else:
        for line in lines:
            say(status_table.plain(line))


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Say --yes where there is no terminal to ask")
    if not click.confirm(printable.line(question)):
        say("nothing was changed")
        raise Exit(1)


def _confirm_code(folder: Path | None, verb: str, yes: bool) -> None:
    """Asks before code is run that lies in a sweep's folder which somebody else may have made."""
    if folder and not yes and (warning := _of_a_stranger(folder, f"{verb} runs the code that lies in it")):
        _confirm(f"{warning}Do you trust who made it?", yes)


def _of_a_stranger(folder: Path, harm: str) -> str:
    """A sentence about a sweep's folder that somebody else may have made, and what it may do; '' about one's own."""
    from mtlcluster.config import submitted_here

    return (
        "" if submitted_here.is_mine(folder) else f"{folder} was not made by a submit of yours from here, and {harm}. "
    )


def _tell(submitted: "Submitted", runs: Path) -> None:
    """What a submission did, and what to type next."""
    name, again = submitted.sweep.name, _again(runs)
    if submitted.submitted:
        jobs = f"{len(submitted.job_ids):,} job{'s' * (len(submitted.job_ids) != 1)}"
        say(f"submitted {_runs(len(submitted.submitted))} of {name} in {jobs} on {submitted.cluster}")
    for note in submitted.notes:
        say(note)
    for run, why in submitted.unreadable.items():
        say(f"left out: {run}: {why}")
    say("next:")
    name = shlex.quote(name)
    for command in (f"status {name}", f"logs {name} RUN", f"collect {name}"):
        say(f"  mtlcluster {command}{again}")


def _tell_there(submitted: "Submitted", runs: Path) -> None:
    """Of a grid that was submitted before: what was there, and what was left alone although it never finished."""
    from mtlcluster.launch.run_status import TO_RETRY

    if not submitted.there:
        return
    there, total = len(submitted.there), len(submitted.there) + len(submitted.new)
    say(f"{there:,} of {total:,} runs are already there")
    unfinished = [f"{len(names):,} {state}" for state, names in submitted.left.items() if state in TO_RETRY]
    if unfinished:
        command = f"mtlcluster retry {submitted.sweep.name}{_again(runs)}"
        say(f"left alone: {', '.join(unfinished)}; to start them once more: {command}")


def _tell_changed(found: "list[RunStatus]", runs: Path) -> None:
    """Of sweeps on this machine: whether the code of runs that have failed has been changed since."""
    from mtlcluster.launch.status_table import by_sweep
    from mtlcluster.sweep.folder import Sweep

    for name, members in by_sweep(found).items():
        failed = [run.run for run in members if run.state == "failed"]
        if failed and Sweep(runs / name).submissions.exists():
            from mtlcluster.launch.code.changes import remark_of_failed

            with suppress(UserError, OSError):  # the code may be gone, or be at work on
                for line in remark_of_failed(Sweep(runs / name), failed, _again(runs)):
                    say(f"  {line}")


def _wait(submitted: "Submitted", runs: Path, fleet: "Fleet") -> None:
    """Shows progress until the grid's runs have ended. A run that failed or was lost makes the exit code 1."""
    from mtlcluster.launch import live_status, status_table
    from mtlcluster.remote.all_runs import Everywhere

    name, names = submitted.sweep.name, {*submitted.new, *submitted.there}
    with Everywhere(submitted.sweep.folder.parent, name, fleet=fleet) as everywhere:
        try:
            if can_redraw():
                ended = live_status.watch(lambda: everywhere.observe(names), True, lambda: everywhere.unreachable)
            else:
                ended = live_status.wait_plainly(
                    lambda: everywhere.observe(names), echo, lambda: everywhere.unreachable
                )
        except KeyboardInterrupt:
            say(f"\nthe runs go on; to look at them: mtlcluster status {name}{_again(runs)}")
            raise Exit(INTERRUPTED) from None
    _print(status_table.advice(name, ended, _again(runs)))
    if any(run.state in ("failed", "lost") for run in ended):
        raise Exit(1)


def main() -> None:
    atexit.register(gc.freeze)  # else the interpreter would search all that it is about to drop for cycles: 0.1 s
    os.environ["MPLBACKEND"] = "Agg"  # what a notebook says is for its own process: here, figures are files
    with standard_streams():
        app(prog_name="mtlcluster")


if __name__ == "__main__":
    main()
