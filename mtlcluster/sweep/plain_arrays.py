"""Makes numpy arrays of bytes out of a file. Only numbers, booleans and texts, and only valid values of them."""

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODE = re.compile(r"b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[US][1-9]\d{0,6}")  # of a dtype, without its byte order


def array(dtype: np.dtype[Any], shape: Any, content: bytes | bytearray, order: Any = "C") -> NDArray[Any]:
    """An array of the bytes `content`.

    Args:
        dtype: The dtype of the elements.
        shape: A tuple of lengths.
        content: The bytes of all elements.
        order: "F" for Fortran's order of dimensions, else C's.

    Raises:
        ValueError: `content` has another length, or holds bytes that are no value of their type.
    """
    if len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array of an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(content) or (not dtype.itemsize and math.prod(shape) > 1):
        raise ValueError(f"an array of shape {shape} and {dtype.itemsize} bytes each has {len(content):,} bytes")
    if dtype.kind in "bU":
        _refuse_impossible(np.frombuffer(content, np.uint8), dtype)
    memory = content if isinstance(content, bytearray) else bytearray(content)
    return np.ndarray(shape, dtype, memory, order="F" if order == "F" else "C")


def _refuse_impossible(content: NDArray[np.uint8], dtype: np.dtype[Any]) -> None:
    if dtype.kind == "b" and content.max(initial=0) > 1:
        raise ValueError("an array of booleans that are neither true nor false")
    if dtype.kind == "U" and content.view(np.dtype("u4").newbyteorder(dtype.byteorder)).max(initial=0) > 0x10FFFF:
        raise ValueError("an array of texts with impossible characters")
