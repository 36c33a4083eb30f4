"""All runs, wherever they are: those of the runs folder here, and those on the remote clusters.

A run lives on exactly one cluster. What a cluster that can't be reached had last said is shown in its place.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlcluster.config.places import cluster_files
from mtlcluster.errors import ClusterError
from mtlcluster.launch import control
from mtlcluster.launch.status import RunStatus, observe
from mtlcluster.remote import answers
from mtlcluster.remote.answers import Answer
from mtlcluster.sweep.files import locked
from mtlcluster.sweep.folder import Sweep, find_sweep, natural, sweeps

if TYPE_CHECKING:               # reads cluster files, which who has none need not pay for
    from mtlcluster.launch.submit import Submitted
    from mtlcluster.remote.fleet import Fleet, Remote

Notify = Callable[[str], object]


class Everywhere:
    """The runs of one sweep, or of all. Connections are kept until the `with` block ends."""

    def __init__(self, runs_folder: Path, sweep: str | None = None) -> None:
        """sweep: its name; it may be on clusters alone. Raises UserError for one that is nowhere."""
        self.runs_folder, self.name = runs_folder, sweep
        self.local = [s for s in sweeps(runs_folder) if sweep in (None, s.name)]
        self.known = {s.name: answers.known(s) for s in self.local}
        self.unreachable: dict[str, str] = {}       # why, by cluster, of those that were asked last
        self.fleet = self._fleet()
        if sweep is not None and not self.local and self.fleet is None:
            find_sweep(runs_folder, sweep)

    def _fleet(self) -> "Fleet | None":
        """The clusters that may have runs; None where there are none, which costs nothing to find out."""
        wanted = None if self.name is None or not self.local else set(self.known[self.name])
        folders = [folder for s in self.local if (folder := _grid_folder(s))]
        if wanted == set() or not (wanted or cluster_files(None) or any(map(cluster_files, folders))):
            return None
        from mtlcluster.remote.fleet import fleet_of

        fleet = fleet_of(folders)
        self.asked = sorted(fleet.remotes if wanted is None else wanted)
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
        """All runs (of them only those called `names`, where given), in the order of sweeps and names.

        Raises UserError where no cluster knows the sweep either, ClusterError where those that might can't be asked.
        """
        self._ask()
        there = {(run.sweep, run.run): run for known in self.known.values() for a in known.values() for run in a.runs}
        here = [run for sweep in self.local for run in self._observe_here(sweep, there)]
        found = sorted([*there.values(), *here], key=lambda run: (run.sweep, natural(run.run)))
        if not found and self.name is not None and not self.local:
            if self.unreachable:
                why = "; ".join(self.unreachable.values())
                raise ClusterError(f"'{self.name}' is not in {self.runs_folder}; {why}")
            find_sweep(self.runs_folder, self.name)
        return [run for run in found if names is None or run.run in names]

    def _observe_here(self, sweep: Sweep, there: dict[tuple[str, str], RunStatus]) -> list[RunStatus]:
        own = {run.name for run in sweep.runs() if (sweep.name, run.name) not in there}
        if not own:
            return []
        runs = observe([sweep], own)
        for run in runs:
            if not run.cluster and self.known[sweep.name]:      # meant for a cluster that has not got it
                found = re.search(r"^  cluster: (.*)$", sweep.run(run.run).config.read_text("utf-8"), re.MULTILINE)
                run.cluster = found[1] if found else ""
        return runs

    def _ask(self) -> None:
        self.unreachable = {}
        if self.fleet is None:
            return
        replies = self.fleet.each(self.asked, lambda remote: remote.call("look", sweep=self.name or ""))
        for cluster, reply in replies.items():
            if isinstance(reply, ClusterError):
                self.unreachable[cluster] = str(reply)
                self._grow_old(cluster)
            else:
                self.heard(cluster, answers.rows(reply["runs"], cluster))

    def heard(self, cluster: str, runs: list[RunStatus]) -> None:
        """Takes in what a cluster says of the runs of the sweep, or of all sweeps."""
        by_sweep: dict[str, list[RunStatus]] = {s.name: [] for s in self.local if cluster in self.known[s.name]}
        for run in runs:
            by_sweep.setdefault(run.sweep, []).append(run)
        here = {s.name: s for s in self.local}
        for name, members in by_sweep.items():
            known = self.known.setdefault(name, {})
            now = Answer(time.time(), members)
            known[cluster] = answers.keep(here[name], cluster, now) if name in here else now

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
        """The runs of the sweep by the remote cluster that has them; `` is this machine."""
        there = {run.run: name for name, a in self.known.get(self.name or "", {}).items() for run in a.runs}
        found: dict[str, list[RunStatus]] = {}
        for run in runs:
            found.setdefault(there.get(run.run, ""), []).append(run)
        return found

    def cancel(self, runs: list[RunStatus], notify: Notify) -> list[RunStatus]:
        """Stops runs of the sweep, on all clusters side by side; returns how they are then. See control.cancel.

        Raises ClusterError for a cluster that can't be reached, once the others have been told.
        """
        parts = self.by_cluster(runs)
        here = control.cancel(self.sweep, parts.pop("", []), notify)
        if parts:
            notify(f"waiting until running runs on {', '.join(parts)} have saved a checkpoint")

        def ask(remote: "Remote") -> Any:
            return remote.call("cancel", sweep=self.name, names=[run.run for run in parts[remote.name]])

        return [*here, *self._heard_of(parts, ask)]

    def retry(self, runs: list[RunStatus], restart: bool, notify: Notify) -> "Submitted":
        """Gives runs of the sweep a job again, where they live. See submit.resubmit."""
        from mtlcluster.launch.submit import Submitted, keep_present_code, resubmit
        from mtlcluster.remote.ship import ship, wanted_of

        parts = self.by_cluster(runs)
        own = [run.run for run in parts.pop("", [])]
        result = resubmit(self.sweep, own, restart, notify) if own else Submitted(self.sweep, "")
        result.cluster = ", ".join(filter(None, [result.cluster, *parts]))
        code = ""
        if restart and parts:
            with locked(self.sweep.lock, notify):
                code = keep_present_code(self.sweep, [run.run for members in parts.values() for run in members])

        def ask(remote: "Remote") -> Any:
            names = [run.run for run in parts[remote.name]]
            arriving = ship(remote, self.sweep, [f"code/{code}"]) if code else ".arriving-nothing"
            return remote.call(
                "retry", sweep=self.name, names=names, restart=code or False, arriving=arriving, **wanted_of(remote)
            )

        for reply in self._take(self.fleet.each(parts, ask) if self.fleet else {}):
            result.submitted += reply["submitted"]
            result.job_ids += reply["jobs"]
        return result

    def _heard_of(self, parts: dict[str, list[RunStatus]], ask: Callable[["Remote"], Any]) -> list[RunStatus]:
        """How the runs of `parts` are after `ask`."""
        self._take(self.fleet.each(parts, ask) if self.fleet else {})
        known, meant = self.known[self.name or ""], {run.run for members in parts.values() for run in members}
        return [run for cluster in parts for run in known[cluster].runs if run.run in meant]

    def _take(self, replies: dict[str, Any]) -> list[Any]:
        """Takes in what was answered; raises ClusterError where something could not be."""
        good = {cluster: reply for cluster, reply in replies.items() if not isinstance(reply, ClusterError)}
        for cluster, reply in good.items():
            self.heard(cluster, answers.rows(reply["runs"], cluster))
        if failed := [str(reply) for reply in replies.values() if isinstance(reply, ClusterError)]:
            raise ClusterError("; ".join(failed))
        return list(good.values())

    def logs(self, run: RunStatus, lines: int, follow: bool) -> int | None:
        """Prints the log of a run that a remote cluster has. Returns the exit status, None where it is here."""
        [(cluster, _)] = self.by_cluster([run]).items()
        if not cluster or self.fleet is None:
            return None
        remote = self.fleet[cluster]
        options = ["--lines", str(lines), "--runs", f"{remote.root}/runs", *(["--follow"] if follow else [])]
        return remote.connection.stream(remote.python("-m", "mtlcluster", "logs", *options, "--", run.sweep, run.run))


def _grid_folder(sweep: Sweep) -> Path | None:
    """Beside which file the grid of a sweep stood, without reading all of it."""
    try:
        found = re.search(r"^source:\n(?:  .*\n)*?  grid: (.*)$", sweep.grid.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return Path(found[1].strip("'\"")).parent if found else None
