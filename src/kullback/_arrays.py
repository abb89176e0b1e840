"""The type of arrays that hold float32 or float64, and memory for the kernels' scratch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
"""An array of float32 or float64."""


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> FloatArray:
    """Return an uninitialised array that starts on a cache line, so that no vector of a kernel straddles two lines."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(n_bytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n_bytes].view(dtype).reshape(shape)
