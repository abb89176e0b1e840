"""Rows of sparse matrices, which go through the kernel of dense rows in blocks of bounded size.

An element that is 0 on both sides adds nothing. So each row is packed: it keeps the columns in which either side has a
value, and zeros fill it up to the longest row of its block. Rows of similar length share a block, which makes the work
proportional to the number of values. Where zeros count, because they are logits or are smoothed, and where one side is
dense, blocks have all columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks.probabilities import BadRowError, Distribution, check_distribution, check_same_rows
from .._checks.sparse import as_sorted_rows, is_sparse
from .._options import Axis, FloatArray
from ._plan import Plan, Rows, align_rows

BLOCK_ELEMENTS = 1 << 18
"""How many elements of each side a block has, unless a single row has more."""

MOST_PADDING = 16
"""By how much the longest row of a block may exceed twice the length of the shortest one."""


def read_rows(p: Any, q: Any, axis: Axis, names: tuple[str, str], from_logits: bool) -> Rows | SparseRows:
    """Return the checked rows of p and q, or of p alone where q is None, dense or sparse."""
    if is_sparse(p) or is_sparse(q):
        return SparseRows(p, q, axis, names, from_logits)
    first = check_distribution(p, names[0], from_logits)
    second = None if q is None else check_distribution(q, names[1], from_logits)
    return align_rows(first, second, axis, names)


class SparseRows:
    """Checked operands of which at least one is sparse; `values` reduces them.

    Attributes
    ----------
    batch, axes
        The shape of the rows, and where the elements stand, as in `Rows`.
    """

    def __init__(self, p: Any, q: Any, axis: Axis, names: tuple[str, str], from_logits: bool) -> None:
        given = [(p, names[0])] if q is None else [(p, names[0]), (q, names[1])]
        sides = [_Side(value, name, from_logits) for value, name in given]
        self._operands = sides[0].operand, sides[1].operand if len(sides) > 1 else None
        shape, self.axes = check_same_rows(*self._operands, axis, names)
        for side, name in zip(sides, names, strict=False):
            if len(side.operand.array.shape) > 2:
                raise ValueError(
                    f"{name} must have at most two axes beside sparse rows, got shape {side.operand.array.shape}"
                )
        self.batch = () if axis is None else tuple(n for k, n in enumerate(shape) if k not in self.axes)
        self._n_rows = math.prod(self.batch)
        self._names = names
        self._all_sparse = all(side.is_sparse for side in sides)
        self._matrices = [side.as_rows(axis is None or len(self.axes) == len(shape), self.axes[0]) for side in sides]
        self._n_columns: int = self._matrices[0].shape[1]

    def values(self, plan: Plan, n_threads: int | None = None, keep: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """Return values of shape (n_measures, n_rows); raise for the first row that fails, as `Plan.of_rows` does."""
        values = np.empty((len(plan.measures), self._n_rows))
        keep = None if keep is None else keep.reshape(-1)
        if self._all_sparse and not plan.needs_zeros and self._n_columns and self._n_rows:
            per_side = [np.broadcast_to(np.diff(matrix.indptr), self._n_rows) for matrix in self._matrices]
            lengths = np.sum(per_side, axis=0)
            # The place of the largest element is not known of a row without any, if columns are left out.
            if "top1_agreement" not in plan.measures or np.all(per_side):
                try:
                    return self._reduce(plan, _similar_rows(lengths), values, n_threads, keep)
                except BadRowError:  # this may not be the first bad row; the next pass goes from row to row
                    return self._reduce(plan, _rows_in_order(self._n_rows, int(lengths.max())), values, n_threads, keep)
        return self._reduce(plan, _rows_in_order(self._n_rows, self._n_columns), values, n_threads, keep, pack=False)

    def _reduce(
        self,
        plan: Plan,
        blocks: Iterator[npt.NDArray[np.intp]],
        values_out: FloatArray,
        n_threads: int | None,
        keep: npt.NDArray[np.bool_] | None,
        pack: bool = True,
    ) -> FloatArray:
        """Reduce the rows of one block after the other."""
        for rows in blocks:
            parts = [matrix[rows if matrix.shape[0] > 1 else np.zeros_like(rows)] for matrix in self._matrices]
            arrays = _pack(parts) if pack else [part.toarray() if is_sparse(part) else part for part in parts]
            first, second = (
                None if old is None else Distribution(array, _FLOAT64 if pack else old.kind, old.tolerance)
                for old, array in zip(self._operands, [*arrays, None], strict=False)
            )
            assert first is not None
            if not self.batch:
                arrays = [array[0] for array in arrays]
            block = Rows((first, second), arrays, (len(rows),) if self.batch else (), (1,), self._names)
            try:
                found = plan.of_rows(block, n_threads, None if keep is None else keep[rows])
            except BadRowError as error:
                if not self.batch:
                    raise
                raise error.in_block(int(rows[0])) from None
            values_out[:, rows] = found
        return values_out


_FLOAT64 = check_distribution(np.empty(1), "p").kind


class _Side:
    """One operand: what stands for its shape and dtype in checks, and its matrix of rows."""

    def __init__(self, value: Any, name: str, from_logits: bool) -> None:
        self.is_sparse = is_sparse(value)
        if not self.is_sparse:
            self.operand = check_distribution(value, name, from_logits)
            self._matrix: Any = np.atleast_2d(self.operand.array)
            return
        from scipy import sparse

        csr = as_sorted_rows(value, name)
        array, kind, tolerance = check_distribution(csr.data, name, from_logits)
        if not array.all():
            csr.data = array
            csr = csr.copy()
            csr.eliminate_zeros()
            array = csr.data
        self._matrix = sparse.csr_array((array, csr.indices, csr.indptr), shape=csr.shape)
        shape = value.shape
        self.operand = Distribution(np.broadcast_to(np.zeros((), array.dtype), shape), kind, tolerance)

    def as_rows(self, is_one_row: bool, axis: int) -> Any:
        """Return a matrix whose rows are the distributions: all elements are one, or those along one axis."""
        rows = self._matrix if is_one_row or axis == 1 else self._matrix.T
        if is_one_row:
            rows = rows.reshape(1, -1)
        return rows.tocsr() if self.is_sparse else rows


def _rows_in_order(n_rows: int, length: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the numbers of rows, in blocks, for rows of at most this length."""
    step = max(1, BLOCK_ELEMENTS // max(length, 1))
    for start in range(0, n_rows, step):
        yield np.arange(start, min(start + step, n_rows))


def _similar_rows(lengths: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the numbers of rows, in blocks of rows of similar lengths."""
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order]
    start = 0
    while start < len(order):
        similar = np.searchsorted(ascending, 2 * ascending[start] + MOST_PADDING, side="right")
        stop = min(similar, start + max(1, BLOCK_ELEMENTS // max(int(ascending[similar - 1]), 1)))
        yield order[start:stop]
        start = stop


def _pack(parts: list[Any]) -> list[FloatArray]:
    """Return float64 rows that hold the values of CSR rows, one after the other, of all columns that any part has.

    The parts of a complex number stand for the two sides, so that SciPy's sum of two matrices merges their columns.
    """
    merged = parts[0]
    if len(parts) == 2:
        merged = _as_complex(parts[0], "real") + _as_complex(parts[1], "imag")
    lengths = np.diff(merged.indptr)
    shape = len(lengths), max(int(lengths.max(initial=0)), 1)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = rows * shape[1] + np.arange(len(rows)) - np.repeat(merged.indptr[:-1], lengths)
    packed = []
    for values in (merged.data,) if len(parts) == 1 else (merged.data.real, merged.data.imag):
        block = np.zeros(shape)
        block.reshape(-1)[places] = values
        packed.append(block)
    return packed


def _as_complex(matrix: Any, part: str) -> Any:
    """Return a CSR matrix with its values as the real or as the imaginary part."""
    from scipy import sparse

    data = np.zeros(len(matrix.data), dtype=np.complex128)
    getattr(data, part)[:] = matrix.data
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
