"""One login node, spoken to by the user's own ssh and rsync, so that keys, agents, jump hosts, Kerberos and second
factors work as they do in a terminal.

All that one command of mtlcluster does there goes through one shared connection (OpenSSH's ControlMaster): who has to
type a second factor types it once. A login shell may print whatever it likes before what it was asked to do; a marker
says where that ends.
"""

import base64
import codecs
import json
import os
import re
import shlex
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

MARK = "---mtlcluster---"
CONNECT_TIMEOUT = 15  # seconds
ANSWER_TIMEOUT = 120.0  # seconds; a file system over there that hangs must not hang a command for ever
IDLE = 60  # seconds after which a connection ends whose owner was killed
LOST = 255  # ssh's own exit status

# Of the shared connection, whatever the user's file says of this host: what a terminal there wants, a batch does not.
MASTER = {
    "ControlMaster": "yes",
    "ControlPersist": IDLE,
    "ConnectTimeout": CONNECT_TIMEOUT,
    "ServerAliveInterval": 5,
    "ClearAllForwardings": "yes",  # their ports belong to the user's own session
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "LogLevel": "INFO",  # the words from which one sees why there is no connection, and no others
}
# Without the proxy that refuses, ssh would make up for a shared connection that was lost by a new one for each command.
COMMAND = ["-T", "-o", "BatchMode=yes", "-o", "RemoteCommand=none", "-o", "ProxyCommand=false", "-o", "LogLevel=ERROR"]

# Ends a script, and all that it began, once nobody listens any more: without a terminal sshd would let it go on.
WATCHED = "exec 3<&0 </dev/null; { cat <&3; kill -- -$$; } >/dev/null 2>&1 & exec 3<&-; "

# What ssh says where it can't connect, and what that means to a user; {0} is what the pattern has caught.
MEANINGS = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED(?s:.*)Offending \S+ key in ([^\r\n]+)",
        "the host key of {host} has changed: {0} has another. That may be an attack; mtlcluster never overrides it. "
        "Ask its administrators; if the new key is right, remove that line",
    ),
    (r"Host key verification failed", "the host key of {host} is not known yet; accept it once: ssh {host}"),
    (r"Could not resolve hostname", "the host {host} is unknown; is it spelt as in ~/.ssh/config?"),
    (
        r"Permission denied \((?!publickey\))",
        "{host} did not let you in by a key alone, and there is no terminal to ask for a password or a second factor; "
        "run this in a terminal, or open a shared connection (ControlMaster) before",
    ),
    (
        r"Permission denied",
        "{host} refused your key; does this work: ssh {host} (if it asks for the key's passphrase: ssh-add before)",
    ),
    (r"Connection refused|No route to host|Network is unreachable|timed out", "{host} does not answer (is it down?)"),
    (r"(?i)connection (reset|closed)", "{host} closed the connection at once; does this work: ssh {host}"),
]


class ConnectionLost(ClusterError):
    """It ended before its time; it can be opened again."""


_terminal = threading.Lock()  # one cluster at a time asks the user


