"""mtlcluster: compare multi-task-learning methods, from a grid file to figures, on Slurm clusters and on this machine.

The public names of the Python API load torch when they are first used, so that the command line stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from mtlcluster.features.packed import PackedFeatures as PackedFeatures
    from mtlcluster.methods.decorators import gradient as gradient
    from mtlcluster.methods.decorators import schedule as schedule
    from mtlcluster.methods.decorators import weighting as weighting
    from mtlcluster.problem import MultiTaskModel as MultiTaskModel
    from mtlcluster.problem import Problem as Problem
    from mtlcluster.problem import Task as Task
    from mtlcluster.sequences import Padded as Padded
    from mtlcluster.sequences import pad as pad
    from mtlcluster.training.data import TensorData as TensorData
    from mtlcluster.training.train import train as train

PUBLIC = {
    "MultiTaskModel": "mtlcluster.problem",
    "PackedFeatures": "mtlcluster.features.packed",
    "Padded": "mtlcluster.sequences",
    "Problem": "mtlcluster.problem",
    "Task": "mtlcluster.problem",
    "TensorData": "mtlcluster.training.data",
    "gradient": "mtlcluster.methods.decorators",
    "pad": "mtlcluster.sequences",
    "schedule": "mtlcluster.methods.decorators",
    "train": "mtlcluster.training.train",
    "weighting": "mtlcluster.methods.decorators",
}
__all__ = [
    "MultiTaskModel", "PackedFeatures", "Padded", "Problem", "Task", "TensorData", "gradient", "pad", "schedule",
    "train", "weighting",
]  # fmt: skip


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # 40 ms that only `--version` has to pay

    try:
        return version("mtlcluster")
    except PackageNotFoundError:  # a code snapshot, or a checkout that was not installed
        return "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in PUBLIC:
        raise AttributeError(f"module 'mtlcluster' has no attribute '{name}'")
    return getattr(import_module(PUBLIC[name]), name)
