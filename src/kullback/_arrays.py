"""The one place that checks arguments and raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# -- streaming: options, weights and groups of rows


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


def check_weights(weights: ArrayLike, n_rows: int, *, name: str = "weights") -> NDArray[np.float64]:
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
    group: ArrayLike | None, n_rows: int, *, expected: bool, name: str = "group", option: str = "groups"
) -> NDArray[Any]:
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


def check_choices(names: Any, choices: Sequence[str], *, name: str) -> tuple[str, ...]:
    """Return distinct names that are all among the choices."""
    found = check_names(names, name=name)
    for item in found:
        if item not in choices:
            raise ValueError(f"{name} must be among {', '.join(choices)}, got {item!r}")
    return found


def check_count(value: Any, *, name: str, least: int) -> int:
    """Return an integer of at least ``least``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_number(value: Any, *, name: str, least: float) -> float:
    """Return a finite float of at least ``least``."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not least <= value < np.inf:
        raise ValueError(f"{name} must be finite and at least {least}, got {value}")
    return float(value)


def check_base(value: Any, *, name: str = "base") -> float:
    """Return the base of a logarithm."""
    base = check_number(value, name=name, least=0)
    if base in (0.0, 1.0):
        raise ValueError(f"{name} must be positive and not 1, got {value}")
    return base


def check_edges(edges: ArrayLike, n_features: int) -> NDArray[np.float64]:
    """Return sorted finite edges, one row for each feature."""
    array = np.asarray(edges)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"edges must be numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim == 1:
        array = np.broadcast_to(array, (n_features, len(array)))
    if array.ndim != 2 or len(array) != n_features or not array.shape[1]:
        raise ValueError(f"edges must have shape (n,) or ({n_features}, n), n >= 1, got {array.shape}")
    if not np.isfinite(array).all() or not (np.diff(array, axis=1) > 0).all():
        raise ValueError("edges must be finite and increase strictly along each feature")
    return np.array(array)


def check_categories(categories: Any) -> NDArray[Any]:
    """Return distinct integers or strings."""
    array = np.asarray(categories)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iuU":
        raise TypeError(f"categories must be a sequence of integers or of strings, got {categories!r}")
    if len(np.unique(array)) < len(array):
        raise ValueError("categories must be distinct")
    return array if array.dtype.kind == "U" else array.astype(np.int64)


def _check_columns(array: NDArray[Any], n_features: int, name: str) -> NDArray[Any]:
    if array.ndim == 1 and n_features == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_features:
        raise ValueError(f"{name} must have shape (n_rows, {n_features}), got {array.shape}")
    return array


def check_features(values: ArrayLike, n_features: int, *, name: str) -> NDArray[Any]:
    """Return contiguous float32 or float64 values, one column for each feature."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    dtype = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ascontiguousarray(_check_columns(array, n_features, name), dtype)


def check_codes(values: ArrayLike, n_features: int, kind: str, *, name: str) -> NDArray[Any]:
    """Return categories of the given kind ("i" or "U"), one column for each feature."""
    array = np.asarray(values)
    if array.dtype.kind not in ("U" if kind == "U" else "biu"):
        wanted = "strings" if kind == "U" else "integers"
        raise TypeError(f"{name} must be {wanted} as the categories are, got dtype {array.dtype}")
    return _check_columns(array, n_features, name)


def check_counts(counts: ArrayLike, shape: tuple[Any, ...], *, name: str) -> NDArray[np.int64]:
    """Return contiguous counts of a shape, which may begin with ... for any leading axes."""
    array = np.asarray(counts)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    tail = tuple(length for length in shape if length is not ...)
    fits = array.shape[array.ndim - len(tail) :] == tail if shape[0] is ... else array.shape == tail
    if array.ndim < len(tail) or not fits:
        raise ValueError(f"{name} must have shape {str(shape).replace('Ellipsis', '...')}, got {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= 1 << 51):
        raise ValueError(f"{name} must not be negative, nor 2^51 or more, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def check_support(
    p: ArrayLike, q: ArrayLike, *, from_logits: bool
) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return two flat arrays of one dtype, float32 or float64, and the coarser eps of what came."""
    left, right = np.asarray(p), np.asarray(q)
    for name, array in (("p", left), ("q", right)):
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    if left.shape != right.shape:
        raise ValueError(f"p and q must have the same shape, got {left.shape} and {right.shape}")
    kinds = [array.dtype if array.dtype.kind == "f" else np.dtype(np.float64) for array in (left, right)]
    eps = max(float(np.finfo(kind).eps) for kind in kinds)
    dtype = np.float64 if np.float64 in kinds else np.float32
    left, right = (np.ascontiguousarray(array, dtype).reshape(-1) for array in (left, right))
    if not from_logits:
        for name, array in (("p", left), ("q", right)):
            if array.size and not (array.min() >= 0 and array.max() < np.inf):
                raise ValueError(
                    f"{name} must be finite and not negative, got {array.min()} to {array.max()}"
                )
    return left, right, eps


def refuse_logits(name: str, n_refused: int) -> None:
    """Raise for NaN, infinite and huge logits."""
    raise ValueError(f"{name} must not be NaN or above 2^40, got {n_refused} such logit(s)")


def check_total(total: float, eps: float, *, name: str) -> None:
    """Raise where probabilities do not add up to 1."""
    if not abs(total - 1) <= eps**0.5:
        raise ValueError(
            f"{name} must sum to 1 within {eps**0.5:.1e} (normalize='check'), it sums to {total!r}"
        )
