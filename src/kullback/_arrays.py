"""The one place that checks arguments and raises: every message names the argument, what came and what is accepted."""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
SparseParts = tuple[FloatArray, FloatArray, FloatArray]  # values, columns, row starts


# ---- Scalars -------------------------------------------------------------------------------------


def check_choice(value: object, name: str, choices: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_real(
    value: object, name: str, *, low: float = -np.inf, high: float = np.inf, open_low: bool = False
) -> float:
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


def check_tolerance(tolerance: object) -> float | None:
    """Return a relative error in (0, 1], or None."""
    return None if tolerance is None else check_real(tolerance, "tolerance", low=0, high=1, open_low=True)


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


def check_positions_out(out: object, shape: tuple[int, int]) -> FloatArray:
    """Return an array that positions are written to: float32 or float64, writeable, of their shape."""
    if not isinstance(out, np.ndarray) or out.dtype not in (np.float32, np.float64):
        raise TypeError(f"out must be a float32 or float64 array, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != shape or not out.flags.writeable:
        raise ValueError(f"out must be writeable and have shape {shape}, got {out.shape}")
    return out


def check_affinities(affinities: Any, n_points: int, dtype: npt.DTypeLike, name: str) -> SparseParts:
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
        raise ValueError(
            f"{name} must hold finite, non-negative probabilities, got {matrix.data.min()} as its smallest"
        )
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
    array = array.astype(dtype, copy=False) if sparse.issparse(array) else np.ascontiguousarray(array, dtype=dtype)
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


def check_distance_values(distances: FloatArray) -> FloatArray:
    """Return distances that a metric gave, none of them NaN."""
    if np.isnan(distances).any():
        raise ValueError("metric must give a number for every two rows, got NaN")
    return distances


def check_new_data(rows: Any, name: str, n_features: int, dtype: npt.DTypeLike, *, dense: bool, distances: bool) -> Any:
    """Return new rows of data, or of their distances to old ones: finite, of a dtype, dense or CSR."""
    from scipy import sparse

    array: Any = sparse.csr_array(rows) if sparse.issparse(rows) else np.asarray(rows)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != n_features:
        raise ValueError(f"{name} must have shape (n_rows, {n_features}), got shape {array.shape}")
    if dense:
        array = array.toarray() if sparse.issparse(array) else array
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, dtype=dtype)
    elif sparse.issparse(array):
        array = array.astype(dtype, copy=False)
    else:
        array = sparse.csr_array(np.asarray(array, dtype=dtype))
    values = np.asarray(array.data) if sparse.issparse(array) else array
    _check_finite(values, name)
    if distances and values.size and values.min() < 0:
        raise ValueError(f"{name} must hold distances of at least 0, got {values.min()}")
    return array


def check_rows_of_probabilities(rows: Any, name: str) -> FloatArray:
    """Return rows that are not negative, each divided by its sum, dense."""
    array: FloatArray = rows if isinstance(rows, np.ndarray) else rows.toarray()
    if array.min() < 0:
        raise ValueError(f"{name} must hold probabilities of at least 0, got {array.min()}")
    sums = array.sum(axis=1, keepdims=True)
    if not (np.isfinite(sums).all() and sums.all()):
        raise ValueError(f"{name} must have rows with a positive, finite sum, got {sums.min()} in row {sums.argmin()}")
    return np.asarray(array / sums)


def check_neighbor_lists(lists: tuple[Any, ...], name: str) -> Any:
    """Return lists of neighbours (indices, distances) as a CSR matrix of distances."""
    from scipy import sparse

    if len(lists) != 2:
        raise ValueError(f"{name} must be (indices, distances), got a tuple of {len(lists)}")
    indices, distances = np.asarray(lists[0]), np.asarray(lists[1])
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name} must have integer indices, got dtype {indices.dtype}")
    if indices.ndim != 2 or indices.shape != distances.shape or 0 in indices.shape:
        raise ValueError(
            f"{name} must be (indices, distances), both of shape (n_points, k), "
            f"got {indices.shape} and {distances.shape}"
        )
    n_points, k = indices.shape
    if indices.min() < 0 or indices.max() >= n_points:
        raise ValueError(f"{name} must have indices in [0, {n_points}), got {indices.min()} to {indices.max()}")
    starts = np.arange(n_points + 1) * k
    values = distances.reshape(-1)
    return check_distances(sparse.csr_array((values, indices.reshape(-1), starts), shape=(n_points, n_points)), name)


