"""Measures of all pairs of rows.

Where the measure allows it, matrix products give all values of a tile at once. Other measures, and the pairs of which
a product loses the digits, are summed term by term.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
import numpy.typing as npt

from .._checks.names import match_names
from .._checks.outputs import check_out
from .._checks.probabilities import check_rows
from .._checks.scalars import check_base, check_choice, check_integer
from .._checks.sparse import is_sparse
from .._kernels import divergence_pairs as kernel
from .._options import FloatArray, Normalize
from .._threads import resolve_threads, startable_threads
from ._plan import SERIAL_ELEMENTS
from ._rows import MEASURES

PairwiseMeasure: TypeAlias = Literal[
    "kl", "cross_entropy", "hellinger", "js", "js_distance", "total_variation", "chi2", "jeffreys"
]
"""The measures that :func:`pairwise_divergence` computes."""

_SYMMETRIC = frozenset(("js", "js_distance", "total_variation", "hellinger", "jeffreys"))
_TILE_ROWS, _TILE_COLUMNS = 512, 2048  # a tile is 8 MiB of values, which makes products large enough for BLAS
_CANCELLED = 1e-2  # a value in nats below this has lost more than 1e-13 of itself in a product of float64 rows


@overload
def pairwise_divergence(
    P: npt.ArrayLike,
    Q: npt.ArrayLike | None = None,
    *,
    measure: PairwiseMeasure = "js",
    base: float | None = None,
    normalize: Normalize = "check",
    k: None = None,
    out: FloatArray | None = None,
    n_threads: int | None = None,
) -> FloatArray: ...
@overload
def pairwise_divergence(
    P: npt.ArrayLike,
    Q: npt.ArrayLike | None = None,
    *,
    measure: PairwiseMeasure = "js",
    base: float | None = None,
    normalize: Normalize = "check",
    k: int,
    out: None = None,
    n_threads: int | None = None,
) -> tuple[FloatArray, npt.NDArray[np.int64]]: ...
def pairwise_divergence(
    P: npt.ArrayLike,
    Q: npt.ArrayLike | None = None,
    *,
    measure: PairwiseMeasure = "js",
    base: float | None = None,
    normalize: Normalize = "check",
    k: int | None = None,
    out: FloatArray | None = None,
    n_threads: int | None = None,
) -> FloatArray | tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return a measure of every row of P with every row of Q, or of the nearest rows of Q alone.

    Parameters
    ----------
    P : array_like of shape (n, n_elements)
        Distributions, one a row. Integers are counts. Both may be sparse matrices of SciPy.
    Q : array_like of shape (m, n_elements), optional
        Distributions, one a row. By default they are those of P.
    measure : str, default "js"
        What to compute, as the function of that name does: "js", "js_distance", "kl", "cross_entropy", "hellinger",
        "total_variation", "chi2" or "jeffreys".
    base : float, optional
        The base of the logarithm, which is natural by default.
    normalize : {"check", True}, default "check"
        Whether to check that rows sum to 1, as :func:`kullback.kl_divergence` does. They are divided by their sums
        either way.
    k : int, optional
        How many rows of Q to keep for each row of P, the nearest ones. With ``Q=None`` a row is not its own neighbour.
    out : float64 array of shape (n, m), optional
        An array to write the values to, tile by tile. A memmap may be larger than memory.
    n_threads : int, optional
        How many threads to use; ``None`` is all. No bit of the result depends on it where no matrix product is used.

    Returns
    -------
    values : float64 array of shape (n, m), or (n, k) with ``k``
        The measure of each pair. With ``k`` the nearest row comes first.
    indices : int64 array of shape (n, k)
        Which rows of Q these are. It is returned with ``k`` alone.

    Raises
    ------
    ValueError
        Where P and Q have different numbers of columns, a row fails the check, or an option is out of its range.

    Notes
    -----
    "kl", "cross_entropy" and "hellinger" are computed as matrix products, and "js" takes one logarithm an element.
    Pairs that are so near that this cancels are computed again term by term. Of sparse rows, each tile keeps the
    columns that both of its sides have. All others have a zero on one side, and make one element of either side.

    A row has a divergence of exactly 0 from itself. For the symmetric measures ("js", "js_distance", "hellinger",
    "total_variation" and "jeffreys"), the matrix of a P is symmetric to the last bit, as
    :func:`scipy.spatial.distance.squareform` wants it, and that of P and Q is the transpose of that of Q and P.

    Examples
    --------
    >>> import kullback
    >>> P = [[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]]
    >>> kullback.pairwise_divergence(P, measure="total_variation")
    array([[0.  , 0.25, 0.5 ],
           [0.25, 0.  , 0.75],
           [0.5 , 0.75, 0.  ]])
    >>> values, indices = kullback.pairwise_divergence(P, measure="total_variation", k=1)
    >>> indices.ravel()
    array([1, 0, 0])
    """
    check_choice(measure, "measure", get_args(PairwiseMeasure))
    unit = 1.0 if base is None else 1.0 / math.log(check_base(base))
    P, Q = match_names(P, Q, what="P and Q", pairs=False)
    first = check_rows(P, "P", normalize)
    second = first if Q is None else check_rows(Q, "Q", normalize)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"P and Q must have equally many columns, got {first.shape[1]} and {second.shape[1]}")
    shape = first.shape[0], second.shape[0]
    small = math.prod(shape) * first.shape[1] < SERIAL_ELEMENTS
    threads = 1 if n_threads is None and small else resolve_threads(n_threads)
    sparse = is_sparse(first) or is_sparse(second)
    tiles: Callable[..., Callable[[slice, slice], FloatArray]] = _SparseTiles if sparse else _Tiles
    if k is not None:
        if out is not None:
            raise ValueError("out must be None with k, which returns values and indices")
        most = shape[1] - (Q is None)
        if check_integer(k, "k", low=1) > most:
            raise ValueError(f"k must be in [1, {most}] for {shape[1]} rows, got {k}")
        return _nearest(tiles(first, second, measure, unit, threads), shape, int(k), Q is None)
    values = np.empty(shape) if out is None else check_out(out, shape)
    order = 0
    if measure in _SYMMETRIC and Q is not None:
        order = -1 if sparse else _compare(first, second)
    if order > 0:
        _fill(tiles(second, first, measure, unit, threads), values.T, mirrored=False)
    else:
        _fill(tiles(first, second, measure, unit, threads), values, mirrored=measure in _SYMMETRIC and order == 0)
    return values


