"""Two remote clusters, `arnold` and `uh`, and the laptop from which a test reaches them by ssh."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import login_node
import pytest
import slurm_cluster
from laptop import Laptop
from login_node import LoginNode
from slurm_cluster import SlurmCluster
from ssh_client import SshClient


class RemoteCluster(NamedTuple):
    slurm: SlurmCluster
    login: LoginNode


@contextmanager
def started(name: str) -> Iterator[RemoteCluster]:
    if reason := login_node.missing():
        pytest.skip(reason)
    with slurm_cluster.started() as slurm:
        programs = Path(shutil.which("sbatch", path=slurm_cluster.PATH)).parent
        environment = {"SLURM_CONF": str(slurm.conf), "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
        login = LoginNode(slurm.folder / "login", name, environment)
        try:
            yield RemoteCluster(slurm, login)
        finally:
            login.stop()


@contextmanager
def lent(cluster: RemoteCluster, client: SshClient) -> Iterator[RemoteCluster]:
    """To one test, and left for the next as it was."""
    client.reach(cluster.login)
    yield cluster
    cluster.login.stop()            # so that nothing is submitted any more
    cluster.slurm.clear()
    cluster.login.clear()


@pytest.fixture(scope="session")
def arnold_session() -> Iterator[RemoteCluster]:
    with started("arnold") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def uh_session() -> Iterator[RemoteCluster]:
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
def arnold(arnold_session: RemoteCluster, client: SshClient) -> Iterator[RemoteCluster]:
    with lent(arnold_session, client) as cluster:
        yield cluster


@pytest.fixture
def uh(uh_session: RemoteCluster, client: SshClient) -> Iterator[RemoteCluster]:
    with lent(uh_session, client) as cluster:
        yield cluster


class SmallDisk:
    """File systems in memory that hold no more than was said."""

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
def small_disk(arnold: RemoteCluster) -> Iterator[SmallDisk]:
    disk = SmallDisk()
    yield disk
    arnold.login.stop()
    for folder in disk.mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)
