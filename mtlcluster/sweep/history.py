"""history.pkl: what a run computed, in plain containers and numpy arrays, so that any later version can read it.

    {"format": 1,
     "series":   {name: {"step" or "epoch": int array [K], "value": float64 array [K, …]}},  what the training computed
     "measured": {name: the same},                                                           speeds, seconds, memory
     "info":     {…}}                                                                        see training/info.py

Names of series: `train/<task>/loss`, `train/total_loss`, `weight/<task>`, `active/<task>` (share of the steps),
`share/<task>` (of a batch, where a schedule draws samples for tasks),
`learning_rate/trunk`, `learning_rate/heads`, `gradient_norm` by step, each value the mean of the steps since the one
before; `validation/<task>/loss`, `validation/<task>/<metric>`, `validation/mean_loss` by epoch; `test/…` likewise, one
value. A task that was not active in any of those steps has NaN.

Where a gradient method looks at the tasks' gradients (before their weights), also by step `cosine/<task>/<task>`,
`norm_ratio/<task>/<task>` (of the first's length to the second's), `conflicting_steps` (the share of the steps at which
some cosine is negative) and `gradient_weight/<task>` (what it multiplies a task's gradient by, on top of its weight;
not where it gives a direction instead).

With binary tasks also `validation/mean_f1`, `…/exact_match`, `…/hamming_score` (see training/binary.py), and of each
`validation/<task>/confusion`, counts [K, 2, 2]: rows are the truth, columns the decision, no before yes. A task whose
threshold is chosen on validation data has `validation/<task>/threshold`: its F1 and whatever else is decided by it are
those of the very data that it was chosen on, a little better than on new ones. `test/…` is decided by the thresholds of
the best epoch, which are in `info["best"]["thresholds"]`.
"""

import pickle
from pathlib import Path
from typing import Any

from mtlcluster.sweep import pickle_reader
from mtlcluster.sweep.files import replace
from mtlcluster.sweep.pickle_reader import UnsafePickle
from mtlcluster.sweep.reading import read_bytes

__all__ = ["UnsafePickle", "read_history", "write_history"]

FORMAT = 1
LARGEST = 2**30  # bytes


def write_history(path: Path, history: dict[str, Any]) -> None:
    replace(path, lambda file: pickle.dump({"format": FORMAT, **history}, file, protocol=5))


def read_history(path: Path) -> dict[str, Any]:
    """Reads a history without ever executing code.

    Raises UnsafePickle, naming what was refused; ValueError for a file that is torn, of another format or no regular
    file; FileNotFoundError.
    """
    content = read_bytes(path, LARGEST)
    try:
        history = pickle_reader.loads(content)
    except UnsafePickle as error:
        raise UnsafePickle(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a history ({error})") from error
    if not isinstance(history, dict) or history.get("format") != FORMAT:
        raise ValueError(f"{path}: not a history of format {FORMAT}")
    return history
