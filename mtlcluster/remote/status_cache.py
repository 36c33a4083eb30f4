"""clusters/<name>.json in a sweep's folder: the last reply of a remote cluster about the runs of this sweep.

    {"format": 1, "time": when it was asked, Unix seconds, "runs": [as in `status --json`, …]}

The file is made before anything is sent to the cluster. `time` is 0 as long as there has been no reply.
"""

import dataclasses
import json
from pathlib import Path

from mtlcluster.errors import tell_once
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.remote.agent_reply import parse_runs
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import SWEEP, fits
from mtlcluster.sweep.reading import LARGE, Unreadable, read_json


@dataclasses.dataclass
class LastReply:
    """The last reply of a cluster. time: when it came, in Unix seconds; 0 if there was none."""

    time: float
    runs: list[RunStatus]


def cached_clusters(sweep: Sweep) -> list[str]:
    """The clusters that may have runs of the sweep."""
    return [path.stem for path in sorted(sweep.clusters.glob("*.json")) if fits(SWEEP, path.stem)]


def last_replies(sweep: Sweep) -> dict[str, LastReply]:
    """The last reply of each cluster, by its name. A torn file counts as no reply."""
    return {cluster: _read(sweep, cluster) for cluster in cached_clusters(sweep)}


def _read(sweep: Sweep, cluster: str) -> LastReply:
    path = _file(sweep, cluster)
    try:
        found = read_json(path, LARGE)
        runs = [run for run in parse_runs(found["runs"], cluster) if run.sweep == sweep.name]
        return LastReply(float(found["time"]), runs)
    except Unreadable as error:
        tell_once(f"{error}; the last reply of {cluster} is not known")
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        tell_once(f"{path}: {error}; the last reply of {cluster} is not known")
    return LastReply(0.0, [])


def expect_runs(sweep: Sweep, cluster: str) -> None:
    """Notes that the cluster may have runs of the sweep from now on."""
    if not _file(sweep, cluster).exists():
        _write(sweep, cluster, LastReply(0.0, []), durable=True)


def save_reply(sweep: Sweep, cluster: str, reply: LastReply) -> None:
    """Saves a reply. It is not flushed to disk: if the file is torn, the cluster is asked again."""
    _write(sweep, cluster, reply, durable=False)


def _file(sweep: Sweep, cluster: str) -> Path:
    return sweep.clusters / f"{cluster}.json"


def _write(sweep: Sweep, cluster: str, reply: LastReply, durable: bool) -> None:
    make_folder(sweep.clusters)
    entry = {"format": 1, "time": reply.time, "runs": [vars(run) for run in reply.runs]}
    replace_text(_file(sweep, cluster), json.dumps(entry), durable)
