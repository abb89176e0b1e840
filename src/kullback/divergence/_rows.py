"""From arrays of any layout to the row kernel and back: the one way into ``divergence_rows``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import aligned_empty
from .._checks.outputs import check_out
from .._checks.probabilities import (
    Distribution,
    check_distribution,
    check_row_weights,
    check_same_rows,
    check_where,
    raise_bad_row,
)
from .._checks.scalars import check_base, check_choice, check_normalize, check_smoothing, check_temperature
from .._kernels import divergence_rows as kernel
from .._options import RowOptions, check_options
from .._threads import resolve_threads

FloatArray = npt.NDArray[np.float64]

MEASURES = {
    name: number
    for number, name in enumerate(
        (
            "kl",
            "reverse_kl",
            "entropy_p",
            "entropy_q",
            "cross_entropy",
            "js",
            "js_distance",
            "hellinger",
            "affinity",
            "total_variation",
            "chi2",
            "jeffreys",
            "renyi",
            "alpha",
            "renyi_entropy",
            "tsallis_entropy",
            "perplexity_p",
            "support",
            "max_ratio",
            "min_entropy",
            "power",
            "mixture",
            "top1_agreement",
            "mass",
        )
    )
}
"""Numbers of the kernel's measures, see ext/_divergence_terms.pxd."""

_INNER_P = frozenset(("entropy_p", "cross_entropy", "perplexity_p"))
_INNER_Q = frozenset(("entropy_q", "reverse_kl"))
_BLOCK, _PIECE, _STATE = kernel.BLOCK_ELEMENTS, kernel.PIECE_ELEMENTS, kernel.STATE_SUMS
_SHORT = 64  # elements: rows up to this length are worked side by side, a lane each
_SHORT_LOGITS = 128  # rows of logits up to this length share a tile
_LOGITS_BLOCK = 1024  # elements of logits, which are read twice: both float64 operands are 16 KiB, inside any L1
_TALL_BLOCK = 248  # elements of a tile of logits that lie side by side: 128 rows of both operands stay in L2,
# and a pitch that is no multiple of 512 bytes keeps its lines in different sets of L1
_FROM_LOGITS = 6  # the place of this option among the kernel's
_NEW_AXES = ((None, None), (None,), ())  # in front of so many batch axes, to make two
_SINGLE_THREAD = 1 << 15  # elements below which waking a second thread costs more than it saves


@lru_cache(maxsize=256)
def _measure_numbers(measures: tuple[str, ...]) -> npt.NDArray[np.int32]:
    return np.array([MEASURES[name] for name in measures], dtype=np.int32)


@lru_cache(maxsize=256)
def _options(
    unit: float,
    mode: int,
    tolerance_p: float,
    tolerance_q: float,
    alpha: float,
    inner: int,
    from_logits: bool,
    temperature: float,
    smoothing: float,
) -> FloatArray:
    return np.array(
        [unit, mode, tolerance_p, tolerance_q, alpha, inner, from_logits, 1 / temperature, smoothing],
        dtype=np.float64,
    )


def row_value(p: npt.ArrayLike, q: npt.ArrayLike | None, measure: str, options: RowOptions, **extra: Any) -> Any:
    """Return one measure, reduced as asked."""
    if not options and not extra and type(p) is np.ndarray:
        values = single_row((measure,), None, "check", False)(p, q)
        if values is not None:
            return values[0]
    return row_values(p, q, (measure,), **check_options(options), **extra)[0]


class _Scratch(threading.local):
    """What single rows need for themselves in each thread: kept, as allocating it would cost a tenth of a call."""

    def __init__(self) -> None:
        self.region = aligned_empty((_region_size(kernel.LANE_ROWS, _BLOCK),), np.float64)
        self.status = np.zeros(1, np.uint8)


_FLOATS = {np.dtype(name): check_distribution(np.empty(1, name), "p")[1:] for name in ("float32", "float64")}
"""Kind and tolerance of what `single_row` takes."""


