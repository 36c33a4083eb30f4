"""The user's settings for ssh, rsync, pip and Python, here and over there, change no command.

See also tests/processes/test_settings_of_other_tools.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig.connections import INSTALL, NEW, READY, configure, opened, refused, ssh

TREE = {"a/one.txt": b"1", "a/two words.txt": b"22", "link.txt": b"333", "\u4efb\u52a1.txt": b"4444"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, content in TREE.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(content)
    return tmp_path / "tree"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_options_of_rsync_change_no_copy(node, tree, tmp_path, monkeypatch):
    variables = {
        "RSYNC_RSH": "/no/such/shell", "RSYNC_PROTECT_ARGS": "0", "RSYNC_OLD_ARGS": "1", "RSYNC_ICONV": "latin1,utf8",
        "RSYNC_PARTIAL_DIR": "/proc/nowhere", "RSYNC_COMPRESS_LIST": "none-such", "RSYNC_CHECKSUM_LIST": "none-such",
        "RSYNC_MAX_ALLOC": "1",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    aliases = [f"rsync alias {option} {option} --dry-run" for option in ("--times", "--recursive", "--links")]
    (Path(os.environ["HOME"]) / ".popt").write_text("\n".join([*aliases, "rsync alias --perms --exclude=*.txt"]) + "\n")
    with opened() as there:
        there.push(tree, ["a", "link.txt", "\u4efb\u52a1.txt"], "~/copied")
        assert contents(node.home / "copied") == TREE
        assert sorted(there.pull("~/copied", tmp_path / "back")) == sorted(TREE)
    assert contents(tmp_path / "back") == TREE


@pytest.mark.parametrize("level", ["QUIET", "DEBUG3", "INFO"])
def test_options_of_ssh_change_no_answer(node, client, tree, tmp_path, monkeypatch, level):
    (tmp_path / "called").mkdir()
    configure(
        client, "plain", "RequestTTY force", "RemoteCommand top", "ForwardX11 yes", "ForwardX11Trusted yes",
        "ForwardAgent yes", f"LogLevel {level}", "SendEnv LC_* LANG", "SetEnv LC_ALL=no_SUCH", "VisualHostKey yes",
        "PermitLocalCommand yes", f"LocalCommand touch {tmp_path}/called/local; echo local", "EscapeChar none",
        "Compression yes", "BatchMode no", "NumberOfPasswordPrompts 9",
    )  # fmt: skip
    monkeypatch.setenv("DISPLAY", "localhost:10.0")
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    with opened() as there:
        assert there.run("cat", b"a\r\n\xff") == b"a\r\n\xff"
        there.push(tree, ["a"], "~/copied")
        assert contents(node.home / "copied") == {name: TREE[name] for name in TREE if name.startswith("a/")}
    assert not list((tmp_path / "called").iterdir())
    node.stop()
    with refused("plain does not answer"):
        pass


def test_a_key_that_is_refused_is_told_as_such_however_quiet_ssh_is_to_be(node, client):
    configure(client, "plain", "LogLevel QUIET")
    node.stop()
    node.user_key.with_suffix(".pub").write_text("")
    node.start()
    with refused("plain does not accept a key alone"):
        pass


PROFILE = f"""
export PIP_USER=1 PIP_TARGET=$HOME/elsewhere PIP_PREFIX=$HOME/elsewhere PIP_ROOT=$HOME/elsewhere PIP_NO_DEPS=1
export PIP_REQUIRE_HASHES=1 PIP_DRY_RUN=1 PIP_PYTHON=/no/python PIP_INDEX_URL=https://index.example/simple
export PYTHONHOME={sys.base_prefix} PYTHONINSPECT=1 PYTHONWARNINGS=error PYTHONOPTIMIZE=2 PYTHONPROFILEIMPORTTIME=1
export PYTHONSTARTUP=/nowhere.py PYTHONDONTWRITEBYTECODE=1 PYTHONBREAKPOINT=nothing.there
"""
CONFIGURATION = "[global]\nindex-url = https://index.example/simple\n[install]\nuser = true\ntarget = /elsewhere\n"


def test_options_of_pip_and_python_over_there_change_no_setup(node, laptop):
    """Only the index that packages come from may be set there."""
    (node.home / ".bash_profile").write_text(PROFILE)
    (node.home / ".config" / "pip").mkdir(parents=True)
    (node.home / ".config" / "pip" / "pip.conf").write_text(CONFIGURATION)
    index = f'"$VIRTUAL_ENV/bin/python" -m pip config list > "{node.home}/pip.txt"'
    laptop.describe(plain=NEW | {"install": [INSTALL, index]})
    assert READY in laptop("setup", "--cluster", "plain")
    assert "ready; 0 of 0 runs" in laptop("clusters")
    assert not (node.home / "elsewhere").exists()
    assert not Path("/elsewhere").exists()
    assert "index.example" in (node.home / "pip.txt").read_text()
    assert ssh("env -i HOME=$HOME 'of mine/environment/bin/mtlcluster' --version") == laptop("--version")
    assert subprocess.run(["ssh", "plain", "true"], check=False).returncode == 0
