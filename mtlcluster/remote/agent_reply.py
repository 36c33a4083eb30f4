"""Checks the replies of a cluster's agent. They may come from another version, or be damaged or hostile."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from mtlcluster.errors import ClusterError, shown
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.sweep.file_sizes import OfRuns
from mtlcluster.sweep.names import JOB, RUN, SWEEP, fits
from mtlcluster.sweep.status import LARGEST, kinds, misfit

KINDS = kinds(RunStatus)
OPTIONAL = {"notes", "age", "silent", "method", "trial", "roles", "values"}  # an older version does not give them
NEEDED = {field.name for field in dataclasses.fields(RunStatus)} - OPTIONAL
DAMAGED = "is its mtlcluster damaged, or newer than this one?"
FIELDS: dict[str, dict[str, type]] = {  # by verb, the fields that a reply must have
    "look": {"version": str, "runs": list},
    "prepare": {"version": str, "runs": list, "missing": list, "slurm": bool},
    "submit": {"runs": list, "jobs": list, "submitted": list},
    "cancel": {"runs": list},
    "retry": {"runs": list, "jobs": list, "submitted": list},
}


def check_reply(verb: str, reply: Any, cluster: str) -> dict[str, Any]:
    """Returns a reply of the agent with its `runs` as RunStatus.

    Raises:
        ClusterError: The reply does not have the form of one. All of it is refused then: a run that was overlooked
            would be trained a second time.
    """
    for key, kind in FIELDS[verb].items():
        value = reply.get(key) if isinstance(reply, dict) else None
        texts = kind is not list or key == "runs" or (isinstance(value, list) and all(type(v) is str for v in value))
        if not isinstance(value, kind) or not texts:
            raise ClusterError(f"{cluster} gave an answer without `{key}`; {DAMAGED}")
    try:
        return {**reply, "runs": parse_runs(reply["runs"], cluster)}
    except ValueError as error:
        raise ClusterError(f"{cluster} gave an invalid answer: {error}; {DAMAGED}") from None


def parse_runs(entries: Iterable[Any], cluster: str) -> list[RunStatus]:
    """The runs of a reply or of a file. Fields of a newer version are left out.

    Args:
        entries: The runs, as in `status --json`.
        cluster: The cluster's name here; on the cluster it may have another name, or none.

    Raises:
        ValueError: An entry is not a run, or has a name that would lead out of the runs folder.
    """
    return [_parse_run(entry, cluster) for entry in entries]


def _parse_run(entry: Any, cluster: str) -> RunStatus:
    if not isinstance(entry, dict):
        raise ValueError(f"a run is {shown(entry)}")
    known = {key: value for key, value in entry.items() if key in KINDS} | {"cluster": cluster}
    if wrong := misfit(known, KINDS) or ", ".join(NEEDED - known.keys()):
        raise ValueError(f"of a run, {wrong}")
    run = RunStatus(**known)
    if not (fits(SWEEP, run.sweep) and fits(RUN, run.run) and (not run.job_id or fits(JOB, run.job_id))):
        raise ValueError(f"a run is called {shown(run.run)}, its sweep {shown(run.sweep)}, its job {shown(run.job_id)}")
    return run


def unreadable_runs(reply: dict[str, Any]) -> dict[str, str]:
    """The runs that the agent left out, and why."""
    given = reply.get("unreadable")
    return {str(run): str(why) for run, why in given.items()} if isinstance(given, dict) else {}


def file_sizes(reply: dict[str, Any], files: int) -> dict[str, OfRuns]:
    """The sizes and times of the files of every run, by sweep. What has another form is left out.

    Args:
        reply: The agent's reply.
        files: The number of files that were asked for, for each run.
    """
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