@lru_cache(maxsize=256)
def single_row(
    measures: tuple[str, ...], base: float | None, normalize: bool | str, from_logits: bool
) -> Callable[[npt.NDArray[Any], Any], FloatArray | None]:
    """Return a function of two vectors (or one and None) with its options resolved: a third of the cost of a call.

    It returns a value for each measure, or None where `row_values` should look again: at what is no vector of
    float32 or float64, rows too long for one thread, and rows that fail the check, of which `row_values` raises.
    """
    numbers, mode = _measure_numbers(measures), check_normalize(normalize)
    unit = 1.0 if base is None else 1.0 / math.log(check_base(base))
    inner, n_measures = _inner_sums(measures) if from_logits else 0, len(measures)
    known: dict[Any, FloatArray] = {}
    scratch = _SCRATCH

    def values_of(p: npt.NDArray[Any], q: Any) -> FloatArray | None:
        if p.ndim != 1 or (q is not None and (type(q) is not np.ndarray or q.shape != p.shape)):
            return None
        length, first = p.shape[0], _FLOATS.get(p.dtype)
        second = first if q is None else _FLOATS.get(q.dtype)
        if first is None or second is None or length >= _SINGLE_THREAD:
            return None
        columns = not from_logits and length <= _SHORT
        group = kernel.LANE_ROWS if columns else 1
        options = known.get((first, second, q is None))
        if options is None:
            tolerance = math.inf if q is None else second[1]
            options = _options(unit, mode, first[1], tolerance, 0.0, inner, from_logits, 1.0, 0.0)
            known[first, second, q is None] = options
        values, region = np.empty(n_measures), scratch.region
        bad = kernel.reduce_rows(
            p[None, None], None if q is None else q[None, None], first[0], second[0], numbers, options, values,
            scratch.status, region, region.size, group, _LOGITS_BLOCK if from_logits else _BLOCK, columns, 1,
        )  # fmt: skip
        if bad < 0:
            return values
        scratch.status[0] = 0
        return None

    return values_of


def _inner_sums(measures: tuple[str, ...]) -> int:
    """Return which inner sums of logits the measures need, see ext/divergence_rows.pyx."""
    return 2 if not _INNER_Q.isdisjoint(measures) else int(not _INNER_P.isdisjoint(measures))


def _region_size(group: int, tile: int) -> int:
    """Return the scratch of one thread, for a group of rows and a tile of so many elements."""
    return 8 + (3 * group + 3 * kernel.LANE_ROWS) * _STATE + 2 * _BLOCK + 2 * tile


_SCRATCH = _Scratch()


def row_values(
    p: npt.ArrayLike,
    q: npt.ArrayLike | None,
    measures: tuple[str, ...],
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    weights: npt.ArrayLike | None = None,
    where: npt.ArrayLike | None = None,
    reduction: str = "none",
    smoothing: float = 0.0,
    from_logits: bool = False,
    temperature: float = 1.0,
    keepdims: bool = False,
    n_threads: int | None = None,
    out: FloatArray | None = None,
    alpha: float = 0.0,
    names: tuple[str, str] = ("p", "q"),
    transform: Callable[[list[Any]], list[Any]] | None = None,
) -> list[Any]:
    """Return one array (or scalar, for one row or a reduction) of values for each of ``measures``.

    ``transform`` turns the measures' values into those to return, before rows are reduced.
    """
    first = check_distribution(p, names[0], from_logits)
    second = None if q is None else check_distribution(q, names[1], from_logits)
    mode = check_normalize(normalize)
    unit = 1.0 if base is None else 1.0 / math.log(check_base(base))
    if temperature != 1.0 or smoothing != 0.0:
        check_temperature(temperature, from_logits)
        check_smoothing(smoothing, normalize)
    arrays: Sequence[npt.NDArray[Any]] = (first.array,) if second is None else (first.array, second.array)
    shape = arrays[0].shape
    if type(axis) is not int or axis != -1 or shape != arrays[-1].shape:
        shape, axis = check_same_rows(first, second, axis, names)
        arrays = [_with_axis_last(array, shape, axis) for array in arrays]
    *batch_lengths, length = arrays[0].shape
    batch = tuple(batch_lengths)
    n_rows = math.prod(batch)
    n_threads = 1 if n_threads is None and n_rows * length < _SINGLE_THREAD else resolve_threads(n_threads)
    keep = None if where is None else check_where(where, batch)
    inner = _inner_sums(measures) if from_logits else 0
    options = _options(
        unit,
        mode,
        first.tolerance,
        math.inf if second is None else second.tolerance,
        alpha,
        inner,
        bool(from_logits),
        temperature,
        smoothing,
    )
    values = np.empty((len(measures), n_rows))
    start = 0
    for parts in _three_axes(arrays):
        count = parts[0].shape[0] * parts[0].shape[1]
        result = values if count == n_rows else np.empty((len(measures), count))
        kept = None if keep is None else keep.reshape(-1)[start : start + count]
        bad, status = _reduce(parts, (first, second), _measure_numbers(measures), options, result, n_threads, kept)
        if bad >= 0:
            row = np.unravel_index(start + bad, batch) if batch else ()
            position = tuple(int(i) for i in row)
            raise_bad_row(status, (first, second), arrays, position, names, from_logits)
        if result is not values:
            values[:, start : start + count] = result
        start += count
    results = list(values[:, 0]) if not batch else list(values.reshape(len(measures), *batch))
    if transform is not None:
        results = transform(results)
    if weights is None and keep is None and reduction == "none" and out is None and not keepdims:
        return results
    return [reduce_rows(value, batch, axis % len(shape), weights, keep, reduction, keepdims, out) for value in results]