def _compare(first: FloatArray, second: FloatArray) -> int:
    """Return -1, 0 or 1 as the first matrix comes before the second, equals it, or comes after it, in some order.

    Products of the same two matrices are then always taken in the same order, so that they have the same bits.
    """
    if len(first) != len(second):
        return -1 if len(first) < len(second) else 1
    differing = np.flatnonzero((first != second).any(axis=1))
    if not differing.size:
        return 0
    one, other = first[differing[0]], second[differing[0]]
    column = np.argmax(one != other)
    return -1 if one[column] < other[column] else 1


def _fill(tile: Callable[[slice, slice], FloatArray], values: FloatArray, mirrored: bool) -> None:
    """Compute all values, or those of one triangle where the other is its mirror image."""
    n_columns = _TILE_ROWS if mirrored else _TILE_COLUMNS
    for i in range(0, values.shape[0], _TILE_ROWS):
        rows = slice(i, min(i + _TILE_ROWS, values.shape[0]))
        for j in range(i if mirrored else 0, values.shape[1], n_columns):
            columns = slice(j, min(j + n_columns, values.shape[1]))
            block = tile(rows, columns)
            if mirrored and i == j:
                block = np.triu(block) + np.triu(block, 1).T
            values[rows, columns] = block
            if mirrored and i != j:
                values[columns, rows] = block.T


