"""The headers of npy files, read without trust."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format


def read_header(file: BinaryIO | Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the order is Fortran's, and the dtype; anything but npy data raises a ValueError."""
    try:
        version = npy_format.read_magic(file)
        readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
        header = readers[version](file) if version in readers else None
    except Exception as error:  # the parser raises whatever tokenize and others raise in it
        raise ValueError(f"it is no npy data ({error})") from None
    if header is None:
        raise ValueError(f"its npy version {version} is unknown")
    if min(header[0], default=0) < 0:
        raise ValueError(f"its shape {header[0]} is negative")
    return header
