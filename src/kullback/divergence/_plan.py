"""What is asked of rows, resolved once, and the one way from arrays into the kernel ``divergence_rows``.

A :class:`Plan` holds the measures and the options that no array changes. It takes either two short vectors, where the
cost of the call itself matters, or :class:`Rows` of any number, layout and dtype.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._arrays import aligned_empty
from .._checks.probabilities import Distribution, check_distribution, check_same_rows, raise_bad_row
from .._checks.scalars import check_base, check_normalize, check_smoothing, check_temperature
from .._kernels import divergence_rows as kernel
from .._options import Axis, FloatArray
from .._threads import resolve_threads, startable_threads

SERIAL_ELEMENTS = 1 << 15
"""Below so many elements, waking a second thread costs more than it saves."""

CALL_ELEMENTS, CALL_ELEMENTS_OF_ORDER = 1 << 26, 1 << 23
"""Elements of one call of the kernel, which nothing interrupts: some 25 ms, and 0.6 s for measures of an order alpha.
Elements that are read from a disk take longer."""


class Rows(NamedTuple):
    """Checked operands, p alone or p and q, with their rows along the last axis."""

    operands: tuple[Distribution, Distribution | None]
    arrays: Sequence[npt.NDArray[Any]]
    batch: tuple[int, ...]  # the shape of the rows
    axes: tuple[int, ...]  # where the elements stand in the caller's arrays
    names: tuple[str, str]  # of the operands, for messages

    def values(self, plan: Plan, n_threads: int | None = None, keep: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """Return values of shape (n_measures, n_rows), as `Plan.of_rows` does."""
        return plan.of_rows(self, n_threads, keep)


def align_rows(first: Distribution, second: Distribution | None, axis: Axis, names: tuple[str, str]) -> Rows:
    """Broadcast the operands to one shape and move their elements to the last axis."""
    arrays: Sequence[npt.NDArray[Any]] = (first.array,) if second is None else (first.array, second.array)
    shape = arrays[0].shape
    axes: tuple[int, ...] = (len(shape) - 1,)
    if type(axis) is not int or axis != -1 or shape != arrays[-1].shape:
        shape, axes = check_same_rows(first, second, axis, names)
        if axis is None:
            arrays = [array.reshape(-1) for array in arrays]
        else:
            arrays = [_with_elements_last(array, shape, axes) for array in arrays]
    return Rows((first, second), arrays, arrays[0].shape[:-1], axes, names)


def _with_elements_last(array: npt.NDArray[Any], shape: tuple[int, ...], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array, broadcast to a shape, with the elements of all ``axes`` along the last axis.

    It is a view unless several axes that do not lie like one become one.
    """
    if len(axes) == 1:
        if array.shape != shape:
            array = np.broadcast_to(array, shape)
        return array if axes[0] == array.ndim - 1 else np.moveaxis(array, axes[0], -1)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    array = np.moveaxis(array, axes, range(-len(axes), 0))
    array = array.reshape(*array.shape[: -len(axes)], math.prod(array.shape[-len(axes) :]))
    return np.broadcast_to(array, (*(n for k, n in enumerate(shape) if k not in axes), array.shape[-1]))


def _at_most_three_axes(arrays: Sequence[npt.NDArray[Any]]) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """Yield views of at most three axes, elements last, that cover all rows in order, without a copy."""
    if arrays[0].ndim <= 3:
        yield arrays
        return
    shape, strides = list(arrays[0].shape), [list(array.strides) for array in arrays]
    for k in range(len(shape) - 3, -1, -1):  # merge neighbouring axes that lie like one in every operand
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


