"""Checks of chunks that come to the accumulators of histograms and of supports."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import as_array, as_numbers, check_dtype, widen_bfloat16
from .names import match_names
from .probabilities import BFLOAT16_EPS

# ---- Histograms ----------------------------------------------------------------------------------


def check_edges(edges: npt.ArrayLike, n_features: int) -> npt.NDArray[np.float64]:
    """Return finite, increasing edges of bins, one row for each feature."""
    array = as_numbers(edges, "edges")
    check_dtype(array, "edges", "iuf", "be numbers")
    array = array.astype(np.float64)
    if array.ndim == 1:
        array = np.broadcast_to(array, (n_features, len(array)))
    if array.ndim != 2 or len(array) != n_features or not array.shape[1]:
        raise ValueError(f"edges must have shape (n,) or ({n_features}, n), n >= 1, got {array.shape}")
    if not np.isfinite(array).all() or not (np.diff(array, axis=1) > 0).all():
        raise ValueError(
            "edges must be finite and increase strictly along each feature, got one that is not finite, or not above "
            "the one before; leave out -inf and inf, as the outer bins are open, and pass quantiles through "
            "numpy.unique"
        )
    return np.array(array)


def check_categories(categories: Any) -> npt.NDArray[Any]:
    """Return distinct integers or strings."""
    array = as_array(categories, "categories")
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iuU":
        raise TypeError(f"categories must be a sequence of integers or of strings, got {categories!r}")
    if len(np.unique(array)) < len(array):
        raise ValueError("categories must be distinct")
    return array if array.dtype.kind == "U" else array.astype(np.int64)


def check_features(values: npt.ArrayLike, name: str, n_features: int) -> npt.NDArray[Any]:
    """Return contiguous float32 or float64 values, one column for each feature."""
    array = as_numbers(values, name)
    check_dtype(array, name, "biuf", "be numbers")
    dtype = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ascontiguousarray(_check_columns(array, name, n_features), dtype)


def check_codes(values: npt.ArrayLike, name: str, n_features: int, kind: str) -> npt.NDArray[Any]:
    """Return categories, one column for each feature; ``kind`` is "i" for integers and "U" for strings."""
    array = as_array(values, name)
    wanted = "strings" if kind == "U" else "integers"
    check_dtype(array, name, "U" if kind == "U" else "biu", f"be {wanted} as the categories are")
    return _check_columns(array, name, n_features)


def _check_columns(array: npt.NDArray[Any], name: str, n_features: int) -> npt.NDArray[Any]:
    """Return rows with one column for each feature; a vector is the column of a single feature."""
    if array.ndim == 1 and n_features == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_features:
        raise ValueError(f"{name} must have shape (n_rows, {n_features}), got {array.shape}")
    return array


def check_counts(
    counts: npt.ArrayLike, name: str, shape: tuple[Any, ...], *, check_range: bool = True
) -> npt.NDArray[np.int64]:
    """Return contiguous counts of the given shape, which may begin with ``...`` for any leading axes.

    Without ``check_range``, only counts that int64 does not hold are refused.
    """
    array = as_array(counts, name)
    check_dtype(array, name, "iu", "be integers")
    tail = tuple(length for length in shape if length is not ...)
    fits = array.shape[array.ndim - len(tail) :] == tail if shape[0] is ... else array.shape == tail
    if array.ndim < len(tail) or not fits:
        raise ValueError(f"{name} must have shape {str(shape).replace('Ellipsis', '...')}, got {array.shape}")
    too_wide = not check_range and array.dtype.kind == "u" and array.dtype.itemsize == 8
    if array.size and (check_range or too_wide) and (array.min() < 0 or array.max() >= 1 << 51):
        raise ValueError(f"{name} must not be negative, nor 2^51 or more, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def check_claims(configuration: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Raise where a state claims features of which it has no counts, before memory is taken for each of them."""
    n_features, counts = configuration.get("n_features", 1), arrays.get("counts_p")
    shape = () if counts is None else counts.shape
    if len(shape) != 2 or n_features != shape[0]:
        raise ValueError(f"state['counts_p'] must have a row for each of {n_features!r} features, got {shape}")


# ---- Supports ------------------------------------------------------------------------------------


def check_support(
    p: npt.ArrayLike, q: npt.ArrayLike, *, from_logits: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], float]:
    """Return two flat arrays of one dtype, float32 or float64, and the coarser eps of the dtypes that came.

    Logits of uint16 are the bits of bfloat16.
    """
    p, q = match_names(p, q, None)
    given = as_numbers(p, "p"), as_numbers(q, "q")
    left, right = (widen_bfloat16(array, from_logits) for array in given)
    for name, array in (("p", left), ("q", right)):
        check_dtype(array, name, "biuf", "be numbers")
    if left.shape != right.shape:
        raise ValueError(f"p and q must have the same shape, got {left.shape} and {right.shape}")
    kinds = [array.dtype if array.dtype.kind == "f" else np.dtype(np.float64) for array in (left, right)]
    is_widened = any(array is not old for array, old in zip((left, right), given, strict=True))
    eps = max(BFLOAT16_EPS if is_widened else 0.0, *(float(np.finfo(kind).eps) for kind in kinds))
    dtype = np.float64 if np.float64 in kinds else np.float32
    left, right = (np.ascontiguousarray(array, dtype).reshape(-1) for array in (left, right))
    if not from_logits:
        for name, array in (("p", left), ("q", right)):
            if array.size and not (array.min() >= 0 and array.max() < np.inf):
                raise ValueError(f"{name} must be finite and not negative, got {array.min()} to {array.max()}")
    return left, right, eps


def raise_bad_logits(name: str, n_refused: int) -> None:
    """Raise the error of logits that are NaN, infinite or huge."""
    raise ValueError(f"{name} must not be NaN or above 2^40, got {n_refused} such logit(s)")


def check_total(total: float, name: str, eps: float) -> None:
    """Raise where probabilities do not add up to 1."""
    if not abs(total - 1) <= eps**0.5:
        raise ValueError(f"{name} must sum to 1 within {eps**0.5:.1e} (normalize='check'), it sums to {total!r}")
