"""Checks of probability distributions that lie along an axis of arrays, and of what goes with each of their rows."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from .arrays import as_array, as_numbers, check_dtype, widen_bfloat16
from .sparse import as_sorted_rows, is_sparse

_KINDS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3, "int8": 4, "uint8": 5, "int16": 6, "uint16": 7,
          "int32": 8, "uint32": 9, "int64": 10, "uint64": 11}  # fmt: skip
"""The kernels' number for each dtype."""

_KIND_OF = {np.dtype(name): kind for name, kind in _KINDS.items() if name != "bfloat16"}

_TOLERANCES = [2**-11.5, 2**-26.0, 2**-5.0, 2**-3.5, *[np.inf] * 8]
"""How far sums may be off one: the square root of each floating dtype's eps. Integers are counts of any sum."""


BFLOAT16_EPS = 2.0**-7


class Distribution(NamedTuple):
    """Checked probabilities: the array, the kernels' number for its dtype, and how far sums may be off one."""

    array: npt.NDArray[Any]
    kind: int
    tolerance: float


def check_distribution(value: npt.ArrayLike, name: str, from_logits: bool = False) -> Distribution:
    """Return ``value`` as an array of at least one axis, of a dtype that the kernels read.

    An array of uint16 holds the bits of bfloat16 where logits are asked for, and counts elsewhere.
    """
    array = value if type(value) is np.ndarray else as_numbers(value, name)
    kind = _KIND_OF.get(array.dtype)
    if kind is not None and array.ndim and not from_logits:
        return Distribution(array, kind, _TOLERANCES[kind])
    if kind is None:
        array = as_numbers(array, name)
        if array.dtype.name == "bfloat16":
            array, kind = array.view(np.uint16), _KINDS["bfloat16"]
        elif array.dtype.kind == "b":  # these are counts of 0 and 1
            array, kind = array.view(np.uint8), _KINDS["uint8"]
        elif array.dtype.kind in "fiu" and array.dtype.newbyteorder("=") in _KIND_OF:
            array = array.astype(array.dtype.newbyteorder("="))
            kind = _KIND_OF[array.dtype]
        else:
            raise TypeError(
                f"{name} must hold float16, bfloat16, float32, float64, bool or integers, got dtype {array.dtype}"
            )
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a scalar")
    if from_logits and kind == _KINDS["uint16"]:
        kind = _KINDS["bfloat16"]
    return Distribution(array, kind, _TOLERANCES[kind])


def check_axes(axis: object, n_axes: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes along which each row lies, counted from the first: all of them for None, and several of a tuple.

    ``shape`` is that of the arrays, or the one that they broadcast to, for messages.
    """
    if axis is None:
        return tuple(range(n_axes))
    parts: tuple[Any, ...] = axis if isinstance(axis, tuple) else (axis,)
    try:
        given = tuple(map(operator.index, parts))
    except TypeError:
        raise TypeError(f"axis must be an int, got {axis!r}; a tuple of ints or None stands for several axes") from None
    for part in given:
        if not -n_axes <= part < n_axes:
            raise ValueError(f"axis must be in [{-n_axes}, {n_axes - 1}] for shape {shape}, got {part}")
    axes = tuple(sorted({part % n_axes for part in given}))
    if len(axes) < len(given) or not axes:
        raise ValueError(f"axis must be one or more distinct axes, got {axis!r}")
    return axes


def check_same_rows(
    first: Distribution, second: Distribution | None, axis: object, names: tuple[str, str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the common shape of two operands whose rows lie along ``axis``, and the axes that this means."""
    shapes = [part.array.shape for part in (first, second) if part is not None]
    if axis is None and len(shapes) == 2 and math.prod(shapes[0]) != math.prod(shapes[1]):
        raise ValueError(
            f"{names[0]} and {names[1]} must have equally many elements with axis=None, got shapes {shapes[0]} and "
            f"{shapes[1]}"
        )
    try:
        shape = shapes[0] if axis is None or shapes[0] == shapes[-1] else np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"{names[0]} and {names[1]} must have shapes that broadcast, got {shapes[0]} and {shapes[1]}"
        ) from None
    axes = check_axes(axis, max(map(len, shapes)), shape)
    if axis is not None and shapes[0] != shapes[-1]:
        for part in axes:
            from_end = part - len(shape)  # broadcasting aligns the last axes of the shapes
            lengths = [given[from_end] if -from_end <= len(given) else 1 for given in shapes]
            if lengths[0] != lengths[1]:
                where = part if isinstance(axis, tuple) else axis
                raise ValueError(
                    f"{names[0]} and {names[1]} must have equally many elements along axis {where}, "
                    f"got {lengths[0]} and {lengths[1]}"
                )
    return shape, axes


