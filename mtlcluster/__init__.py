"""mtlcluster: compare multi-task-learning methods, from a grid file to figures, on Slurm clusters and on this machine.

The public names of the Python API load torch when they are first used, so that the command line stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtlcluster._version import __version__ as __version__

if TYPE_CHECKING:
    from mtlcluster.data.packed_features import PackedFeatures as PackedFeatures
    from mtlcluster.data.sequences import Padded as Padded
    from mtlcluster.data.sequences import pad as pad
    from mtlcluster.data.tensor_data import TensorData as TensorData
    from mtlcluster.methods.base import Active as Active
    from mtlcluster.methods.base import Context as Context
    from mtlcluster.methods.base import Gradient as Gradient
    from mtlcluster.methods.base import Schedule as Schedule
    from mtlcluster.methods.base import Weighting as Weighting
    from mtlcluster.methods.decorators import gradient as gradient
    from mtlcluster.methods.decorators import schedule as schedule
    from mtlcluster.methods.decorators import weighting as weighting
    from mtlcluster.problem import MultiTaskModel as MultiTaskModel
    from mtlcluster.problem import Problem as Problem
    from mtlcluster.problem import Task as Task
    from mtlcluster.training.callbacks import Callbacks as Callbacks
    from mtlcluster.training.callbacks import StopRequested as StopRequested
    from mtlcluster.training.own_loop import MultiTaskMethod as MultiTaskMethod
    from mtlcluster.training.train import train as train

PUBLIC = {
    "Active": "mtlcluster.methods.base",
    "Callbacks": "mtlcluster.training.callbacks",
    "Context": "mtlcluster.methods.base",
    "Gradient": "mtlcluster.methods.base",
    "MultiTaskMethod": "mtlcluster.training.own_loop",
    "MultiTaskModel": "mtlcluster.problem",
    "PackedFeatures": "mtlcluster.data.packed_features",
    "Padded": "mtlcluster.data.sequences",
    "Problem": "mtlcluster.problem",
    "Schedule": "mtlcluster.methods.base",
    "StopRequested": "mtlcluster.training.callbacks",
    "Task": "mtlcluster.problem",
    "TensorData": "mtlcluster.data.tensor_data",
    "Weighting": "mtlcluster.methods.base",
    "gradient": "mtlcluster.methods.decorators",
    "pad": "mtlcluster.data.sequences",
    "schedule": "mtlcluster.methods.decorators",
    "train": "mtlcluster.training.train",
    "weighting": "mtlcluster.methods.decorators",
}
__all__ = [
    "Active", "Callbacks", "Context", "Gradient", "MultiTaskMethod", "MultiTaskModel", "PackedFeatures", "Padded",
    "Problem", "Schedule", "StopRequested", "Task", "TensorData", "Weighting", "gradient", "pad", "schedule", "train",
    "weighting",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'mtlcluster' has no attribute '{name}'")
    return getattr(import_module(PUBLIC[name]), name)
