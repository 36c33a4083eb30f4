"""What `torch.save` is to pickle by: numpy's plain scalars and arrays as text and tensors, which `weights_only` admits
and which make them anew, where numpy's own pickles can be made to corrupt memory.
"""

import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = "?biufcSUmM"        # kinds of values that hold no objects


def numpy_scalar(dtype: str, data: str) -> Any:
    """data: its bytes, in hexadecimal digits."""
    return np.ndarray((), _plain(dtype), bytes.fromhex(data))[()]


def numpy_array(dtype: str, shape: tuple[int, ...], data: Tensor) -> np.ndarray:
    """data: its bytes, in C order."""
    return np.ndarray(shape, _plain(dtype), data.numpy().tobytes()).copy()


def _plain(dtype: str) -> "np.dtype[Any]":
    found = np.dtype(dtype)
    if found.kind not in PLAIN:
        raise pickle.UnpicklingError(f"an array of {found} is no plain one")
    return found


def _is_plain_array(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in PLAIN


class Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if _is_plain_array(value):
            data = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
            return numpy_array, (value.dtype.str, value.shape, data)
        if isinstance(value, np.generic) and value.dtype.kind in PLAIN:
            return numpy_scalar, (value.dtype.str, value.tobytes().hex())
        return NotImplemented


class Hollow:
    """The same without what is in the tensors: to see in milliseconds whether all the rest can be read back."""

    class Pickler(Pickler):
        def reducer_override(self, value: Any) -> Any:
            if type(value) in (Tensor, nn.Parameter) or _is_plain_array(value):
                return numpy_scalar, ("|b1", "01")
            return super().reducer_override(value)
