"""Checks of what is given once for each row: labels of points and classes, groups, and weights."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import as_array, as_numbers, check_dtype, check_finite_values


def split_missing(labels: npt.ArrayLike, name: str, n_points: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the labels that are there, as finite numbers or strings, and the mask of points that have none.

    What is masked is missing, and so are None, NaN and their relatives among objects.
    """
    array = np.asarray(labels)
    missing = np.ma.getmaskarray(labels) if np.ma.isMaskedArray(labels) else np.zeros(array.shape, dtype=bool)
    if array.ndim == 2 and 1 in array.shape:
        array, missing = array.reshape(-1), missing.reshape(-1)
    check_dtype(array, name, "fiubUO", "hold numbers or strings")
    if array.shape != (n_points,):
        raise ValueError(f"{name} must have shape ({n_points},), got {array.shape}")
    if array.dtype.kind == "O":
        missing = missing | np.fromiter(map(_is_missing, array), bool, n_points)
    array = array[~missing]
    if array.dtype.kind == "O":
        are_numbers = all(isinstance(value, Real | np.bool_) for value in array)
        array = np.array(array.tolist(), dtype=None if are_numbers and len(array) else str)
        check_dtype(array, name, "fiubU", "hold numbers or strings")
    if array.dtype.kind == "f":
        check_finite_values(array, name)
    return array, missing


def _is_missing(value: Any) -> bool:
    """Return whether an object is None, NaN, or what pandas writes for them; none equals itself."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA is neither equal nor unequal
        return True


def find_known(labels: npt.NDArray[Any], unknown: object) -> npt.NDArray[np.bool_]:
    """Return which labels are not ``unknown``, for labels as `split_missing` returns them."""
    if unknown is None:
        return np.ones(labels.shape, dtype=bool)
    if labels.dtype.kind == "U":
        return np.asarray(labels != str(unknown), dtype=bool)
    if not isinstance(unknown, Real | np.bool_):
        raise TypeError(f"unknown must be a number where labels are numbers, got {unknown!r}")
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    return np.asarray(labels != unknown, dtype=bool)


def check_class_labels(labels: npt.ArrayLike, shape: tuple[int, ...], n_classes: int, ignore_index: int | None) -> Any:
    """Return labels as intp, and the mask of those that count.

    A label is in [0, n_classes), or it is ``ignore_index``: then it does not count, and 0 is returned for it.
    """
    array = as_array(labels, "labels")
    check_dtype(array, "labels", "iu", "be integers")
    if array.shape != shape:
        raise ValueError(f"labels must have one entry a row, shape {shape}, got {array.shape}")
    counts = np.ones(shape, dtype=bool) if ignore_index is None else array != ignore_index
    is_wrong = counts & ((array < 0) | (array >= n_classes))
    if is_wrong.any():
        raise ValueError(f"labels must be in [0, {n_classes}), got {array[is_wrong].flat[0]}")
    return np.where(counts, array, 0).astype(np.intp), counts


def check_groups(
    group: npt.ArrayLike | None, name: str, n_rows: int, *, expected: bool, option: str
) -> npt.NDArray[Any]:
    """Return one integer or string for each row; ``option`` is what the accumulator needs to take groups at all."""
    if not expected:
        raise ValueError(f"{name} needs an accumulator made with {option}=True")
    if group is None:
        raise ValueError(f"{name} must be given, as this accumulator was made with groups=True")
    labels = as_array(group, name)
    check_dtype(labels, name, "iuU", "be integers or strings")
    if labels.dtype.kind == "u" and labels.size and labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit into int64, got {labels.max()}")
    if labels.ndim == 0:
        labels = np.broadcast_to(labels, n_rows)
    if labels.size != n_rows:
        raise ValueError(f"{name} must be one label, or one per row ({n_rows}), got shape {labels.shape}")
    labels = labels.reshape(-1)
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def check_weights(weights: npt.ArrayLike, name: str, n_rows: int) -> npt.NDArray[np.float64]:
    """Return one finite number that is not negative for each row, as contiguous float64."""
    array = as_numbers(weights, name)
    check_dtype(array, name, "biuf", "be numbers")
    if array.size != n_rows:
        raise ValueError(f"{name} must have one number per row ({n_rows}), got shape {array.shape}")
    array = np.ascontiguousarray(array, np.float64).reshape(-1)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"{name} must be finite and not negative, got {array.min()} to {array.max()}")
    return array
