"""The verbs of the command line. Each parses its arguments, calls the library and prints.

What they share is in command_line/; exit codes are in command_line/exit_codes.py. What is slow to import is imported
inside the verb that needs it.
"""

import atexit
import gc
import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.exceptions import Exit

from mtlcluster.command_line.exit_codes import MISTAKE, ErrorsToExitCodes
from mtlcluster.command_line.options import FILE, FOLDER, chosen_clusters, dont_ask, runs_folder, runs_option
from mtlcluster.command_line.output import counted_runs, print_lines, terminal_width, write
from mtlcluster.command_line.questions import confirm, confirm_code, warn_of_stranger
from mtlcluster.command_line.reports import (
    report_already_there,
    report_cancelled,
    report_changed_code,
    report_submitted,
    wait_until_ended,
)
from mtlcluster.errors import UserError
from mtlcluster.terminal import can_redraw, say, standard_streams

if TYPE_CHECKING:
    from mtlcluster.remote.transfer import Checkpoints


def _show_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from mtlcluster._version import __version__

        say(f"mtlcluster {__version__}")
        context.exit()


@click.group(
    cls=ErrorsToExitCodes,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def app() -> None:
    """Compare multi-task-learning methods: a grid file in, figures and tables out, on Slurm or on this machine."""


@app.command()
@click.argument("config", type=FILE)
@click.option("--folder", metavar="FOLDER", type=FOLDER, help="Where the results go.")
def train(config: Path, folder: Path | None) -> None:
    """Train one run, here and now.

    CONFIG is the run's configuration, in YAML. Called again, the command continues from the last checkpoint. Without
    --folder, the results go into trained/NAME, where NAME is the name of the file.
    """
    from mtlcluster.processes.environment import fix_hashes
    from mtlcluster.training.commands.terminal import train_file

    fix_hashes()
    raise Exit(train_file(config, folder or Path("trained") / config.stem))


@app.command()
@click.argument("grid", type=FILE)
@click.option(
    "--cluster", metavar="NAME", help="local, slurm, or a name from clusters.yaml; by default Slurm if it is here."
)
@click.option("--split", metavar="NAME,NAME", help="Distribute the runs over several clusters.")
@runs_folder
@click.option("--dry-run", is_flag=True, help="Show runs and batch script; write nothing.")
@click.option("--wait", is_flag=True, help="Show progress until every run has ended.")
@click.option("--check", is_flag=True, help="First make one training step of every method on this machine.")
@click.option("--max-runs", metavar="N", type=click.IntRange(1), default=10_000, help="Refuse a grid with more points.")
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
    """Submit the runs of a grid that were not submitted before.

    GRID is a file in YAML. With --wait, Ctrl-C ends the waiting, not the runs (exit code 130). The exit code is 1 if a
    run failed.
    """
    from mtlcluster.config.grid import read_grid
    from mtlcluster.remote.clusters import find_remote_clusters
    from mtlcluster.remote.dispatch import previews, submit_to

    planned = read_grid(grid, max_runs, runs)
    targets = chosen_clusters(cluster, split)
    if planned.repeated:
        say(f"points of the grid that repeat the run of another point: {planned.repeated:,}")
    for remark in planned.remarks:
        say(remark)
    if check:
        from mtlcluster.launch.preflight import check as check_methods

        check_methods(planned, say)
    if dry_run:
        for shown in previews(planned, runs, targets):
            say(shown)
        return
    if any(not path.name.startswith(".") for path in (runs / planned.file.name).glob("*")):
        confirm_code(runs / planned.file.name, "submit", yes)
    with find_remote_clusters([planned.path.parent]) as remote_clusters:
        submitted = submit_to(planned, runs, targets, remote_clusters, say)
        report_already_there(submitted, runs)
        report_submitted(submitted, runs)
        if wait:
            wait_until_ended(submitted, runs, remote_clusters)
        if submitted.unreadable:
            raise Exit(MISTAKE)


@app.command()
@click.argument("sweep", required=False)
@runs_folder
@click.option("--all", "everything", is_flag=True, help="Show every run, however many there are.")
@click.option("--watch", is_flag=True, help="Redraw in place until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs; docs/status-json.md explains it.")
def status(sweep: str | None, runs: Path, everything: bool, watch: bool, as_json: bool) -> None:
    """Show state, progress and values of runs.

    SWEEP is the name of a grid; by default all are shown.
    """
    from mtlcluster.launch import live_status, status_table
    from mtlcluster.remote.all_runs import AllRuns

    if as_json and watch:
        raise UserError("--json and --watch don't go together; for programs, repeat `mtlcluster status --json`")
    with AllRuns(runs, sweep) as all_runs:
        if as_json:
            found = all_runs.observe()
            say(status_table.as_json(found, all_runs.unreachable))
        elif watch:
            if not can_redraw():
                raise UserError("--watch needs a terminal; without one, repeat `mtlcluster status`")
            with suppress(KeyboardInterrupt):  # how one stops watching
                live_status.watch(all_runs.observe, False, lambda: all_runs.unreachable)
        elif found := all_runs.observe():
            print_lines(
                status_table.overview(found, terminal_width(), everything, runs_option(runs), all_runs.unreachable)
            )
            report_changed_code(found, runs)
        else:
            print_lines(status_table.remarks([], all_runs.unreachable))
            say(f"{sweep or runs} holds no runs yet; to start some: mtlcluster submit GRID{runs_option(runs)}")


@app.command()
@click.argument("sweep", required=False)
@runs_folder
@click.option(
    "--checkpoints",
    type=click.Choice(["best", "all"]),
    help="Copy these from remote clusters, too, for example for `evaluate`.",
)
def collect(sweep: str | None, runs: Path, checkpoints: "Checkpoints | None") -> None:
    """Make figures, tables and a report page of the finished runs.

    SWEEP is the name of a grid; by default all are collected. Results that only remote clusters have are copied to this
    machine first.
    """
    from mtlcluster.collect.make_report import NothingFinished, make_report
    from mtlcluster.remote.download import download

    chosen, failed = download(runs, sweep, checkpoints, say)
    early = []
    for one in chosen:
        try:
            say(str(make_report(one, say)))
        except NothingFinished as error:
            early.append(f"{error}; see mtlcluster status {shlex.quote(one.name)}{runs_option(runs)}")
    if not chosen and failed is None:
        raise UserError(f"{runs} holds no sweep yet; to start one: mtlcluster submit GRID{runs_option(runs)}")
    if failed is None and len(early) == len(chosen):
        raise UserError("\n".join(early))
    for words in early:
        say(words)
    if failed is not None:
        raise failed


@app.command()
def clusters() -> None:
    """List the clusters, and whether each is ready."""
    from mtlcluster.remote.list_clusters import cluster_lines

    print_lines(cluster_lines())


@app.command()
@click.option("--cluster", metavar="NAME", required=True, help="As in the cluster file.")
def setup(cluster: str) -> None:
    """Make or update mtlcluster's environment on a cluster.

    Finds Python there, makes a virtual environment and installs this version of mtlcluster in it. Called again, it
    checks what is there and updates it.
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

    SWEEP is the name of a grid, RUN a run's name or a part of it. Without RUN, all runs of the sweep are stopped. They
    save a checkpoint first, so that `retry` can continue from it.
    """
    from mtlcluster.launch import select_runs
    from mtlcluster.remote.all_runs import AllRuns
    from mtlcluster.remote.cancel import cancel_runs

    with AllRuns(runs, sweep) as all_runs:
        stopping = [run for run in select_runs.meant(sweep, all_runs.observe(), names) if not run.ended]
        if not stopping:
            say(f"nothing to cancel: all chosen runs of {sweep} have ended")
            return
        warning = ""
        if jobs := sorted({run.job_id for run in all_runs.by_cluster(stopping).get("", []) if run.job_id}):
            named = ", ".join(jobs[:3]) + (f" and {len(jobs) - 3:,} more" if len(jobs) > 3 else "")
            warning = warn_of_stranger(all_runs.sweep.folder, f"cancel ends the jobs that it names: {named}")
        confirm(f"{warning}Cancel {counted_runs(len(stopping))} of {sweep}?", yes)
        after = cancel_runs(all_runs, stopping, say)
    report_cancelled(sweep, after, runs)


@app.command()
@click.argument("sweep")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@click.option("--restart", is_flag=True, help="Train from scratch, with today's code.")
@click.option("--pruned", is_flag=True, help="Continue the trials that were pruned, in place of the others.")
@dont_ask
@runs_folder
def retry(sweep: str, names: tuple[str, ...], restart: bool, pruned: bool, yes: bool, runs: Path) -> None:
    """Submit failed, lost and cancelled runs again.

    SWEEP is the name of a grid, RUN a run's name or a part of it. Without RUN, all such runs of the sweep are
    submitted. They continue from their last checkpoint, with the code that they began with. A pruned trial is
    submitted only if it is named, or with --pruned; it is not pruned again.
    """
    from mtlcluster.launch import select_runs
    from mtlcluster.remote.all_runs import AllRuns
    from mtlcluster.remote.retry import retry_runs

    with AllRuns(runs, sweep) as all_runs:
        again = select_runs.to_retry(sweep, all_runs.observe(), names, restart, pruned)
        if not again and pruned:
            say(f"nothing to retry: no run of {sweep} was pruned")
            return
        if not again:
            named = "; --restart trains finished runs only if they are named" if restart else ""
            say(f"nothing to retry: no run of {sweep} failed, was lost or was cancelled{named}")
            return
        if all_runs.sweep.folder.exists() and (restart or "" in all_runs.by_cluster(again)):
            confirm_code(all_runs.sweep.folder, "retry", yes)
        if restart:
            confirm(f"Remove the results of {counted_runs(len(again))} of {sweep} and train from scratch?", yes)
        retried = retry_runs(all_runs, again, restart, say)
        report_submitted(retried, runs)
        if retried.unreadable:
            raise Exit(MISTAKE)


@app.command()
@click.argument("run")
@dont_ask
@runs_folder
def replay(run: str, yes: bool, runs: Path) -> None:
    """Repeat the step at which a run stopped being finite.

    Shows where the loss or gradient first became NaN or infinite, and the range of every module's output at that step.
    Changes nothing. Uses the code that the run began with. RUN is a run's folder, SWEEP/RUN, or a part of its name.
    """
    from mtlcluster.launch.run_module import run_module, sweep_of
    from mtlcluster.launch.select_runs import find_run

    folder = find_run(runs, run)
    confirm_code(sweep_of(folder), "replay", yes)
    raise Exit(run_module("replay", folder))


@app.command()
@click.argument("config", type=FILE)
def check(config: Path) -> None:
    """Check all the data of a run.

    CONFIG is the run's configuration, in YAML. Checks masks, padding, finite values and labels. Training checks its
    first batches in the same way.
    """
    from mtlcluster.processes.environment import fix_hashes
    from mtlcluster.training.commands.terminal import check_file

    fix_hashes()
    raise Exit(check_file(config))


@app.command()
@click.argument("sweep")
@click.argument("name", metavar="[RUN]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option(
    "-n", "--lines", metavar="N", type=click.IntRange(min=0), default=50, help="How many lines, counted from the end."
)
@runs_folder
def logs(sweep: str, name: str | None, follow: bool, lines: int, runs: Path) -> None:
    """Show what a run printed.

    SWEEP is the name of a grid, RUN a run's name or a part of it. Without RUN: the only run that is running, or that
    failed.
    """
    from mtlcluster.launch import logs as reading
    from mtlcluster.remote.all_runs import AllRuns
    from mtlcluster.remote.logs import print_log

    with AllRuns(runs, sweep) as all_runs:
        run = reading.choose(sweep, all_runs.observe(), name)
        if (code := print_log(all_runs, run, lines, follow)) is not None:
            raise Exit(code)
    chosen = all_runs.sweep
    log = chosen.run(run.run).log
    there = os.path.lexists(log)
    text, position = reading.tail(log, lines) if there else ("", 0)
    write(text)
    if follow:
        reading.follow(chosen, run.run, position, write)
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
    """Evaluate a run's best checkpoint and write its predictions.

    Uses the code that the run began with. The predictions are a CSV file with one row per sample: the label, the
    probability and the decision of every task that is not dense. RUN is a run's folder, SWEEP/RUN, or a
    part of its name.
    """
    from mtlcluster.launch.run_module import run_module, sweep_of
    from mtlcluster.launch.select_runs import find_run

    folder = find_run(runs, run)
    confirm_code(sweep_of(folder), "evaluate", yes)
    options = ["--split", split, *(["--out", str(out.absolute())] if out else [])]
    raise Exit(run_module("evaluate", folder, *options))


@app.command("pack-features")
@click.argument("source", metavar="SOURCE_DIR", type=FOLDER)
@click.argument("target", metavar="OUT.h5", type=FILE)
@click.option(
    "--add", metavar="SUM=KIND+KIND", multiple=True, help="Store a sum, such as video=rgb+flow, instead of its parts."
)
@click.option("--force", is_flag=True, help="Replace OUT.h5, whatever it was made from.")
def pack_features(source: Path, target: Path, add: tuple[str, ...], force: bool) -> None:
    """Check features and pack them into one file, OUT.h5.

    SOURCE_DIR holds files named <clip>_<kind>.npy. Called again after an interruption, the command continues where it
    stopped.
    """
    from mtlcluster.data.feature_files import read_sums
    from mtlcluster.data.pack_features import pack

    pack(source, target, force, say, read_sums(add))


@app.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List the methods and their options, or describe the method NAME."""
    from mtlcluster.methods import listing

    width = min(terminal_width() or 100, 100)
    for line in listing.one_method(name, width) if name else listing.all_methods(width):
        say(line)


def main() -> None:
    atexit.register(gc.freeze)  # else Python searches for cycles in all objects before it exits: 0.1 s
    os.environ["MPLBACKEND"] = "Agg"  # a notebook sets another backend for itself; here, figures are files
    with standard_streams():
        app(prog_name="mtlcluster")


if __name__ == "__main__":
    main()
