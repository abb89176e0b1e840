"""Arrays of npy files, read without trust: memory is allocated only for what the file holds."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

MOST_PACKED = 1032
"""How many bytes one byte may unpack to: deflate's limit, two bits for a copy of 258 bytes, held to everywhere."""

_LONGEST_HEADER = 10_000
"""Bytes of a header: NumPy's own limit for files that are not trusted."""

_PIECE_BYTES = 1 << 20

_READERS = {(1, 0): (2, npy_format.read_array_header_1_0), (2, 0): (4, npy_format.read_array_header_2_0)}
"""By version: how many bytes hold the length of the header, and what reads it."""


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the order is Fortran's, and the dtype; anything but npy data raises a ValueError."""
    try:
        version = npy_format.read_magic(file)
    except ValueError as error:
        raise ValueError(f"it is no npy data ({error})") from None
    if version not in _READERS:
        raise ValueError(f"its npy version {version} is unknown")
    n_bytes, read = _READERS[version]
    prefix = file.read(n_bytes)
    length = int.from_bytes(prefix, "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header must have at most {_LONGEST_HEADER} bytes, got {length}")
    try:
        shape, fortran, dtype = read(io.BytesIO(prefix + file.read(length)))
    except Exception as error:  # the parser raises whatever tokenize and others raise in it
        raise ValueError(f"it is no npy data ({error})") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape {shape} is negative")
    return shape, fortran, dtype


def read_array(file: Any, n_bytes: int) -> NDArray[Any]:
    """Return the array of an npy file of so many bytes, which must be as many as its header speaks of.

    Raises
    ------
    ValueError
        If it is anything else. Nothing is allocated then but the header.
    """
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    if n_bytes != expected or not dtype.itemsize:
        raise ValueError(f"it has {n_bytes} bytes, but its header speaks of {expected} for {dtype} {shape}")
    array = np.empty(math.prod(shape), dtype)
    content = array.view(np.uint8).data
    for start in range(0, array.nbytes, _PIECE_BYTES):
        piece = content[start : start + _PIECE_BYTES]
        if file.readinto(piece) != len(piece):
            raise ValueError("it ended early: it is truncated, or was cut while it was read")
    return array.reshape(shape, order="F" if fortran else "C")
