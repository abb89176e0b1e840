"""The one place that checks arguments and raises: every message names the argument, what came and what is accepted."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]

# ---- Scalars -------------------------------------------------------------------------------------


def check_choice(value: object, name: str, choices: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_real(value: object, name: str, *, low: float = -np.inf, high: float = np.inf, open_low: bool = False) -> float:
    """Return ``value`` as a float in [low, high], or (low, high] with ``open_low``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    number = float(value)
    if not (low < number if open_low else low <= number) or not number <= high:
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} must be in {bracket}{low:g}, {high:g}], got {value!r}")
    return number


def check_integer(value: object, name: str, *, low: int) -> int:
    """Return ``value`` as an int of at least ``low``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value!r}")
    return int(value)


# ---- Embeddings and affinities -------------------------------------------------------------------


def check_positions(positions: npt.ArrayLike, name: str) -> FloatArray:
    """Return an embedding as a contiguous, finite float32 or float64 array of two dimensions."""
    array = np.asarray(positions)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n_points, n_components), neither 0, got shape {array.shape}")
    if array.shape[0] >= 2**30:
        raise ValueError(f"{name} must have fewer than 2**30 points, got {array.shape[0]}")
    array = np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)
    largest = np.abs(array).max()
    if not largest <= 1e37:  # differences and their sums must stay finite in float32
        raise ValueError(f"{name} must be finite and at most 1e37 in magnitude, got {largest}")
    return array


def check_affinities(affinities: Any, n_points: int, dtype: npt.DTypeLike, name: str) -> tuple[FloatArray, ...]:
    """Return the CSR parts (values, int32 columns, int64 row starts) of a joint distribution P.

    P is square, non-negative, without a diagonal and sums to 1 within sqrt(eps) of float32.
    """
    from scipy import sparse

    if not sparse.issparse(affinities):
        affinities = np.asarray(affinities)
        if affinities.dtype.kind not in "fiu":
            raise TypeError(f"{name} must hold real numbers, got dtype {affinities.dtype}")
    if affinities.shape != (n_points, n_points):
        raise ValueError(f"{name} must have shape ({n_points}, {n_points}), got {affinities.shape}")
    matrix = sparse.csr_array(affinities)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if not (np.isfinite(matrix.data).all() and (matrix.data >= 0).all()):
        raise ValueError(f"{name} must hold finite, non-negative probabilities, got {matrix.data.min()} as its smallest")
    if matrix.diagonal().any():
        raise ValueError(f"{name} must be 0 on its diagonal, got {matrix.diagonal().max()}")
    total = float(matrix.data.sum(dtype=np.float64))
    if not abs(total - 1) <= np.finfo(np.float32).eps ** 0.5:
        raise ValueError(f"{name} must sum to 1, got {total}")
    return (
        np.ascontiguousarray(matrix.data, dtype=dtype),
        np.ascontiguousarray(matrix.indices, dtype=np.int32),
        np.ascontiguousarray(matrix.indptr, dtype=np.int64),
    )


# ---- Data and distances --------------------------------------------------------------------------


def check_data(X: Any, name: str) -> Any:
    """Return data as a contiguous, finite float32 or float64 array of at least 2 rows, or as CSR."""
    from scipy import sparse

    array = sparse.csr_array(X) if sparse.issparse(X) else np.asarray(X)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(f"{name} must have shape (n_points >= 2, n_features >= 1), got shape {array.shape}")
    if array.shape[0] >= 2**30:
        raise ValueError(f"{name} must have fewer than 2**30 rows, got {array.shape[0]}")
    dtype = np.float32 if array.dtype in (np.float32, np.float16) else np.float64
    if sparse.issparse(array):
        array = array.astype(dtype, copy=False)
    else:
        array = np.ascontiguousarray(array, dtype=dtype)
    _check_finite(array.data if sparse.issparse(array) else array, name)
    return array


def check_distances(X: Any, name: str) -> Any:
    """Return a square matrix of finite distances >= 0, dense or CSR, float32 or float64."""
    array = check_data(X, name)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be a square matrix of distances, got shape {array.shape}")
    values = np.asarray(array.data) if not isinstance(array, np.ndarray) else array
    if values.size and values.min() < 0:
        raise ValueError(f"{name} must hold distances of at least 0, got {values.min()}")
    return array


def _check_finite(values: Any, name: str) -> None:
    total = np.sum(values, dtype=np.float64)  # one pass, no temporary; looks closer only if it must
    if not np.isfinite(total) and not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "infinity"
        raise ValueError(f"{name} must be finite, got {kind}")
