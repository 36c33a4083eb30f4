"""Copies new files of one sweep from one cluster, and checks them by their SHA-256."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from mtlcluster.config import submitted_here
from mtlcluster.errors import ClusterError
from mtlcluster.progress import Say
from mtlcluster.remote.clusters import RemoteCluster
from mtlcluster.remote.shell import path_word
from mtlcluster.remote.ssh import ANSWER_TIMEOUT, ConnectionLost
from mtlcluster.sweep.checksums import sha256
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import RUN, SWEEP, fits
from mtlcluster.sweep.status import ENDED, read_status

Checkpoints = Literal["best", "all"]

ATTEMPTS = 3  # at a copy whose connection is lost, and at a file whose checksum is wrong
SLOWEST = 10e6  # bytes per second: a checksum on the cluster may be this slow
OF_A_RUN = ("config.yaml", "history.pkl", "log.txt", "predictions.npz", "predictions.npz.sha256", "status.json")
CHECKED = ("history.pkl", "predictions.npz", ".pt")  # ends of names; other files are small, or still being written


@dataclass(frozen=True)
class Transfer:
    """The copying of one sweep from one cluster.

    Attributes:
        remote: The cluster.
        sweep: The sweep's folder here.
        checkpoints: Which checkpoints to copy; None for no checkpoints.
        say: Gets lines for the user.
    """

    remote: RemoteCluster
    sweep: Sweep
    checkpoints: Checkpoints | None
    say: Say

    @property
    def source(self) -> str:
        return self.remote.sweep(self.sweep.name)

    def run(self, new: dict[str, int]) -> None:
        """Copies new files, checks them, and reports the amount.

        Args:
            new: Sizes of the changed files, as far as they are known; their checksums are computed during the transfer.

        Raises:
            ClusterError: The connection was lost several times, or a file arrives damaged each time.
        """
        began = time.monotonic()
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(self._sums_there, {name: new[name] for name in _checked(new)})
            arrived = self._copy_new()
        self._check(_checked(arrived), {} if asked.exception() else asked.result())
        if arrived:
            runs = len({file.partition("/")[0] for file in arrived if "/" in file and not file.startswith("code/")})
            took = time.monotonic() - began
            self.say(f"{self.remote.name}: brought home {len(arrived):,} files of {runs:,} runs in {took:.1f} s")

    def _copy_new(self) -> list[str]:
        """Copies what is new and returns its names.

        If code arrives from the cluster, the folder no longer counts as the user's own. Then the user is asked before
        that code is run, as for any folder that somebody sent.
        """
        before = self._snapshots()
        try:
            return self._pull(self._filters(), None)
        finally:
            if self._snapshots() != before:
                submitted_here.forget(self.sweep.folder)

    def _snapshots(self) -> list[str]:
        """The names of the snapshots of code that are here."""
        return sorted(path.name for path in self.sweep.code.glob("*"))

    def _filters(self) -> list[str]:
        """The rules for rsync. The first that matches a name counts.

        The grid and the code of this machine are never replaced by those from the cluster.
        """
        rules = [] if self.sweep.grid.exists() else ["+ /sweep.yaml", "+ /trials.json"]
        if self.checkpoints and submitted_here.is_mine(self.sweep.folder):
            rules += [f"- /code/{name}" for name in self._snapshots() if fits(SWEEP, name)]
        rules += ["+ /code/", "+ /code/**"] if self.checkpoints else ["- /code"]
        rules += ["- /submissions", "- /report", "- /clusters", "- .*"]
        rules += ["+ /choices/", "+ /choices/*.json", "- /choices/*", "+ /*/", *(f"+ /*/{name}" for name in OF_A_RUN)]
        if self.checkpoints:
            rules += ["+ /*/checkpoints/"]
            rules += ["+ /*/checkpoints/best*" if self.checkpoints == "best" else "+ /*/checkpoints/*"]
        return [*(f"--filter={rule}" for rule in rules), "--filter=- *"]

    def _pull(self, options: list[str], names: list[str] | None) -> list[str]:
        """Copies with rsync, several times if the connection is lost. Returns the names of the copied files."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.remote.connection.pull(self.source, self.sweep.folder, *options, names=names)
            except ConnectionLost as error:
                if attempt == ATTEMPTS:
                    words = f"{error}; what has arrived stays, and the next call goes on from there"
                    raise ClusterError(words) from None
                self.say(f"{error}; trying again")
                time.sleep(attempt)
        raise AssertionError

    def _check(self, names: list[str], sums: dict[str, str]) -> None:
        """Compares the checksums of files here and there, and copies again those that differ.

        Args:
            names: The names of the files.
            sums: The checksums on the cluster that are known already.

        Raises:
            ClusterError: A file stays damaged. Files of runs that still train do not count: they change all the time.
        """
        for attempt in range(ATTEMPTS + 1):
            if attempt:
                self._pull(["--ignore-times"], names)
                sums = {}
            unknown = {name: (self.sweep.folder / name).stat().st_size for name in names if name not in sums}
            sums = sums | self._sums_there(unknown)
            names = [name for name in names if sums.get(name) != sha256(self.sweep.folder / name)]
            if not names:
                return
        if torn := [file for file in names if self._has_ended(file)]:
            listed = ", ".join(torn[:3])
            raise ClusterError(f"{self.remote.name}: arrived damaged: {listed}; run collect again")

    def _sums_there(self, sizes: dict[str, int]) -> dict[str, str]:
        """The SHA-256 of files on the cluster, by name. sizes: of the files, in bytes."""
        if not sizes:
            return {}
        script = f"cd {path_word(self.source)} && xargs -0 sha256sum -- ; true"  # true: a file may be gone by now
        given, timeout = "\0".join(sizes).encode() + b"\0", ANSWER_TIMEOUT + sum(sizes.values()) / SLOWEST
        printed = self.remote.connection.run(script, given, timeout).decode()
        return {line[66:]: line[:64] for line in printed.splitlines()}

    def _has_ended(self, file: str) -> bool:
        """True if the run of a file has ended, as far as its status here says."""
        try:
            status = read_status(self.sweep.run(file.partition("/")[0]).status)
        except (OSError, ValueError):
            return True
        return status is not None and status.state in ENDED


def _checked(names: Iterable[str]) -> list[str]:
    """Those of the files whose checksums are compared."""
    return [name for name in names if name.endswith(CHECKED) and all(fits(RUN, part) for part in name.split("/"))]
