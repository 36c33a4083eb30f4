"""`logs`: the end of a run's output, and with --follow also its further output."""

import codecs
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mtlcluster import printable
from mtlcluster.errors import UserError
from mtlcluster.launch.live_status import pause
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.launch.select_runs import listing, meant
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import PLACEHOLDER, fits
from mtlcluster.sweep.reading import open_regular

BLOCK = 2**16
MANY = 2**6  # blocks that are read at once while following
MOST = 2**26  # bytes that are read at most from the end of a log: a line may be endless


def choose(sweep: str, runs: list[RunStatus], part: str | None) -> RunStatus:
    """The run whose log is shown.

    Args:
        sweep: The sweep's name, for messages.
        runs: Its runs.
        part: A name or a part of one. None: the only run, or the only one that runs, or the only one that failed.

    Raises:
        UserError: No run is meant, or several are; the message lists them.
    """
    runs = meant(sweep, runs, [part] if part else [])
    if not runs:
        raise UserError(f"{sweep} has no runs")
    if len(runs) == 1:
        return runs[0]
    running = [run for run in runs if run.state == "running"]
    interesting = running or [run for run in runs if run.state in ("failed", "lost")] or runs
    if len(interesting) == 1:
        return interesting[0]
    which = listing([f"{run.run} ({run.state})" for run in interesting])
    raise UserError(f"which run of {sweep}? Name one, or a part of its name:{which}")


def tail(path: Path, lines: int) -> tuple[str, int]:
    """The last `lines` lines of a text file, and the position after them in bytes. Reads no more than it needs."""
    blocks: list[bytes] = []
    found = 0
    with open_regular(path) as file:
        end = start = file.seek(0, os.SEEK_END)
        least = max(0, end - MOST)
        while start > least and found <= lines:
            size = min(start, BLOCK)
            start = file.seek(start - size)
            blocks.append(file.read(size))
            found += blocks[-1].count(b"\n")
    text = b"".join(reversed(blocks))
    last = b"".join(re.findall(rb"[^\n]*\n|[^\n]+", text)[-lines:] if lines else [])
    return printable.last_of_bars(last.decode(errors="replace")), end


def no_log(sweep: Sweep, run: RunStatus) -> str:
    """A sentence about a run without a log: its state, and where the output of its job is, if there is any."""
    words = f"{run.run} has printed nothing: it is {run.state}{f' ({run.scheduler})' if run.scheduler else ''}"
    if fits(PLACEHOLDER, run.run):
        return f"{run.run} does not exist yet: {run.error or (run.notes or [run.state])[-1]}"
    submission, job_id = submissions.latest(submissions.read(sweep.submissions)).get(run.run, (None, ""))
    if submission is None:
        return words
    folder = sweep.submission_folder(submission.id)
    outputs = [*folder.glob(f"{job_id}_*log.out"), *folder.glob("worker.log")]
    return "\n".join([words, *(f"what its job printed: {path}" for path in outputs if path.stat().st_size)])


def follow(sweep: Sweep, name: str, position: int, write: Callable[[str], object]) -> RunStatus:
    """Writes new lines of a run's log until the run has ended.

    Args:
        sweep: The sweep.
        name: The run.
        position: The position to begin at, in bytes.
        write: Gets the text.

    Returns:
        How the run ended.
    """
    text = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a read may end inside a character
    next_look = 0.0
    ended: RunStatus | None = None
    while True:
        added = b""
        log = sweep.run(name).log
        with suppress(FileNotFoundError), open_regular(log) as file:
            if file.seek(0, os.SEEK_END) < position:  # the run began anew, with a new log
                position = 0
            file.seek(position)
            added = file.read(MANY * BLOCK)
        position += len(added)
        new = text.decode(added)
        write("\n" * ("\r" in new.partition("\n")[0]) + printable.last_of_bars(new))
        if len(added) == MANY * BLOCK:
            continue
        if ended:
            return ended
        if (now := time.monotonic()) >= next_look:
            [name] = submissions.present_names(sweep.folder, [name]) or [name]
            [run] = observe([sweep], {name})
            ended = run if run.ended else None  # its last words are read in the next round
            next_look = time.monotonic() + pause([run], time.monotonic() - now)
        if not ended:
            time.sleep(0.3)
