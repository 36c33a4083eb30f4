"""The remote clusters of the user's files, each with its connection, and how they are asked: side by side."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mtlcluster import _entry, printable
from mtlcluster.config.cluster import Cluster, read_clusters
from mtlcluster.config.cluster_files import cluster_files, passed_over
from mtlcluster.errors import ClusterError, ClusterRefusal, nearest
from mtlcluster.processes.environment import OF_AN_ENVIRONMENT, PLAIN_PYTHON
from mtlcluster.progress import WORTH_SHOWING
from mtlcluster.remote.ssh import Connection, folder_there
from mtlcluster.remote.status_cache import understood
from mtlcluster.sweep.reading import parse_json

Reply = dict[str, Any]
T = TypeVar("T")
NO_PYTHON = "no environment"

# What a shell or Python says over there, and what that means to a user.
MEANINGS = [
    (
        rf"No module named {re.escape(_entry.ENTRY)}",
        "{name} has an older version of mtlcluster; mtlcluster setup --cluster {name} brings it up to date",
    ),
    (f"{NO_PYTHON}|No module named", "mtlcluster is missing on {name}; mtlcluster setup --cluster {name}"),
    (r"nknown option: -P", "{name}: the Python of {environment} is too old; mtlcluster needs 3.11 or newer"),
]


@dataclass
class Remote:
    """One remote cluster: what its user says of it, and the connection to its login node."""

    cluster: Cluster
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        assert self.cluster.options.host is not None
        self.connection = Connection(self.cluster.options.host)

    @property
    def name(self) -> str:
        return self.cluster.name

    @property
    def root(self) -> str:
        return self.cluster.root

    def sweep(self, name: str) -> str:
        """A sweep's folder over there."""
        return f"{self.root}/runs/{name}"

    @cached_property
    def prelude(self) -> str:
        """The cluster's own lines, such as modules to load; what they print is not part of an answer."""
        return "".join(f"{{ {line}\n}} 1>&2; " for line in self.cluster.options.setup) + PLAIN_PYTHON

    def python(self, *arguments: str) -> str:
        """A script that runs the environment's Python over there; words that begin with ~ are folders."""
        words = " ".join(folder_there(a) if a.startswith("~") else shlex.quote(a) for a in arguments)
        python = folder_there(f"{self.cluster.environment}/bin/python")
        missing = f"[ -x {python} ] || {{ echo {NO_PYTHON} 1>&2; exit 127; }}; "
        # -P: not from the folder it starts in, the home, where ~/mtlcluster would pass for the package.
        return f"{self.prelude}{missing}{OF_AN_ENVIRONMENT}exec {python} -P {words}"

    def call(self, verb: str, **request: Any) -> Reply:
        """What `there` answers. Raises ClusterError, also for what it refuses."""
        script = self.python(*_entry.python_arguments("agent"), self.root, verb)
        try:
            answer = self.connection.run(script, json.dumps(request).encode())
        except ClusterError as error:
            for pattern, words in MEANINGS:
                if re.search(pattern, str(error)):
                    told = words.format(name=self.name, environment=self.cluster.environment)
                    raise ClusterError(told) from None
            raise
        try:
            reply = parse_json(answer)
        except ValueError:
            raise ClusterError(f"{self.name} answered {answer[:100]!r}; is its mtlcluster damaged?") from None
        if isinstance(reply, dict) and "error" in reply:
            kind = ClusterRefusal if reply.get("mistake") else ClusterError
            raise kind(f"{self.name}: {printable.text(str(reply['error']))}")
        return understood(verb, reply, self.name)


class Fleet:
    """Several remote clusters, by name. Their connections end with the `with` block."""

    def __init__(self, clusters: Iterable[Cluster]) -> None:
        """Raises UserError for two that have one folder: a run there would have two homes."""
        self.remotes = {cluster.name: Remote(cluster) for cluster in clusters if cluster.is_remote}
        places: dict[tuple[str | None, str], Cluster] = {}
        for remote in self.remotes.values():
            place = (remote.cluster.options.host, remote.root)
            other = places.setdefault(place, remote.cluster)
            if other is not remote.cluster and remote.cluster.file:
                words = f"'{remote.name}' and '{other.name}' have one host and root; give one of them another root"
                remote.cluster.file.refuse((remote.name,), words)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.each(self.remotes, lambda remote: remote.connection.close())

    def __getitem__(self, name: str) -> Remote:
        """Raises ClusterError where no cluster file names it any more."""
        if name not in self.remotes:
            hint = f"; {words}" if (words := passed_over()) else ""
            raise ClusterError(f"no cluster file names '{name}' any more{nearest(name, self.remotes)}{hint}")
        return self.remotes[name]

    def each(
        self, names: Collection[str], do: Callable[[Remote], T], meanwhile: Callable[[], object] = lambda: None
    ) -> dict[str, T | ClusterError]:
        """What `do` returns for each, side by side, or why it could not be done. meanwhile: what there is to do here
        while they are waited for.
        """

        def attempt(name: str) -> T | ClusterError:
            try:
                return do(self[name])
            except ClusterError as error:
                return error

        if not names:
            meanwhile()
            return {}
        with ThreadPoolExecutor(len(names)) as threads:
            waiting = {name: threads.submit(attempt, name) for name in names}
            meanwhile()
            _, slow = wait(waiting.values(), WORTH_SHOWING)
            if slow and sys.stderr.isatty():
                still = ", ".join(name for name, future in waiting.items() if future in slow)
                print(f"waiting for {still} …", file=sys.stderr)
            return {name: future.result() for name, future in waiting.items()}


def fleet_of(grid_folders: Iterable[Path]) -> Fleet:
    """Of the user's cluster files, and those beside grids that the user names or has submitted."""
    files = cluster_files(None) + [file for folder in grid_folders for file in cluster_files(folder)]
    nearest_last = list(dict.fromkeys(file.absolute() for file in reversed(files)))[::-1]
    return Fleet(read_clusters(nearest_last).values())
