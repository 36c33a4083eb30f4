"""The connection to one login node, through the user's own ssh and rsync.

So keys, agents, jump hosts, Kerberos and second factors work as they do in a terminal.

All commands of one call of mtlcluster share one connection (OpenSSH's ControlMaster): the user types a second factor
once. A login shell may print anything before the command that it was asked to run; a marker shows where that ends.
"""

import base64
import codecs
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from mtlcluster import printable
from mtlcluster.errors import ClusterError
from mtlcluster.remote import rsync_shell
from mtlcluster.remote.shell import MARK, UNTIL_INPUT_ENDS, marked, path_from_home
from mtlcluster.remote.ssh_messages import no_bash, no_connection, rsync_failed, user_can_help

CONNECT_TIMEOUT = 15  # seconds
ANSWER_TIMEOUT = 120.0  # seconds; a file system of the cluster that hangs must not hang a command here
IDLE = 60  # seconds until a connection ends whose owner was killed
INTERRUPTED = -2  # Ctrl-C
LOST = rsync_shell.LOST

# Options of the shared connection. They override the user's file: what a terminal there needs, a script does not.
MASTER = {
    "ControlMaster": "yes",
    "ControlPersist": IDLE,
    "ConnectTimeout": CONNECT_TIMEOUT,
    "ServerAliveInterval": 5,
    "ClearAllForwardings": "yes",  # their ports belong to the user's own session
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "LogLevel": "INFO",  # with less, ssh does not say why there is no connection
}
# Options of a command on the shared connection. The proxy that always fails keeps ssh from opening a new connection for
# each command where the shared one is lost.
COMMAND = ["-T", "-o", "BatchMode=yes", "-o", "RemoteCommand=none", "-o", "ProxyCommand=false", "-o", "LogLevel=ERROR"]


class ConnectionLost(ClusterError):
    """The connection ended early. It can be opened again."""


_terminal = threading.Lock()  # held while ssh asks the user: one cluster at a time


