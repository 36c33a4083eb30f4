"""The error that comes from the choice of the test data, by a paired bootstrap (Efron 1979).

The samples of the test data are drawn anew, with replacement; where the dataset names clusters, whole clusters are
drawn. Every method is evaluated on the same draws, so that what they have in common cancels out of their differences.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlcluster.collect.report_folder import make_cache_folder
from mtlcluster.collect.sample_metrics import weighted_metric
from mtlcluster.sweep.checksums import checksum_file, sha256
from mtlcluster.sweep.files import replace
from mtlcluster.sweep.predictions import BROKEN, Predictions, read_predictions
from mtlcluster.sweep.reading import SMALL, read_text

Array = NDArray[np.float64]
DRAWS = 1000
WEIGHTS = 2**24  # numbers that are held at once: so many draws are evaluated together as fit into them
CLOSE = 1e-3  # relative difference of a metric from the one in the history, up to which they count as the same
VERSION = 1  # of the draws; part of the name of a cached file


class LeftOut(Exception):
    """Why the test data's own error can't be estimated for a run. The message is a part of a sentence."""


def run_draws(path: Path, wanted: Mapping[str, tuple[str, str, float]], cache: Path) -> tuple[str, dict[str, Array]]:
    """Evaluates the metrics of one run on all draws.

    Args:
        path: The run's predictions.npz.
        wanted: By any key: the task, the metric, and its value in the history.
        cache: A folder for the results. A later call for the same predictions reads them there.

    Returns:
        A text that is the same for the same test samples, and for each key the value on each draw [DRAWS].

    Raises:
        LeftOut: The predictions are missing or damaged, or don't tell one of the metrics.
    """
    if not path.is_file():
        raise LeftOut("the predictions of the test data were not kept")
    names = {key: f"{task}/{metric}" for key, (task, metric, _) in wanted.items()}
    place = cache / f"{_checksum(path)}-{VERSION}.npz"
    samples, known = _cached(place)
    if missing := {names[key]: wanted[key] for key in wanted if names[key] not in known}:
        try:
            predictions = read_predictions(path)
        except (OSError, ValueError) as error:
            raise LeftOut(str(error)) from None
        samples = _identity(predictions)
        known |= {name: _metric_draws(predictions, *one) for name, one in missing.items()}
        make_cache_folder(cache)
        arrays = {name: array.astype(np.float32) for name, array in known.items()}
        replace(place, lambda file: np.savez(file, about=np.array(json.dumps([samples, [*arrays]])), *arrays.values()))  # noqa: B026
    return samples, {key: known[name] for key, name in names.items()}


def difference_sd(method: Sequence[Array], reference: Sequence[Array]) -> float:
    """The bootstrap's standard deviation of a difference.

    Args:
        method: What is compared, for each seed the value on each draw [DRAWS].
        reference: The same of the reference.

    Returns:
        The standard deviation, over the draws, of the difference between the means over the seeds.
    """
    difference = np.mean(method, axis=0) - np.mean(reference, axis=0)
    return float(np.nanstd(difference, ddof=1))


@lru_cache(maxsize=1)  # all metrics of all runs are evaluated on the same draws
def draw_weights(samples: int, clusters: tuple[str, ...] | None, start: int, stop: int) -> Array:
    """How often each sample counts in the draws number `start` to `stop` [stop − start, samples].

    Each draw has a generator of its own, so that a draw does not depend on how many are made together.
    """
    kinds, members = np.unique(clusters, return_inverse=True) if clusters is not None else (range(samples), None)
    count = len(kinds)
    drawn = [np.bincount(np.random.default_rng((VERSION, k)).integers(count, size=count), minlength=count)
             for k in range(start, stop)]  # fmt: skip
    weights = np.array(drawn, dtype=np.float64).reshape(stop - start, count)
    weights = weights if members is None else weights[:, members]
    weights.flags.writeable = False
    return weights


def _metric_draws(predictions: Predictions, task: str, metric: str, in_history: float) -> Array:
    """The metric on each draw [DRAWS]."""
    found = next((one for one in predictions.tasks if one.name == task), None)
    if found is None:
        raise LeftOut(f"there are no predictions of task '{task}'")
    count = len(predictions.ids)
    whole = weighted_metric(found, metric, np.ones((1, count)))
    if whole is None:
        raise LeftOut(f"the predictions don't tell '{metric}' of task '{task}'")
    if not abs(whole[0] - in_history) <= CLOSE * max(abs(in_history), 1e-6):
        raise LeftOut(
            f"'{metric}' of task '{task}' is {in_history:.4g} in the history and {whole[0]:.4g} by the predictions: it "
            "is another metric than the built-in one of this name"
        )
    step = max(1, WEIGHTS // max(count, 1))
    clusters = None if predictions.clusters is None else tuple(predictions.clusters)
    parts = []
    for start in range(0, DRAWS, step):
        weights = draw_weights(count, clusters, start, min(start + step, DRAWS))
        part = weighted_metric(found, metric, weights)
        assert part is not None
        parts.append(part)
    return np.concatenate(parts)


def _identity(predictions: Predictions) -> str:
    """A hash of the names of samples and clusters."""
    return hashlib.sha256(json.dumps([predictions.ids, predictions.clusters]).encode()).hexdigest()


def _checksum(path: Path) -> str:
    """The checksum of a file: the one beside it, if that was written after it."""
    beside = checksum_file(path)
    try:
        if beside.stat().st_mtime >= path.stat().st_mtime:
            found = read_text(beside, SMALL).split()[0]
            if len(found) == 64 and set(found) <= set("0123456789abcdef"):
                return found
    except (OSError, ValueError, IndexError):
        pass
    return sha256(path)


def _cached(place: Path) -> tuple[str, dict[str, Array]]:
    """What an earlier call has found for the same predictions; nothing if there is none or it is damaged."""
    try:
        if not place.is_file() or place.is_symlink():
            return "", {}
        with np.load(place, allow_pickle=False) as arrays:
            samples, names = json.loads(str(arrays["about"]))
            known = {name: arrays[f"arr_{k}"].astype(np.float64) for k, name in enumerate(names)}
        if any(array.shape != (DRAWS,) for array in known.values()):
            return "", {}
        return str(samples), known
    except BROKEN:
        return "", {}
