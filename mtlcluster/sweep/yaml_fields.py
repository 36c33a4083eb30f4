"""Single fields of config.yaml and sweep.yaml, read without pydantic and, where thousands are read, without YAML.

For the worker, which imports nothing heavy, and for `status`. Whoever needs a whole configuration reads it with
config/run.py.
"""

import functools
import re
from pathlib import Path
from typing import Any

from mtlcluster.defaults import FIRST
from mtlcluster.sweep import names
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.reading import SMALL, Unreadable, read_text, read_yaml_text


def job_of(sweep: Sweep) -> str:
    """The job file that sweep.yaml names; "" if that is not known."""
    return _found(r"^job: (.*)$", sweep.grid)


def defaults_of(sweep: Sweep) -> int:
    """The version of the defaults that sweep.yaml names. It is the first one if the file names none."""
    return int(_found(r"^defaults: (\d{1,9})$", sweep.grid) or FIRST)


def grid_file_of(sweep: Sweep) -> str:
    """The path of the grid file that sweep.yaml names; "" if that is not known."""
    return _found(r"^source:\n(?:  .*\n)*?  grid: (.*)$", sweep.grid)


def cluster_of(run: Run) -> str:
    """The cluster that config.yaml names; "" if the file has not come home yet or can't be read."""
    name = _found(r"^origin:\n(?:  .*\n)*?  cluster: (.*)$", run.config)
    return name if names.fits(names.SWEEP, name) else ""


def code_of(run: Run) -> str:
    """The code that config.yaml names, as in code/<hash>/; "" if that is not known."""
    name = _found(r"^origin:\n(?:  .*\n)*?  code: (.*)$", run.config)
    return name if names.fits(names.SWEEP, name) else ""


def _found(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, read_text(path, SMALL), re.MULTILINE)
    except (OSError, Unreadable):
        return ""
    return found[1].strip("'\"") if found else ""


@functools.cache
def resources_of(run: Run) -> dict[str, Any]:
    """The resources that config.yaml asks for. `gpus` is their number alone: the scheduler has seen to their type.

    Raises:
        Unreadable, yaml.YAMLError, LookupError, TypeError: The file is missing or damaged.
    """
    import yaml

    config = yaml.load(read_yaml_text(run.config), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    resources: dict[str, Any] = config["resources"]
    if isinstance(gpus := resources["gpus"], dict):
        resources["gpus"] = gpus["count"]
    return resources
