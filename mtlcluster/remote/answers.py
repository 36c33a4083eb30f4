"""clusters/<name>.json in a sweep's folder: what a remote cluster last said of its runs of this sweep.

    {"format": 1, "time": when it was asked, Unix seconds, "runs": [as in `status --json`, …]}

The file is there from the moment that something may have been sent there; with `time` 0 nothing has been heard yet.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtlcluster.launch.status import RunStatus
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.folder import Sweep

FIELDS = {field.name for field in dataclasses.fields(RunStatus)}


@dataclasses.dataclass
class Answer:
    time: float
    runs: list[RunStatus]


def clusters(sweep: Sweep) -> list[str]:
    """The clusters that may have runs of it."""
    return [path.stem for path in sorted(sweep.clusters.glob("*.json"))]


def known(sweep: Sweep) -> dict[str, Answer]:
    """The last answer of each cluster, by its name. A torn file counts as an answer that was never heard."""
    return {cluster: _read(_file(sweep, cluster)) for cluster in clusters(sweep)}


def _read(path: Path) -> Answer:
    try:
        found = json.loads(path.read_bytes())
        return Answer(found["time"], rows(found["runs"], path.stem))
    except (OSError, ValueError, KeyError, TypeError):
        return Answer(0.0, [])


def expect(sweep: Sweep, cluster: str) -> None:
    """Notes that something may be sent there."""
    if not _file(sweep, cluster).exists():
        _write(sweep, cluster, Answer(0.0, []), durable=True)


def keep(sweep: Sweep, cluster: str, answer: Answer) -> None:
    """Keeps what the cluster says now. Not for ever: torn, it is asked for again."""
    _write(sweep, cluster, answer, durable=False)


def rows(entries: Iterable[dict[str, Any]], cluster: str) -> list[RunStatus]:
    """Runs as the other side gave them, be it of a newer version; there its cluster has another name, if any."""
    return [RunStatus(**{k: v for k, v in e.items() if k in FIELDS} | {"cluster": cluster}) for e in entries]


def _file(sweep: Sweep, cluster: str) -> Path:
    return sweep.clusters / f"{cluster}.json"


def _write(sweep: Sweep, cluster: str, answer: Answer, durable: bool) -> None:
    make_folder(sweep.clusters)
    entry = {"format": 1, "time": answer.time, "runs": [vars(run) for run in answer.runs]}
    replace_text(_file(sweep, cluster), json.dumps(entry), durable)
