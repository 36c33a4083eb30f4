"""predictions.npz: what a run's best model gives for the test data, sample by sample.

The file of format 1 is an archive of numpy arrays, which numpy.load reads without pickles:

- `about`: JSON: `{"format": 1, "tasks": [{"name": "topic", "kind": "classification", "threshold": null}, …]}`;
- `ids` [N]: the names of the samples; `clusters` [N]: the names of their clusters, such as videos, if there are any;
- `targets_K` and `outputs_K` of task number K, in the order of `about`: labels [N], NaN where there is none, and what
  the metrics see: probabilities of yes [N] of a binary task, logits [N, C] of a classification, else predictions [N];
- `sums_K` [N, S] in their place for a dense task, or where all outputs together have more than LARGEST_OUTPUTS bytes:
  the sums of each sample that the metrics are made of, see `sums`.

All arrays of numbers are float32. predictions.npz.sha256 holds the checksum of the file.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlcluster.sweep.checksums import write_checksum
from mtlcluster.sweep.files import replace
from mtlcluster.sweep.reading import Unreadable, read_bytes

FORMAT = 1
LARGEST_OUTPUTS = 2**24  # bytes of the outputs of a run
LARGEST = 2**28  # bytes of the file, and of its arrays
BROKEN = (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class TaskPredictions:
    """The predictions of one task.

    Attributes:
        name: The task's name.
        kind: "binary", "classification", "regression" or another word.
        threshold: The threshold of a binary task's decisions; else None.
        targets: Labels [N], NaN where there is none. None where only sums are kept.
        outputs: What the metrics see, [N] or [N, C]. None where only sums are kept.
        sums: [N, S], see `sums`. None where the outputs are kept, or for a kind without sums.
    """

    name: str
    kind: str
    threshold: float | None
    targets: Numbers | None = None
    outputs: Numbers | None = None
    sums: Numbers | None = None


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run.

    Attributes:
        ids: The names of the samples [N].
        clusters: The names of their clusters [N], if the dataset has any: samples of a cluster depend on each other.
        tasks: The tasks.
    """

    ids: list[str]
    clusters: list[str] | None
    tasks: list[TaskPredictions]


def sums(
    kind: str, targets: NDArray[Any], outputs: NDArray[Any], threshold: float | None
) -> NDArray[np.float64] | None:
    """The sums that the metrics of the built-in tasks are made of, for each row. They can be added up over rows.

    Args:
        kind: The kind of the task.
        targets: Labels [N], NaN where there is none.
        outputs: What the metrics see: [N], or [N, C] of a classification.
        threshold: The threshold of a binary task's decisions.

    Returns:
        [N, S], 0 in rows without a label. Binary: true positives, false positives, false negatives, true negatives.
        Classification, class by class: hits, decisions for the class, labels of the class. Regression: 1, |e|, e², t
        and t², of the error e and the label t. None for other kinds and other shapes.
    """
    known = ~np.isnan(targets)
    labels = np.where(known, targets, 0).astype(np.float64)
    if kind == "binary" and threshold is not None and outputs.ndim == 1:
        yes, decided = labels > 0, outputs.astype(np.float64) > threshold
        columns: list[NDArray[Any]] = [decided & yes, decided & ~yes, ~decided & yes, ~decided & ~yes]
    elif kind == "classification" and outputs.ndim == 2 and outputs.shape[1] > 1:
        classes = np.arange(outputs.shape[1])
        true, decided = labels[:, None] == classes, outputs.argmax(1)[:, None] == classes
        columns = [*(true & decided).T, *decided.T, *true.T]
    elif kind == "regression" and outputs.ndim == 1:
        error = outputs.astype(np.float64) - labels
        columns = [np.ones(len(labels)), np.abs(error), error**2, labels, labels**2]
    else:
        return None
    summed: NDArray[np.float64] = np.column_stack(columns).astype(np.float64) * known[:, None]
    return summed


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Replaces predictions.npz and its checksum."""
    entry = [{"name": t.name, "kind": t.kind, "threshold": t.threshold} for t in predictions.tasks]
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps({"format": FORMAT, "tasks": entry})),
        "ids": np.array(predictions.ids, dtype=np.str_),
    }
    if predictions.clusters is not None:
        arrays["clusters"] = np.array(predictions.clusters, dtype=np.str_)
    for number, task in enumerate(predictions.tasks):
        for part in ("targets", "outputs", "sums"):
            if (array := getattr(task, part)) is not None:
                arrays[f"{part}_{number}"] = array.astype(np.float32)
    replace(path, lambda file: np.savez_compressed(file, **arrays))
    write_checksum(path)


def read_predictions(path: Path) -> Predictions:
    """Reads predictions.npz, whoever made it.

    Raises:
        FileNotFoundError: The file is missing.
        Unreadable: It is damaged, too large, or of another format.
    """
    content = io.BytesIO(read_bytes(path, LARGEST))
    try:
        with zipfile.ZipFile(content) as archive:
            if sum(part.file_size for part in archive.infolist()) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
        with np.load(content, allow_pickle=False) as arrays:
            return _checked({name: arrays[name] for name in arrays.files})
    except BROKEN as error:
        raise Unreadable(f"{path}: is not the predictions of a run ({type(error).__name__}: {error})") from None


def _checked(arrays: dict[str, NDArray[Any]]) -> Predictions:
    about = json.loads(str(arrays["about"]))
    if about["format"] != FORMAT:
        raise ValueError(f"its format is not {FORMAT}, which this version of mtlcluster reads")
    ids, clusters = _texts(arrays["ids"]), _texts(arrays["clusters"]) if "clusters" in arrays else None
    tasks = []
    for number, entry in enumerate(about["tasks"]):
        parts = {part: arrays.get(f"{part}_{number}") for part in ("targets", "outputs", "sums")}
        for part, array in parts.items():
            if array is not None and (array.dtype != np.float32 or array.ndim not in (1, 2) or len(array) != len(ids)):
                raise ValueError(f"{part} of '{entry['name']}' are {array.dtype} {list(array.shape)}")
        threshold = None if entry["threshold"] is None else float(entry["threshold"])
        tasks.append(TaskPredictions(str(entry["name"]), str(entry["kind"]), threshold, **parts))
    if clusters is not None and len(clusters) != len(ids):
        raise ValueError(f"it has {len(ids)} samples and {len(clusters)} clusters")
    return Predictions(ids, clusters, tasks)


def _texts(array: NDArray[Any]) -> list[str]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise ValueError(f"names are {array.dtype} {list(array.shape)}")
    found: Sequence[str] = array.tolist()
    return list(found)
