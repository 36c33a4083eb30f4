"""The remote clusters of the user's files, each with its connection. They are asked at the same time."""

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
from mtlcluster.remote.agent_reply import check_reply
from mtlcluster.remote.shell import path_word
from mtlcluster.remote.ssh import Connection
from mtlcluster.sweep.reading import parse_json

Reply = dict[str, Any]
T = TypeVar("T")
NO_PYTHON = "no environment"
NEWS_AFTER = 2.0  # seconds after which a terminal is told which clusters have not answered yet


@dataclass
class RemoteCluster:
    """One remote cluster: its description by the user, and the connection to its login node."""

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
        """The folder of a sweep on the cluster."""
        return f"{self.root}/runs/{name}"

    @property
    def environment(self) -> str:
        """The virtual environment on the cluster, as a word of the shell."""
        return path_word(f"{self.cluster.environment}")

    @property
    def python(self) -> str:
        """The Python of the environment, as a word of the shell."""
        return path_word(f"{self.cluster.environment}/bin/python")

    @cached_property
    def prelude(self) -> str:
        """The start of every script: the user's `setup:` lines, such as modules to load. Their output is not kept."""
        return "".join(f"{{ {line}\n}} 1>&2; " for line in self.cluster.options.setup) + PLAIN_PYTHON

    def python_script(self, *arguments: str) -> str:
        """A script that runs the environment's Python on the cluster. Arguments that begin with ~ are paths."""
        words = " ".join(path_word(a) if a.startswith("~") else shlex.quote(a) for a in arguments)
        missing = f"[ -x {self.python} ] || {{ echo {NO_PYTHON} 1>&2; exit 127; }}; "
        # -P: else Python would import ~/mtlcluster, a folder in the home where it starts, as the package.
        return f"{self.prelude}{missing}{OF_AN_ENVIRONMENT}exec {self.python} -P {words}"

    def call(self, verb: str, **request: Any) -> Reply:
        """Sends a request to the agent (see agent.py) and returns its reply.

        Raises:
            ClusterError: The cluster can't be reached, or could not do it.
            ClusterRefusal: The request is the user's mistake.
        """
        script = self.python_script(*_entry.python_arguments("agent"), self.root, verb)
        try:
            answer = self.connection.run(script, json.dumps(request).encode())
        except ClusterError as error:
            raise self._explained(error) from None
        try:
            reply = parse_json(answer)
        except ValueError:
            raise ClusterError(f"{self.name} answered {answer[:100]!r}; is its mtlcluster damaged?") from None
        if isinstance(reply, dict) and "error" in reply:
            kind = ClusterRefusal if reply.get("mistake") else ClusterError
            raise kind(f"{self.name}: {printable.text(str(reply['error']))}")
        return check_reply(verb, reply, self.name)

    def _explained(self, error: ClusterError) -> ClusterError:
        """The error in words for the user, from what the shell or Python on the cluster printed."""
        update = f"mtlcluster setup --cluster {self.name}"
        if re.search(rf"No module named {re.escape(_entry.ENTRY)}", str(error)):
            return ClusterError(f"{self.name} has an older version of mtlcluster; {update} brings it up to date")
        if re.search(f"{NO_PYTHON}|No module named", str(error)):
            return ClusterError(f"mtlcluster is missing on {self.name}; {update}")
        if "nknown option: -P" in str(error):
            from mtlcluster.remote.this_version import dotted, oldest_python

            needs = f"mtlcluster needs {dotted(oldest_python())} or newer"
            return ClusterError(f"{self.name}: the Python of {self.cluster.environment} is too old; {needs}")
        return error


class RemoteClusters:
    """Several remote clusters, by name. Their connections are closed at the end of the `with` block."""

    def __init__(self, clusters: Iterable[Cluster]) -> None:
        """Takes the remote ones among `clusters`.

        Raises:
            UserError: Two clusters have the same host and root. A run there would be on two clusters.
        """
        self.by_name = {cluster.name: RemoteCluster(cluster) for cluster in clusters if cluster.is_remote}
        places: dict[tuple[str | None, str], Cluster] = {}
        for remote in self.by_name.values():
            place = (remote.cluster.options.host, remote.root)
            other = places.setdefault(place, remote.cluster)
            if other is not remote.cluster and remote.cluster.file:
                words = f"'{remote.name}' and '{other.name}' have one host and root; give one of them another root"
                remote.cluster.file.refuse((remote.name,), words)

    def __enter__(self) -> "RemoteClusters":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.each(self.by_name, lambda remote: remote.connection.close())

    def __getitem__(self, name: str) -> RemoteCluster:
        """Raises ClusterError if no cluster file has the name any more."""
        if name not in self.by_name:
            hint = f"; {words}" if (words := passed_over()) else ""
            raise ClusterError(f"no cluster file names '{name}' any more{nearest(name, self.by_name)}{hint}")
        return self.by_name[name]

    def each(
        self,
        names: Collection[str],
        do: Callable[[RemoteCluster], T],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> dict[str, T | ClusterError]:
        """Calls `do` for each of the clusters, all at the same time.

        Args:
            names: The names of the clusters.
            do: Called with a cluster, in a thread of its own.
            meanwhile: Called here while the clusters are busy.

        Returns:
            By name, the result of `do`, or the ClusterError that it raised.
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
            _, slow = wait(waiting.values(), NEWS_AFTER)
            if slow and sys.stderr.isatty():
                still = ", ".join(name for name, future in waiting.items() if future in slow)
                print(f"waiting for {still} …", file=sys.stderr)
            return {name: future.result() for name, future in waiting.items()}


def find_remote_clusters(grid_folders: Iterable[Path]) -> RemoteClusters:
    """The clusters of the user's own files, and of files beside grids.

    Args:
        grid_folders: The folders of grids that the user names or has submitted. A file nearer to a grid counts more.
    """
    files = cluster_files(None) + [file for folder in grid_folders for file in cluster_files(folder)]
    nearest_last = list(dict.fromkeys(file.absolute() for file in reversed(files)))[::-1]
    return RemoteClusters(read_clusters(nearest_last).values())
