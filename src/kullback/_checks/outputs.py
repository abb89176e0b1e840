"""Checks of where results are written to: arrays of the caller's, and files."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._outputs import find_target


def check_out(out: object, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return an array for the results of measures: float64, writeable and of the result's shape."""
    if not isinstance(out, np.ndarray) or out.dtype != np.float64:
        raise TypeError(f"out must be a float64 array, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != shape or not out.flags.writeable:
        raise ValueError(f"out must be writeable and have the result's shape {shape}, got {out.shape}")
    return out


def check_positions_out(out: object, shape: tuple[int, int]) -> FloatArray:
    """Return an array for positions: float32 or float64, writeable and of their shape."""
    if not isinstance(out, np.ndarray) or out.dtype not in (np.float32, np.float64):
        raise TypeError(f"out must be a float32 or float64 array, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != shape or not out.flags.writeable:
        raise ValueError(f"out must be writeable and have shape {shape}, got {out.shape}")
    return out


def check_folder_of(path: str | os.PathLike[str], name: str) -> None:
    """Raise where a file cannot be written, as its folder does not exist or may not be changed, before any work."""
    folder = os.path.dirname(os.path.abspath(os.fspath(path)))
    if not os.path.isdir(folder) or os.path.isdir(path):
        raise ValueError(f"{name} must name a file in a folder that exists, got {os.fspath(path)!r}")
    find_target(path)