def _nearest(
    tile: Callable[[slice, slice], FloatArray], shape: tuple[int, int], k: int, skip_self: bool
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the k least values of each row and their columns, in ascending order, from one tile after the other."""
    values, indices = np.empty((shape[0], k)), np.empty((shape[0], k), dtype=np.int64)
    for i in range(0, shape[0], _TILE_ROWS):
        rows = slice(i, min(i + _TILE_ROWS, shape[0]))
        best, where = np.empty((rows.stop - i, 0)), np.empty((rows.stop - i, 0), dtype=np.int64)
        for j in range(0, shape[1], _TILE_COLUMNS):
            columns = slice(j, min(j + _TILE_COLUMNS, shape[1]))
            block = tile(rows, columns)
            number = np.broadcast_to(np.arange(columns.start, columns.stop), block.shape)
            if skip_self:
                block = np.where(number == np.arange(i, rows.stop)[:, None], np.nan, block)
            best, where = np.hstack((best, block)), np.hstack((where, number))
            order = np.argsort(best, axis=1, kind="stable")[:, : k + 1 if skip_self else k]
            best, where = np.take_along_axis(best, order, axis=1), np.take_along_axis(where, order, axis=1)
        values[rows], indices[rows] = best[:, :k], where[:, :k]
    return values, indices


class _Tiles:
    """Computes one tile of values at a time, in the way that suits the measure.

    Attributes
    ----------
    slow : list of two uint8 arrays
        For each row of P and of Q, whether it holds a value so small that the kernel's fast loop cannot take it.
    product : callable or None
        The method that computes a tile by matrix products or one logarithm an element, if the measure has one.
    cancelled : float
        Values of a product below this are computed again.
    """

    def __init__(self, p: FloatArray, q: FloatArray, measure: str, unit: float, n_threads: int) -> None:
        self.p, self.q, self.measure, self.unit, self.n_threads = p, q, measure, unit, n_threads
        self.slow = [np.empty(len(rows), dtype=np.uint8) for rows in (p, q)]
        for rows, flags in zip((p, q), self.slow, strict=True):
            kernel.flag_rows(rows, flags)
        self.product: Callable[[slice, slice], FloatArray] | None = None
        self.cancelled = _CANCELLED * {"hellinger": 1.0, "js_distance": math.sqrt(unit)}.get(measure, unit)
        if measure in ("kl", "cross_entropy"):
            with np.errstate(divide="ignore", invalid="ignore"):
                self.log_q = np.where(q > 0, np.log(q), 0.0)
                self.negative_entropy = np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
            self.zero_q = (q == 0).astype(np.float64) if (q == 0).any() else None
            self.product = self._cross_entropies
        elif measure == "hellinger":
            self.roots = np.sqrt(p), np.sqrt(q)
            self.product = self._hellinger_distances
        elif measure in ("js", "js_distance"):
            with np.errstate(divide="ignore", invalid="ignore"):
                self.half_negative_entropies = [np.where(x > 0, x * np.log(x), 0.0).sum(axis=1) / 2 for x in (p, q)]
            self.product = self._jensen_shannon

    def __call__(self, rows: slice, columns: slice) -> FloatArray:
        number = MEASURES[self.measure]
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start))
        p, q = self.p[rows], self.q[columns]
        slow = self.slow[0][rows], self.slow[1][columns]
        if self.product is None:
            kernel.all_pairs(p, q, *slow, number, self.unit, values, startable_threads(self.n_threads))
            return values
        values[:] = self.product(rows, columns)
        near = tuple(np.ascontiguousarray(index) for index in np.nonzero(values < self.cancelled))
        if near[0].size:
            exact = np.empty(near[0].size)
            kernel.listed_pairs(
                p, q, *slow, near[0], near[1], number, self.unit, exact, startable_threads(self.n_threads)
            )
            values[near] = exact
        return values

    def _cross_entropies(self, rows: slice, columns: slice) -> FloatArray:
        """Return H(p, q) = - sum p log q as a product with log q, less H(p) for KL, and inf where q = 0 < p."""
        values = -(self.p[rows] @ self.log_q[columns].T)
        if self.measure == "kl":
            values += self.negative_entropy[rows, None]
        if self.zero_q is not None:
            values[(self.p[rows] @ self.zero_q[columns].T) > 0] = np.inf
        return values * self.unit

    def _jensen_shannon(self, rows: slice, columns: slice) -> FloatArray:
        """Return JS = H(m) - (H(p) + H(q)) / 2, which takes one logarithm an element, that of H(m)."""
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start))
        p, q, slow = self.p[rows], self.q[columns], (self.slow[0][rows], self.slow[1][columns])
        kernel.all_pairs(p, q, *slow, MEASURES["mixture"], 1.0, values, startable_threads(self.n_threads))
        values += self.half_negative_entropies[0][rows, None]
        values += self.half_negative_entropies[1][columns]
        values *= self.unit
        return np.sqrt(np.maximum(values, 0.0)) if self.measure == "js_distance" else values

    def _hellinger_distances(self, rows: slice, columns: slice) -> FloatArray:
        """Return sqrt(1 - sum sqrt(p q)), whose sum is a product of square roots."""
        affinities = self.roots[0][rows] @ self.roots[1][columns].T
        distances: FloatArray = np.sqrt(np.maximum(1 - affinities, 0.0))
        return distances


_WIDE = 1024
"""The number of columns above which tiles of sparse rows are small, so that their sides share few columns."""


class _SparseTiles:
    """Computes one tile of values at a time for rows of which at least one side is sparse.

    A tile is cut into smaller ones. Each of these becomes dense rows of the columns in which both sides have values.
    The values of all other columns are added up: those with q = 0 become one element, and those with p = 0 another.
    Every measure here adds up over elements and is proportional to them, so elements of one ratio may be merged.
    """

    def __init__(self, p: Any, q: Any, measure: str, unit: float, n_threads: int) -> None:
        from scipy import sparse

        self.options = measure, unit, n_threads
        sides = [sparse.csr_array(p), sparse.csr_array(q)]
        # Which side comes first must not depend on the order of the arguments where the measure does not.
        self.is_swapped = p is not q and measure in _SYMMETRIC and _comes_after(*sides)
        self.sides = sides[::-1] if self.is_swapped else sides
        self.step = _TILE_ROWS if p.shape[1] <= _WIDE else 64

    def __call__(self, rows: slice, columns: slice) -> FloatArray:
        parts = (columns, rows) if self.is_swapped else (rows, columns)
        values = np.empty([part.stop - part.start for part in parts])
        steps = [[slice(i, min(i + self.step, s.stop)) for i in range(s.start, s.stop, self.step)] for s in parts]
        blocks = [[_SparseBlock(side[s]) for s in found] for side, found in zip(self.sides, steps, strict=True)]
        for i, first in zip(steps[0], blocks[0], strict=True):
            for j, second in zip(steps[1], blocks[1], strict=True):
                shared = np.intersect1d(first.columns, second.columns, assume_unique=True)
                p, q = first.rows_of(shared, 0), second.rows_of(shared, 1)
                tile = _Tiles(p, q, *self.options)(slice(0, len(p)), slice(0, len(q)))
                values[i.start - parts[0].start :, j.start - parts[1].start :][: len(p), : len(q)] = tile
        return values.T if self.is_swapped else values


def _comes_after(first: Any, second: Any) -> bool:
    """Return whether a CSR matrix comes after another one, in some order of all matrices."""
    sizes = [(matrix.shape[0], matrix.nnz) for matrix in (first, second)]
    if sizes[0] != sizes[1]:
        return sizes[0] > sizes[1]
    for one, other in ((first.indptr, second.indptr), (first.indices, second.indices), (first.data, second.data)):
        differing = np.flatnonzero(one != other)
        if differing.size:
            return bool(one[differing[0]] > other[differing[0]])
    return False


class _SparseBlock:
    """A few sparse rows, and the columns in which any of them has a value."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.columns = np.unique(matrix.indices)
        self.row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))

    def rows_of(self, columns: npt.NDArray[Any], side: int) -> FloatArray:
        """Return dense rows of some columns, and two more elements, of which one has the sum of all other columns.

        ``side`` says whether it is the first or the second of the two; the other is 0.
        """
        n_rows, width = self.matrix.shape[0], len(columns) + 2
        places = np.searchsorted(columns, self.matrix.indices)
        is_shared = np.append(columns, -1)[places] == self.matrix.indices
        places = np.where(is_shared, places, width - 2 + side)
        rows: FloatArray = np.bincount(self.row_of * width + places, self.matrix.data, n_rows * width).astype(float)
        return rows.reshape(n_rows, width)
