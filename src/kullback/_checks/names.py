"""The names that frames give to their rows and columns: two operands are matched by them, or refused.

NumPy reads the values alone. What would pair an element with one of another name is found here, before that happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import as_array

Names = npt.NDArray[Any]
"""The names along one axis."""

_NAMELESS = (np.ndarray, list, tuple, type(None))
"""Types without names, which cost no look at their attributes."""


def axis_names(value: Any) -> tuple[Names | None, ...]:
    """Return the names along each axis of a frame or series, with None where an axis has none; () for other values."""
    if isinstance(value, _NAMELESS):
        return ()
    if hasattr(value, "dims") and hasattr(value, "indexes"):  # xarray
        return tuple(_as_names(value.indexes.get(dim)) for dim in value.dims)
    if hasattr(value, "column_names"):  # Arrow
        return None, _as_names(value.column_names)
    index, columns = getattr(value, "index", None), getattr(value, "columns", None)
    rows = None if callable(index) else _as_names(index)
    if columns is not None and not callable(columns):
        return rows, _as_names(columns)
    return () if rows is None else (rows,)


def _as_names(labels: Any) -> Names | None:
    """Return labels as a vector, of which each may be a tuple of several levels."""
    if labels is None:
        return None
    items = list(labels)
    names = np.empty(len(items), dtype=object)
    names[:] = items
    return names


def _are_numbers(names: Names) -> bool:
    """Return whether names only count: 0, 1, 2, ... as in pandas, or column_0, column_1, ... as in Polars."""
    counted = list(range(len(names)))
    return list(names) in (counted, [f"column_{i}" for i in counted])


def index_of_block(value: Any) -> Names | None:
    """Return the names of the rows of a block of a longer frame, or None where they merely count within the block."""
    names = (None, None, *axis_names(value))[-2]
    return None if names is None or _are_numbers(names) else names


def find_order(first: Names | None, second: Names | None, what: str) -> npt.NDArray[np.intp] | None:
    """Return the places of the first names among the second ones, or None where the elements are paired by place.

    That is where a side has no names, where the names are equal, and where one side merely counts and the other does
    not have these numbers. ``what`` begins the message about names that do not match, such as "p and q".
    """
    if first is None or second is None or len(first) != len(second) or first.tolist() == second.tolist():
        return None
    place = {name: i for i, name in enumerate(second)}
    missing = [name for name in first if name not in place]
    if missing and (_are_numbers(first) or _are_numbers(second)):
        return None
    if missing or len(place) < len(second):
        got = f"{missing[0]!r} in the first alone" if missing else "repeated names in another order"
        raise ValueError(
            f"{what} must have the same names along their elements, got {got:.80}; name them alike, or pass "
            ".to_numpy() to pair them by place"
        )
    return np.array([place[name] for name in first], dtype=np.intp)


def check_same_index(first: Names | None, second: Names | None, what: str, start: int = 0) -> None:
    """Raise where rows that are taken as pairs have different names, or the same ones in another order.

    ``start`` is the place in the data of the first of these rows.
    """
    if first is None or second is None or len(first) != len(second) or first.tolist() == second.tolist():
        return
    differs = next(i for i, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
    if set(first) != set(second) and (_are_numbers(first) or _are_numbers(second)):
        return
    raise ValueError(
        f"{what} must have the same index, as their rows are pairs, got {first[differs]!r:.40} and "
        f"{second[differs]!r:.40} at place {start + differs}; align them, or pass .to_numpy() to pair them by place"
    )


def match_names(p: Any, q: Any, axis: Any = -1, what: str = "p and q", *, pairs: bool = True) -> tuple[Any, Any]:
    """Return two operands with the elements of q in the order of those of p, where both have names.

    The elements lie along ``axis``, which is one axis, several, or None for all. Other axes are rows, which are pairs
    unless ``pairs`` is False, and then must have the same names.
    """
    if isinstance(p, _NAMELESS) or isinstance(q, _NAMELESS):
        return p, q
    sides = axis_names(p), axis_names(q)
    parts = axis if isinstance(axis, tuple) else (axis,)
    if not all(sides) or not (axis is None or all(isinstance(part, int | np.integer) for part in parts)):
        return p, q  # the check of the rows refuses what is no axis
    dims = [getattr(side, "dims", None) for side in (p, q)]
    n_common = min(map(len, sides))
    if dims[0] and dims[1] and dims[0][-n_common:] != dims[1][-n_common:]:
        raise ValueError(f"{what} must have the same dims in the same order, got {dims[0]} and {dims[1]}")
    n_axes = max(map(len, sides))
    elements = range(n_axes) if axis is None else [part % n_axes for part in parts]
    values = q
    for from_end in range(1, n_common + 1):  # broadcasting aligns the last axes
        first, second = (side[-from_end] for side in sides)
        if n_axes - from_end not in elements:
            if pairs:
                check_same_index(first, second, what)
            continue
        order = find_order(first, second, what)
        if order is not None:
            values = np.take(as_array(values, what[-1]), order, axis=-from_end)
    return p, values


def match_index(p: Any, others: dict[str, Any], axis: Any = -1) -> None:
    """Raise where labels, weights or other values, one for each row of p, have an index of other rows.

    Nothing is compared unless ``axis`` is one integer.
    """
    if isinstance(p, _NAMELESS) or not isinstance(axis, int | np.integer):
        return
    named = {name: axis_names(value) for name, value in others.items()}
    sides = axis_names(p)
    if len(sides) == 2:
        rows = sides[(axis + 1) % 2]
        for name, names in named.items():
            if len(names) == 1:
                check_same_index(rows, names[0], f"the rows of p and {name}")


def match_features(names: Names | None, sides: dict[str, Any]) -> tuple[Names | None, dict[str, Any]]:
    """Return the values that are given, with their columns in the order of the features' names, and these names.

    Names that are not known yet are those of the first frame.
    """
    matched = {}
    for side, values in sides.items():
        if values is None:
            continue
        columns = (*axis_names(values), None, None)[1]
        names = columns if names is None else names
        order = find_order(names, columns, f"the features seen before and those of {side}")
        matched[side] = values if order is None else as_array(values, side)[:, order]
    return names, matched


def plain_names(names: Names) -> npt.NDArray[Any]:
    """Return names as integers where all are, and otherwise as strings, which a file can hold."""
    are_integers = all(isinstance(name, int | np.integer) for name in names)
    return np.array(names.tolist(), np.int64 if are_integers else str)
