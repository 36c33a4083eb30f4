"""One login node, spoken to by the user's own ssh and rsync, so that keys, agents, jump hosts, Kerberos and second
factors work as they do in a terminal.

All that one command of mtlcluster does there goes through one shared connection (OpenSSH's ControlMaster): who has to
type a second factor types it once. A login shell may print whatever it likes before what it was asked to do; a marker
says where that ends.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from mtlcluster.errors import ClusterError

MARK = "---mtlcluster---"
CONNECT_TIMEOUT = 15        # seconds
PATIENCE = 120.0            # seconds; a file system over there that hangs must not hang a command for ever
IDLE = 60                   # seconds after which a connection ends whose owner was killed
ALIVE = ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"]
LOST = 255                  # ssh's own exit status

# What rsync calls in ssh's place, as `rsh HOST rsync --server …`; all that it has of names goes over its own protocol.
RSH = """#!/bin/sh
shift
{ssh} "exec bash -lc 'echo {mark}; exec $*'" | {{
    while IFS= read -r line; do
        [ "$line" = {mark} ] && exec cat
    done
    exit 255
}}
"""

# What ssh says, and what that means to a user. {host}, {name}: of the cluster.
MEANINGS = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed. That may be an attack; mtlcluster never overrides it. Ask its "
        "administrators; if the new key is right: ssh-keygen -R the name that ssh shows",
    ),
    (r"Host key verification failed", "the host key of {host} is not known yet; accept it once: ssh {host}"),
    (r"Could not resolve hostname", "the host {host} is unknown; is it spelt as in ~/.ssh/config?"),
    (
        r"Permission denied \((?!publickey\))",
        "{host} did not let you in by a key alone, and there is no terminal to ask for a password or a second factor; "
        "run this in a terminal, or open a shared connection (ControlMaster) before",
    ),
    (r"Permission denied", "{host} refused your key; does this work: ssh {host}"),
    (r"Connection refused|No route to host|Network is unreachable", "{host} does not answer (is it down?)"),
    (
        r"timed out|[Cc]onnection (reset|closed|unexpectedly closed)|Broken pipe|closed by remote host",
        "the connection to {host} was lost, or is not answered",
    ),
]


class ConnectionLost(ClusterError):
    """It ended before its time; it can be opened again."""


_terminal = threading.Lock()        # one cluster at a time asks the user


class Connection:
    """To the login node `host`; opened at its first use, closed by `close`."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.options: list[str] | None = None
        self.folder: Path | None = None
        self._opening = threading.Lock()

    def open(self) -> None:
        """Raises ClusterError."""
        with self._opening:
            if self.options is not None:
                return
            if shutil.which("ssh") is None:
                raise ClusterError("ssh is not installed here (Debian package openssh-client)")
            if self._ssh(["-O", "check"]).returncode == 0:      # a connection that the user shares already
                self.options = []
                return
            # A socket's path may have 108 characters: TMPDIR is often too long.
            self.folder = Path(tempfile.mkdtemp(prefix="mtl-", dir="/tmp"))
            shared = ["-o", f"ControlPath={self.folder}/s"]
            master = [*shared, "-f", "-N", "-o", "ControlMaster=yes", "-o", f"ControlPersist={IDLE}", *ALIVE]
            master += ["-o", f"ConnectTimeout={CONNECT_TIMEOUT}"]
            failed = self._start([*master, "-o", "BatchMode=yes"])
            if failed and _may_ask(failed):
                with _terminal:
                    failed = self._start(master, asking=True)
            if failed is not None:
                self.close()
                raise ClusterError(self.meaning(failed))
            self.options = shared

    def _start(self, options: list[str], asking: bool = False) -> str | None:
        """Starts the shared connection. Returns None, or what ssh said."""
        with tempfile.TemporaryFile() as said:      # a pipe would stay open as long as the connection
            command = ["ssh", *options, "--", self.host]
            quiet = None if asking else subprocess.DEVNULL
            done = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=None if asking else said)
            said.seek(0)
            return None if done.returncode == 0 else said.read().decode(errors="replace") or "Permission denied"

    def close(self) -> None:
        if self.options:
            self._ssh(["-O", "exit"])
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.options = self.folder = None

    def run(self, script: str, given: bytes = b"", patience: float = PATIENCE) -> bytes:
        """What the script, one line of bash, prints over there with `given` as its input. Raises ClusterError."""
        self.open()
        try:
            done = self._ssh(["-T", "-o", "BatchMode=yes"], _marked(script), given, patience)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.host} did not answer within {patience:.0f} seconds") from None
        printed = after_mark(done.stdout)
        if done.returncode == LOST or printed is None:
            raise self._lost(done.stderr.decode(errors="replace"))
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise ClusterError(f"{self.host}: {said[-2000:]}")
        return printed

    def stream(self, script: str) -> int:
        """Prints here what the script prints over there, as it comes. Returns its exit status."""
        self.open()
        command = ["ssh", *(self.options or []), "-T", "-o", "BatchMode=yes", "--", self.host, _marked(script)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line == f"{MARK}\n".encode():
                    break
            while chunk := os.read(process.stdout.fileno(), 2**16):
                os.write(1, chunk)
        return process.returncode

    def push(self, source: Path, names: Iterable[str], target: str) -> None:
        """Copies files, named from the folder `source`, into the folder `target` over there, which is made."""
        self._rsync(names, f"{source}/", f"cluster:{_from_home(target)}/", "--mkpath")

    def pull(self, source: str, target: Path, *options: str, names: Iterable[str] | None = None) -> list[str]:
        """Copies what is new in the folder `source` over there into the folder `target`. Returns the files' names.

        options: rsync's own. names: of the only files that are meant.
        """
        said = self._rsync(names, f"cluster:{_from_home(source)}/", f"{target}/", "--out-format=%n", *options)
        return [name for name in said.splitlines() if not name.endswith("/")]

    def _rsync(self, names: Iterable[str] | None, source: str, target: str, *options: str) -> str:
        """Broken off, it goes on from where it was the next time. Raises ClusterError."""
        self.open()
        if shutil.which("rsync") is None:
            raise ClusterError("rsync is not installed here (Debian package rsync)")
        with tempfile.TemporaryDirectory(prefix="mtlcluster-") as folder:
            rsh = Path(folder, "rsh")
            rsh.write_text(self._rsh())
            rsh.chmod(0o700)
            command = ["rsync", "-e", shlex.quote(str(rsh)), "--secluded-args", "--times", "--perms", "--links"]
            command += ["--partial-dir=.partial", *options]
            command += ["--recursive"] if names is None else ["--files-from=-", "--from0", "--recursive"]
            given = "\0".join(names).encode() if names is not None else b""
            done = subprocess.run([*command, "--", source, target], input=given, capture_output=True)
        if done.returncode not in (0, 24):      # 24: a file was gone before it could be copied
            raise self._rsync_failed(done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def _rsh(self) -> str:
        ssh = shlex.join(["ssh", *(self.options or []), "-T", "-o", "BatchMode=yes", "--", self.host])
        return RSH.format(ssh=ssh, mark=MARK)

    def _rsync_failed(self, code: int, said: str) -> ClusterError:
        if "No space left on device" in said or "Disk quota exceeded" in said:
            return ClusterError(f"{self.host}: the disk over there is full; make room and try again")
        if code in (12, 127) and "rsync" in said and "not found" in said:
            return ClusterError(f"rsync is not installed on {self.host}; ask for it there, or load it in your profile")
        if code in (10, 12, 30, 35, LOST):
            return self._lost(said)
        return ClusterError(f"{self.host}: {said.strip()[-2000:] or f'rsync failed with code {code}'}")

    def _lost(self, said: str) -> ConnectionLost:
        self.close()
        return ConnectionLost(self.meaning(said))

    def meaning(self, said: str) -> str:
        """What ssh's own words mean."""
        for pattern, words in MEANINGS:
            if re.search(pattern, said):
                return words.format(host=self.host)
        said = said.strip()[-500:]
        return f"{self.host}: {said}" if said else f"the connection to {self.host} was lost"

    def _ssh(
        self, options: Sequence[str], command: str = "", given: bytes = b"", patience: float | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        words = ["ssh", *(self.options or []), *options, "--", self.host, *([command] if command else [])]
        return subprocess.run(words, input=given, capture_output=True, timeout=patience)


def _may_ask(said: str) -> bool:
    """Whether a user at a terminal could give what was missing."""
    wanted = re.search("Permission denied|Host key verification failed", said)
    return bool(wanted) and "HAS CHANGED" not in said and os.isatty(0) and os.isatty(2)


def _marked(script: str) -> str:
    """For whatever shell the login shell is: one simple command, the rest in single quotes."""
    return f"exec bash -lc {shlex.quote(f'echo {MARK}; {script}')}"


def after_mark(printed: bytes) -> bytes | None:
    _, found, rest = printed.partition(f"{MARK}\n".encode())
    return rest if found else None


def folder_there(path: str) -> str:
    """A path over there as a word of its shell: `~` is the home, everything else is as it stands."""
    if path == "~":
        return '"$HOME"'
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _from_home(path: str) -> str:
    """As rsync takes it, which begins in the home folder over there and knows no `~`."""
    if path == "~":
        return "."
    return f"./{path[2:]}" if path.startswith("~/") else path
