"""All pairs of rows: by matrix products where the measure allows, term by term elsewhere and where those cancel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks.outputs import check_out
from .._checks.probabilities import check_rows
from .._checks.scalars import check_base, check_choice, check_integer
from .._kernels import divergence_pairs as kernel
from .._threads import resolve_threads
from ._rows import MEASURES

FloatArray = npt.NDArray[np.float64]

_NAMES = {
    "kl": "kl",
    "cross_entropy": "cross_entropy",
    "hellinger": "hellinger",
    "js": "js",
    "js_distance": "js_distance",
    "total_variation": "total_variation",
    "chi2": "chi2",
    "jeffreys": "jeffreys",
}
_SYMMETRIC = frozenset(("js", "js_distance", "total_variation", "hellinger", "jeffreys"))
_TILE_ROWS, _TILE_COLUMNS = 512, 2048  # 8 MiB of values, and products large enough for BLAS
_CANCELLED = 1e-2  # below this a product of float64 rows has lost more than 1e-13 of a value


def pairwise_divergence(
    P: npt.ArrayLike,
    Q: npt.ArrayLike | None = None,
    *,
    measure: str = "js",
    base: float | None = None,
    normalize: bool | str = "check",
    k: int | None = None,
    out: FloatArray | None = None,
    n_threads: int | None = None,
) -> Any:
    """Return a measure of every row of P with every row of Q (default: P itself).

    Parameters
    ----------
    P, Q : array_like of shape (n, n_elements), (m, n_elements)
        Distributions, one a row; integers are counts.
    measure : {"js", "js_distance", "kl", "cross_entropy", "hellinger", "total_variation", "chi2", "jeffreys"}
        What to compute, as the function of that name does.
    base : float, optional
        Base of the logarithm; natural by default.
    normalize : {"check", True}, default "check"
        As in :func:`kullback.kl_divergence`; rows are always divided by their sums.
    k : int, optional
        Keep only the k nearest rows of Q for each row of P, nearest first; with ``Q=None`` a row is not
        its own neighbour.
    out : float64 array of shape (n, m), optional
        Where to put the values, tile by tile: a memmap may be larger than memory.
    n_threads : int, optional
        Threads; ``None`` is all. The result's bits do not depend on it where no matrix product is used.

    Returns
    -------
    float64 array of shape (n, m), or (values, indices) of shape (n, k)

    Notes
    -----
    "kl", "cross_entropy" and "hellinger" are matrix products, and "js" takes one logarithm an element; pairs so
    near that this cancels are evaluated again term by term.
    """
    check_choice(measure, "measure", tuple(_NAMES))
    unit = 1.0 if base is None else 1.0 / math.log(check_base(base))
    first = check_rows(P, "P", normalize)
    second = first if Q is None else check_rows(Q, "Q", normalize)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"P and Q must have equally many columns, got {first.shape[1]} and {second.shape[1]}")
    shape = first.shape[0], second.shape[0]
    threads = resolve_threads(n_threads)
    tile = _Tiles(first, second, measure, unit, threads)
    if k is not None:
        if out is not None:
            raise ValueError("out must be None with k, which returns values and indices")
        most = shape[1] - (Q is None)
        if check_integer(k, "k", low=1) > most:
            raise ValueError(f"k must be in [1, {most}] for {shape[1]} rows, got {k}")
        return _nearest(tile, shape, int(k), Q is None)
    values = np.empty(shape) if out is None else check_out(out, shape)
    mirrored = Q is None and measure in _SYMMETRIC
    for i in range(0, shape[0], _TILE_ROWS):
        rows = slice(i, min(i + _TILE_ROWS, shape[0]))
        for j in range(i if mirrored else 0, shape[1], _TILE_ROWS if mirrored else _TILE_COLUMNS):
            columns = slice(j, min(j + (_TILE_ROWS if mirrored else _TILE_COLUMNS), shape[1]))
            values[rows, columns] = tile(rows, columns)
            if mirrored and i != j:
                values[columns, rows] = values[rows, columns].T
    return values


def _nearest(tile: _Tiles, shape: tuple[int, int], k: int, skip_self: bool) -> tuple[FloatArray, npt.NDArray[np.int64]]:
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
    """One tile of values, by the way that suits the measure."""

    def __init__(self, p: FloatArray, q: FloatArray, measure: str, unit: float, n_threads: int) -> None:
        self.p, self.q, self.measure, self.unit, self.n_threads = p, q, measure, unit, n_threads
        self.slow = [np.empty(len(rows), dtype=np.uint8) for rows in (p, q)]
        for rows, flags in zip((p, q), self.slow, strict=True):
            kernel.flag_rows(rows, flags)
        self.product: Callable[[slice, slice], FloatArray] | None = None
        if measure in ("kl", "cross_entropy"):
            with np.errstate(divide="ignore", invalid="ignore"):
                self.log_q = np.where(q > 0, np.log(q), 0.0)
                self.plogp = np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
            self.zero_q = (q == 0).astype(np.float64) if (q == 0).any() else None
            self.product = self._cross
        elif measure == "hellinger":
            self.roots = np.sqrt(p), np.sqrt(q)
            self.product = self._affinity
        elif measure in ("js", "js_distance"):
            with np.errstate(divide="ignore", invalid="ignore"):
                self.halves = [np.where(x > 0, x * np.log(x), 0.0).sum(axis=1) / 2 for x in (p, q)]
            self.product = self._mixture

    def __call__(self, rows: slice, columns: slice) -> FloatArray:
        number = MEASURES[self.measure]
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start))
        p, q = self.p[rows], self.q[columns]
        slow = self.slow[0][rows], self.slow[1][columns]
        if self.product is None:
            kernel.all_pairs(p, q, *slow, number, self.unit, values, self.n_threads)
            return values
        values[:] = self.product(rows, columns)
        near = tuple(np.ascontiguousarray(index) for index in np.nonzero(values < _CANCELLED))
        if near[0].size:
            exact = np.empty(near[0].size)
            kernel.listed_pairs(p, q, *slow, near[0], near[1], number, self.unit, exact, self.n_threads)
            values[near] = exact
        return values

    def _cross(self, rows: slice, columns: slice) -> FloatArray:
        values = -(self.p[rows] @ self.log_q[columns].T)
        if self.measure == "kl":
            values += self.plogp[rows, None]
        if self.zero_q is not None:
            values[(self.p[rows] @ self.zero_q[columns].T) > 0] = np.inf
        return values * self.unit

    def _mixture(self, rows: slice, columns: slice) -> FloatArray:
        """JS = H(m) - (H(p) + H(q)) / 2: one logarithm an element, where the difference is large."""
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start))
        p, q, slow = self.p[rows], self.q[columns], (self.slow[0][rows], self.slow[1][columns])
        kernel.all_pairs(p, q, *slow, MEASURES["mixture"], 1.0, values, self.n_threads)
        values += self.halves[0][rows, None]
        values += self.halves[1][columns]
        values *= self.unit
        return np.sqrt(np.maximum(values, 0.0)) if self.measure == "js_distance" else values

    def _affinity(self, rows: slice, columns: slice) -> Any:
        return np.sqrt(np.maximum(1 - self.roots[0][rows] @ self.roots[1][columns].T, 0.0))
