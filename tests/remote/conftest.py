"""Two remote clusters, `arnold` and `uh`, and the laptop from which a test reaches them by ssh."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from rig import login_node, slurm_cluster
from rig.laptop import Laptop
from rig.login_node import LoginNode
from rig.slurm_cluster import SlurmCluster
from rig.ssh_client import SshClient


class StartedCluster(NamedTuple):
    slurm: SlurmCluster
    login: LoginNode


@contextmanager
def started(name: str) -> Iterator[StartedCluster]:
    if reason := login_node.missing():
        pytest.skip(reason)
    with slurm_cluster.started() as slurm:
        programs = Path(shutil.which("sbatch", path=slurm_cluster.PATH)).parent
        environment = {"SLURM_CONF": str(slurm.conf), "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
        login = LoginNode(slurm.folder / "login", name, environment)
        try:
            yield StartedCluster(slurm, login)
        finally:
            login.stop()


@contextmanager
def lent(cluster: StartedCluster, client: SshClient) -> Iterator[StartedCluster]:
    """Lends a cluster to one test, and cleans it for the next one."""
    client.reach(cluster.login)
    yield cluster
    cluster.login.stop()  # nothing is submitted after that
    cluster.slurm.clear()
    cluster.login.clear()


@pytest.fixture(scope="session")
def arnold_session() -> Iterator[StartedCluster]:
    with started("arnold") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def uh_session() -> Iterator[StartedCluster]:
    with started("uh") as cluster:
        yield cluster


@pytest.fixture
def client(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SshClient:
    """The laptop: the home that `project` has made, no Slurm, and an `ssh` that knows the clusters a test asks for."""
    client = SshClient(tmp_path / "ssh")
    monkeypatch.setenv("PATH", str(client.bin), prepend=os.pathsep)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    return client


@pytest.fixture
def laptop(project: Path, client: SshClient) -> Laptop:
    return Laptop(project, Path(os.environ["HOME"]))


@pytest.fixture
def arnold(arnold_session: StartedCluster, client: SshClient) -> Iterator[StartedCluster]:
    with lent(arnold_session, client) as cluster:
        yield cluster


@pytest.fixture
def uh(uh_session: StartedCluster, client: SshClient) -> Iterator[StartedCluster]:
    with lent(uh_session, client) as cluster:
        yield cluster


class SmallDisk:
    """Makes small file systems in memory."""

    def __init__(self) -> None:
        self.mounted: list[Path] = []

    def __call__(self, folder: Path, size: str) -> Path:
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        self.mounted.append(folder)
        return folder

    def grow(self, folder: Path, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


@pytest.fixture
def small_disk(arnold: StartedCluster) -> Iterator[SmallDisk]:
    disk = SmallDisk()
    yield disk
    arnold.login.stop()
    for folder in disk.mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def start_node(client: SshClient, tmp_path: Path) -> Iterator[Callable[..., LoginNode]]:
    """`start_node(name, options)`: a login node without a Slurm, with this Python; `client` knows it."""
    if reason := login_node.missing():
        pytest.skip(reason)
    nodes = []

    def start(name: str = "plain", options: str = "") -> LoginNode:
        python = Path(sys._base_executable).resolve().parent
        environment = {"PATH": f"{python}:/usr/local/bin:/usr/bin:/bin", "PIP_NO_INDEX": "1"}
        nodes.append(LoginNode(tmp_path / name, name, environment, options))
        client.reach(nodes[-1])
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def node(start_node: Callable[..., LoginNode]) -> LoginNode:
    return start_node()


class Traces:
    """Finds what mtlcluster leaves of its connections, by the folders that it names to ssh."""

    def __init__(self, client: SshClient) -> None:
        self.log = client.bin / "log"
        ssh = client.bin / "ssh"
        ssh.write_text(ssh.read_text().replace("exec", f'echo "$*" >> {self.log}\nexec'))

    def folders(self) -> set[str]:
        return set(re.findall(r"/tmp/mtl-\w+", self.log.read_text()))

    def left(self) -> list[str]:
        """The folders and processes that are still there."""
        folders = self.folders()
        processes = [words for words in map(_words, Path("/proc").glob("[0-9]*")) if any(f in words for f in folders)]
        return [*filter(os.path.exists, folders), *processes]


def _words(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture
def traces(client: SshClient) -> Traces:
    return Traces(client)
