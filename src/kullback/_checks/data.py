"""Checks of data whose rows are points: features, distances, samples and positions in a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .arrays import as_array, check_dtype, check_finite_values, refuse_masked, widen_bfloat16
from .sparse import as_sorted_rows, check_sparse

EXACT_IN_FLOAT32 = tuple(map(np.dtype, ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32")))
"""Types whose values are all float32. Data of these types take half the memory that they would take as float64."""


ROUNDING = 2.0**-20
"""A distance may be so much below 0, for the largest distance or 1: one minus a similarity is that in float32."""


def float_types(X: Any) -> list[type]:
    """Return float32 and float64, first the one that data of any other type become: float32 if it holds them all."""
    types = [X.dtype] if hasattr(X, "dtype") else list(getattr(X, "dtypes", ()))
    small = bool(types) and all(isinstance(dtype, np.dtype) and dtype in EXACT_IN_FLOAT32 for dtype in types)
    return [np.float32, np.float64] if small else [np.float64, np.float32]


def check_data(X: Any, name: str) -> Any:
    """Return data as a contiguous, finite float32 or float64 array of at least 2 rows, or as CSR.

    Elements of a sparse matrix that stand at one place are added up, as everywhere in SciPy.
    """
    refuse_masked(X, name)
    from scipy import sparse

    array = check_sparse(X, name) if sparse.issparse(X) else widen_bfloat16(as_array(X, name), False)
    check_dtype(array, name, "fiub")
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(f"{name} must have shape (n_points >= 2, n_features >= 1), got shape {array.shape}")
    if array.shape[0] >= 2**30:
        raise ValueError(f"{name} must have fewer than 2**30 rows, got {array.shape[0]}")
    dtype = np.float32 if array.dtype in (np.float32, np.float16) else np.float64
    if sparse.issparse(array):
        array = as_sorted_rows(array.astype(dtype, copy=False), name)
    else:
        array = np.ascontiguousarray(array, dtype=dtype)
    check_finite_values(array.data if sparse.issparse(array) else array, name)
    return array


def check_new_data(rows: Any, name: str, n_features: int, dtype: npt.DTypeLike, *, dense: bool, distances: bool) -> Any:
    """Return new rows of data, or of distances to old rows, as finite numbers of ``dtype``, dense or CSR."""
    refuse_masked(rows, name)
    from scipy import sparse

    array: Any = check_sparse(rows, name) if sparse.issparse(rows) else widen_bfloat16(as_array(rows, name), False)
    check_dtype(array, name, "fiub")
    if array.ndim != 2 or array.shape[1] != n_features:
        raise ValueError(f"{name} must have shape (n_rows, {n_features}), got shape {array.shape}")
    with np.errstate(over="ignore"):  # before anything else, because SciPy has no functions for float16
        array = array.astype(dtype, copy=False)
    if dense:
        array = np.ascontiguousarray(array.toarray() if sparse.issparse(array) else array)
    else:
        array = as_sorted_rows(array, name) if sparse.issparse(array) else sparse.csr_array(array)
    values = np.asarray(array.data) if sparse.issparse(array) else array
    check_finite_values(values, name)
    if distances and values.size and values.min() < 0:
        raise ValueError(f"{name} must hold distances of at least 0, got {values.min()}")
    return array


def shares_memory(array: Any, given: Any) -> bool:
    """Return whether the user may still change an array, dense or CSR, that was made from what the user gave.

    A memory map of a file that is opened for reading only does not count: nothing is written through it.
    """
    from scipy import sparse

    if sparse.issparse(array):
        if not sparse.issparse(given):
            return False
        names = [name for name in ("data", "indices", "indptr") if hasattr(given, name)]
        return any(np.may_share_memory(getattr(array, name), getattr(given, name)) for name in names)
    if isinstance(given, np.ndarray):
        return bool(np.may_share_memory(array, given)) and getattr(given, "mode", "") != "r"
    # A data frame or a tensor may have given a view of its own memory.
    return not array.flags.owndata and not isinstance(given, list | tuple) and not sparse.issparse(given)


def check_samples(value: npt.ArrayLike, name: str, k: int) -> npt.NDArray[np.float64]:
    """Return finite samples of shape (n_samples, n_features), with more than k of them."""
    array = as_array(value, name)
    check_dtype(array, name, "fiu")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0 or array.shape[0] <= k:
        raise ValueError(f"{name} must have shape (n_samples, n_features) with n_samples > k = {k}, got {array.shape}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got an infinite or NaN entry")
    return array


def check_rows_of_probabilities(rows: Any, name: str) -> Any:
    """Return rows, dense or CSR, that are not negative, each divided by its sum."""
    from scipy import sparse

    values = rows.data if sparse.issparse(rows) else rows
    if values.size and values.min() < 0:
        raise ValueError(f"{name} must hold probabilities of at least 0, got {values.min()}")
    sums = np.asarray(rows.sum(axis=1), dtype=rows.dtype)
    if not (np.isfinite(sums).all() and sums.all()):
        raise ValueError(f"{name} must have rows with a positive, finite sum, got {sums.min()} in row {sums.argmin()}")
    if not sparse.issparse(rows):
        return rows / sums[:, None]
    return sparse.csr_array((values / np.repeat(sums, np.diff(rows.indptr)), rows.indices, rows.indptr), rows.shape)


# ---- Masses --------------------------------------------------------------------------------------

LEAST_MASS, LARGEST_MASS = 1e-9, 1e9
"""Range of the mass of a point, in which no product of a sum of masses and a squared distance overflows in float32."""


def check_masses(masses: Any, name: str, n_points: int) -> npt.NDArray[np.float64] | None:
    """Return the masses of points as a new array of float64, or None where there are none or all of them are 1."""
    if masses is None:
        return None
    refuse_masked(masses, name)
    array = as_array(masses, name)
    check_dtype(array, name, "fiub")
    if array.shape != (n_points,):
        raise ValueError(f"{name} must have shape ({n_points},), a number for each point, got shape {array.shape}")
    array = array.astype(np.float64)
    bad = ~((array >= LEAST_MASS) & (array <= LARGEST_MASS))
    if bad.any():
        place = int(bad.argmax())
        remedy = "; points of weight zero have to be left out" if array[place] == 0 else ""
        raise ValueError(
            f"{name} must be in [{LEAST_MASS:g}, {LARGEST_MASS:g}], got {array[place]} for point {place}{remedy}"
        )
    return None if (array == 1).all() else array


# ---- Distances -----------------------------------------------------------------------------------


def check_distances(X: Any, name: str) -> Any:
    """Return a square matrix of finite distances that are not negative: dense or CSR, float32 or float64."""
    array = check_data(X, name)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be a square matrix of distances, got shape {array.shape}")
    values = np.asarray(array.data) if not isinstance(array, np.ndarray) else array
    if values.size and values.min() < 0:
        raise ValueError(f"{name} must hold distances of at least 0, got {values.min()}")
    return array


def check_distance_values(distances: FloatArray) -> FloatArray:
    """Return the distances that a metric gave, none of which may be NaN or negative by more than rounding."""
    if np.isnan(distances).any():
        raise ValueError("metric must give a number for every two rows, got NaN")
    least = distances.min(initial=0)
    if least < -ROUNDING * max(1, distances.max(initial=0)):
        raise ValueError(f"metric must give distances of at least 0, got {least}; a similarity is not a distance")
    return np.maximum(distances, 0)


# ---- Positions -----------------------------------------------------------------------------------


def check_positions(positions: npt.ArrayLike, name: str) -> FloatArray:
    """Return an embedding as a contiguous, finite float32 or float64 array of two dimensions."""
    array = as_array(positions, name)
    check_dtype(array, name, "fiu")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n_points, n_components), neither 0, got shape {array.shape}")
    if array.shape[0] >= 2**30:
        raise ValueError(f"{name} must have fewer than 2**30 points, got {array.shape[0]}")
    array = np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)
    largest = np.abs(array).max()
    if not largest <= 1e37:  # so that differences and their sums stay finite in float32
        raise ValueError(f"{name} must be finite and at most 1e37 in magnitude, got {largest}")
    return array