class Connection:
    """The connection to the login node `host`. The first use opens it, `close` closes it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.options: list[str] | None = None  # by which ssh finds the shared connection; None while it is closed
        self.folder: Path | None = None
        self._opening = threading.Lock()

    def open(self) -> list[str]:
        """Opens the connection unless it is open. Returns the options by which ssh finds it. Raises ClusterError."""
        with self._opening:
            if self.options is not None:
                return self.options
            if shutil.which("ssh") is None:
                raise ClusterError("ssh is not installed here (Debian package openssh-client)")
            if self._ssh(["-O", "check"]).returncode == 0:  # the user already shares a connection
                self.options = []
                return self.options
            # The path of a socket has at most 108 characters; TMPDIR is often too long.
            self.folder = Path(tempfile.mkdtemp(prefix="mtl-", dir="/tmp"))
            self.options = ["-o", f"ControlPath={self.folder}/s"]
            try:
                self._connect()
            except BaseException:
                self.close()
                raise
            return self.options

    def _connect(self) -> None:
        """Connects without asking the user. Only where that fails, and there is a terminal, ssh may ask there."""
        failed = self._start(BatchMode="yes", ServerAliveCountMax=4)
        if failed is None:
            return
        if not user_can_help(failed):
            raise no_connection(self.host, failed)
        with _terminal:  # ServerAliveCountMax: the host is silent while the user approves a second factor
            if self._start(asking=True, ServerAliveCountMax=24) is not None:
                raise ClusterError(f"ssh could not log in to {self.host}; its message is above")

    def _start(self, asking: bool = False, **options: object) -> str | None:
        """Starts the shared connection. Returns None, or what ssh printed where it failed."""
        words = [f"-o{name}={value}" for name, value in {**MASTER, **options}.items()]
        command = ["ssh", *(self.options or []), "-f", "-N", *words, "--", self.host]
        with tempfile.TemporaryFile() as said:  # a pipe would stay open as long as the connection
            quiet = None if asking else subprocess.DEVNULL
            done = subprocess.run(command, stdin=quiet, stdout=subprocess.DEVNULL, stderr=None if asking else said)
            said.seek(0)
            return None if done.returncode == 0 else _text(said.read()) or "Permission denied"

    def close(self) -> None:
        if self.options:
            self._ssh(["-O", "exit"])
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.options = self.folder = None

    def run(self, script: str, given: bytes = b"", timeout: float = ANSWER_TIMEOUT) -> bytes:
        """Runs a script of bash on the cluster.

        Args:
            script: The script.
            given: Its input.
            timeout: Seconds until it should have ended.

        Returns:
            What it printed.

        Raises:
            ClusterError: It failed, or there is no connection.
        """
        options = self.open()
        try:
            done = self._ssh(COMMAND, marked(script), given, timeout)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.host} did not answer within {timeout:.0f} seconds") from None
        if done.returncode in (LOST, INTERRUPTED):
            raise self._lost(options)
        _, mark, printed = done.stdout.partition(f"{MARK}\n".encode())
        if not mark:
            raise no_bash(self.host, _text(done.stdout + done.stderr))
        if done.returncode:
            said = _text(done.stderr)[-2000:] or f"exit code {done.returncode}"
            raise ClusterError(f"{self.host}: {said}")
        return printed

    def stream(self, script: str) -> int:
        """Runs a script of bash on the cluster, and prints its output here immediately. It ends when this process ends.

        Returns:
            Its exit status.

        Raises:
            ClusterError: The connection is lost.
        """
        options = self.open()
        command, line = self._command(COMMAND, marked(UNTIL_INPUT_ENDS + script)), b""
        pipe = subprocess.PIPE
        # Unbuffered: the loop must not read more than the line of the marker.
        with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            beside = threading.Thread(target=_show, args=(process.stderr.fileno(), 2))
            beside.start()
            for line in process.stdout:
                if line.endswith(f"{MARK}\n".encode()):
                    break
            _show(process.stdout.fileno(), 1)
            process.wait()  # its input stays open until then: the script would end with it
            beside.join()
        if process.returncode == LOST:
            raise self._lost(options)
        if not line.endswith(f"{MARK}\n".encode()):
            raise no_bash(self.host, _text(line))
        return process.returncode

    def push(self, source: Path, names: Iterable[str], target: str) -> None:
        """Copies files to the cluster.

        Args:
            source: A folder here.
            names: The names of files and folders in it.
            target: A folder on the cluster. It is made if it is missing and its parent is there.

        Raises:
            ClusterError: They could not be copied.
        """
        self._rsync(names, f"{source}/", f"cluster:{path_from_home(target)}/")

    def pull(self, source: str, target: Path, *options: str, names: Iterable[str] | None = None) -> list[str]:
        """Copies new files from the cluster.

        Args:
            source: A folder on the cluster.
            target: A folder here.
            options: Options of rsync.
            names: The names of the files to copy; None: all.

        Returns:
            The names of the files that were copied.

        Raises:
            ClusterError: They could not be copied.
        """
        exactly = re.sub(r"([\\*?\[])", r"\\\1", path_from_home(source))  # rsync expands patterns on the cluster
        plain = ["--no-links", "--info=nonreg0"]  # a link could lead anywhere on this machine; no file of ours is one
        said = self._rsync(names, f"cluster:{exactly}/", f"{target}/", "--out-format=%n", *plain, *options)
        return [name for name in said.splitlines() if not name.endswith("/")]

    def _rsync(self, names: Iterable[str] | None, source: str, target: str, *options: str) -> str:
        """Runs rsync and returns what it prints. A transfer that is cut goes on from there the next time."""
        shared = self.open()
        if shutil.which("rsync") is None:
            raise ClusterError("rsync is not installed here (Debian package rsync)")
        # Only options of rsync 3.1, which some clusters still have.
        command = ["rsync", "-e", self._rsh(), "--protect-args", "--times", "--perms", "--links", "--safe-links"]
        command += ["--partial-dir=.partial", f"--timeout={ANSWER_TIMEOUT:.0f}", *options]
        command += ["--recursive"] if names is None else ["--files-from=-", "--from0", "--recursive"]
        given = "\0".join(names).encode() if names is not None else b""
        done = subprocess.run(
            [*command, "--", source, target], input=given, capture_output=True, env=_rsync_environment()
        )
        if done.returncode not in (0, 24):  # 24: a file was gone before it could be copied
            raise rsync_failed(self.host, done.returncode, _text(done.stderr)) or self._lost(shared)
        return done.stdout.decode(errors="replace")

    def _rsh(self) -> str:
        """The program that rsync calls in place of ssh. Names of files go over rsync's own protocol, not through it."""
        ssh = json.dumps([*self._command(COMMAND), marked('exec "$@"'), "bash"])
        program, encoded = str(Path(rsync_shell.__file__)), base64.b64encode(ssh.encode()).decode()
        return " ".join(f"'{word}'" for word in [sys.executable, "-I", "-S", program, encoded, MARK])

    def _lost(self, options: list[str]) -> ConnectionLost:
        with self._opening:
            if self.options is options:  # else another thread has already opened a new one
                self.close()
        return ConnectionLost(f"the connection to {self.host} was lost")

    def _command(self, options: Sequence[str], command: str = "") -> list[str]:
        return ["ssh", *(self.options or []), *options, "--", self.host, *([command] if command else [])]

    def _ssh(
        self, options: Sequence[str], command: str = "", given: bytes = b"", timeout: float | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(self._command(options, command), input=given, capture_output=True, timeout=timeout)


def _rsync_environment() -> dict[str, str]:
    """This process's environment without the user's options for rsync: no variables, and no aliases in ~/.popt.

    The ssh that rsync starts finds the home without HOME.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")} | {"HOME": os.devnull}


def _text(printed: bytes) -> str:
    return printable.text(printed.decode(errors="replace")).strip()


def _show(source: int, target: int) -> None:
    """Copies from one file descriptor to another, as plain text: a cluster may send codes that a terminal obeys.

    Bytes of another encoding stay as they are.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")  # a read may end inside a character
    while chunk := os.read(source, 2**16):
        parts = re.split("([\udca0-\udcff]+)", decoder.decode(chunk))
        text = "".join(part if i % 2 else printable.text(part) for i, part in enumerate(parts))
        os.write(target, text.encode("utf-8", "surrogateescape"))
