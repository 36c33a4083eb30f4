"""The name of a run's folder: the values that the grid varies, and the run's identity."""

import re
from typing import Any

from mtlcluster.config.run import RunConfig
from mtlcluster.methods.catalog import OWN, method_label

LONGEST_NAME = 100


def run_name(varied: dict[str, Any], config: RunConfig, run_id: str) -> str:
    """Such as `pcgrad-seed=2-3f9a1c5e20`, in characters that every file system accepts."""
    parts = []
    for key, value in varied.items():
        text = method_label(config.method) if key == "method" else f"{key.split('.')[-1]}={_short(value)}"
        parts.append(re.sub(r"[^A-Za-z0-9._=+,()-]+", "_", text))
    name = "-".join(parts)[: LONGEST_NAME - len(run_id) - 1].replace("(", ",").replace(")", "").strip("-.")
    return f"{name}-{run_id}" if name else run_id


def trial_run_name(method: str, trial: int, seed: int, run_id: str) -> str:
    """The name of a trial's run, or of one that confirms it: such as `gradnorm-trial=07-seed=0-3f9a1c5e20`.

    Args:
        method: The name of the method in trials.json.
        trial: The number of the trial.
        seed: The seed.
        run_id: The identity of the run.
    """
    return f"{method}-trial={trial:02d}-seed={seed}-{run_id}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ",".join(f"{k}={_short(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "+".join(_short(v) for v in value)
    name = str(value).rsplit("/", 1)[-1]
    return name.rpartition(":")[2] if OWN in name else name
