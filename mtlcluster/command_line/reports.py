"""Messages after a command's work: what was done, what was found, and which command to run next."""

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from click.exceptions import Exit

from mtlcluster.command_line.exit_codes import FAILED, INTERRUPTED
from mtlcluster.command_line.options import runs_option
from mtlcluster.command_line.output import counted_runs, print_lines
from mtlcluster.errors import UserError
from mtlcluster.terminal import can_redraw, echo, say

if TYPE_CHECKING:
    from mtlcluster.launch.hand_over import Submitted
    from mtlcluster.launch.run_status import RunStatus
    from mtlcluster.remote.clusters import RemoteClusters


def report_submitted(submitted: "Submitted", runs: Path) -> None:
    """Shows what was submitted, what was left out, and the next commands."""
    name = submitted.sweep.name
    if submitted.submitted:
        jobs = f"{len(submitted.job_ids):,} job{'s' * (len(submitted.job_ids) != 1)}"
        say(f"submitted {counted_runs(len(submitted.submitted))} of {name} in {jobs} on {submitted.cluster}")
    for note in submitted.notes:
        say(note)
    for run, why in submitted.unreadable.items():
        say(f"left out: {run}: {why}")
    say("next:")
    for command in (f"status {shlex.quote(name)}", f"logs {shlex.quote(name)} RUN", f"collect {shlex.quote(name)}"):
        say(f"  mtlcluster {command}{runs_option(runs)}")


def report_already_there(submitted: "Submitted", runs: Path) -> None:
    """Shows how many runs of the grid were there before, and which of them are left alone although they have not
    finished.
    """
    from mtlcluster.launch.run_status import TO_RETRY

    if not submitted.there:
        return
    there, total = len(submitted.there), len(submitted.there) + len(submitted.new)
    say(f"{there:,} of {total:,} runs are already there")
    unfinished = [f"{len(names):,} {state}" for state, names in submitted.left.items() if state in TO_RETRY]
    if unfinished:
        command = f"mtlcluster retry {shlex.quote(submitted.sweep.name)}{runs_option(runs)}"
        say(f"left alone: {', '.join(unfinished)}; to start them once more: {command}")


def report_cancelled(sweep: str, cancelled: "list[RunStatus]", runs: Path) -> None:
    """Shows how many of the cancelled runs have ended, and how many will soon."""
    name, option = shlex.quote(sweep), runs_option(runs)
    if ended := sum(run.ended for run in cancelled):
        say(f"cancelled {counted_runs(ended)} of {sweep}; to go on: mtlcluster retry {name}{option}")
    if ended < len(cancelled):
        soon = "will end within a minute: each saves and stops, or is killed"
        say(f"{counted_runs(len(cancelled) - ended)} {soon}; to watch: mtlcluster status {name}{option}")


def report_changed_code(found: "list[RunStatus]", runs: Path) -> None:
    """Shows, for sweeps on this machine, whether the code of runs that failed has changed since."""
    from mtlcluster.launch.status_table import by_sweep
    from mtlcluster.sweep.folder import Sweep

    for name, members in by_sweep(found).items():
        failed = [run.run for run in members if run.state == "failed"]
        if failed and Sweep(runs / name).submissions.exists():
            from mtlcluster.launch.code.changes import remark_of_failed

            with suppress(UserError, OSError):  # the code may be gone, or be changing right now
                for line in remark_of_failed(Sweep(runs / name), failed, runs_option(runs)):
                    say(f"  {line}")


def wait_until_ended(submitted: "Submitted", runs: Path, remote_clusters: "RemoteClusters") -> None:
    """Shows progress until the grid's runs have ended. Exits with FAILED if one failed or was lost."""
    from mtlcluster.launch import live_status, status_table
    from mtlcluster.remote.all_runs import AllRuns

    name = submitted.sweep.name
    # In a search, all runs of the sweep: those that confirm a choice have no names yet.
    names = None if submitted.sweep.trials.exists() else {*submitted.new, *submitted.there}
    with AllRuns(submitted.sweep.folder.parent, name, clusters=remote_clusters) as all_runs:
        try:
            if can_redraw():
                ended = live_status.watch(lambda: all_runs.observe(names), True, lambda: all_runs.unreachable)
            else:
                ended = live_status.wait_plainly(lambda: all_runs.observe(names), echo, lambda: all_runs.unreachable)
        except KeyboardInterrupt:
            say(f"\nthe runs go on; to look at them: mtlcluster status {shlex.quote(name)}{runs_option(runs)}")
            raise Exit(INTERRUPTED) from None
    print_lines(status_table.advice(name, ended, runs_option(runs)))
    if any(run.state in ("failed", "lost") for run in ended):
        raise Exit(FAILED)