def check_graph(
    columns: Any, distances: Any, row_starts: Any, name: str
) -> tuple[npt.NDArray[np.int32], FloatArray, npt.NDArray[np.int64]]:
    """Return a neighbour graph in CSR as int32, float32 or float64, and int64; rows must be sorted by distance."""
    columns, distances, row_starts = np.asarray(columns), np.asarray(distances), np.asarray(row_starts)
    if columns.dtype.kind not in "iu" or row_starts.dtype.kind not in "iu" or distances.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} must have integer columns and row starts and real distances, "
            f"got {columns.dtype}, {row_starts.dtype} and {distances.dtype}"
        )
    if columns.ndim != 1 or distances.shape != columns.shape or row_starts.ndim != 1 or len(row_starts) < 3:
        raise ValueError(
            f"{name} must have columns and distances of one shape (n,) and at least 3 row starts, "
            f"got {columns.shape}, {distances.shape} and {row_starts.shape}"
        )
    n_points = len(row_starts) - 1
    if row_starts[0] != 0 or row_starts[-1] != len(columns) or (row_starts[1:] <= row_starts[:-1]).any():
        raise ValueError(f"{name} must have rows of at least 1 neighbour, one after the other, up to {len(columns)}")
    if columns.min() < 0 or columns.max() >= n_points:
        raise ValueError(f"{name} must have columns in [0, {n_points}), got {columns.min()} to {columns.max()}")
    _check_finite(distances, f"{name}'s distances")
    if distances.min() < 0:
        raise ValueError(f"{name} must have distances of at least 0, got {distances.min()}")
    falls = np.flatnonzero(distances[1:] < distances[:-1]) + 1
    if not np.isin(falls, row_starts).all():
        raise ValueError(f"{name} must have rows that are sorted by distance")
    dtype = np.float32 if distances.dtype == np.float32 else np.float64
    return (
        np.ascontiguousarray(columns, np.int32),
        np.ascontiguousarray(distances, dtype),
        np.ascontiguousarray(row_starts, np.int64),
    )


def _check_finite(values: Any, name: str) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(values, dtype=np.float64)  # one pass, no temporary; looks closer only if it must
    if not np.isfinite(total) and not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "infinity"
        raise ValueError(f"{name} must be finite, got {kind}")


# ---- Distributions -------------------------------------------------------------------------------


class Distribution(NamedTuple):
    """Checked probabilities: the array, the kernel's number for its dtype, and how far sums may be off one."""

    array: npt.NDArray[Any]
    kind: int
    tolerance: float


_KINDS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3, "int8": 4, "uint8": 5, "int16": 6, "uint16": 7,
          "int32": 8, "uint32": 9, "int64": 10, "uint64": 11}  # fmt: skip
_KIND_OF = {np.dtype(name): kind for name, kind in _KINDS.items() if name != "bfloat16"}
# sqrt(eps) of each floating dtype; integers are counts, whose sums are free
_TOLERANCES = [2**-11.5, 2**-26.0, 2**-5.0, 2**-3.5, *[np.inf] * 8]


