"""The command line: parses, calls, prints. What is heavy is imported inside the verb that needs it.

Exit codes: 0; 1 where a run failed (`submit --wait`, `train`), Slurm refused or a cluster can't be reached; 2 for a
mistake in the call or a file; 130 after Ctrl-C, which never stops a submitted run.
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
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from mtlcluster.errors import ClusterError, SchedulerError, UserError

if TYPE_CHECKING:
    from mtlcluster.launch.submit import Submitted
    from mtlcluster.remote.fleet import Fleet

DEFAULT_RUNS = "runs"
INTERRUPTED = 130


class Verbs(TyperGroup):
    """Turns what a user can mend into one message and an exit code; anything else is a bug, and shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
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
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Verbs,
    help="Compare multi-task-learning methods: a grid file in, figures and tables out, on Slurm or on this machine.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

RunsFolder = Annotated[
    Path, typer.Option("--runs", envvar="MTLCLUSTER_RUNS", callback=Path.expanduser, help="Where the sweeps are.")
]
SweepName = Annotated[str, typer.Argument(metavar="SWEEP", help="The name of the grid.")]
RunNames = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Names, or parts of names.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Split = Literal["train", "validation", "test"]
Checkpoints = Literal["best", "all"]


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"mtlcluster: {message}", err=True)
    raise typer.Exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from mtlcluster import __version__

        typer.echo(f"mtlcluster {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration of one run, in YAML.")],
    folder: Annotated[Path | None, typer.Option("--folder", help="Where its results go.")] = None,
) -> None:
    """Train one run, here and now.

    Called again, it goes on from its last checkpoint. Without --folder the results go into trained/, under the name of
    the file.
    """
    from mtlcluster.training.console import train_file

    raise typer.Exit(train_file(config, folder or Path("trained") / config.stem))


@app.command()
def submit(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A grid file, in YAML.")],
    cluster: Annotated[
        str | None, typer.Option(help="local, slurm, or a name from clusters.yaml; by default Slurm where it answers.")
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME,NAME", help="Deal the runs out over clusters.")] = None,
    runs: RunsFolder = Path(DEFAULT_RUNS),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show runs and batch script; write nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until every run has ended.")] = False,
    check: Annotated[bool, typer.Option("--check", help="First make one training step of every method, here.")] = False,
    max_runs: Annotated[int, typer.Option("--max-runs", min=1, help="Refuse a grid of more points.")] = 10_000,
) -> None:
    """Train every run of a grid that is not there yet.

    With --wait, Ctrl-C leaves the runs going (exit code 130), and a run that failed makes the exit code 1.
    """
    from mtlcluster.config.grid import read_grid
    from mtlcluster.remote.fleet import fleet_of
    from mtlcluster.remote.submit import previews, submit_to

    planned = read_grid(grid, max_runs)
    targets = _targets(cluster, split)
    if planned.repeated:
        typer.echo(f"{planned.repeated:,} points of the grid are the same run as another point")
    if check:
        from mtlcluster.launch.check import check as check_methods

        check_methods(planned, typer.echo)
    if dry_run:
        for shown in previews(planned, runs, targets):
            typer.echo(shown)
        return
    with fleet_of([planned.path.parent]) as fleet:
        submitted = submit_to(planned, runs, targets, fleet, typer.echo)
        _tell_there(submitted, runs)
        _tell(submitted, runs)
        if wait:
            _wait(submitted, runs, fleet)


@app.command()
def status(
    sweep: Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="By default all of them.")] = None,
    runs: RunsFolder = Path(DEFAULT_RUNS),
    everything: Annotated[bool, typer.Option("--all", help="Every run, however many there are.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw in place until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; docs/status-json.md explains it.")] = False,
) -> None:
    """Show state, progress and values of runs."""
    from mtlcluster.launch import live, view
    from mtlcluster.remote.everywhere import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        if as_json:
            found = everywhere.observe()
            typer.echo(view.as_json(found, everywhere.unreachable))
        elif watch:
            if not sys.stdout.isatty():
                raise UserError("--watch needs a terminal; without one, repeat `mtlcluster status`")
            with suppress(KeyboardInterrupt):       # how one stops watching
                live.watch(everywhere.observe, False, lambda: everywhere.unreachable)
        elif found := everywhere.observe():
            _print(view.overview(found, _width(), everything, _again(runs), everywhere.unreachable))
        else:
            _print(view.remarks([], everywhere.unreachable))
            typer.echo(f"{sweep or runs} holds no runs yet; mtlcluster submit GRID{_again(runs)} starts some")