class BadRowError(ValueError):
    """The error of a row that fails the check; what reduces blocks of rows says with it where the row is in the data.

    It has no constructor of its own, so that it travels between processes.

    Attributes
    ----------
    parts : tuple of str
        The message before and after the words that name the row.
    row : tuple of int
        The place of the row, which is empty for a single row.
    """

    parts: tuple[str, str] = ("", "")
    row: tuple[int, ...] = ()

    def in_block(self, start: int) -> BadRowError:
        """Return the error as it reads for data of which this block begins at row ``start``."""
        return self if len(self.row) > 1 else _bad_row((start + (self.row[0] if self.row else 0),), self.parts)


def _bad_row(row: tuple[int, ...], parts: tuple[str, str]) -> BadRowError:
    """Return an error whose message names the row between its two parts."""
    where = f" in row {row[0] if len(row) == 1 else row}" if row else ""
    error = BadRowError(where.join(parts))
    error.parts, error.row = parts, row
    return error


def _raise_at(row: tuple[int, ...], before: str, after: str = "") -> NoReturn:
    """Raise a `BadRowError` whose message names the row between two parts."""
    raise _bad_row(row, (before, after))


def raise_bad_row(
    status: int,
    operands: tuple[Distribution, Distribution | None],
    arrays: Sequence[npt.NDArray[Any]],
    row: tuple[int, ...],
    names: tuple[str, str],
    from_logits: bool = False,
) -> None:
    """Raise the error of the row that failed ``normalize="check"``.

    ``status`` is the kernel's code of what is wrong with which operand; ``arrays`` are the operands with their rows
    along the last axis.
    """
    side = (status - 1) % 2
    operand = operands[side]
    assert operand is not None
    if from_logits:
        what = "a NaN or +inf entry" if status <= 2 else "only -inf"
        _raise_at(row, f"{names[side]} must hold logits < inf, at least one of them finite, got {what}")
    if status <= 2:
        _raise_at(row, f"{names[side]} must hold probabilities >= 0, got a negative or NaN entry")
    values = widen_bfloat16(arrays[side][row], operand.kind == _KINDS["bfloat16"])
    total = values.sum(dtype=np.float64)
    if operand.tolerance == np.inf:
        _raise_at(row, f"{names[side]} must sum to 1, or to more than 0 where it holds counts, got {total:.9g}")
    before = f"{names[side]} must sum to 1 within {operand.tolerance:.2g} along its axis, got {total:.9g}"
    _raise_at(row, before, "; pass normalize=True to divide by the sum")


def check_rows(value: Any, name: str, normalize: object) -> Any:
    """Return a matrix of distributions, one in each row, in float64 and divided by their sums; sparse ones as CSR."""
    if normalize is not True and normalize != "check":
        raise ValueError(f"normalize must be 'check' or True, got {normalize!r}")
    matrix = as_sorted_rows(value, name) if is_sparse(value) else None
    operand = check_distribution(value if matrix is None else matrix.data, name)
    shape = operand.array.shape if matrix is None else value.shape
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_rows, n_elements), got {shape}")
    wide = widen_bfloat16(operand.array, operand.kind == _KINDS["bfloat16"])
    rows = np.array(wide, dtype=np.float64, order="C")
    if matrix is None:
        sums, has_wrong_entry = rows.sum(axis=1), np.logical_not((rows >= 0).all(axis=1))
    else:
        row_of = np.repeat(np.arange(shape[0]), np.diff(matrix.indptr))
        sums = np.bincount(row_of, rows, shape[0])
        has_wrong_entry = np.bincount(row_of, ~(rows >= 0), shape[0]) > 0
    _refuse_bad_rows(sums, has_wrong_entry, operand.tolerance if normalize == "check" else np.inf, name)
    if matrix is None:
        rows /= sums[:, None]
        return rows
    csr = type(matrix)((rows / sums[row_of], matrix.indices, matrix.indptr), shape=shape, copy=True)
    csr.eliminate_zeros()
    return csr


def _refuse_bad_rows(
    sums: npt.NDArray[np.float64], has_wrong_entry: npt.NDArray[np.bool_], tolerance: float, name: str
) -> None:
    """Raise for the first row with a negative or NaN entry, or with a sum that is off 1 by more than the tolerance."""
    is_wrong = has_wrong_entry | (sums == 0) | ~np.isfinite(sums) | ~(np.abs(sums - 1) <= tolerance)
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        if has_wrong_entry[row]:
            raise ValueError(f"{name} must hold probabilities >= 0, got a negative or NaN entry in row {row}")
        raise ValueError(f"{name} must have rows that sum to 1, got {sums[row]:.9g} in row {row}")


