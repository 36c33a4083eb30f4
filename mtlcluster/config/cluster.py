"""Clusters, and the files that describe them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from mtlcluster.config.cluster_files import FILE_NAME, LOCAL, SLURM, cluster_files, passed_over
from mtlcluster.config.units import Duration, GpuType, Line, Size
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import UserError, nearest
from mtlcluster.pydantic_errors import Checked, first_mistake

# The host in ssh's command. It must not look like an option of ssh (`-oProxyCommand=…`), and it must be one word.
HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.@:\[\]-]*")
FOLDER = re.compile(r"(~|~?/[^\x00-\x1f]*)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

REMOTE_ONLY = ("root", "install", "data")  # options that have no effect without a host


class Limits(Checked):
    """Limits of one job on each of its nodes, in the units of a run's resources. None: no limit."""

    time: Duration | None = None
    cpus: int | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    memory: Size | None = None
    jobs: int | None = Field(default=None, gt=0)  # the most jobs of one array that run at the same time


class ClusterOptions(Checked):
    """One entry of a cluster file."""

    host: str | None = None  # as in ~/.ssh/config; None: this machine
    root: Line = "~/mtlcluster"  # mtlcluster's folder on the cluster
    install: list[Line] = []  # shell lines that `setup` runs in a new environment, for example to install torch
    data: dict[str, dict[str, Any]] = {}  # by job: options of its `data` that have other values on the cluster
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    gpus_as: Literal["per_node", "gres"] = "per_node"  # --gpus-per-node=a100:2 or --gres=gpu:a100:2
    gpu_types: dict[GpuType, GpuType] = {}  # Slurm's name of each type in grids; empty: any type, same names
    limits: Limits = Limits()
    mail: Line | None = None  # Slurm writes to this address when an array has ended or failed
    setup: list[Line] = []  # shell lines that a job runs first
    environment: Line | None = None  # a virtual environment; None: see Cluster.environment

    @pydantic.field_validator("host")
    @classmethod
    def _plain_host(cls, host: str | None) -> str | None:
        if host is not None and not HOST.fullmatch(host):
            raise ValueError(f"host should be a name from ~/.ssh/config, or user@name, found {host!r}")
        return host

    @pydantic.field_validator("root", "environment")
    @classmethod
    def _whole_path(cls, folder: str | None, info: pydantic.ValidationInfo) -> str | None:
        if folder is not None and info.data.get("host") and not FOLDER.fullmatch(folder):
            raise ValueError(f"{info.field_name} should begin with / or ~/, found {folder!r}")
        return folder


@dataclass(frozen=True)
class Cluster:
    """A place where runs are trained.

    `local` is this machine without Slurm. A cluster with a host is reached by ssh. Every other cluster is the Slurm of
    this machine.

    Attributes:
        name: Its name, as in grids and cluster files.
        options: Its entry in the cluster file.
        file: The cluster file that describes it. None: no file does.
    """

    name: str
    options: ClusterOptions = field(default_factory=ClusterOptions)
    file: YamlFile | None = field(default=None, compare=False)

    @property
    def is_remote(self) -> bool:
        return self.options.host is not None

    @property
    def root(self) -> str:
        """mtlcluster's folder on a remote cluster. It may begin with `~`."""
        return self.options.root.rstrip("/") or "/"

    @property
    def environment(self) -> str | None:
        """The virtual environment of the runs. On a remote cluster the default is the one that `setup` makes.

        None: the environment of the process that submits.
        """
        return self.options.environment or (f"{self.root}/environment" if self.is_remote else None)


def read_clusters(files: Iterable[Path]) -> dict[str, Cluster]:
    """Reads all clusters of `files`, by name. If two files describe the same cluster, the later file counts.

    Raises:
        UserError: A file has a mistake. The message names file and line.
    """
    clusters: dict[str, Cluster] = {}
    for path in files:
        file = YamlFile(path)
        for name, options in file.data.items():
            clusters[str(name)] = Cluster(str(name), _options(file, name, options), file)
    return clusters


def _options(file: YamlFile, name: str, options: Any) -> ClusterOptions:
    if name == LOCAL:
        file.refuse((name,), "'local' is this machine and takes no options")
    if not isinstance(options, dict):
        file.refuse((name,), f"expected the options of cluster '{name}', such as partition: gpu")
    if not NAME.fullmatch(str(name)):
        file.refuse((name,), f"a cluster's name should be letters, digits, '.', '_' and '-', found {str(name)!r}")
    try:
        found = ClusterOptions.model_validate(options)
    except pydantic.ValidationError as error:
        key_inside, message = first_mistake(error, ClusterOptions)
        file.refuse((name, *key_inside), message)
    if found.host and name == SLURM:
        file.refuse((name, "host"), "'slurm' is the Slurm of this machine; give a cluster with a host another name")
    for key in REMOTE_ONLY:
        if key in options and not found.host:
            file.refuse((name, key), f"{key} is for clusters with a host; '{name}' has none, so it is this machine")
    return found


def find_cluster(name: str, grid_folder: Path | None) -> Cluster:
    """Finds the cluster `name` in the cluster files that count; see `cluster_files`.

    Raises:
        UserError: There is no such cluster. The message says the most similar name.
    """
    return cluster_among(name, cluster_files(grid_folder))


def cluster_among(name: str, files: list[Path]) -> Cluster:
    """Finds the cluster `name` in `files`. Raises UserError as `find_cluster`."""
    if name == LOCAL:
        return Cluster(LOCAL)
    clusters = read_clusters(files)
    if name not in clusters and name != SLURM:
        where = f" in {', '.join(map(str, files))}" if files else f": no {FILE_NAME} names it"
        hint = f"; {ignored}" if (ignored := passed_over()) else ""
        raise UserError(f"no cluster '{name}'{where}{nearest(name, [LOCAL, SLURM, *clusters])}{hint}")
    return clusters.get(name, Cluster(SLURM))
