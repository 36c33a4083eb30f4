"""clusters/<name>.json in a sweep's folder: what a remote cluster last said of its runs of this sweep.

    {"format": 1, "time": when it was asked, Unix seconds, "runs": [as in `status --json`, …]}

The file is there from the moment that something may have been sent there; with `time` 0 nothing has been heard yet.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtlcluster.errors import ClusterError, shown, tell_once
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.sweep.file_sizes import OfRuns
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import JOB, RUN, SWEEP, fits
from mtlcluster.sweep.reading import LARGE, Unreadable, read_json
from mtlcluster.sweep.status import LARGEST, kinds, misfit

KINDS = kinds(RunStatus)
NEEDED = {field.name for field in dataclasses.fields(RunStatus)} - {"notes", "age", "silent"}
DAMAGED = "is its mtlcluster damaged, or newer than this one?"
ANSWERED: dict[str, dict[str, type]] = {  # by verb, what an answer must have
    "look": {"version": str, "runs": list},
    "prepare": {"version": str, "runs": list, "missing": list, "slurm": bool},
    "submit": {"runs": list, "jobs": list, "submitted": list},
    "cancel": {"runs": list},
    "retry": {"runs": list, "jobs": list, "submitted": list},
}


@dataclasses.dataclass
class Answer:
    time: float
    runs: list[RunStatus]


def clusters(sweep: Sweep) -> list[str]:
    """The clusters that may have runs of it."""
    return [path.stem for path in sorted(sweep.clusters.glob("*.json")) if fits(SWEEP, path.stem)]


def known(sweep: Sweep) -> dict[str, Answer]:
    """The last answer of each cluster, by its name. A torn file counts as an answer that was never heard."""
    return {cluster: _read(sweep, cluster) for cluster in clusters(sweep)}


def _read(sweep: Sweep, cluster: str) -> Answer:
    path = _file(sweep, cluster)
    try:
        found = read_json(path, LARGE)
        return Answer(float(found["time"]), [r for r in rows(found["runs"], cluster) if r.sweep == sweep.name])
    except Unreadable as error:
        tell_once(f"{error}; what {cluster} said last is not known")
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        tell_once(f"{path}: {error}; what {cluster} said last is not known")
    return Answer(0.0, [])


def expect(sweep: Sweep, cluster: str) -> None:
    """Notes that something may be sent there."""
    if not _file(sweep, cluster).exists():
        _write(sweep, cluster, Answer(0.0, []), durable=True)


def keep(sweep: Sweep, cluster: str, answer: Answer) -> None:
    """Keeps what the cluster says now. Not for ever: torn, it is asked for again."""
    _write(sweep, cluster, answer, durable=False)


def rows(entries: Iterable[Any], cluster: str) -> list[RunStatus]:
    """Runs as the other side gave them, be it of a newer version; there its cluster has another name, if any.

    Raises ValueError for what is no run: above all for a name that would lead out of the runs folder.
    """
    return [_row(entry, cluster) for entry in entries]


def _row(entry: Any, cluster: str) -> RunStatus:
    if not isinstance(entry, dict):
        raise ValueError(f"a run is {shown(entry)}")
    known = {key: value for key, value in entry.items() if key in KINDS} | {"cluster": cluster}
    if wrong := misfit(known, KINDS) or ", ".join(NEEDED - known.keys()):
        raise ValueError(f"of a run, {wrong}")
    run = RunStatus(**known)
    if not (fits(SWEEP, run.sweep) and fits(RUN, run.run) and (not run.job_id or fits(JOB, run.job_id))):
        raise ValueError(f"a run is called {shown(run.run)}, its sweep {shown(run.sweep)}, its job {shown(run.job_id)}")
    return run


def understood(verb: str, reply: Any, cluster: str) -> dict[str, Any]:
    """An answer of `there`, with its `runs` as `rows` gives them. Raises ClusterError for one that is not made as
    `there` makes them: to pass over what it says of a run would be to train that run a second time.
    """
    for key, kind in ANSWERED[verb].items():
        value = reply.get(key) if isinstance(reply, dict) else None
        texts = kind is not list or key == "runs" or (isinstance(value, list) and all(type(v) is str for v in value))
        if not isinstance(value, kind) or not texts:
            raise ClusterError(f"{cluster} gave an answer without `{key}`; {DAMAGED}")
    try:
        return {**reply, "runs": rows(reply["runs"], cluster)}
    except ValueError as error:
        raise ClusterError(f"{cluster} gave an answer that can't be: {error}; {DAMAGED}") from None


def unreadable(reply: dict[str, Any]) -> dict[str, str]:
    """The runs that were left out over there, and why."""
    given = reply.get("unreadable")
    return {str(run): str(why) for run, why in given.items()} if isinstance(given, dict) else {}


def sizes(reply: dict[str, Any], files: int) -> dict[str, OfRuns]:
    """Of so many files of every run the sizes and times, by sweep; without what is none."""
    given = reply.get("files")
    return {
        sweep: {run: found for run, found in runs.items() if fits(RUN, run) and _are_sizes(found, files)}
        for sweep, runs in (given.items() if isinstance(given, dict) else ())
        if fits(SWEEP, sweep) and isinstance(runs, dict)
    }


def _are_sizes(found: Any, files: int) -> bool:
    return isinstance(found, list) and len(found) == files and all(one is None or _is_size(one) for one in found)


def _is_size(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(type(n) is int for n in one) and 0 <= one[0] <= LARGEST


def _file(sweep: Sweep, cluster: str) -> Path:
    return sweep.clusters / f"{cluster}.json"


def _write(sweep: Sweep, cluster: str, answer: Answer, durable: bool) -> None:
    make_folder(sweep.clusters)
    entry = {"format": 1, "time": answer.time, "runs": [vars(run) for run in answer.runs]}
    replace_text(_file(sweep, cluster), json.dumps(entry), durable)
