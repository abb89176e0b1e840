"""Nearest neighbours by Euclidean distance among sparse rows, which are too many or too long to be made dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._distances import Found, Indices, find_in_blocks, nearest_candidates, nearest_in_rows, row_blocks
from .._recall import EXACT, Recall
from .._search import ALL_LISTS, SPARE

BLOCK_ELEMENTS = 2**22
"""Squared distances that are computed at a time: 32 MB."""


class SparseEuclideanSearch:
    """A search for the nearest of sparse points, which compares each row with all of them.

    Squared distances are |y|^2 - 2 x.y + |x|^2, from products of sparse rows. Such a sum loses what it cancels, so the
    nearest points, and a few more, are measured again by differences.

    Parameters
    ----------
    points : scipy.sparse.csr_array of shape (n_points, n_features), float32 or float64
        Finite rows.
    """

    def __init__(self, points: Any) -> None:
        self.points = points
        self.unit = 2.0 ** int(np.frexp(float(abs(points).max()))[1] - 1)  # products stay in range
        self.scaled = points.astype(np.float64) / self.unit
        self.squares = self.scaled.power(2).sum(axis=1)

    def among_themselves(self, k: int, n_threads: int, *, asking: Any = None) -> Found:
        """Return the k nearest other points of every point: see `kullback._search.EuclideanSearch`."""
        return self._search(self.points if asking is None else asking, np.arange(self.points.shape[0]), k, n_threads)

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """Return the k nearest points of every new row."""
        return self._search(rows, np.full(rows.shape[0], -1), k, n_threads)

    def choose_effort(self, k: int, n_threads: int) -> tuple[int, Recall]:
        """Return that all points are compared with: see `kullback._search.EuclideanSearch`."""
        return ALL_LISTS, EXACT

    def _search(self, asking: Any, own: Indices, k: int, n_threads: int) -> Found:
        """Return the k nearest points of every row, where ``own`` is the point that a row is itself, or -1."""
        n_rows, n_points = asking.shape[0], self.points.shape[0]
        n_candidates = min(k + 1 + SPARE, n_points)
        nobody = np.full(n_rows, -1)

        def find(block: slice) -> Found:
            rows = asking[block].astype(np.float64) / self.unit
            ranks = self.squares - 2 * (rows @ self.scaled.T).toarray()
            candidates = np.sort(nearest_in_rows(ranks, n_candidates, nobody[block])[0], axis=1)
            return nearest_candidates(candidates, self._measure(rows, candidates), own[block], k)

        blocks = row_blocks(n_rows, BLOCK_ELEMENTS, n_points)
        indices, distances = find_in_blocks(find, n_rows, k, blocks, n_threads)
        with np.errstate(over="ignore"):
            distances *= self.unit
        return indices, np.minimum(distances, np.finfo(asking.dtype).max).astype(asking.dtype)

    def _measure(self, rows: Any, candidates: Indices) -> npt.NDArray[np.float64]:
        """Return the distances of scaled rows to some of the points each."""
        distances: FloatArray = np.empty(candidates.shape)
        for place, columns in enumerate(candidates.T):
            distances[:, place] = (rows - self.scaled[columns]).power(2).sum(axis=1)
        return np.asarray(np.sqrt(distances))
