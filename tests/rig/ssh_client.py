"""The user's side: an OpenSSH configuration of a test's own, and an `ssh` that takes it."""

import shutil
import sys
from pathlib import Path

from rig.login_node import LoginNode

DELAY = Path(__file__).with_name("delay.py")

HOST = """Host {name}
    HostName 127.0.0.1
    Port {port}
    User root
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile none
"""


class SshClient:
    """With `bin` first on PATH, `ssh` knows the login nodes that were reached, by their names.

    A wrapper and not HOME, as OpenSSH looks for ~/.ssh in the home that the password database names.
    """

    def __init__(self, folder: Path) -> None:
        self.bin, self.hosts, self.known_hosts = folder / "bin", folder / "hosts", folder / "known_hosts"
        for path in (self.bin, self.hosts, self.known_hosts):
            path.mkdir(parents=True)
        config = folder / "config"
        config.write_text(f"Include {self.hosts}/*\n")
        ssh = self.bin / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        ssh.chmod(0o755)

    def reach(self, node: LoginNode, delay: float = 0, cut_after: int | None = None) -> None:
        """From now on `ssh NAME` goes to this node and trusts its present host key.

        With a delay of so many seconds each way, and a connection that breaks after so many bytes from the node. What
        is already connected stays as it is.
        """
        known_hosts = self.known_hosts / node.name
        known_hosts.write_text(f"[127.0.0.1]:{node.port} {node.host_key.with_suffix('.pub').read_text()}")
        entry = HOST.format(name=node.name, port=node.port, key=node.user_key, known_hosts=known_hosts)
        if delay or cut_after is not None:
            limit = "" if cut_after is None else f" {cut_after}"
            entry += f"    ProxyCommand {sys.executable} -I -S {DELAY} %h %p {delay}{limit}\n"
        (self.hosts / node.name).write_text(entry)