def check_distribution(value: npt.ArrayLike, name: str, from_logits: bool = False) -> Distribution:
    """Return ``value`` as an array of at least one axis, of a dtype that the kernels read.

    uint16 is a view of bfloat16 where logits are asked for, and counts elsewhere.
    """
    array = value if type(value) is np.ndarray else np.asarray(value)
    kind = _KIND_OF.get(array.dtype)
    if kind is not None and array.ndim and not from_logits:
        return Distribution(array, kind, _TOLERANCES[kind])
    if kind is None:
        if array.dtype.name == "bfloat16":
            array, kind = array.view(np.uint16), _KINDS["bfloat16"]
        elif array.dtype.kind in "fiu" and array.dtype.newbyteorder("=") in _KIND_OF:
            array = array.astype(array.dtype.newbyteorder("="))
            kind = _KIND_OF[array.dtype]
        else:
            raise TypeError(
                f"{name} must hold float16, bfloat16, float32, float64 or integers, got dtype {array.dtype}"
            )
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a scalar")
    if from_logits and kind == _KINDS["uint16"]:
        kind = _KINDS["bfloat16"]
    return Distribution(array, kind, _TOLERANCES[kind])


def check_normalize(value: object) -> int:
    """Return the kernel's number for ``normalize``: 0 plain sums, 1 divide, 2 divide and check."""
    if value is True or value is False:
        return int(value)
    if isinstance(value, str) and value == "check":
        return 2
    raise ValueError(f"normalize must be 'check', True or False, got {value!r}")


def check_temperature(value: object, from_logits: bool) -> float:
    """Return a temperature: positive and finite, and 1 unless logits are given."""
    temperature = check_real(value, "temperature", low=0, open_low=True)
    if not np.isfinite(temperature):
        raise ValueError(f"temperature must be positive and finite, got {value!r}")
    if temperature != 1 and not from_logits:
        raise ValueError(f"temperature must be 1 unless from_logits=True, got {value!r}")
    return temperature


def check_smoothing(value: object, normalize: object) -> float:
    """Return an amount to add to every probability: finite and >= 0."""
    smoothing = check_real(value, "smoothing", low=0)
    if not np.isfinite(smoothing):
        raise ValueError(f"smoothing must be finite and >= 0, got {value!r}")
    if smoothing > 0 and normalize is False:
        raise ValueError(f"smoothing must be 0 with normalize=False, got {value!r}")
    return smoothing


