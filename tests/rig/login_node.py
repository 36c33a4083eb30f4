"""The login node of a cluster: a real sshd on loopback, with a home of its own. Needs root."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rig.slurm_cluster import die_with_parent, free_ports, wait_for

PROGRAMS = ["sshd", "ssh", "ssh-keygen", "rsync"]
SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
PRIVILEGE_SEPARATION = Path("/run/sshd")  # where sshd wants this folder is compiled into it

# The post-quantum key exchange, first by default, would make every connection three times as slow to set up.
# The options of a test come first, as the first value of an option counts. The environment by SetEnv, which bash has
# before it reads the .bashrc of its home. `exec`, so that the parent of the session's script is the sshd process that
# serves the connection, and not a shell.
SSHD_CONFIG = """{options}
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
MaxStartups 100
KexAlgorithms curve25519-sha256
SetEnv {environment}
ForceCommand exec {folder}/session
"""

SESSION = r"""#!/bin/sh
# Run by sshd for every remote command, so that a test can count the commands and cut the connection at one of them.
here=${0%/*}
command=$SSH_ORIGINAL_COMMAND
unset SSH_ORIGINAL_COMMAND
cd "$HOME" || exit

exec 9> "$here/lock"            # commands of several channels come at once
flock 9
printf '%s\n' "$(printf %s "$command" | tr '\n' ' ')" >> "$here/commands.log"
cut=
if [ -e "$here/cut" ]; then
    read -r at when < "$here/cut"
    if [ "$at" -gt 1 ]; then
        echo "$((at - 1)) $when" > "$here/cut"
    else
        cut=$when
        rm "$here/cut"
    fi
fi
exec 9>&-

if [ "$cut" = before ]; then
    kill -KILL "$PPID"
    exit
fi
[ ! -e "$here/banner" ] || cat "$here/banner"
[ "$cut" ] || exec /bin/sh -c "$command"

case $command in
    *rsync\ --server*) /bin/sh -c "$command" ;;         # the other side waits for what it says: only its end is lost
    *) /bin/sh -c "$command" > "$here/undelivered" 2>&1 ;;
esac
kill -KILL "$PPID"
"""


def missing() -> str:
    """Why there can be no login node here, or ''."""
    if os.getuid() != 0:
        return "an sshd of one's own needs root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=SEARCH) is None]
    return f"not installed: {', '.join(absent)} (Debian packages openssh-server openssh-client rsync)" if absent else ""


class LoginNode:
    """Up with its construction; what runs there has `environment` and HOME=folder/home, and nothing of this process.

    While `folder/banner` exists, every session begins with its content on stdout. `options` are lines of sshd_config.
    """

    def __init__(self, folder: Path, name: str, environment: dict[str, str], options: str = "") -> None:
        self.folder, self.name = folder, name
        self.home, self.banner = folder / "home", folder / "banner"
        self.user_key, self.host_key = folder / "user_key", folder / "host_key"
        [self.port] = free_ports(1)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True)
        _new_key(self.user_key)
        _new_key(self.host_key)
        self._write_session(environment, options)
        self.start()

    def commands(self) -> list[str]:
        """The remote commands since the last `forget`, each as one line."""
        log = self.folder / "commands.log"
        return [line.strip() for line in log.read_text().splitlines()] if log.exists() else []

    def forget(self) -> None:
        (self.folder / "commands.log").unlink(missing_ok=True)

    def cut(self, at: int, when: Literal["before", "after"]) -> None:
        """Breaks the connection at the `at`-th remote command from now: before it runs, or before it has answered."""
        (self.folder / "cut").write_text(f"{at} {when}\n")

    def start(self) -> None:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        with open(self.folder / "sshd.log", "ab") as log:
            self.daemon = subprocess.Popen(
                [shutil.which("sshd", path=SEARCH), "-D", "-e", "-f", self.folder / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        wait_for(self._listens, f"sshd; see {self.folder}/sshd.log")

    def stop(self) -> None:
        """The host is down: its daemon, the connections, and what runs in them."""
        if self.daemon is None:
            return
        self.daemon.send_signal(signal.SIGSTOP)  # lest it accept a connection meanwhile
        for pid in list(_descendants(self.daemon.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def new_host_key(self) -> None:
        self.stop()
        self.host_key.unlink()
        _new_key(self.host_key)
        self.start()

    def clear(self) -> None:
        """Up as at first, without connections: nothing in its home, nothing logged, no banner, nothing to cut."""
        self.stop()
        shutil.rmtree(self.home)
        self.home.mkdir()
        for name in ("banner", "cut", "undelivered"):
            (self.folder / name).unlink(missing_ok=True)
        self.forget()
        self.start()

    def _write_session(self, environment: dict[str, str], options: str) -> None:
        basic = {"PATH": "/usr/local/bin:/usr/bin:/bin", "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}
        variables = {**basic, "SHELL": "/bin/sh", **environment, "HOME": str(self.home)}
        config = SSHD_CONFIG.format(
            options=options,
            port=self.port,
            folder=self.folder,
            environment=" ".join(f'"{name}={value}"' for name, value in variables.items()),
        )
        (self.folder / "sshd_config").write_text(config)
        (self.folder / "session").write_text(SESSION)
        (self.folder / "session").chmod(0o755)

    def _listens(self) -> bool:
        assert self.daemon.poll() is None, (self.folder / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _new_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path], check=True)


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            yield child
            yield from _descendants(child)
