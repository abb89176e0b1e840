"""From arrays of any layout to the row kernel and back: the one way into ``divergence_rows``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import (
    Distribution,
    check_base,
    check_distribution,
    check_normalize,
    check_same_rows,
    raise_bad_row,
)
from .._kernels import divergence_rows as kernel
from .._threads import resolve_threads

FloatArray = npt.NDArray[np.float64]

MEASURES = {"kl": 0, "reverse_kl": 1, "entropy_p": 2, "entropy_q": 3, "cross_entropy": 4}
"""Numbers of the kernel's measures, see ext/_divergence_terms.pxd."""

_BLOCK, _PIECE, _STATE = kernel.BLOCK_ELEMENTS, kernel.PIECE_ELEMENTS, kernel.STATE_SUMS
_SHORT = 128  # rows up to this length pass through tiles of several rows
_TALL_BLOCK = 248  # elements of a tile whose rows lie side by side: 128 rows of both operands stay in L2,
# and a pitch that is no multiple of 512 bytes keeps its lines in different sets of L1
_SINGLE_THREAD = 1 << 15  # elements below which waking a second thread costs more than it saves


@lru_cache(maxsize=256)
def _measure_numbers(measures: tuple[str, ...]) -> npt.NDArray[np.int32]:
    return np.array([MEASURES[name] for name in measures], dtype=np.int32)


@lru_cache(maxsize=256)
def _options(unit: float, mode: int, tolerance_p: float, tolerance_q: float) -> FloatArray:
    return np.array([unit, mode, tolerance_p, tolerance_q])


def row_values(
    p: npt.ArrayLike,
    q: npt.ArrayLike | None,
    measures: tuple[str, ...],
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    keepdims: bool = False,
    n_threads: int | None = None,
    names: tuple[str, str] = ("p", "q"),
) -> list[Any]:
    """Return one array (or scalar, for one row) of values for each of ``measures``."""
    first = check_distribution(p, names[0])
    second = None if q is None else check_distribution(q, names[1])
    mode = check_normalize(normalize)
    unit = 1.0 if base is None else 1.0 / math.log(check_base(base))
    shape, axis = check_same_rows(first, second, axis, names)
    arrays = [_with_axis_last(part.array, shape, axis) for part in (first, second) if part is not None]
    length, batch = arrays[0].shape[-1], arrays[0].shape[:-1]
    n_rows = math.prod(batch)
    n_threads = 1 if n_threads is None and n_rows * length < _SINGLE_THREAD else resolve_threads(n_threads)
    numbers = _measure_numbers(measures)
    options = _options(unit, mode, first.tolerance, math.inf if second is None else second.tolerance)
    values = np.empty((len(measures), n_rows))
    start = 0
    for parts in _three_axes(arrays):
        count = parts[0].shape[0] * parts[0].shape[1]
        result = values if count == n_rows else np.empty((len(measures), count))
        bad, status = _reduce(parts, (first, second), numbers, options, result, n_threads)
        if bad >= 0:
            row = np.unravel_index(start + bad, batch) if batch else ()
            raise_bad_row(status, (first, second), arrays, tuple(int(i) for i in row), names)
        if result is not values:
            values[:, start : start + count] = result
        start += count
    if keepdims:
        position = axis % len(shape)
        return list(values.reshape(len(measures), *batch[:position], 1, *batch[position:]))
    return list(values[:, 0]) if not batch else list(values.reshape(len(measures), *batch))


def _reduce(
    parts: Sequence[npt.NDArray[Any]],
    operands: tuple[Distribution, Distribution | None],
    numbers: npt.NDArray[np.int32],
    options: FloatArray,
    result: FloatArray,
    n_threads: int,
) -> tuple[int, int]:
    """Run the kernel; return the first row that fails the check (or -1) and why."""
    first, second = operands
    length, n_rows = parts[0].shape[2], result.shape[1]
    group, block = 1, _BLOCK
    if length <= _SHORT:
        group = min(kernel.MAX_GROUP_ROWS, _BLOCK // max(length, 1))
    elif any(abs(part.strides[2]) > abs(part.strides[1]) > 0 for part in parts):
        group, block = kernel.MAX_GROUP_ROWS, _TALL_BLOCK
    region = 2 * group * _STATE + 4 * _BLOCK + 2 * group * min(length, block)
    n_pieces = -(-length // _PIECE)
    scratch = np.empty(n_threads * region + (n_rows * n_pieces * _STATE if group == 1 else 0))
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
        n_threads,
    )
    return bad, int(status[bad]) if bad >= 0 else 0


def _with_axis_last(array: npt.NDArray[Any], shape: tuple[int, ...], axis: int) -> npt.NDArray[Any]:
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    return array if axis in (-1, array.ndim - 1) else np.moveaxis(array, axis, -1)


def _three_axes(arrays: Sequence[npt.NDArray[Any]]) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """Yield views of (outer, inner, element) that cover all rows in order, without a copy."""
    n_batch = arrays[0].ndim - 1
    if n_batch <= 2:
        yield [array[(None,) * (2 - n_batch)] for array in arrays]
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
