"""Trains one run: from Python, from `mtlcluster train`, or as a run of a sweep."""

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pydantic
import torch

from mtlcluster.config.job_file import find_job, import_path
from mtlcluster.config.run import RunConfig, SweepRunConfig, read_run_config
from mtlcluster.errors import nearest
from mtlcluster.problem import Problem
from mtlcluster.pydantic_errors import first_mistake
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.distributed import join, local_rank, local_size
from mtlcluster.training.loader_sockets import fit_names
from mtlcluster.training.seeding import mix_seed, seed_everything
from mtlcluster.training.trainer import Trainer


def train(
    build: Callable[[], Problem],
    config: RunConfig | Mapping[str, Any],
    folder: str | Path,
    callbacks: Callbacks | None = None,
) -> dict[str, Any]:
    """Trains one run from Python.

    Args:
        build: makes the problem. It is called after seeding, so that the initial weights depend on the seed alone.
        config: the keys of a run's file, such as `{"method": "pcgrad", "epochs": 10}`; see mtlcluster/config/run.py.
        folder: gets history.pkl and checkpoints/. If it holds a checkpoint of the same configuration, training goes on
            from there.
        callbacks: report progress and ask whether to stop. None: they do nothing.

    Returns:
        The history, as in history.pkl (see mtlcluster/sweep/history.py): `series`, `measured` and `info`. A series is
        `{"epoch" or "step": array [K], "value": array [K, …]}`.

    Raises:
        ValueError: a key or a value of `config` is wrong, the configuration does not fit the problem, a batch or a
            sample is broken, or `folder` holds the checkpoints of another configuration.
        NonFinite: a loss, an output or a gradient is not finite; the weights have not been touched by it.
        StopRequested: a callback asked to stop; a checkpoint is saved.

    Example:
        >>> history = train(build, {"method": "pcgrad", "epochs": 10, "seed": 1}, "out")
        >>> history["series"]["validation/funny/accuracy"]["value"]  # [10], one value an epoch
    """
    if not isinstance(config, RunConfig):
        config = _checked({"job": "python", **config})
    return prepare(build, config, Path(folder), callbacks or Callbacks()).run()


def _checked(config: Mapping[str, Any]) -> RunConfig:
    """Raises ValueError with the sentence that the command line prints for a wrong key or value in a file."""
    try:
        return RunConfig.model_validate(config)
    except pydantic.ValidationError as error:
        raise ValueError(first_mistake(error, RunConfig)[1]) from None


def prepare(build: Callable[[], Problem], config: RunConfig, folder: Path, callbacks: Callbacks) -> Trainer:
    """Makes a trainer that is ready to run.

    It seeds the generators, sets threads and device as the configuration asks, and joins the other ranks.

    Args:
        build: makes the problem.
        config: the run's configuration.
        folder: gets history.pkl and checkpoints/.
        callbacks: report progress and ask whether to stop.

    Raises:
        ValueError: the configuration does not fit the device or the problem.
    """
    device = torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    check_precision(config.precision, device)
    torch.set_num_threads(max(1, config.resources.cpus // local_size()))
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = False
    seed_everything(config.seed)
    fit_names()  # before the job is built: it may make loaders itself
    problem = build()
    if not isinstance(problem, Problem):
        raise ValueError(f"the job's build should return a Problem, not {type(problem).__name__}")
    ranks = join(device)
    if ranks.rank:  # the weights are the same everywhere; each rank has dropout and augmentation of its own
        seed_everything(mix_seed("rank", config.seed, ranks.rank))
    return Trainer(config, problem, folder, device, callbacks, ranks)


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ValueError if the device cannot compute in this precision."""
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(f"precision: {torch.cuda.get_device_name(device)} has no bf16; use fp16 or fp32")


def load_run(folder: Path) -> tuple[RunConfig, Callable[[], Problem]]:
    """Reads a run's configuration and loads its job; that of a sweep's run from its code/<hash>/.

    Args:
        folder: the run's folder.

    Returns:
        The configuration, and a function that makes the problem.

    Raises:
        UserError: the configuration or the job file is missing or wrong.
    """
    config = read_run_config(folder / "config.yaml")
    if isinstance(config, SweepRunConfig):
        return config, load_build(config.job, folder.parent / "code" / config.origin.code, config)
    job = find_job(config.job, folder)
    return config, load_build(job.reference, job.root, config)


def load_build(reference: str, root: Path, config: RunConfig) -> Callable[[], Problem]:
    """Loads a job file.

    Args:
        reference: the file relative to `root`, and the function, such as `jobs/digits.py:build`.
        root: the project or the code snapshot.
        config: its options of data and model are bound to the function.

    Returns:
        A function that makes the problem.

    Raises:
        ValueError: the job does not know an option.
    """
    place, _, name = reference.partition(":")
    path = root / place
    package = path.name == "__init__.py"
    sys.path[:0] = map(str, import_path(root, Path(place)))
    module_name = ".".join(Path(place).parent.parts if package else Path(place).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(
        module_name, path, submodule_search_locations=[str(path.parent)] if package else None
    )
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name or "build")
    hints = get_type_hints(function)
    given = {"data": config.data, "model": config.model}
    parameters = inspect.signature(function).parameters
    arguments = {s: _options(s, hints.get(s), given[s]) for s in given if s in parameters}
    if unwanted := [s for s in given if given[s] and s not in arguments]:
        raise ValueError(f"{place}: {function.__name__} takes no options of {' and '.join(unwanted)}")
    return partial(function, **arguments)


def _options(section: str, kind: Any, given: dict[str, Any]) -> Any:
    values = {key: _expanded(value) for key, value in given.items()}
    if not is_dataclass(kind):
        return values
    known = [field.name for field in fields(kind)]
    for key in given:
        if key not in known:
            raise ValueError(f"{section} has no option '{key}'{nearest(key, known)}")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacking := [key for key in required if key not in given]:
        raise ValueError(f"{section} should say {' and '.join(lacking)}")
    try:
        return pydantic.TypeAdapter(kind).validate_python(values)
    except pydantic.ValidationError as error:
        place, words = first_mistake(error, pydantic.BaseModel)
        raise ValueError(f"{section}.{words}" if place else words) from None
    except pydantic.PydanticUserError:  # annotations that are not about plain values
        return kind(**values)  # type: ignore[operator]


def _expanded(value: Any) -> Any:
    """Replaces `~` and variables such as `$SCRATCH` in paths, also inside lists and sections."""
    if isinstance(value, list):
        return [_expanded(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _expanded(inner) for key, inner in value.items()}
    if isinstance(value, str) and value.startswith(("~", "$")):
        return os.path.expandvars(os.path.expanduser(value))  # noqa: PTH111  (Path's refuses a ~name of nobody)
    return value
