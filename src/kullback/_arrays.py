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