def check_where(where: npt.ArrayLike, batch: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a mask of rows, broadcast to the batch."""
    array = np.asarray(where)
    if array.dtype != np.bool_:
        raise TypeError(f"where must be boolean, one value a row, got dtype {array.dtype}")
    try:
        return np.broadcast_to(array, batch)
    except ValueError:
        raise ValueError(f"where must broadcast to the rows' shape {batch}, got {array.shape}") from None


def check_row_weights(
    weights: npt.ArrayLike | None, batch: tuple[int, ...], reduction: str
) -> npt.NDArray[np.float64] | None:
    """Return weights of rows, finite and >= 0, broadcast to the batch."""
    if weights is None:
        return None
    array = np.asarray(weights)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"weights must hold real numbers, got dtype {array.dtype}")
    if reduction == "none":
        raise ValueError("weights need reduction='mean' or 'sum', got reduction='none'")
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        raise ValueError("weights must be finite and >= 0, got a negative, infinite or NaN one")
    try:
        return np.broadcast_to(array.astype(np.float64), batch)
    except ValueError:
        raise ValueError(f"weights must broadcast to the rows' shape {batch}, got {array.shape}") from None


def check_out(out: object, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return an array that results are written to: float64, writeable and of the result's shape."""
    if not isinstance(out, np.ndarray) or out.dtype != np.float64:
        raise TypeError(f"out must be a float64 array, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != shape or not out.flags.writeable:
        raise ValueError(f"out must be writeable and have the result's shape {shape}, got {out.shape}")
    return out


def check_order(alpha: object) -> float:
    """Return the order of a Renyi or Tsallis measure: in [0, inf]."""
    return check_real(alpha, "alpha", low=0)


def check_finite(value: object, name: str) -> float:
    """Return a finite number."""
    number = check_real(value, name)
    if not np.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def check_probability(value: object, name: str) -> float:
    """Return a number in [0, 1]."""
    return check_real(value, name, low=0, high=1)


def check_tables(value: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return joint tables as float64 of at least two axes, finite and >= 0."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"{name} must have at least two axes, got shape {array.shape}")
    array = array.astype(np.float64)
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        raise ValueError(f"{name} must be finite and >= 0, got a negative, infinite or NaN entry")
    return array


def check_class_labels(labels: npt.ArrayLike, shape: tuple[int, ...], n_classes: int, ignore_index: int | None) -> Any:
    """Return labels as intp and the mask of those that count; each in [0, n_classes) or ``ignore_index``."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"labels must have one entry a row, shape {shape}, got {array.shape}")
    kept = np.ones(shape, dtype=bool) if ignore_index is None else array != ignore_index
    wrong = kept & ((array < 0) | (array >= n_classes))
    if wrong.any():
        raise ValueError(f"labels must be in [0, {n_classes}), got {array[wrong].flat[0]}")
    return np.where(kept, array, 0).astype(np.intp), kept


def check_base(value: object) -> float:
    """Return a logarithm's base: positive, finite and not 1."""
    base = check_real(value, "base", low=0, open_low=True)
    if base == 1 or not np.isfinite(base):
        raise ValueError(f"base must be positive, finite and not 1, got {value!r}")
    return base


def check_same_rows(
    first: Distribution, second: Distribution | None, axis: int, names: tuple[str, str]
) -> tuple[tuple[int, ...], int]:
    """Return the common shape of two operands whose rows lie along ``axis``, and that axis."""
    shape = first.array.shape
    if second is not None and second.array.shape != shape:
        other = second.array.shape
        try:
            shape = np.broadcast_shapes(shape, other)
        except ValueError:
            raise ValueError(
                f"{names[0]} and {names[1]} must have shapes that broadcast, got {first.array.shape} and {other}"
            ) from None
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an int, got {axis!r}") from None
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis must be in [{-len(shape)}, {len(shape) - 1}] for shape {shape}, got {axis}")
    if second is not None and first.array.shape != second.array.shape:
        back = axis - len(shape) if axis >= 0 else axis  # counted from the end, as broadcasting aligns shapes
        lengths = [part.array.shape[back] if -back <= part.array.ndim else 1 for part in (first, second)]
        if lengths[0] != lengths[1]:
            raise ValueError(
                f"{names[0]} and {names[1]} must have equally many elements along axis {axis}, "
                f"got {lengths[0]} and {lengths[1]}"
            )
    return shape, axis


def raise_bad_row(
    status: int,
    operands: tuple[Distribution, Distribution | None],
    arrays: Sequence[npt.NDArray[Any]],
    row: tuple[int, ...],
    names: tuple[str, str],
    from_logits: bool = False,
) -> None:
    """Raise the error of a row that failed ``normalize="check"``; ``arrays`` have their rows last."""
    which = (status - 1) % 2
    operand = operands[which]
    assert operand is not None
    where = f" in row {row[0] if len(row) == 1 else row}" if row else ""
    if from_logits:
        what = "a NaN or +inf entry" if status <= 2 else "only -inf"
        raise ValueError(f"{names[which]} must hold logits < inf, at least one of them finite, got {what}{where}")
    if status <= 2:
        raise ValueError(f"{names[which]} must hold probabilities >= 0, got a negative or NaN entry{where}")
    values = arrays[which][row]
    if operand.kind == _KINDS["bfloat16"]:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    raise ValueError(
        f"{names[which]} must sum to 1 within {operand.tolerance:.2g} along its axis, "
        f"got {values.sum(dtype=np.float64):.9g}"
        f"{where}; pass normalize=True to divide by the sum"
    )


def check_rows(value: npt.ArrayLike, name: str, normalize: object) -> npt.NDArray[np.float64]:
    """Return distributions, one a row, in float64 and divided by their sums."""
    if normalize is not True and normalize != "check":
        raise ValueError(f"normalize must be 'check' or True, got {normalize!r}")
    operand = check_distribution(value, name)
    if operand.array.ndim != 2 or operand.array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_rows, n_elements), got {operand.array.shape}")
    array = operand.array
    if operand.kind == _KINDS["bfloat16"]:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    rows = np.array(array, dtype=np.float64, order="C")
    sums = rows.sum(axis=1)
    bad: npt.NDArray[np.bool_] = np.logical_not((rows >= 0).all(axis=1))
    wrong = bad | (sums == 0) | ~np.isfinite(sums)
    if normalize == "check":
        wrong |= ~(np.abs(sums - 1) <= operand.tolerance)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        if bad[row]:
            raise ValueError(f"{name} must hold probabilities >= 0, got a negative or NaN entry in row {row}")
        raise ValueError(f"{name} must have rows that sum to 1, got {sums[row]:.9g} in row {row}")
    rows /= sums[:, None]
    return rows


def check_topk(indices: npt.ArrayLike, log_probs: npt.ArrayLike, shape: tuple[int, ...], n_classes: int) -> Any:
    """Return the top k of P: distinct indices in range, and log-probabilities in descending order, of mass <= 1."""
    index, logs = np.asarray(indices), np.asarray(log_probs)
    if index.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got dtype {index.dtype}")
    if logs.dtype.kind not in "fiu":
        raise TypeError(f"log_probs must hold real numbers, got dtype {logs.dtype}")
    if index.shape != logs.shape or index.shape[:-1] != shape or not 1 <= index.shape[-1] <= n_classes:
        raise ValueError(
            f"indices and log_probs must have shape {(*shape, 'k')} with k in [1, {n_classes}], "
            f"got {index.shape} and {logs.shape}"
        )
    wrong = (index < 0) | (index >= n_classes)
    if wrong.any():
        raise ValueError(f"indices must be in [0, {n_classes}), got {index[wrong].flat[0]}")
    if index.shape[-1] > 1 and (np.diff(np.sort(index, axis=-1), axis=-1) == 0).any():
        raise ValueError("indices must be distinct in every row, got a repeated one")
    logs = logs.astype(np.float64)
    if np.isnan(logs).any() or (logs[..., 1:] > logs[..., :-1]).any():
        raise ValueError("log_probs must be in descending order in every row, got an increase or NaN")
    mass = np.exp(logs).sum(axis=-1)
    if (mass > 1 + 1e-3).any():
        raise ValueError(f"log_probs must have a mass of at most 1, got {mass.max():.9g}")
    return index.astype(np.intp), logs


def check_samples(value: npt.ArrayLike, name: str, k: int) -> npt.NDArray[np.float64]:
    """Return samples as (n, d), finite, with more than k of them."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0 or array.shape[0] <= k:
        raise ValueError(f"{name} must have shape (n_samples, n_features) with n_samples > k = {k}, got {array.shape}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got an infinite or NaN entry")
    return array


# ---- Labels --------------------------------------------------------------------------------------


def check_labels(labels: npt.ArrayLike, n_points: int, name: str) -> npt.NDArray[Any]:
    """Return one number or string for each point; finite where they are numbers."""
    array = np.asarray(labels)
    if array.dtype.kind == "O":
        array = array.astype(str)
    if array.dtype.kind not in "fiubU":
        raise TypeError(f"{name} must hold numbers or strings, got dtype {array.dtype}")
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.shape != (n_points,):
        raise ValueError(f"{name} must have shape ({n_points},), got {array.shape}")
    if array.dtype.kind == "f":
        _check_finite(array, name)
    return array


# ---- Streaming: options, weights, groups, histograms, supports ------------------------------------


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


def check_choices(names: Any, choices: Sequence[str], *, name: str) -> tuple[str, ...]:
    """Return distinct names that are all among the choices."""
    found = check_names(names, name=name)
    for item in found:
        if item not in choices:
            raise ValueError(f"{name} must be among {', '.join(choices)}, got {item!r}")
    return found


def check_edges(edges: npt.ArrayLike, n_features: int) -> npt.NDArray[np.float64]:
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


def check_categories(categories: Any) -> npt.NDArray[Any]:
    """Return distinct integers or strings."""
    array = np.asarray(categories)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iuU":
        raise TypeError(f"categories must be a sequence of integers or of strings, got {categories!r}")
    if len(np.unique(array)) < len(array):
        raise ValueError("categories must be distinct")
    return array if array.dtype.kind == "U" else array.astype(np.int64)


def _check_columns(array: npt.NDArray[Any], n_features: int, name: str) -> npt.NDArray[Any]:
    if array.ndim == 1 and n_features == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_features:
        raise ValueError(f"{name} must have shape (n_rows, {n_features}), got {array.shape}")
    return array


def check_features(values: npt.ArrayLike, n_features: int, *, name: str) -> npt.NDArray[Any]:
    """Return contiguous float32 or float64 values, one column for each feature."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    dtype = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ascontiguousarray(_check_columns(array, n_features, name), dtype)


def check_codes(values: npt.ArrayLike, n_features: int, kind: str, *, name: str) -> npt.NDArray[Any]:
    """Return categories of the given kind ("i" or "U"), one column for each feature."""
    array = np.asarray(values)
    if array.dtype.kind not in ("U" if kind == "U" else "biu"):
        wanted = "strings" if kind == "U" else "integers"
        raise TypeError(f"{name} must be {wanted} as the categories are, got dtype {array.dtype}")
    return _check_columns(array, n_features, name)


def check_counts(
    counts: npt.ArrayLike, shape: tuple[Any, ...], *, name: str, check_range: bool = True
) -> npt.NDArray[np.int64]:
    """Return contiguous counts of a shape, which may begin with ... for any leading axes."""
    array = np.asarray(counts)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    tail = tuple(length for length in shape if length is not ...)
    fits = array.shape[array.ndim - len(tail) :] == tail if shape[0] is ... else array.shape == tail
    if array.ndim < len(tail) or not fits:
        raise ValueError(f"{name} must have shape {str(shape).replace('Ellipsis', '...')}, got {array.shape}")
    too_wide = not check_range and array.dtype.kind == "u" and array.dtype.itemsize == 8
    if array.size and (check_range or too_wide) and (array.min() < 0 or array.max() >= 1 << 51):
        raise ValueError(f"{name} must not be negative, nor 2^51 or more, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def check_support(
    p: npt.ArrayLike, q: npt.ArrayLike, *, from_logits: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], float]:
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
                raise ValueError(f"{name} must be finite and not negative, got {array.min()} to {array.max()}")
    return left, right, eps


def refuse_logits(name: str, n_refused: int) -> None:
    """Raise for NaN, infinite and huge logits."""
    raise ValueError(f"{name} must not be NaN or above 2^40, got {n_refused} such logit(s)")


def check_total(total: float, eps: float, *, name: str) -> None:
    """Raise where probabilities do not add up to 1."""
    if not abs(total - 1) <= eps**0.5:
        raise ValueError(f"{name} must sum to 1 within {eps**0.5:.1e} (normalize='check'), it sums to {total!r}")


def check_folder_of(path: str | os.PathLike[str], name: str) -> None:
    """Raise where a file cannot be written because its folder is not there, before hours are spent on it."""
    folder = os.path.dirname(os.path.abspath(os.fspath(path)))
    if not os.path.isdir(folder) or os.path.isdir(path):
        raise ValueError(f"{name} must name a file in a folder that exists, got {os.fspath(path)!r}")


# ---- Scratch memory ------------------------------------------------------------------------------


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> FloatArray:
    """Return an uninitialised array that starts on a cache line, so that no vector of a kernel straddles two."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(n_bytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n_bytes].view(dtype).reshape(shape)
