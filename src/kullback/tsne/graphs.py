"""Graphs of nearest neighbours, and how they are made from distances that are given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._distances import nearest_in_rows
from .._recall import EXACT, Recall


class _Rows(NamedTuple):
    """The arrays of a `Graph`."""

    columns: npt.NDArray[np.int32]
    distances: FloatArray
    row_starts: npt.NDArray[np.int64]


class Graph(_Rows):
    """A graph of nearest neighbours in CSR: a tuple of three arrays that knows how good its search was.

    The neighbours of point i are ``columns[row_starts[i] : row_starts[i + 1]]``. They are sorted by distance and then
    by column, and do not hold the point itself.

    Attributes
    ----------
    columns : ndarray of shape (n_edges,), int32
        Indices of the neighbours.
    distances : ndarray of shape (n_edges,), float32 or float64
        Distances to them.
    row_starts : ndarray of shape (n_points + 1,), int64
        Where the rows start.
    recall : Recall (value, error) or None
        The share of the true neighbours that the search found, measured on a sample of a few hundred rows, and its
        standard error: (1, 0) if it was exact. None if the neighbours were given and not searched for.
    """

    recall: Recall | None = None  # what `_replace` leaves

    def __new__(
        cls,
        columns: npt.NDArray[np.int32],
        distances: FloatArray,
        row_starts: npt.NDArray[np.int64],
        *,
        recall: Recall | None = None,
    ) -> Graph:
        """Return a graph of three arrays, which are not copied."""
        graph = super().__new__(cls, columns, distances, row_starts)
        graph.recall = recall
        return graph

    def __repr__(self) -> str:
        recall = "" if self.recall is None else f", recall {self.recall}"
        return f"<Graph of {len(self.row_starts) - 1} points, {len(self.columns)} edges{recall}>"


def graph_of_found(indices: npt.NDArray[Any], distances: FloatArray, recall: Recall | None = EXACT) -> Graph:
    """Return the graph of points that all have the same number of neighbours.

    Parameters
    ----------
    indices, distances : ndarray of shape (n_points, k)
        The result of a search. Rows are sorted.
    recall : Recall or None
        The recall of the search.
    """
    n_points, k = indices.shape
    starts = np.arange(n_points + 1, dtype=np.int64) * k
    return Graph(np.ascontiguousarray(indices.reshape(-1), np.int32), distances.reshape(-1), starts, recall=recall)


def graph_of_dense(distances: FloatArray, k: int, *, own_rows: bool) -> Graph:
    """Return the graph of the k nearest points of each row of distances.

    Parameters
    ----------
    distances : ndarray of shape (n_rows, n_points)
        Distances of rows to points.
    k : int
        Neighbours of a row, at most as many as there are.
    own_rows : bool
        Whether row i is point i itself, and so not a neighbour of its own.
    """
    n_rows = len(distances)
    return graph_of_found(*nearest_in_rows(distances, k, np.arange(n_rows) if own_rows else np.full(n_rows, -1)))


def graph_of_sparse(distances: Any, k: int, *, own_rows: bool) -> Graph:
    """Return the graph of the k nearest candidates of each row of distances.

    Parameters
    ----------
    distances : scipy.sparse.csr_array of shape (n_rows, n_points)
        Distances of rows to points. The stored entries are the candidates.
    k : int
        Neighbours of a row. A row with fewer candidates has all of them.
    own_rows : bool
        Whether row i is point i itself, and so not a neighbour of its own.

    Raises
    ------
    ValueError
        If a row has no candidate.
    """
    n_points = distances.shape[0]
    columns, values = distances.indices, distances.data
    counts = np.diff(distances.indptr)
    rows = np.repeat(np.arange(n_points, dtype=columns.dtype), counts)
    keep = rows != columns
    if own_rows and not keep.all():
        rows, columns, values = rows[keep], columns[keep], values[keep]
        counts = np.bincount(rows, minlength=n_points)
    if not counts.all():
        row = int(np.argmin(counts))
        raise ValueError(f"X must hold at least 1 neighbour in every row, got none in row {row}")
    in_order = (rows[1:] != rows[:-1]) | (values[1:] > values[:-1])
    in_order |= (values[1:] == values[:-1]) & (columns[1:] > columns[:-1])
    if not in_order.all():
        order = np.lexsort((columns, values, rows))
        columns, values = columns[order], values[order]
    if counts.max() > k:
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns, values = columns[rank < k], values[rank < k]
        counts = np.minimum(counts, k)
    if np.may_share_memory(values, distances.data):  # what is returned does not change with what was given
        columns, values = columns.copy(), values.copy()
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Graph(np.ascontiguousarray(columns, np.int32), np.ascontiguousarray(values), starts)