def check_topk(indices: npt.ArrayLike, log_probs: npt.ArrayLike, shape: tuple[int, ...], n_classes: int) -> Any:
    """Return the classes and the largest k log-probabilities of each row of P, in descending order.

    Two more values follow: how far each logarithm may be off, because it or its probability was rounded to the dtype,
    and how far the sum of a row may be off 1. The classes of a row are distinct, and its probabilities add up to at
    most 1.
    """
    index, given = as_numbers(indices, "indices"), as_numbers(log_probs, "log_probs")
    logs = widen_bfloat16(given, from_logits=True)
    check_dtype(index, "indices", "iu", "be integers")
    check_dtype(logs, "log_probs", "fiu")
    if index.shape != logs.shape or index.shape[:-1] != shape or not 1 <= index.shape[-1] <= n_classes:
        raise ValueError(
            f"indices and log_probs must have shape {(*shape, 'k')} with k in [1, {n_classes}], "
            f"got {index.shape} and {logs.shape}"
        )
    is_wrong = (index < 0) | (index >= n_classes)
    if is_wrong.any():
        raise ValueError(f"indices must be in [0, {n_classes}), got {index[is_wrong].flat[0]}")
    if index.shape[-1] > 1 and (np.diff(np.sort(index, axis=-1), axis=-1) == 0).any():
        raise ValueError("indices must be distinct in every row, got a repeated one")
    eps = BFLOAT16_EPS if logs is not given else float(np.finfo(logs.dtype if logs.dtype.kind == "f" else float).eps)
    logs = logs.astype(np.float64)
    if np.isnan(logs).any() or (logs[..., 1:] > logs[..., :-1]).any():
        raise ValueError("log_probs must be in descending order in every row, got an increase or NaN")
    tolerance = max(1e-3, eps**0.5)
    mass = np.exp(np.minimum(logs, 1.0)).sum(axis=-1)
    if (mass > 1 + tolerance).any():
        raise ValueError(f"log_probs must have a mass of at most 1 within {tolerance:.2g}, got {mass.max():.9g}")
    error = np.where(logs > -np.inf, eps * (1 + np.abs(logs)) / 2, 0.0)
    return index.astype(np.intp), logs, error, tolerance


def refuse_impossible_rest(logs: Any, error: Any, n_unlisted: int, tolerance: float, first_row: int | None) -> None:
    """Raise where the mass that a list of the largest probabilities leaves is more than the other classes can have.

    None of these exceeds the smallest of the list. ``first_row`` is the number of the first row, or None for a vector.
    """
    rest, cap = 1 - np.exp(logs + error).sum(axis=-1), np.exp(logs + error)[:, -1]
    impossible = np.flatnonzero(rest > n_unlisted * cap + tolerance)
    if impossible.size:
        row = impossible[0]
        where = "" if first_row is None else f" in row {first_row + row}"
        raise ValueError(
            f"log_probs must hold the largest probabilities, which leave {rest[row]:.9g}{where} to {n_unlisted} other "
            f"classes, none above {cap[row]:.9g}"
        )


def check_tables(value: Any, name: str) -> Any:
    """Return joint tables as float64 of at least two axes, finite and not negative; a sparse table as CSR."""
    matrix = as_sorted_rows(value, name) if is_sparse(value) else None
    array = as_numbers(value if matrix is None else matrix.data, name)
    check_dtype(array, name, "fiub")
    if np.ndim(value if matrix is not None else array) < 2:
        raise ValueError(f"{name} must have at least two axes, got shape {np.shape(value)}")
    array = array.astype(np.float64)
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        raise ValueError(f"{name} must be finite and >= 0, got a negative, infinite or NaN entry")
    return array if matrix is None else type(matrix)((array, matrix.indices, matrix.indptr), shape=matrix.shape)


# ---- Masks and weights of rows -------------------------------------------------------------------


def check_where(where: npt.ArrayLike, batch: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a mask of rows, broadcast to the shape ``batch`` of the rows."""
    array = as_array(where, "where")
    if array.dtype != np.bool_:
        raise TypeError(f"where must be boolean, one value a row, got dtype {array.dtype}")
    try:
        return np.broadcast_to(array, batch)
    except ValueError:
        raise ValueError(f"where must broadcast to the rows' shape {batch}, got {array.shape}") from None


def check_row_weights(
    weights: npt.ArrayLike | None, batch: tuple[int, ...], reduction: str
) -> npt.NDArray[np.float64] | None:
    """Return finite weights that are not negative, broadcast to the shape ``batch`` of the rows; or None."""
    if weights is None:
        return None
    array = as_numbers(weights, "weights")
    check_dtype(array, "weights", "fiub")
    if reduction == "none":
        raise ValueError("weights need reduction='mean' or 'sum', got reduction='none'")
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        raise ValueError("weights must be finite and >= 0, got a negative, infinite or NaN one")
    try:
        return np.broadcast_to(array.astype(np.float64), batch)
    except ValueError:
        raise ValueError(f"weights must broadcast to the rows' shape {batch}, got {array.shape}") from None
