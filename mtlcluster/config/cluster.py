"""Cluster files: what a cluster needs to be told beyond the resources of a run."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from mtlcluster.checked import Checked, first_mistake
from mtlcluster.config.units import Duration, GpuType, Size
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import UserError, nearest

FILE_NAME = "clusters.yaml"
LOCAL = "local"
SLURM = "slurm"


class Limits(Checked):
    """The most that one job may ask of a node, in the units of a run's resources; left out: as much as it likes."""

    time: Duration | None = None
    cpus: int | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    memory: Size | None = None
    jobs: int | None = Field(default=None, gt=0)        # of one array at the same time; the others wait


class ClusterOptions(Checked):
    """One entry of a cluster file."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_as: Literal["per_node", "gres"] = "per_node"       # --gpus-per-node=a100:2 or --gres=gpu:a100:2
    gpu_types: dict[GpuType, GpuType] = {}      # by the names that grids use; left out: any, by Slurm's own names
    limits: Limits = Limits()
    mail: str | None = None                     # an address to which Slurm writes when an array has ended or failed
    setup: list[str] = []                       # shell lines that a job runs first
    environment: str | None = None              # a virtual environment; left out: the one that submits


@dataclass(frozen=True)
class Cluster:
    """Where runs are trained: `local` is this machine, everything else the Slurm whose commands are found here."""

    name: str
    options: ClusterOptions = field(default_factory=ClusterOptions)

    @property
    def is_local(self) -> bool:
        return self.name == LOCAL


def cluster_files(grid_folder: Path | None) -> list[Path]:
    """The cluster files there are, the nearest last."""
    home = os.environ.get("HOME")       # a container may have none
    folders = [*([Path(home, ".config", "mtlcluster")] if home else []), *([grid_folder] if grid_folder else [])]
    return [path for folder in folders if (path := folder / FILE_NAME).is_file()]


def read_clusters(files: Iterable[Path]) -> dict[str, Cluster]:
    """Every cluster of `files`, where a later one wins. Raises UserError naming file and line."""
    clusters: dict[str, Cluster] = {}
    for path in files:
        file = YamlFile(path)
        for name, options in file.data.items():
            clusters[str(name)] = Cluster(str(name), _options(file, name, options))
    return clusters


def _options(file: YamlFile, name: str, options: Any) -> ClusterOptions:
    if name == LOCAL:
        file.refuse((name,), "'local' is this machine and takes no options")
    if not isinstance(options, dict):
        file.refuse((name,), f"expected the options of cluster '{name}', such as partition: gpu")
    for key in ("host", "root"):
        if key in options:
            file.refuse((name, key), f"'{key}': remote clusters are not supported yet; run mtlcluster on a login node")
    try:
        return ClusterOptions(**options)
    except pydantic.ValidationError as error:
        key_inside, message = first_mistake(error, ClusterOptions)
        file.refuse((name, *key_inside), message)


def find_cluster(name: str, grid_folder: Path | None) -> Cluster:
    """The cluster called `name`. Raises UserError with the nearest name."""
    if name == LOCAL:
        return Cluster(LOCAL)
    files = cluster_files(grid_folder)
    clusters = read_clusters(files)
    if name not in clusters and name != SLURM:
        where = f" in {', '.join(map(str, files))}" if files else f": no {FILE_NAME} names it"
        raise UserError(f"no cluster '{name}'{where}{nearest(name, [LOCAL, SLURM, *clusters])}")
    return clusters.get(name, Cluster(SLURM))