@app.command()
def collect(
    sweep: Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="By default all of them.")] = None,
    runs: RunsFolder = Path(DEFAULT_RUNS),
    checkpoints: Annotated[
        Checkpoints | None, typer.Option(help="Bring these home from remote clusters, too: for `evaluate`, say.")
    ] = None,
) -> None:
    """Make figures, tables and a page of what has finished so far.

    What remote clusters have of it, and this machine has not, is brought home first.
    """
    from mtlcluster.collect.collect import collect as collect_sweep
    from mtlcluster.remote.fetch import fetch

    chosen = fetch(runs, sweep, checkpoints, typer.echo)
    if not chosen:
        raise UserError(f"{runs} holds no sweep yet; mtlcluster submit GRID{_again(runs)} starts one")
    for one in chosen:
        typer.echo(collect_sweep(one, typer.echo))


@app.command()
def clusters() -> None:
    """List the clusters of the cluster files, and whether each is ready."""
    from mtlcluster.remote.setup import states

    _print(states())


@app.command()
def setup(
    cluster: Annotated[str, typer.Option(help="Its name in the cluster file.")],
) -> None:
    """Make or update mtlcluster's environment on a remote cluster.

    Python is looked for there, a virtual environment is made, and this very version of mtlcluster goes into it. Called
    again, it checks what is there and brings it up to date.
    """
    from mtlcluster.remote.setup import set_up

    set_up(cluster, typer.echo)


@app.command()
def cancel(sweep: SweepName, names: RunNames = None, yes: Yes = False, runs: RunsFolder = Path(DEFAULT_RUNS)) -> None:
    """Stop runs that have not ended.

    They save a checkpoint first, so that `retry` can go on from there.
    """
    from mtlcluster.launch import control
    from mtlcluster.remote.everywhere import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        stopping = [run for run in control.meant(sweep, everywhere.observe(), names or []) if not run.ended]
        if not stopping:
            typer.echo(f"nothing to cancel: every run of {sweep} that is meant has ended")
            return
        _confirm(f"Cancel {_runs(len(stopping))} of {sweep}?", yes)
        after = everywhere.cancel(stopping, typer.echo)
    if ended := sum(run.ended for run in after):
        typer.echo(f"cancelled {_runs(ended)} of {sweep}; to go on: mtlcluster retry {sweep}{_again(runs)}")
    if ended < len(after):
        typer.echo(f"{_runs(len(after) - ended)} will end soon; to see it: mtlcluster status {sweep}{_again(runs)}")


@app.command()
def retry(
    sweep: SweepName,
    names: RunNames = None,
    restart: Annotated[bool, typer.Option("--restart", help="From scratch, with today's code.")] = False,
    yes: Yes = False,
    runs: RunsFolder = Path(DEFAULT_RUNS),
) -> None:
    """Submit failed, lost and cancelled runs once more.

    They go on from their last checkpoint, with the code that they began with.
    """
    from mtlcluster.launch import control
    from mtlcluster.remote.everywhere import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        again = control.to_retry(sweep, everywhere.observe(), names or [], restart)
        if not again:
            typer.echo(f"nothing to retry: no run of {sweep} failed, was lost or was cancelled")
            return
        if restart:
            _confirm(f"Remove the results of {_runs(len(again))} of {sweep} and train from scratch?", yes)
        _tell(everywhere.retry(again, restart, typer.echo), runs)


@app.command()
def replay(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, SWEEP/RUN, or a part of its name.")],
    runs: RunsFolder = Path(DEFAULT_RUNS),
) -> None:
    """Repeat the step at which a run's loss or gradient stopped being finite.

    Shows what every module gave out, over which range, and where it began. Nothing is changed.
    """
    from mtlcluster.launch.foreground import find_run, run_module

    raise typer.Exit(run_module("mtlcluster.training.replay", find_run(runs, run)))


@app.command()
def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration of one run, in YAML.")],
) -> None:
    """Check all the data of a run: masks, padding, finite values, labels.

    The first batches are checked in training as well.
    """
    from mtlcluster.training.console import check_file

    raise typer.Exit(check_file(config))


@app.command()
def logs(
    sweep: SweepName,
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A name, or a part of one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    runs: RunsFolder = Path(DEFAULT_RUNS),
) -> None:
    """Show what a run printed.

    Without RUN: the only one that runs, or that failed.
    """
    from mtlcluster.launch import logs as reading
    from mtlcluster.remote.everywhere import Everywhere

    with Everywhere(runs, sweep) as everywhere:
        run = reading.choose(sweep, everywhere.observe(), name)
        if (code := everywhere.logs(run, lines, follow)) is not None:
            raise typer.Exit(code)
    chosen = everywhere.sweep
    log = chosen.run(run.run).log
    text, position = reading.tail(log, lines) if log.exists() else ("", 0)
    _write(text)
    if follow:
        reading.follow(chosen, run.run, position, _write)
    elif not log.exists():
        typer.echo(reading.no_log(chosen, run))


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its folder, SWEEP/RUN, or a part of its name.")],
    split: Annotated[Split, typer.Option(help="Which part of the data.")] = "test",
    out: Annotated[Path | None, typer.Option(help="By default predictions-<split>.csv in the run's folder.")] = None,
    runs: RunsFolder = Path(DEFAULT_RUNS),
) -> None:
    """Evaluate a run's best checkpoint, and write its predictions as CSV.

    With the code that the run began with. One row a sample: label, and probability and decision, of every task.
    """
    from mtlcluster.launch.foreground import find_run, run_module

    options = ["--split", split, *(["--out", str(out.absolute())] if out else [])]
    raise typer.Exit(run_module("mtlcluster.training.predict", find_run(runs, run), *options))


