"""Checks of what is given once for each row: labels of points and classes, groups, and weights."""

from __future__ import annotations

from numbers import Integral, Real
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


def check_class_labels(
    labels: npt.ArrayLike,
    shape: tuple[int, ...],
    n_classes: int,
    ignore_index: int | None,
    where: npt.NDArray[np.bool_] | None = None,
) -> Any:
    """Return labels as intp, and the mask of those that count.

    A label is in [0, n_classes). It does not count where it is ``ignore_index`` or ``where`` leaves its row out: then 0
    is returned for it.
    """
    array = as_array(labels, "labels")
    check_dtype(array, "labels", "iu", "be integers")
    hint = ""
    if array.ndim and array.shape[-1] == n_classes:
        hint = "; to measure counts by every row, as kl_divergence does, give them as many axes as the rows have"
    if array.shape != shape:
        raise ValueError(f"labels must have one entry a row, shape {shape}, got {array.shape}{hint}")
    counts = np.ones(shape, dtype=bool) if ignore_index is None else array != ignore_index
    if where is not None:
        counts = counts & where
    is_wrong = counts & ((array < 0) | (array >= n_classes))
    if is_wrong.any():
        raise ValueError(f"labels must be in [0, {n_classes}), got {array[is_wrong].flat[0]}{hint}")
    return np.where(counts, array, 0).astype(np.intp), counts


def as_classes(value: Any, name: str) -> npt.NDArray[Any] | None:
    """Return names of classes as integers, booleans or strings, or None where the values are other numbers."""
    array = as_array(value, name)
    if array.dtype.kind == "O":
        items = array.reshape(-1).tolist()
        if items and all(isinstance(item, Integral | np.bool_) for item in items):
            array = np.array(items).reshape(array.shape)
        elif any(isinstance(item, str) for item in items):
            wrong = [item for item in items if not isinstance(item, str)]
            if wrong:
                raise TypeError(f"{name} must hold strings alone where it holds any, got {wrong[0]!r:.40}")
            array = array.astype(str)
    if array.dtype.kind == "T":  # NumPy's strings of variable width
        array = array.astype(str)
    return array if array.dtype.kind in "biuU" else None


def number_classes(
    y: npt.NDArray[Any], labels: npt.ArrayLike | None, n_classes: int, counts: npt.NDArray[np.bool_]
) -> npt.NDArray[Any]:
    """Return the number of the class of each entry of ``y``, which `as_classes` returned; it matters where it counts.

    The classes are ``labels``. Without these, integers in [0, n_classes) are numbers already, and all other names are
    sorted and numbered, if there are as many as classes.
    """
    used = y[counts]
    if labels is None:
        if y.dtype.kind in "iu" and (not used.size or (used.min() >= 0 and used.max() < n_classes)):
            return y
        classes = np.array([False, True]) if y.dtype.kind == "b" else np.unique(used)
        if len(classes) != n_classes:
            raise ValueError(
                f"y must hold integers in [0, {n_classes}), or all of the {n_classes} classes, got {len(classes)}: "
                f"{', '.join(map(str, classes[:5]))[:80]}; pass labels with all classes in ascending order"
            )
    else:
        classes = _check_class_names(labels, n_classes)
    if (classes.dtype.kind == "U") != (y.dtype.kind == "U"):
        kinds = ["strings" if part.dtype.kind == "U" else "numbers" for part in (classes, y)]
        raise TypeError(f"y must hold {kinds[0]} as labels does, got {kinds[1]}")
    index = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    is_wrong = counts & (classes[index] != y)
    if is_wrong.any():
        raise ValueError(f"y must hold classes that labels name, got {y[is_wrong].tolist()[0]!r}")
    return index


def _check_class_names(labels: npt.ArrayLike, n_classes: int) -> npt.NDArray[Any]:
    """Return the names of classes, which are distinct and ascend as the columns that they stand for."""
    classes = as_classes(labels, "labels")
    if classes is None or classes.ndim != 1 or len(classes) != n_classes:
        got = f"shape {classes.shape}" if classes is not None else "other values"
        raise ValueError(f"labels must be {n_classes} integers, booleans or strings, one for each class, got {got}")
    if not (classes[1:] > classes[:-1]).all():
        raise ValueError(
            "labels must be distinct and ascend, as the columns of p do in scikit-learn, got "
            f"{classes.tolist()!r:.80}; sort labels and the columns of p together"
        )
    return classes


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
