"""history.pkl: what a run computed, in plain containers and numpy arrays, so that any later version can read it.

    {"format": 1,
     "series":   {name: {"step" or "epoch": int array [K], "value": float64 array [K, …]}},  what the training computed
     "measured": {name: the same},                                                           speeds, seconds, memory
     "info":     {…}}                                                                        see training/info.py

The names of the series are in series.py.

If a threshold was chosen on the validation data, the F1 on these data is a little better than on new data. So is every
other value that depends on the threshold. The test data use the thresholds of the best epoch:
`info["best"]["thresholds"]`.

`info["relative_to"]` says for each task what `validation/relative_loss` divides its loss by, and how that was found:
{task: {"validation": number, "how": "closed form", "L-BFGS" or "first validation", "output": constant output}}.
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
    """Writes the history, with `format` added. Replaces the old file atomically."""
    replace(path, lambda file: pickle.dump({"format": FORMAT, **history}, file, protocol=5))


def read_history(path: Path) -> dict[str, Any]:
    """Reads a history without executing any code of the file.

    Raises:
        FileNotFoundError: The file is missing.
        UnsafePickle: It holds something other than plain containers and arrays. The message names it.
        ValueError: It is incomplete, of another format, or not a regular file.
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
