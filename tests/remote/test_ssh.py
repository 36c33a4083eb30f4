"""The connection to a login node: errors that help, one question to the user, and nothing left behind."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rig.connections import configure, opened, refused
from rig.slurm_cluster import wait_for
from rig.terminal import type_at

from mtlcluster.errors import ClusterError
from mtlcluster.remote import rsync_shell, ssh
from mtlcluster.remote.shell import path_word
from mtlcluster.remote.ssh import ConnectionLost

NASTY = "~/a b'c\"; touch hacked; `touch hacked` $(touch hacked) !! [x]*? {y} \\' \\"
BY_KEY_ALONE = "PasswordAuthentication no\nKbdInteractiveAuthentication no"


def new_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, input=b"y\n")


def lock_key(client, node, folder: Path, passphrase: str) -> None:
    """Protects the key that `client` has for this node by a passphrase."""
    locked, entry = folder / "locked", client.hosts / node.name
    shutil.copy(node.user_key, locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", locked], check=True)
    entry.write_text(entry.read_text().replace(str(node.user_key), str(locked)))


def log_in_with(node, shell: str) -> None:
    session = node.folder / "session"
    session.write_text(session.read_text().replace("/bin/sh -c", shell))


def test_why_there_is_no_connection(start_node, client, traces, monkeypatch, tmp_path):
    node = start_node(options=BY_KEY_ALONE)
    (client.hosts / "nowhere").write_text("Host nowhere\n    HostName no..where\n")
    with refused("the host nowhere is unknown", "nowhere"):
        pass
    known = client.known_hosts / "plain"
    trusted = known.read_text()
    known.write_text("")
    with refused("the host key of plain is not known yet; accept it once: ssh plain"):
        assert known.read_text() == ""
    known.write_text(trusted)
    node.new_host_key()
    with refused(f"the host key of plain has changed: {known}:1 has another key. This may be an attack"):
        assert known.read_text() == trusted
    client.reach(node)
    new_key(tmp_path / "another")
    shutil.copy(tmp_path / "another", node.user_key)
    with refused("plain refused your key; does this work: ssh plain"):
        pass
    node.stop()
    with refused("plain does not answer (is it down?)"):
        pass
    monkeypatch.setitem(ssh.MASTER, "ConnectTimeout", 1)
    with socket.create_server(("127.0.0.1", node.port)), refused("plain does not answer (is it down?)"):
        pass  # it accepts the connection, and sends nothing
    assert not traces.left()


def test_a_second_factor_that_nobody_can_type_is_told_at_once(start_node, traces):
    start_node(options="AuthenticationMethods publickey,password")
    with refused("plain does not accept a key alone, and there is no terminal to ask"):
        pass
    assert not traces.left()


def test_a_passphrase_is_typed_once_in_a_command_of_many_parts(arnold, laptop, client, make_grid, traces, tmp_path):
    laptop.describe(arnold={})
    make_grid(grid={"seed": {"range": 2}})
    lock_key(client, arnold.login, tmp_path, "open sesame")
    known = client.known_hosts / "arnold"
    trusted = known.read_text()
    known.write_text("")
    submit = [sys.executable, "-m", "mtlcluster", "submit", "sweep.yaml", "--cluster", "arnold", "--wait"]
    typed = [("continue connecting", "yes\n"), ("Enter passphrase", "open sesame\n"), ("2 queued", "\x03")]
    code, shown = type_at(submit, laptop.folder, typed)
    assert (code, shown.count("Enter passphrase")) == (130, 1), shown
    assert "submitted 2 runs" in shown
    assert len(arnold.login.commands()) >= 3
    assert known.read_text().split()[:3] == trusted.split()[:3]
    wait_for(lambda: not traces.left(), "the connection to end")


def test_who_does_not_get_in_at_a_terminal_reads_what_ssh_says(start_node, laptop, client, traces, tmp_path):
    node = start_node(options=BY_KEY_ALONE)
    laptop.describe(plain={})
    lock_key(client, node, tmp_path, "open sesame")
    setup = [sys.executable, "-m", "mtlcluster", "setup", "--cluster", "plain"]
    code, shown = type_at(setup, laptop.folder, [("Enter passphrase", f"{guess}\n") for guess in range(3)])
    assert code == 1, shown
    assert "Permission denied" in shown
    assert "mtlcluster: ssh could not log in to plain; its message is above" in shown
    wait_for(lambda: not traces.left(), "the connection to end")


def test_a_connection_that_the_user_shares_is_taken_and_left(node, client, tmp_path):
    configure(client, "plain", f"ControlPath {tmp_path}/own")
    subprocess.run(["ssh", "-MNf", "plain"], check=True)
    node.user_key.unlink()  # the shared connection is the only way in
    try:
        with opened() as there:
            assert there.run("echo hello") == b"hello\n"
        assert subprocess.run(["ssh", "-O", "check", "plain"], capture_output=True).returncode == 0
    finally:
        subprocess.run(["ssh", "-O", "exit", "plain"], capture_output=True)


def test_what_the_ssh_config_wants_at_a_terminal_is_not_in_the_way(node, client):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        forward = f"LocalForward {taken.getsockname()[1]} 127.0.0.1:1"
        configure(client, "plain", forward, "ExitOnForwardFailure yes", "RemoteCommand top", "RequestTTY force")
        with opened() as there:
            assert there.run("cat", b"a\r\nb\x04\xff") == b"a\r\nb\x04\xff"


@pytest.mark.parametrize("shell", ["/bin/sh -c", "tcsh -c", "fish -c"])
def test_neither_banner_nor_login_shell_nor_a_name_is_in_the_way(node, tmp_path, capfdbinary, shell):
    assert shutil.which(shell.split()[0]), "Debian packages tcsh fish"
    log_in_with(node, shell)
    node.banner.write_bytes(b"Welcome to\r\n\xff\xfe\x00, user\n of the last line")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "it's a [file]").write_bytes(bytes(range(256)) * 100)
    with opened() as there:
        assert there.run(f"mkdir {path_word(NASTY)}; ls; cat", b"given") == f"{NASTY[2:]}\ngiven".encode()
        there.push(tmp_path / "here", ["it's a [file]"], f"{NASTY}/new")
        assert there.pull(f"{NASTY}/new", tmp_path / "back") == ["it's a [file]"]
        script = r"""printf 'first\n'; sleep 0.2; printf '\xff!\n'; read -r; exit 3"""
        assert there.stream(script) == 3
    assert capfdbinary.readouterr().out == b"first\n\xff!\n"
    assert (tmp_path / "back" / "it's a [file]").read_bytes() == bytes(range(256)) * 100
    assert list(node.home.glob("[!.]*")) == [node.home / NASTY[2:]]  # fish makes hidden folders


def test_an_account_without_a_shell_is_told_from_a_lost_connection(node):
    log_in_with(node, "echo This account is not available.; false")
    with refused("plain accepts the login, but does not run bash; it printed: This account is not available."):
        pass
    with opened() as there, pytest.raises(ClusterError, match="This account is not available"):
        there.stream("true")


def test_a_copy_that_is_cut_goes_on_from_where_it_was(node, client, tmp_path):
    content, target = os.urandom(12_000_000), tmp_path / "target"
    (node.home / "large").write_bytes(content)
    client.reach(node, cut_after=8_000_000)  # less than all of it
    with opened() as there:
        with pytest.raises(ConnectionLost, match="the connection to plain was lost"):
            there.pull("~", target)
        assert not (target / "large").exists()
        for _ in range(5):
            with suppress(ConnectionLost):
                assert there.pull("~", target) == ["large"]
                break
    assert (target / "large").read_bytes() == content
    assert list(target.iterdir()) == [target / "large"]


def test_a_command_may_be_silent_but_a_host_may_not(node, monkeypatch, traces):
    monkeypatch.setitem(ssh.MASTER, "ServerAliveInterval", 1)
    with opened() as there:
        assert there.run("sleep 5; echo done") == b"done\n"
        with pytest.raises(ClusterError, match="plain did not answer within 1 seconds"):
            there.run("sleep 5", timeout=1)
        served = int(there.run("echo $PPID"))
        os.kill(served, signal.SIGSTOP)
        with pytest.raises(ConnectionLost):
            there.run("true")
    assert not traces.left()


def test_what_is_streamed_ends_with_ctrl_c_here_and_there(node, laptop, traces):
    laptop.describe(plain={"install": ["touch begun; echo begun; sleep 1234; touch ended"]})
    setup = [sys.executable, "-m", "mtlcluster", "setup", "--cluster", "plain"]
    code, shown = type_at(setup, laptop.folder, [("\nbegun", "\x03")])
    assert code == 130, shown
    wait_for(lambda: not traces.left(), "the connection to end", 5)
    wait_for(lambda: not running_in(node.home), "what runs there to end", 5)
    assert (node.home / "begun").exists()
    assert not (node.home / "ended").exists()


def running_in(home: Path) -> list[str]:
    """The processes with this home, without those of sshd."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().decode())
        except OSError:
            continue
    return found


def test_what_rsync_is_slow_to_read_waits_for_it(tmp_path):
    """The socket of rsync is non-blocking, and full before rsync reads."""
    here, there = socket.socketpair()
    there.setblocking(False)
    fake = [sys.executable, "-c", r"print('banner\nmark'); print('x' * 5_000_000, end='')"]
    ssh = base64.b64encode(json.dumps(fake).encode()).decode()
    with subprocess.Popen([sys.executable, rsync_shell.__file__, ssh, "mark", "cluster"], stdout=there) as process:
        there.close()
        time.sleep(0.5)
        found = b"".join(iter(lambda: here.recv(2**16), b""))
    assert process.returncode == 0
    assert found == b"x" * 5_000_000