def reduce_rows(
    values: Any,
    batch: tuple[int, ...],
    axis: int,
    weights: npt.ArrayLike | None,
    keep: npt.NDArray[np.bool_] | None,
    reduction: str,
    keepdims: bool,
    out: FloatArray | None,
) -> Any:
    """Reduce over rows, weighted, without those that ``keep`` leaves out; shape the result and store it."""
    check_choice(reduction, "reduction", ("none", "mean", "sum"))
    weighting = check_row_weights(weights, batch, reduction)
    values = np.asarray(values)
    if reduction == "none":
        if keep is not None:
            values = np.where(keep, values, np.nan)
        if keepdims:
            values = np.expand_dims(values, axis)
    else:
        factor = np.ones(batch) if weighting is None else weighting
        if keep is not None:
            factor = np.where(keep, factor, 0.0)
        total = np.where(factor == 0, 0.0, values)  # a row of no weight counts nothing, NaN or not
        total = np.asarray(np.sum(total * factor))
        if reduction == "mean":
            with np.errstate(invalid="ignore", divide="ignore"):
                total = total / factor.sum()
        values = np.asarray(total).reshape((1,) * (len(batch) + 1) if keepdims else ())
    if out is not None:
        check_out(out, values.shape)[...] = values
        return out
    return values[()]


def _reduce(
    parts: Sequence[npt.NDArray[Any]],
    operands: tuple[Distribution, Distribution | None],
    numbers: npt.NDArray[np.int32],
    options: FloatArray,
    result: FloatArray,
    n_threads: int,
    kept: npt.NDArray[np.bool_] | None,
) -> tuple[int, int]:
    """Run the kernel; return the first row that fails the check (or -1) and why."""
    first, second = operands
    length, n_rows = parts[0].shape[2], result.shape[1]
    from_logits = options.item(_FROM_LOGITS) != 0
    group, block, most = 1, _LOGITS_BLOCK if from_logits else _BLOCK, kernel.MAX_GROUP_ROWS
    side_by_side = length > _SHORT and any(abs(part.strides[2]) > abs(part.strides[1]) > 0 for part in parts)
    columns = not from_logits and (length <= _SHORT or side_by_side)
    if columns:
        group = max(1, min(most, -(-parts[0].shape[1] // kernel.LANE_ROWS) * kernel.LANE_ROWS))
    elif length <= _SHORT_LOGITS:
        group = max(1, min(most, block // max(length, 1), parts[0].shape[1]))
    elif side_by_side:
        group, block = most, _TALL_BLOCK
    tile = _BLOCK if columns else group * min(length, block)
    region = -(-_region_size(group, tile) // 8) * 8  # whole cache lines
    n_pieces = -(-length // _PIECE)
    n_groups = parts[0].shape[0] * -(-parts[0].shape[1] // group)
    shared = n_rows * n_pieces * _STATE if n_pieces > 1 and n_groups < 4 * n_threads else 0
    scratch = aligned_empty((n_threads * region + shared,), np.float64)
    status = np.zeros(n_rows, dtype=np.uint8)
    bad = kernel.reduce_rows(
        parts[0],
        None if second is None else parts[1],
        first.kind,
        first.kind if second is None else second.kind,
        numbers,
        options,
        result.reshape(-1),
        status,
        scratch,
        region,
        group,
        block,
        columns,
        n_threads,
    )
    if bad >= 0 and kept is not None:
        failed = np.flatnonzero((status != 0) & kept)
        bad = int(failed[0]) if failed.size else -1
    return bad, int(status[bad]) if bad >= 0 else 0


def _with_axis_last(array: npt.NDArray[Any], shape: tuple[int, ...], axis: int) -> npt.NDArray[Any]:
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    return array if axis in (-1, array.ndim - 1) else np.moveaxis(array, axis, -1)


def _three_axes(arrays: Sequence[npt.NDArray[Any]]) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """Yield views of (outer, inner, element) that cover all rows in order, without a copy."""
    n_batch = arrays[0].ndim - 1
    if n_batch <= 2:
        yield [array[_NEW_AXES[n_batch]] for array in arrays]
        return
    shape, strides = list(arrays[0].shape), [list(array.strides) for array in arrays]
    for k in range(n_batch - 2, -1, -1):  # merge neighbouring axes that lie like one in every operand
        if len(shape) > 3 and all(s[k] == s[k + 1] * shape[k + 1] for s in strides):
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
            for s in strides:
                del s[k]
    merged = [
        np.lib.stride_tricks.as_strided(array, shape, s, writeable=False)
        for array, s in zip(arrays, strides, strict=True)
    ]
    for index in np.ndindex(*shape[:-3]):
        yield [array[index] for array in merged]
