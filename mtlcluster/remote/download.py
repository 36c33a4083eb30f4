"""What runs on remote clusters have left, brought home into the sweep's folder: histories, logs, configurations; with
checkpoints where they are asked for. Only what is new is copied, and what was copied is checked by its SHA-256.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from mtlcluster.config import submitted_here
from mtlcluster.errors import ClusterError, together
from mtlcluster.launch.status_table import duration
from mtlcluster.progress import Say
from mtlcluster.remote import status_cache
from mtlcluster.remote.all_runs import Everywhere
from mtlcluster.remote.clusters import Remote
from mtlcluster.remote.ssh import ANSWER_TIMEOUT, ConnectionLost, folder_there
from mtlcluster.remote.status_cache import Answer
from mtlcluster.sweep.checksums import sha256
from mtlcluster.sweep.file_sizes import OfRuns
from mtlcluster.sweep.folder import Sweep, find_sweep, sweeps
from mtlcluster.sweep.names import RUN, SWEEP, fits
from mtlcluster.sweep.status import ENDED, read_status

Checkpoints = Literal["best", "all"]

ATTEMPTS = 3  # at a transfer whose connection is lost
SLOWEST = 10e6  # bytes a second that a checksum over there may take
SECOND = 10**9  # rsync compares whole seconds
OF_A_RUN = ("config.yaml", "history.pkl", "log.txt", "status.json")
ABSENT = (None,) * len(OF_A_RUN)
CHECKED = ("history.pkl", ".pt")  # by the ends of their names; what is else is small, or still being written


def fetch(
    runs_folder: Path, name: str | None, checkpoints: Checkpoints | None, say: Say
) -> tuple[list[Sweep], ClusterError | None]:
    """Brings home what is new of a sweep, or of all; returns the sweeps that are here then, and what could not be
    brought home whole. A cluster that can't be reached is told, with the age of what is here of it, and left out.

    Raises UserError where the sweep is nowhere, ClusterError where nothing of it has arrived.
    """
    failed = None
    with Everywhere(runs_folder, name, OF_A_RUN) as everywhere:
        if everywhere.fleet is not None:
            parts = _reachable(everywhere, say)

            def bring(remote: Remote) -> None:
                files = everywhere.files[remote.name]
                for part in parts[remote.name]:
                    sweep = Sweep(runs_folder / part)
                    new = _new(everywhere.here.get(part, {}), files.get(part))
                    if checkpoints or new != {} or not sweep.grid.exists():
                        _bring(remote, sweep, everywhere.known[part][remote.name], checkpoints, new or {}, say)

            ended = everywhere.fleet.each(parts, bring)
            if errors := [error for error in ended.values() if isinstance(error, ClusterError)]:
                failed = together(errors)
                if name and not Sweep(runs_folder / name).grid.exists():
                    raise failed
    return [find_sweep(runs_folder, name)] if name else sweeps(runs_folder), failed


def _reachable(everywhere: Everywhere, say: Say) -> dict[str, list[str]]:
    """The clusters that can be asked, and the sweeps that each has."""
    everywhere.ask()
    for cluster, why in everywhere.unreachable.items():
        times = [known[cluster].time for known in everywhere.known.values() if cluster in known and known[cluster].time]
        old = f" (what is known of it is {duration(time.time() - max(times))} old)" if times else ""
        say(f"{cluster} is left out{old}: {why}")
    parts: dict[str, list[str]] = {}
    for sweep, known in everywhere.known.items():
        for cluster in known.keys() - everywhere.unreachable.keys():
            if known[cluster].runs:
                parts.setdefault(cluster, []).append(sweep)
    return parts


def _new(here: OfRuns, there: OfRuns | None) -> dict[str, int] | None:
    """What rsync, in several round trips, would find new of the runs' files: their sizes in bytes, by name. None where
    what is there is not known.
    """
    if there is None:
        return None
    return {
        f"{run}/{name}": theirs[0]
        for run, files in there.items()
        for name, theirs, own in zip(OF_A_RUN, files, here.get(run, ABSENT), strict=True)
        if theirs is not None and (own is None or theirs[0] != own[0] or theirs[1] // SECOND != own[1] // SECOND)
    }


def _bring(
    remote: Remote,
    sweep: Sweep,
    answer: Answer,
    checkpoints: Checkpoints | None,
    new: dict[str, int],
    say: Say,
) -> None:
    """new: of the files that will arrive those that are known, with their sizes; they are summed meanwhile."""
    if not sweep.grid.exists():  # else the answer has been kept: broken off, the next call asks there again
        status_cache.keep(sweep, remote.name, answer)
    source, began = remote.sweep(sweep.name), time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(_sums, remote, source, {name: new[name] for name in _checked(new)})
        arrived = _arrived(remote, source, sweep, checkpoints, say)
    sums = {} if asked.exception() else asked.result()
    _mend(remote, source, sweep, _checked(arrived), sums, say)
    if arrived:
        runs = len({file.partition("/")[0] for file in arrived if "/" in file and not file.startswith("code/")})
        took = time.monotonic() - began
        say(f"{remote.name}: brought home {len(arrived):,} files of {runs:,} runs in {took:.1f} s")


def _checked(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(CHECKED) and all(fits(RUN, part) for part in name.split("/"))]


def _mend(remote: Remote, source: str, sweep: Sweep, names: list[str], sums: dict[str, str], say: Say) -> None:
    """Copies again what differs from over there. sums: the checksums that are known already. Raises ClusterError where
    copying does not help, but for the files of runs that are still being trained: those change.
    """
    for attempt in range(ATTEMPTS + 1):
        if attempt:
            _pull(remote, source, sweep, ["--ignore-times"], names, say)
            sums = {}
        unknown = {name: (sweep.folder / name).stat().st_size for name in names if name not in sums}
        sums = sums | _sums(remote, source, unknown)
        names = [name for name in names if sums.get(name) != sha256(sweep.folder / name)]
        if not names:
            return
    if torn := [file for file in names if _has_ended(sweep, file)]:
        raise ClusterError(f"{remote.name}: could not be brought home whole: {', '.join(torn[:3])}; collect again")


def _arrived(remote: Remote, source: str, sweep: Sweep, checkpoints: Checkpoints | None, say: Say) -> list[str]:
    """Copies what is new; returns its names. With code from over there the folder is no longer as this user's `submit`
    has made it: who runs that code is asked before, as for any folder that was sent.
    """
    kept = _codes(sweep)
    try:
        return _pull(remote, source, sweep, _filters(sweep, checkpoints), None, say)
    finally:
        if _codes(sweep) != kept:
            submitted_here.forget(sweep.folder)


def _codes(sweep: Sweep) -> list[str]:
    return sorted(path.name for path in sweep.code.glob("*"))


def _filters(sweep: Sweep, checkpoints: Checkpoints | None) -> list[str]:
    """rsync's rules: the first that fits a name counts. The grid is the submitting machine's own, if there is one, and
    so is the code.
    """
    rules = [] if sweep.grid.exists() else ["+ /sweep.yaml"]
    if checkpoints and submitted_here.is_mine(sweep.folder):
        rules += [f"- /code/{name}" for name in _codes(sweep) if fits(SWEEP, name)]
    rules += ["+ /code/", "+ /code/**"] if checkpoints else ["- /code"]
    rules += ["- /submissions", "- /report", "- /clusters", "- .*", "+ /*/", *(f"+ /*/{name}" for name in OF_A_RUN)]
    if checkpoints:
        rules += ["+ /*/checkpoints/", "+ /*/checkpoints/best*" if checkpoints == "best" else "+ /*/checkpoints/*"]
    return [*(f"--filter={rule}" for rule in rules), "--filter=- *"]


def _pull(
    remote: Remote, source: str, sweep: Sweep, options: list[str], names: list[str] | None, say: Say
) -> list[str]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return remote.connection.pull(source, sweep.folder, *options, names=names)
        except ConnectionLost as error:
            if attempt == ATTEMPTS:
                raise ClusterError(f"{error}; what has arrived stays, and the next call goes on from there") from None
            say(f"{error}; trying again")
            time.sleep(attempt)
    raise AssertionError


def _sums(remote: Remote, source: str, sizes: dict[str, int]) -> dict[str, str]:
    """The SHA-256 of files over there, by name."""
    if not sizes:
        return {}
    script = f"cd {folder_there(source)} && xargs -0 sha256sum -- ; true"  # one may be gone by now
    given, patience = "\0".join(sizes).encode() + b"\0", ANSWER_TIMEOUT + sum(sizes.values()) / SLOWEST
    printed = remote.connection.run(script, given, patience).decode()
    return {line[66:]: line[:64] for line in printed.splitlines()}


def _has_ended(sweep: Sweep, file: str) -> bool:
    try:
        status = read_status(sweep.run(file.partition("/")[0]).status)
    except (OSError, ValueError):
        return True
    return status is not None and status.state in ENDED