def _in_calls(arrays: Sequence[npt.NDArray[Any]], elements: int) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """Yield the views of `_at_most_three_axes`, cut along their first axis where they have more elements."""
    for parts in _at_most_three_axes(arrays):
        size, length = parts[0].size, len(parts[0])
        if size <= elements or parts[0].ndim == 1:
            yield parts
            continue
        step = max(1, elements * length // size)
        for start in range(0, length, step):
            yield [part[start : start + step] for part in parts]


class _Scratch(threading.local):
    """What vectors need for themselves in each thread; it is kept, because allocating it would cost a tenth of a call.

    ``status`` is 0 between calls.
    """

    def __init__(self) -> None:
        self.memory = aligned_empty((kernel.vector_scratch_size(),), np.float64)
        self.status = np.zeros(1, np.uint8)


_SCRATCH = _Scratch()

_VECTOR_ELEMENTS = {np.dtype(name): check_distribution(np.empty(1, name), "p")[1:] for name in ("float32", "float64")}
"""The kernel's number and the tolerance of each dtype that `Plan.of_vectors` takes."""


@lru_cache(maxsize=256)
def reduction_of(*asked: Any) -> Any:
    """Return the kernel's form of a plan for given element types."""
    return kernel.Reduction(*asked)


class Plan:
    """Measures of rows with the options that no array changes; :func:`kullback.kl_divergence` describes those.

    ``alpha`` is the order of the measures that have one.
    """

    def __init__(
        self,
        measures: tuple[str, ...],
        *,
        base: float | None = None,
        normalize: bool | str = "check",
        smoothing: float = 0.0,
        from_logits: bool = False,
        temperature: float = 1.0,
        alpha: float = 0.0,
    ) -> None:
        normalisation = check_normalize(normalize)
        unit = 1.0 if base is None else 1.0 / math.log(check_base(base))
        if temperature != 1.0 or smoothing != 0.0:
            check_temperature(temperature, from_logits)
            check_smoothing(smoothing, normalize)
        self.measures, self.from_logits = measures, bool(from_logits)
        self.needs_zeros = self.from_logits or smoothing > 0  # whether an element counts that is 0 on both sides
        self._asked = unit, normalisation, alpha, self.from_logits, 1 / temperature, smoothing
        self._of_dtypes: dict[tuple[Any, Any], Any] = {}

    def of_vectors(self, p: npt.NDArray[Any], q: Any) -> FloatArray | None:
        """Return a value of each measure for two vectors (or one and None), at a third of the cost of `of_rows`.

        Return None where `of_rows` should look again: at what is no vector of float32 or float64, at rows too long for
        one thread, and at rows that fail the check, of which `of_rows` raises.
        """
        if p.ndim != 1 or (q is not None and (type(q) is not np.ndarray or q.shape != p.shape)):
            return None
        reduce = self._of_dtypes.get((p.dtype, None if q is None else q.dtype)) or self._prepare(p, q)
        if reduce is None or p.shape[0] >= SERIAL_ELEMENTS:
            return None
        scratch, values = _SCRATCH, np.empty(len(self.measures))
        if reduce(p, q, values, scratch.status, scratch.memory, 1) < 0:
            return values
        scratch.status[0] = 0
        return None

    def _prepare(self, p: npt.NDArray[Any], q: npt.NDArray[Any] | None) -> Any:
        """Return the kernel's function for vectors of these dtypes and remember it; None if it does not take them."""
        if p.dtype not in _VECTOR_ELEMENTS or (q is not None and q.dtype not in _VECTOR_ELEMENTS):
            return None
        elements = _VECTOR_ELEMENTS[p.dtype], None if q is None else _VECTOR_ELEMENTS[q.dtype]
        reduce = reduction_of(self.measures, *elements, *self._asked).reduce
        self._of_dtypes[p.dtype, None if q is None else q.dtype] = reduce
        return reduce

    def of_rows(
        self, rows: Rows, n_threads: int | None = None, keep: npt.NDArray[np.bool_] | None = None
    ) -> FloatArray:
        """Return values of shape (n_measures, n_rows); raise for a row that fails the check and that ``keep`` keeps."""
        first, second = rows.operands
        reduction = reduction_of(self.measures, first[1:], None if second is None else second[1:], *self._asked)
        n_rows = math.prod(rows.batch)
        if n_threads is None and n_rows * rows.arrays[0].shape[-1] < SERIAL_ELEMENTS:
            n_threads = 1
        n_threads = resolve_threads(n_threads)
        values = np.empty((len(self.measures), n_rows))
        start = 0
        for parts in _in_calls(rows.arrays, CALL_ELEMENTS_OF_ORDER if self._asked[2] else CALL_ELEMENTS):
            count = math.prod(parts[0].shape[:-1])
            result = values if count == n_rows else np.empty((len(self.measures), count))
            status = self._run(reduction, parts, result, n_threads)
            if status is not None:
                failed = np.flatnonzero(status if keep is None else (status != 0) & keep.reshape(-1)[start:][:count])
                if failed.size:
                    self._raise(rows, start + int(failed[0]), int(status[failed[0]]))
            if result is not values:
                values[:, start : start + count] = result
            start += count
        return values

    def _run(
        self, reduction: Any, parts: Sequence[npt.NDArray[Any]], values_out: FloatArray, n_threads: int
    ) -> npt.NDArray[np.uint8] | None:
        """Run the kernel on views of at most three axes; return why rows fail the check if there are any."""
        p, q = parts[0], parts[1] if len(parts) > 1 else None
        scratch = aligned_empty((reduction.scratch_size(p, q, n_threads),), np.float64)
        status = np.zeros(values_out.shape[1], dtype=np.uint8)
        out = values_out.reshape(-1)
        failed = reduction.reduce(p, q, out, status, scratch, startable_threads(n_threads))
        return status if failed >= 0 else None

    def _raise(self, rows: Rows, row: int, status: int) -> None:
        """Raise the error of a row, which is counted over the whole batch."""
        position = tuple(int(i) for i in np.unravel_index(row, rows.batch)) if rows.batch else ()
        raise_bad_row(status, rows.operands, rows.arrays, position, rows.names, self.from_logits)


@lru_cache(maxsize=256)
def default_plan(measures: tuple[str, ...], alpha: float) -> Plan:
    """Return the plan of measures without options."""
    return Plan(measures, alpha=alpha)