class Connection:
    """To the login node `host`; opened at its first use, closed by `close`."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.options: list[str] | None = None  # by which ssh finds the shared connection
        self.folder: Path | None = None
        self._opening = threading.Lock()

    def open(self) -> None:
        """Raises ClusterError."""
        self._open()

    def _open(self) -> list[str]:
        """By which options ssh finds the connection. Raises ClusterError."""
        with self._opening:
            if self.options is not None:
                return self.options
            if shutil.which("ssh") is None:
                raise ClusterError("ssh is not installed here (Debian package openssh-client)")
            if self._ssh(["-O", "check"]).returncode == 0:  # a connection that the user shares already
                self.options = []
                return self.options
            # A socket's path may have 108 characters: TMPDIR is often too long.
            self.folder = Path(tempfile.mkdtemp(prefix="mtl-", dir="/tmp"))
            self.options = ["-o", f"ControlPath={self.folder}/s"]
            try:
                self._connect()
            except BaseException:
                self.close()
                raise
            return self.options

    def _connect(self) -> None:
        """Without asking; only where that is not enough, and there is a terminal, ssh may ask there."""
        failed = self._start(BatchMode="yes", ServerAliveCountMax=4)
        if failed is None:
            return
        if not _may_ask(failed):
            raise ClusterError(self.meaning(failed))
        with _terminal:  # the host is silent, too, while a second factor is being approved on a telephone
            if self._start(asking=True, ServerAliveCountMax=24) is not None:
                raise ClusterError(f"ssh did not get into {self.host}; what it said is above")

    def _start(self, asking: bool = False, **options: object) -> str | None:
        """Starts the shared connection. Returns None, or what ssh said."""
        words = [f"-o{name}={value}" for name, value in {**MASTER, **options}.items()]
        command = ["ssh", *(self.options or []), "-f", "-N", *words, "--", self.host]
        with tempfile.TemporaryFile() as said:  # a pipe would stay open as long as the connection
            quiet = None if asking else subprocess.DEVNULL
            done = subprocess.run(command, stdin=quiet, stdout=subprocess.DEVNULL, stderr=None if asking else said)
            said.seek(0)
            return None if done.returncode == 0 else _said(said.read()) or "Permission denied"

    def close(self) -> None:
        if self.options:
            self._ssh(["-O", "exit"])
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.options = self.folder = None

    def run(self, script: str, given: bytes = b"", patience: float = ANSWER_TIMEOUT) -> bytes:
        """What the script of bash prints over there with `given` as its input. Raises ClusterError."""
        options = self._open()
        try:
            done = self._ssh(COMMAND, _marked(script), given, patience)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.host} did not answer within {patience:.0f} seconds") from None
        if done.returncode in (LOST, -2):  # -2: Ctrl-C
            raise self._lost(options)
        _, marked, printed = done.stdout.partition(f"{MARK}\n".encode())
        if not marked:
            raise self._no_shell(done.stdout + done.stderr)
        if done.returncode:
            said = _said(done.stderr)[-2000:] or f"exit code {done.returncode}"
            raise ClusterError(f"{self.host}: {said}")
        return printed

    def stream(self, script: str) -> int:
        """Prints here what the script prints over there, as it comes; it ends with us. Returns its exit status.

        Raises ClusterError where the connection is lost.
        """
        options = self._open()
        command, line = self._command(COMMAND, _marked(WATCHED + script)), b""
        pipe = subprocess.PIPE
        # Unbuffered: of what follows the marker, nothing may be read with it.
        with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            beside = threading.Thread(target=_show, args=(process.stderr.fileno(), 2))
            beside.start()
            for line in process.stdout:
                if line.endswith(f"{MARK}\n".encode()):
                    break
            _show(process.stdout.fileno(), 1)
            process.wait()  # while its input is open, by which the other side knows that we listen
            beside.join()
        if process.returncode == LOST:
            raise self._lost(options)
        if not line.endswith(f"{MARK}\n".encode()):
            raise self._no_shell(line)
        return process.returncode

    def push(self, source: Path, names: Iterable[str], target: str) -> None:
        """Copies files, named from the folder `source`, into the folder `target` over there, made where only it is
        missing.
        """
        self._rsync(names, f"{source}/", f"cluster:{_from_home(target)}/")

    def pull(self, source: str, target: Path, *options: str, names: Iterable[str] | None = None) -> list[str]:
        """Copies what is new in the folder `source` over there into the folder `target`. Returns the files' names.

        options: rsync's own. names: of the only files that are meant.
        """
        exactly = re.sub(r"([\\*?\[])", r"\\\1", _from_home(source))  # rsync expands patterns over there
        plain = ["--no-links", "--info=nonreg0"]  # a link may lead anywhere over here; none of ours is one
        said = self._rsync(names, f"cluster:{exactly}/", f"{target}/", "--out-format=%n", *plain, *options)
        return [name for name in said.splitlines() if not name.endswith("/")]

    def _rsync(self, names: Iterable[str] | None, source: str, target: str, *options: str) -> str:
        """Broken off, it goes on from where it was the next time. Raises ClusterError."""
        shared = self._open()
        if shutil.which("rsync") is None:
            raise ClusterError("rsync is not installed here (Debian package rsync)")
        # Only options that rsync has had since 3.1, which clusters still have.
        command = ["rsync", "-e", self._rsh(), "--protect-args", "--times", "--perms", "--links", "--safe-links"]
        command += ["--partial-dir=.partial", f"--timeout={ANSWER_TIMEOUT:.0f}", *options]
        command += ["--recursive"] if names is None else ["--files-from=-", "--from0", "--recursive"]
        given = "\0".join(names).encode() if names is not None else b""
        done = subprocess.run([*command, "--", source, target], input=given, capture_output=True, env=_of_rsync())
        if done.returncode not in (0, 24):  # 24: a file was gone before it could be copied
            raise self._rsync_failed(done.returncode, _said(done.stderr), shared)
        return done.stdout.decode(errors="replace")

    def _rsh(self) -> str:
        """The program that rsync calls in ssh's place; all that rsync has of names goes over its own protocol."""
        ssh = json.dumps([*self._command(COMMAND), _marked('exec "$@"'), "bash"])
        words = [
            sys.executable,
            "-I",
            "-S",
            str(Path(rsync_shell.__file__)),
            base64.b64encode(ssh.encode()).decode(),
            MARK,
        ]
        return " ".join(f"'{word}'" for word in words)

    def _rsync_failed(self, code: int, said: str, shared: list[str]) -> ClusterError:
        if "No space left on device" in said or "Disk quota exceeded" in said:
            return ClusterError(f"{self.host}: the disk over there is full; make room and try again")
        if code in (12, 127) and "rsync" in said and "not found" in said:
            return ClusterError(f"rsync is not installed on {self.host}; ask for it there, or load it in your profile")
        if code in (10, 12, 30, 35, LOST):
            return self._lost(shared)
        return ClusterError(f"{self.host}: {said.strip()[-2000:] or f'rsync failed with code {code}'}")

    def _lost(self, options: list[str]) -> ConnectionLost:
        with self._opening:
            if self.options is options:  # and not yet one that another thread has opened in its place
                self.close()
        return ConnectionLost(f"the connection to {self.host} was lost")

    def _no_shell(self, printed: bytes) -> ClusterError:
        said = _said(printed)[-500:] or "nothing"
        return ClusterError(f"{self.host} lets you in, but runs no bash for you; it said: {said}")

    def meaning(self, said: str) -> str:
        """What ssh's own words mean, where it could not connect."""
        for pattern, words in MEANINGS:
            if found := re.search(pattern, said):
                return words.format(*found.groups(), host=self.host)
        return f"no connection to {self.host}: {said.strip()[-500:]}"

    def _command(self, options: Sequence[str], command: str = "") -> list[str]:
        return ["ssh", *(self.options or []), *options, "--", self.host, *([command] if command else [])]

    def _ssh(
        self, options: Sequence[str], command: str = "", given: bytes = b"", patience: float | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(self._command(options, command), input=given, capture_output=True, timeout=patience)


def _of_rsync() -> dict[str, str]:
    """This process's environment without the user's options for rsync: neither variables nor aliases in ~/.popt. (The
    ssh that it starts knows the home by itself.)
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")} | {"HOME": os.devnull}


def _said(printed: bytes) -> str:
    return printable.text(printed.decode(errors="replace")).strip()


def _show(source: int, target: int) -> None:
    """Passes on what comes, as plain text: a terminal obeys what it gets, and a cluster may say anything. Letters of
    another encoding stay as they are.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")  # a read may end inside a character
    while chunk := os.read(source, 2**16):
        parts = re.split("([\udca0-\udcff]+)", decoder.decode(chunk))
        text = "".join(part if i % 2 else printable.text(part) for i, part in enumerate(parts))
        os.write(target, text.encode("utf-8", "surrogateescape"))


def _may_ask(said: str) -> bool:
    """Whether a user at a terminal could give what was missing."""
    wanted = re.search("Permission denied|Host key verification failed", said)
    return bool(wanted) and "HAS CHANGED" not in said and os.isatty(0) and os.isatty(2)


def _marked(script: str) -> str:
    """For whatever shell the login shell is: one simple command, the rest in single quotes."""
    if re.search(r"[\\!\n]", script):  # which fish and csh don't leave alone in single quotes
        script = f'eval "$(echo {base64.b64encode(script.encode()).decode()} | base64 -d)"'
    return f"exec bash -lc {shlex.quote(f'echo {MARK}; {script}')}"


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
