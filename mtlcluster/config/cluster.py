"""Cluster files: what a cluster needs to be told beyond the resources of a run."""

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

# What ssh is given as the host: never an option of its own (`-oProxyCommand=…`), never two words.
HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.@:\[\]-]*")
FOLDER = re.compile(r"(~|~?/[^\x00-\x1f]*)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

OF_A_HOST = ("root", "install", "data")  # options that make no difference on the machine itself


class Limits(Checked):
    """The most that one job may ask of a node, in the units of a run's resources; left out: as much as it likes."""

    time: Duration | None = None
    cpus: int | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    memory: Size | None = None
    jobs: int | None = Field(default=None, gt=0)  # of one array at the same time; the others wait


class ClusterOptions(Checked):
    """One entry of a cluster file."""

    host: str | None = None  # as in ~/.ssh/config; left out: this machine
    root: Line = "~/mtlcluster"  # the folder over there that holds all of mtlcluster's
    install: list[Line] = []  # shell lines that `setup` runs in a new environment: torch, for one
    data: dict[str, dict[str, Any]] = {}  # by job: options of its data that are others over there
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    gpus_as: Literal["per_node", "gres"] = "per_node"  # --gpus-per-node=a100:2 or --gres=gpu:a100:2
    gpu_types: dict[GpuType, GpuType] = {}  # by the names that grids use; left out: any, by Slurm's own names
    limits: Limits = Limits()
    mail: Line | None = None  # an address to which Slurm writes when an array has ended or failed
    setup: list[Line] = []  # shell lines that a job runs first
    environment: Line | None = None  # a virtual environment; left out: this one, or that of `setup`

    @pydantic.field_validator("host")
    @classmethod
    def _plain_host(cls, host: str | None) -> str | None:
        if host is not None and not HOST.fullmatch(host):
            raise ValueError(f"host should be a name out of ~/.ssh/config, or user@name, found {host!r}")
        return host

    @pydantic.field_validator("root", "environment")
    @classmethod
    def _whole_path(cls, folder: str | None, info: pydantic.ValidationInfo) -> str | None:
        if folder is not None and info.data.get("host") and not FOLDER.fullmatch(folder):
            raise ValueError(f"{info.field_name} should begin with / or ~/, found {folder!r}")
        return folder


@dataclass(frozen=True)
class Cluster:
    """Where runs are trained: `local` is this machine, one with a host the Slurm over there, any other the Slurm whose
    commands are found here. file: where it is described.
    """

    name: str
    options: ClusterOptions = field(default_factory=ClusterOptions)
    file: YamlFile | None = field(default=None, compare=False)

    @property
    def is_remote(self) -> bool:
        return self.options.host is not None

    @property
    def root(self) -> str:
        """The folder of a remote cluster that holds all of mtlcluster's; it may begin with `~`."""
        return self.options.root.rstrip("/") or "/"

    @property
    def environment(self) -> str | None:
        """The virtual environment; None: the one that submits."""
        return self.options.environment or (f"{self.root}/environment" if self.is_remote else None)


def read_clusters(files: Iterable[Path]) -> dict[str, Cluster]:
    """Every cluster of `files`, where a later one wins. Raises UserError naming file and line."""
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
        file.refuse((name, "host"), "'slurm' is the Slurm of this machine; call one with a host otherwise")
    for key in OF_A_HOST:
        if key in options and not found.host:
            file.refuse((name, key), f"{key} is of clusters with a host; without one, '{name}' is where you are")
    return found


def find_cluster(name: str, grid_folder: Path | None) -> Cluster:
    """The cluster called `name`. grid_folder: see cluster_files. Raises UserError with the nearest name."""
    return cluster_among(name, cluster_files(grid_folder))


def cluster_among(name: str, files: list[Path]) -> Cluster:
    if name == LOCAL:
        return Cluster(LOCAL)
    clusters = read_clusters(files)
    if name not in clusters and name != SLURM:
        where = f" in {', '.join(map(str, files))}" if files else f": no {FILE_NAME} names it"
        hint = f"; {words}" if (words := passed_over()) else ""
        raise UserError(f"no cluster '{name}'{where}{nearest(name, [LOCAL, SLURM, *clusters])}{hint}")
    return clusters.get(name, Cluster(SLURM))
