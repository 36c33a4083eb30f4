"""All runs, wherever they are: those of the runs folder here, and those on the remote clusters.

A run lives on exactly one cluster. What a cluster that can't be reached had last said is shown in its place.
"""

import dataclasses
import re
import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster_files import cluster_files
from mtlcluster.errors import ClusterError, UserError, tell_once, together
from mtlcluster.launch import cancel
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.progress import Say
from mtlcluster.remote import status_cache
from mtlcluster.remote.placement import Home, Key, homes
from mtlcluster.remote.status_cache import Answer
from mtlcluster.sweep.file_sizes import OfRuns, sizes_and_times
from mtlcluster.sweep.folder import Sweep, find_sweep, forget_results, sweeps
from mtlcluster.sweep.locks import locked
from mtlcluster.sweep.names import hash_of, natural
from mtlcluster.sweep.reading import SMALL, Unreadable, read_text
from mtlcluster.sweep.yaml_fields import cluster_of, job_of

if TYPE_CHECKING:  # reads cluster files, which who has none need not pay for
    from mtlcluster.launch.hand_over import Submitted
    from mtlcluster.remote.clusters import Fleet, Remote


class Everywhere:
    """The runs of one sweep, or of all. Connections are kept until the `with` block ends."""

    def __init__(
        self, runs_folder: Path, sweep: str | None = None, files: Sequence[str] = (), fleet: "Fleet | None" = None
    ) -> None:
        """sweep: its name; it may be on clusters alone. files: of each run, whose sizes and times over there are asked
        for, too. fleet: one whose connections are open already. Raises UserError for a sweep that is nowhere.
        """
        self.runs_folder, self.name, self.wanted = runs_folder, sweep, files
        self.local = [s for s in sweeps(runs_folder) if sweep in (None, s.name)]
        self.known: dict[str, dict[str, Answer]] = {s.name: {} for s in self.local}  # what clusters had last said
        self.unreachable: dict[str, str] = {}  # why, by cluster, of those that were asked last
        self.homes: dict[Key, Home] = {}  # as they were observed last
        self.files: dict[str, dict[str, OfRuns]] = {}  # by cluster and sweep, likewise
        self.here: dict[str, OfRuns] = {}  # the same files here, by sweep, of those that clusters have, too
        self.asked: list[str] = []  # the clusters that may have runs
        self.fleet = self._fleet(fleet)
        if sweep is not None and not self.local and self.fleet is None:
            find_sweep(runs_folder, sweep)

    def _fleet(self, given: "Fleet | None") -> "Fleet | None":
        """The clusters that may have runs; None where there are none, which costs nothing to find out."""
        known = {cluster for s in self.local for cluster in status_cache.clusters(s)}
        folders = [folder for s in self.local if (folder := _grid_folder(s)) and submitted_here.has_grids(folder)]
        files = cluster_files(None) + [file for folder in folders for file in cluster_files(folder)]
        only_here = self.name is not None and bool(self.local) and not known
        if only_here or not (known or any("host" in file.read_text("utf-8", "replace") for file in files)):
            return None
        from mtlcluster.remote.clusters import fleet_of

        fleet = given or fleet_of(folders)
        self.asked = sorted({*fleet.remotes, *known})
        return fleet if self.asked else None

    def __enter__(self) -> "Everywhere":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.fleet:
            self.fleet.close()

    @property
    def sweep(self) -> Sweep:
        assert self.name is not None
        return Sweep(self.runs_folder / self.name)

    def observe(self, names: Collection[str] | None = None) -> list[RunStatus]:
        """All runs (of them only those called `names`, where given), in the order of sweeps and names. See ask."""
        self.ask()
        here = [run for sweep in self.local for run in self._observe_here(sweep, names)]
        there: dict[str, list[RunStatus]] = {}
        for known in self.known.values():
            for cluster, answer in known.items():
                there.setdefault(cluster, []).extend(answer.runs)
        self.homes = homes(here, there)
        found = sorted((home.run for home in self.homes.values()), key=lambda run: (run.sweep, natural(run.run)))
        return [run for run in found if names is None or run.run in names]

    def _observe_here(self, sweep: Sweep, names: Collection[str] | None) -> list[RunStatus]:
        runs = observe([sweep], names)
        if self.known[sweep.name]:
            for run in runs:
                if not run.cluster:  # of a cluster: brought home, or never sent
                    run.cluster = cluster_of(sweep.run(run.run))
        return runs

    def ask(self) -> None:
        """Asks all clusters, side by side, how their runs are.

        Raises UserError where no cluster knows the sweep either, ClusterError where those that might can't be asked.
        """
        self.unreachable = {}
        if self.fleet is None:
            return
        request = {"sweep": self.name or "", "files": list(self.wanted)}
        replies = self.fleet.each(self.asked, lambda remote: remote.call("look", **request), self._look_here)
        for cluster, reply in replies.items():
            if isinstance(reply, ClusterError):
                self.unreachable[cluster] = str(reply)
                self._grow_old(cluster)
            else:
                self.heard(cluster, reply)
        if self.name is not None and not self.local and not any(a.runs for a in self.known.get(self.name, {}).values()):
            if self.unreachable:
                why = "; ".join(self.unreachable.values())
                raise ClusterError(f"'{self.name}' is not in {self.runs_folder}; {why}")
            find_sweep(self.runs_folder, self.name)

    def _look_here(self) -> None:
        """Reads what is kept here, once, and the sizes and times that are asked for."""
        if not any(self.known.values()):
            self.known |= {s.name: status_cache.known(s) for s in self.local}
        if self.wanted:
            self.here = {s.name: sizes_and_times(s, self.wanted) for s in self.local if self.known[s.name]}

    def heard(self, cluster: str, reply: dict[str, Any]) -> None:
        """Takes in what a cluster says of the runs of the sweep, or of all sweeps. One of another job that happens to
        have a sweep's name is not meant.
        """
        self.files[cluster] = status_cache.sizes(reply, len(self.wanted))
        here, jobs = {s.name: s for s in self.local}, reply.get("job_files")
        jobs = jobs if isinstance(jobs, dict) else {}
        others = {name for name, s in here.items() if jobs.get(name) and job_of(s) not in ("", jobs[name])}
        by_sweep: dict[str, list[RunStatus]] = {name: [] for name in here if cluster in self.known[name]}
        for run in reply["runs"]:
            if run.sweep not in others and self.name in (None, run.sweep):
                by_sweep.setdefault(run.sweep, []).append(run)
        for name, members in by_sweep.items():
            self.known.setdefault(name, {})[cluster] = Answer(time.time(), members)
            if name in here:
                try:
                    status_cache.keep(here[name], cluster, self.known[name][cluster])
                except PermissionError:  # of somebody else's folder one only reads
                    pass
                except OSError as error:
                    tell_once(f"{error.filename}: {error.strerror}; what {cluster} said is not kept")

    def _grow_old(self, cluster: str) -> None:
        for known in self.known.values():
            if cluster in known:
                age = time.time() - known[cluster].time
                said = f"{cluster} can't be reached"
                known[cluster].runs = [
                    run if run.ended else dataclasses.replace(run, verified=False, age=age, scheduler=said)
                    for run in known[cluster].runs
                ]

    def by_cluster(self, runs: list[RunStatus]) -> dict[str, list[RunStatus]]:
        """The runs of the sweep that were observed, by the remote cluster that has them; "" is this machine.

        Raises ClusterError for runs that may or may not have reached a cluster that can't be asked.
        """
        found: dict[str, list[RunStatus]] = {}
        for run in runs:
            cluster = self.homes[run.sweep, hash_of(run.run)].cluster
            if not cluster and not run.job_id and not run.ended and run.cluster in self.unreachable:
                why = self.unreachable[run.cluster]
                raise ClusterError(f"whether {run.run} has reached {run.cluster} is not known: {why}")
            found.setdefault(cluster, []).append(run)
        return found

    def cancel(self, runs: list[RunStatus], say: Say) -> list[RunStatus]:
        """Stops runs of the sweep, on all clusters side by side; returns how they are then. See control.cancel.

        Raises ClusterError for a cluster that can't be reached, once the others have been told.
        """
        parts = self.by_cluster(runs)
        own = parts.pop("", [])
        here = cancel.cancel(self.sweep, own, say) if own else []
        if parts:
            say(f"waiting until running runs on {', '.join(parts)} have saved a checkpoint")

        def ask(remote: "Remote") -> Any:
            return remote.call("cancel", sweep=self.name, names=[run.run for run in parts[remote.name]])

        self._take(self.fleet.each(parts, ask) if self.fleet else {})
        known, meant = self.known[self.name or ""], {run.run for members in parts.values() for run in members}
        return [*here, *(run for cluster in parts for run in known[cluster].runs if run.run in meant)]

    def retry(self, runs: list[RunStatus], restart: bool, say: Say) -> "Submitted":
        """Gives runs of the sweep a job again, where they live, with what the grid here asks for now. See resubmit."""
        from mtlcluster.launch.hand_over import Submitted
        from mtlcluster.launch.retry import resubmit

        parts = self.by_cluster(runs)
        own = parts.pop("", [])
        if unsent := [run.run for run in own if not run.job_id and not run.attempt and run.cluster in self.asked]:
            raise UserError(f"{', '.join(unsent)}: never sent to a cluster; submit the grid again")
        result = resubmit(self.sweep, [run.run for run in own], restart, say) if own else Submitted(self.sweep, "")
        result.cluster = ", ".join(filter(None, [result.cluster, *parts]))
        if parts:
            self._retry_there(parts, restart, result, say)
        return result

    def _retry_there(self, parts: dict[str, list[RunStatus]], restart: bool, result: "Submitted", say: Say) -> None:
        from mtlcluster.remote.upload import arriving, ship, wanted_of

        names = [run.run for members in parts.values() for run in members]
        if restart and not all(self.sweep.run(name).config.exists() for name in names):
            raise UserError(f"{self.name}: not all of it is here; collect it, or submit its grid, before a restart")

        def ask(remote: "Remote") -> Any:
            files = [*(["sweep.yaml"] if self.local else []), *(f"code/{one}" for one in sorted({code, *kept} - {""}))]
            folder = ship(remote, self.sweep, files) if files else arriving(self.sweep)
            chosen = [run.run for run in parts[remote.name]]
            of_code = {"code": code if restart else "", "fresh": "" if restart else code}
            return remote.call("retry", sweep=self.name, names=chosen, **of_code, arriving=folder, **wanted_of(remote))

        assert self.fleet is not None
        with locked(self.sweep.lock, say) if self.local else nullcontext():
            code, remarks = self._present_code(names, restart)
            for remark in remarks:
                say(remark)
            kept = set() if restart else self._kept_codes(names)  # in case they are damaged over there
            for reply in self._take(self.fleet.each(parts, ask)):
                result.submitted += reply["submitted"]
                result.job_ids += reply["jobs"]
                result.unreadable |= status_cache.unreadable(reply)
        for run in map(self.sweep.run, names if restart else []):  # what was brought home is of the former code
            forget_results(run)

    def _present_code(self, names: list[str], restart: bool) -> tuple[str, list[str]]:
        """The hash of the runs' code as it is now, which is kept, and what is to be known of it; "" where it is not
        here, which is good enough unless they are to begin anew.
        """
        from mtlcluster.launch.code.changes import CurrentCode

        here = self.local and all(self.sweep.run(name).config.exists() for name in names)
        if not restart and not (here and CurrentCode(self.sweep).is_here):
            return "", []
        return CurrentCode(self.sweep).keep(names)

    def _kept_codes(self, names: list[str]) -> set[str]:
        """The code that the runs began with, as far as it is here."""
        from mtlcluster.config.run import read_sweep_run_config

        here = [run for run in map(self.sweep.run, names) if run.config.exists()]
        codes = {read_sweep_run_config(run.config).origin.code for run in here}
        return {code for code in codes if (self.sweep.code / code).is_dir()}

    def _take(self, replies: dict[str, Any]) -> list[Any]:
        """Takes in what was answered; raises ClusterError where something could not be."""
        good = {cluster: reply for cluster, reply in replies.items() if not isinstance(reply, ClusterError)}
        for cluster, reply in good.items():
            self.heard(cluster, reply)
        if failed := [reply for reply in replies.values() if isinstance(reply, ClusterError)]:
            raise together(failed)
        return list(good.values())

    def logs(self, run: RunStatus, lines: int, follow: bool) -> int | None:
        """Prints the log of a run that a remote cluster has. Returns the exit status, None where it is here."""
        cluster = self.homes[run.sweep, hash_of(run.run)].cluster
        if not cluster or self.fleet is None:
            return None
        remote = self.fleet[cluster]
        options = ["--lines", str(lines), "--runs", f"{remote.root}/runs", *(["--follow"] if follow else [])]
        return remote.connection.stream(remote.python("-m", "mtlcluster", "logs", *options, "--", run.sweep, run.run))


def _grid_folder(sweep: Sweep) -> Path | None:
    """Beside which file the grid of a sweep stood, without reading all of it."""
    try:
        found = re.search(r"^source:\n(?:  .*\n)*?  grid: (.*)$", read_text(sweep.grid, SMALL), re.MULTILINE)
    except (OSError, Unreadable):
        return None
    return Path(found[1].strip("'\"")).parent if found else None