@app.command("pack-features")
def pack_features(
    source: Annotated[Path, typer.Argument(metavar="SOURCE_DIR", help="Holds files named <clip>_<kind>.npy.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.h5", help="The file to write.")],
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="SUM=KIND+KIND", help="Store a sum, as video=rgb+flow, in place of its parts."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.h5 where it was made of other files.")] = False,
) -> None:
    """Check features of one file per clip and kind, and pack them into one file.

    Interrupted and called again, it goes on from where it was.
    """
    from mtlcluster.features.pack import pack, read_sums

    pack(source, target, force, typer.echo, read_sums(add or []))


@app.command()
def methods(name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="All about this one.")] = None) -> None:
    """List the methods with their papers, options and defaults."""
    from mtlcluster.methods import listing

    width = min(_width() or 100, 100)
    for line in listing.one_method(name, width) if name else listing.all_methods(width):
        typer.echo(line)


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
    usual = os.environ.get("MTLCLUSTER_RUNS") or DEFAULT_RUNS
    return "" if str(runs) == usual else f" --runs {shlex.quote(str(runs))}"


def _runs(count: int) -> str:
    return f"{count:,} run" if count == 1 else f"{count:,} runs"


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print(lines: Any) -> None:
    from mtlcluster.launch import live, view

    if sys.stdout.isatty():
        live.print_lines(list(lines))
    else:
        for line in lines:
            typer.echo(view.plain(line))


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Say --yes where there is no terminal to ask")
    if not typer.confirm(question):
        raise typer.Exit(1)


def _tell(submitted: "Submitted", runs: Path) -> None:
    """What a submission did, and what to type next."""
    name, again = submitted.sweep.name, _again(runs)
    if submitted.submitted:
        jobs = f"{len(submitted.job_ids):,} job{'s' * (len(submitted.job_ids) != 1)}"
        typer.echo(f"submitted {_runs(len(submitted.submitted))} of {name} in {jobs} on {submitted.cluster}")
    for note in submitted.notes:
        typer.echo(note)
    typer.echo("next:")
    for command in (f"status {name}", f"logs {name} RUN", f"collect {name}"):
        typer.echo(f"  mtlcluster {command}{again}")


def _tell_there(submitted: "Submitted", runs: Path) -> None:
    """Of a grid that was submitted before: what was there, and what was left alone although it never finished."""
    from mtlcluster.launch.status import TO_RETRY

    if not submitted.there:
        return
    there, total = len(submitted.there), len(submitted.there) + len(submitted.new)
    typer.echo(f"{there:,} of {total:,} runs are already there")
    unfinished = [f"{len(names):,} {state}" for state, names in submitted.left.items() if state in TO_RETRY]
    if unfinished:
        command = f"mtlcluster retry {submitted.sweep.name}{_again(runs)}"
        typer.echo(f"left alone: {', '.join(unfinished)}; to start them once more: {command}")


def _wait(submitted: "Submitted", runs: Path, fleet: "Fleet") -> None:
    """Shows progress until the grid's runs have ended. A run that failed or was lost makes the exit code 1."""
    from mtlcluster.launch import live, view
    from mtlcluster.remote.everywhere import Everywhere

    name, names = submitted.sweep.name, {*submitted.new, *submitted.there}
    with Everywhere(submitted.sweep.folder.parent, name, fleet=fleet) as everywhere:
        try:
            if sys.stdout.isatty():
                ended = live.watch(lambda: everywhere.observe(names), True, lambda: everywhere.unreachable)
            else:
                ended = live.wait_plainly(lambda: everywhere.observe(names), typer.echo, lambda: everywhere.unreachable)
        except KeyboardInterrupt:
            typer.echo(f"\nthe runs go on; to look at them: mtlcluster status {name}{_again(runs)}")
            raise typer.Exit(INTERRUPTED) from None
    _print(view.advice(name, ended, _again(runs)))
    raise typer.Exit(1 if any(run.state in ("failed", "lost") for run in ended) else 0)


def main() -> None:
    atexit.register(gc.freeze)      # else the interpreter would search all that it is about to drop for cycles: 0.1 s
    app(prog_name="mtlcluster")


if __name__ == "__main__":
    main()
