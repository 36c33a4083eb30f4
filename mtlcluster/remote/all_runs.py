"""All runs of a runs folder: those on this machine and those on remote clusters.

Each run is on exactly one cluster. For a cluster that can't be reached, its last reply is shown.
"""

import dataclasses
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster_files import cluster_files
from mtlcluster.errors import ClusterError, tell_once, together
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.remote import status_cache
from mtlcluster.remote.agent_reply import file_sizes
from mtlcluster.remote.placement import Placement, RunKey, place_runs
from mtlcluster.remote.status_cache import LastReply
from mtlcluster.sweep.file_sizes import OfRuns, sizes_and_times
from mtlcluster.sweep.folder import Sweep, find_sweep, sweeps
from mtlcluster.sweep.names import hash_of, natural
from mtlcluster.sweep.yaml_fields import cluster_of, grid_file_of, job_of

if TYPE_CHECKING:  # it reads cluster files; a user without any need not wait for that
    from mtlcluster.remote.clusters import RemoteClusters


class AllRuns:
    """The runs of one sweep, or of all sweeps. Connections stay open until the `with` block ends.

    Attributes:
        sweeps: The sweeps that have a folder here.
        clusters: The remote clusters that may have runs; None where there are none.
        cluster_names: Their names.
        replies: The last replies, by sweep and cluster.
        unreachable: For each cluster that could not be asked the last time, the reason.
        placements: The runs as they were observed last.
        sizes_there: Sizes and times of `file_names` on the clusters, by cluster and sweep.
        sizes_here: The same on this machine, by sweep; only for sweeps that a cluster has, too.
    """

    def __init__(
        self,
        runs_folder: Path,
        sweep: str | None = None,
        file_names: Sequence[str] = (),
        clusters: "RemoteClusters | None" = None,
    ) -> None:
        """Finds out what there is, without asking a cluster.

        Args:
            runs_folder: The runs folder here.
            sweep: The name of the sweep, which may be on clusters alone; None for all.
            file_names: Files of each run, whose sizes and times are asked for.
            clusters: The clusters, if their connections are open already.

        Raises:
            UserError: The sweep is not here, and there is no cluster.
        """
        self.runs_folder, self.name, self.file_names = runs_folder, sweep, file_names
        self.sweeps = [s for s in sweeps(runs_folder) if sweep in (None, s.name)]
        self.replies: dict[str, dict[str, LastReply]] = {s.name: {} for s in self.sweeps}
        self.unreachable: dict[str, str] = {}
        self.placements: dict[RunKey, Placement] = {}
        self.sizes_there: dict[str, dict[str, OfRuns]] = {}
        self.sizes_here: dict[str, OfRuns] = {}
        self.cluster_names: list[str] = []
        self.clusters = self._find_clusters(clusters)
        if sweep is not None and not self.sweeps and self.clusters is None:
            find_sweep(runs_folder, sweep)

    def _find_clusters(self, given: "RemoteClusters | None") -> "RemoteClusters | None":
        """The clusters that may have runs. None if there are none; to find this out costs nothing."""
        cached = {cluster for s in self.sweeps for cluster in status_cache.cached_clusters(s)}
        folders = [Path(grid).parent for s in self.sweeps if (grid := grid_file_of(s))]
        folders = [folder for folder in folders if submitted_here.has_grids(folder)]
        files = cluster_files(None) + [file for folder in folders for file in cluster_files(folder)]
        only_here = self.name is not None and bool(self.sweeps) and not cached
        if only_here or not (cached or any("host" in file.read_text("utf-8", "replace") for file in files)):
            return None
        from mtlcluster.remote.clusters import find_remote_clusters

        clusters = given or find_remote_clusters(folders)
        self.cluster_names = sorted({*clusters.by_name, *cached})
        return clusters if self.cluster_names else None

    def __enter__(self) -> "AllRuns":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.clusters:
            self.clusters.close()

    @property
    def sweep(self) -> Sweep:
        """The folder of the sweep here."""
        assert self.name is not None
        return Sweep(self.runs_folder / self.name)

    def observe(self, names: Collection[str] | None = None) -> list[RunStatus]:
        """Asks all clusters, and returns the runs in the order of sweeps and names. For errors see `ask`.

        Args:
            names: The names of the runs to return; None: all.
        """
        self.ask()
        here = [run for sweep in self.sweeps for run in self._observe_here(sweep, names)]
        there: dict[str, list[RunStatus]] = {}
        for replies in self.replies.values():
            for cluster, reply in replies.items():
                there.setdefault(cluster, []).extend(reply.runs)
        self.placements = place_runs(here, there)
        found = sorted((one.run for one in self.placements.values()), key=lambda run: (run.sweep, natural(run.run)))
        return [run for run in found if names is None or run.run in names]

    def _observe_here(self, sweep: Sweep, names: Collection[str] | None) -> list[RunStatus]:
        runs = observe([sweep], names)
        if self.replies[sweep.name]:
            for run in runs:
                if not run.cluster:  # a run of a cluster, brought home or never sent
                    run.cluster = cluster_of(sweep.run(run.run))
        return runs

    def ask(self) -> None:
        """Asks all clusters at the same time how their runs are.

        Raises:
            UserError: The sweep is not here, and no cluster has it.
            ClusterError: The sweep is not here, and a cluster that may have it can't be asked.
        """
        self.unreachable = {}
        if self.clusters is None:
            return
        request = {"sweep": self.name or "", "files": list(self.file_names)}
        replies = self.clusters.each(self.cluster_names, lambda remote: remote.call("look", **request), self._look_here)
        for cluster, reply in replies.items():
            if isinstance(reply, ClusterError):
                self.unreachable[cluster] = str(reply)
                self._mark_unverified(cluster)
            else:
                self._take_in(cluster, reply)
        if self.name is not None and not self.sweeps and not self._is_on_a_cluster(self.name):
            if self.unreachable:
                why = "; ".join(self.unreachable.values())
                raise ClusterError(f"'{self.name}' is not in {self.runs_folder}; {why}")
            find_sweep(self.runs_folder, self.name)

    def _is_on_a_cluster(self, sweep: str) -> bool:
        return any(reply.runs for reply in self.replies.get(sweep, {}).values())

    def _look_here(self) -> None:
        """Reads the cached replies, once, and the sizes and times that are asked for."""
        if not any(self.replies.values()):
            self.replies |= {s.name: status_cache.last_replies(s) for s in self.sweeps}
        if self.file_names:
            self.sizes_here = {s.name: sizes_and_times(s, self.file_names) for s in self.sweeps if self.replies[s.name]}

    def take_in(self, replies: dict[str, Any]) -> list[dict[str, Any]]:
        """Stores the replies of clusters, and returns them. A cluster may have an error in place of a reply.

        Raises:
            ClusterError: Some clusters failed. It is raised after the replies of the others are stored.
        """
        good = {cluster: reply for cluster, reply in replies.items() if not isinstance(reply, ClusterError)}
        for cluster, reply in good.items():
            self._take_in(cluster, reply)
        if failed := [reply for reply in replies.values() if isinstance(reply, ClusterError)]:
            raise together(failed)
        return list(good.values())

    def _take_in(self, cluster: str, reply: dict[str, Any]) -> None:
        """Takes in a reply about the runs of the sweep, or of all sweeps, and saves it here.

        A sweep on the cluster with the same name, but another job, is another sweep: its runs are left out.
        """
        self.sizes_there[cluster] = file_sizes(reply, len(self.file_names))
        here, jobs = {s.name: s for s in self.sweeps}, reply.get("job_files")
        jobs = jobs if isinstance(jobs, dict) else {}
        others = {name for name, s in here.items() if jobs.get(name) and job_of(s) not in ("", jobs[name])}
        by_sweep: dict[str, list[RunStatus]] = {name: [] for name in here if cluster in self.replies[name]}
        for run in reply["runs"]:
            if run.sweep not in others and self.name in (None, run.sweep):
                by_sweep.setdefault(run.sweep, []).append(run)
        for name, runs in by_sweep.items():
            self.replies.setdefault(name, {})[cluster] = LastReply(time.time(), runs)
            if name in here:
                self._save(here[name], cluster)

    def _save(self, sweep: Sweep, cluster: str) -> None:
        try:
            status_cache.save_reply(sweep, cluster, self.replies[sweep.name][cluster])
        except PermissionError:  # the folder is somebody else's: it is only read
            pass
        except OSError as error:
            tell_once(f"{error.filename}: {error.strerror}; the reply of {cluster} is not saved")

    def _mark_unverified(self, cluster: str) -> None:
        """Marks the runs of a cluster that can't be asked as old."""
        for replies in self.replies.values():
            if cluster in replies:
                age = time.time() - replies[cluster].time
                said = f"{cluster} can't be reached"
                replies[cluster].runs = [
                    run if run.ended else dataclasses.replace(run, verified=False, age=age, scheduler=said)
                    for run in replies[cluster].runs
                ]

    def remote_cluster_of(self, run: RunStatus) -> str:
        """The remote cluster that has an observed run; "" is this machine."""
        return self.placements[run.sweep, hash_of(run.run)].cluster

    def by_cluster(self, runs: list[RunStatus]) -> dict[str, list[RunStatus]]:
        """Groups observed runs of the sweep by the remote cluster that has them; "" is this machine.

        Raises:
            ClusterError: A run may or may not have reached a cluster that can't be asked.
        """
        found: dict[str, list[RunStatus]] = {}
        for run in runs:
            cluster = self.remote_cluster_of(run)
            if not cluster and not run.job_id and not run.ended and run.cluster in self.unreachable:
                why = self.unreachable[run.cluster]
                raise ClusterError(f"it is not known whether {run.run} has reached {run.cluster}: {why}")
            found.setdefault(cluster, []).append(run)
        return found
