"""The pickle module for `torch.save`: numpy's plain scalars and arrays are saved as text and tensors.

Loading by `weights_only` admits these, and makes the arrays from them. Numpy's own pickles are not admitted, since
manipulated ones can corrupt memory.
"""

import pickle
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlcluster.sweep import plain_arrays

DATE = re.compile(r"[mM]8(?:\[\d*[a-zA-Z]+\])?")  # beside the numbers, booleans and texts that histories hold


def numpy_scalar(dtype: str, data: str) -> Any:
    """Makes a scalar of its bytes, given as hexadecimal digits."""
    return plain_arrays.array(_plain(dtype), (), bytes.fromhex(data))[()]


def numpy_array(dtype: str, shape: tuple[int, ...], data: Tensor) -> np.ndarray:
    """Makes an array of its bytes, in C order."""
    return plain_arrays.array(_plain(dtype), shape, data.numpy().tobytes())


def _plain(dtype: str) -> "np.dtype[Any]":
    if not _is_plain(dtype):
        raise pickle.UnpicklingError(f"an array of {dtype} is not plain")
    return np.dtype(dtype)


def _is_plain(dtype: str) -> bool:
    """True if values of a dtype are numbers, booleans, texts or dates. dtype: as numpy writes it, such as `<f4`."""
    code = dtype[1:]
    return dtype[:1] in "<>|" and bool(plain_arrays.CODE.fullmatch(code) or DATE.fullmatch(code))


def _is_plain_array(value: Any) -> bool:
    return type(value) is np.ndarray and _is_plain(value.dtype.str)


class Pickler(pickle.Pickler):
    """Pickles plain numpy values by `numpy_array` and `numpy_scalar`, and everything else as usual."""

    def reducer_override(self, value: Any) -> Any:
        if _is_plain_array(value):
            data = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
            return numpy_array, (value.dtype.str, value.shape, data)
        if isinstance(value, np.generic) and _is_plain((found := np.asarray(value)).dtype.str):
            return numpy_scalar, (found.dtype.str, found.tobytes().hex())
        return NotImplemented


class Hollow:
    """A pickle module that leaves out the contents of tensors: to test in milliseconds if a state can be read back."""

    class Pickler(Pickler):
        def reducer_override(self, value: Any) -> Any:
            if type(value) in (Tensor, nn.Parameter) or _is_plain_array(value):
                return numpy_scalar, ("|b1", "01")
            return super().reducer_override(value)
