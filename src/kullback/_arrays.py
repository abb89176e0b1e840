"""The one place that checks arguments and raises: every message names the argument, what came and what is accepted."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
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


# ---- Streaming: options, weights and groups of rows ---------------------------------------------------


def check_flag(value: Any, *, name: str) -> bool:
    """Return a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_names(names: Any, *, name: str) -> tuple[str, ...]:
    """Return distinct strings."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{name} must be a sequence of names such as ('kl',), got {names!r}")
    found = tuple(names)
    if not found or not all(isinstance(item, str) for item in found) or len(set(found)) < len(found):
        raise ValueError(f"{name} must be one or more distinct names, got {found!r}")
    return found


def check_probabilities(values: Sequence[float], *, name: str) -> tuple[float, ...]:
    """Return numbers in [0, 1]."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a sequence of numbers in [0, 1], got {values!r}") from None
    if not all(0 <= value <= 1 for value in found) or len(set(found)) < len(found):
        raise ValueError(f"{name} must be distinct numbers in [0, 1], got {found!r}")
    return found


def check_weights(weights: npt.ArrayLike, n_rows: int, *, name: str = "weights") -> npt.NDArray[np.float64]:
    """Return one finite, non-negative float64 for each row, contiguous."""
    array = np.asarray(weights)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.size != n_rows:
        raise ValueError(f"{name} must have one number per row ({n_rows}), got shape {array.shape}")
    array = np.ascontiguousarray(array, np.float64).reshape(-1)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"{name} must be finite and not negative, got {array.min()} to {array.max()}")
    return array


def check_groups(
    group: npt.ArrayLike | None, n_rows: int, *, expected: bool, name: str = "group", option: str = "groups"
) -> npt.NDArray[Any]:
    """Return one integer or string label for each row."""
    if not expected:
        raise ValueError(f"{name} needs an accumulator made with {option}=True")
    if group is None:
        raise ValueError(f"{name} must be given, as this accumulator was made with groups=True")
    labels = np.asarray(group)
    if labels.dtype.kind not in "iuU":
        raise TypeError(f"{name} must be integers or strings, got dtype {labels.dtype}")
    if labels.dtype.kind == "u" and labels.size and labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit into int64, got {labels.max()}")
    if labels.ndim == 0:
        labels = np.broadcast_to(labels, n_rows)
    if labels.size != n_rows:
        raise ValueError(f"{name} must be one label, or one per row ({n_rows}), got shape {labels.shape}")
    labels = labels.reshape(-1)
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


# ---- Scratch memory ------------------------------------------------------------------------------


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> FloatArray:
    """Return an uninitialised array that starts on a cache line, so that no vector of a kernel straddles two."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(n_bytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n_bytes].view(dtype).reshape(shape)
