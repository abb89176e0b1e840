"""Graphs of nearest neighbours, and how they are made from distances that are given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from .._arrays import FloatArray
from .._distances import nearest_in_rows
from .._recall import EXACT, Recall


class Description(NamedTuple):
    """What a graph of neighbours says about the data: see `Graph.describe`.

    Attributes
    ----------
    hubness : float
        Skewness of the number of rows in whose neighbours a point is (Radovanovic et al. 2010, eq. 1). Up to about 1,
        all points are neighbours of about as many. Much larger values mean hubs, which are neighbours of very many,
        while other points are of none: the curse of dimensionality.
    dimension : float
        Intrinsic dimension of the data, by the estimator of Levina and Bickel (2005) in MacKay and Ghahramani's form,
        which averages the inverses. Neighbours at distance 0 are left out. It is infinite if all distances are equal,
        and NaN if there is no pair to measure it by. Of squared distances, such as those of "cosine" and
        "sqeuclidean", it is half as large.
    n_parts : int
        Number of connected parts. In a map, their places to each other mean nothing.
    n_duplicates : int
        Number of points that have a neighbour at distance 0.
    """

    hubness: float
    dimension: float
    n_parts: int
    n_duplicates: int


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

    def describe(self) -> Description:
        """Return the hubness, the intrinsic dimension, the number of connected parts and the number of duplicates.

        It is computed anew by each call, in O(n_edges) time.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from kullback.neighbors import neighbor_graph
        >>> found = neighbor_graph(load_digits().data, 15).describe()
        >>> round(found.hubness, 1), round(found.dimension, 1), found.n_parts, found.n_duplicates
        (0.8, 7.1, 1, 0)
        """
        return Description(
            _skewness(np.bincount(self.columns, minlength=len(self.row_starts) - 1)),
            _intrinsic_dimension(self.distances.astype(np.float64), self.row_starts),
            _count_parts(self.columns, self.row_starts),
            int(np.count_nonzero(np.minimum.reduceat(self.distances, self.row_starts[:-1]) == 0)),
        )

    def __repr__(self) -> str:
        recall = "" if self.recall is None else f", recall {self.recall}"
        return f"<Graph of {len(self.row_starts) - 1} points, {len(self.columns)} edges{recall}>"


def _skewness(counts: npt.NDArray[Any]) -> float:
    """Return the third central moment over the cube of the standard deviation, and 0 of equal numbers."""
    from_mean = counts - counts.mean()
    deviation = float(np.sqrt(np.mean(from_mean**2)))
    return float(np.mean((from_mean / deviation) ** 3)) if deviation > 0 else 0.0


def _intrinsic_dimension(distances: npt.NDArray[np.float64], row_starts: npt.NDArray[np.int64]) -> float:
    """Return the inverse of the mean of log(T_k / T_j), where T_j is the distance of a row's j-th of k neighbours."""
    last = np.repeat(distances[row_starts[1:] - 1], np.diff(row_starts))  # rows are sorted
    inner = np.ones(len(distances), np.bool_)
    inner[row_starts[1:] - 1] = False
    inner &= distances > 0
    if not inner.any():
        return np.nan
    mean = float(np.mean(np.log(last[inner]) - np.log(distances[inner])))
    return 1 / mean if mean > 0 else np.inf


def _count_parts(columns: npt.NDArray[np.int32], row_starts: npt.NDArray[np.int64]) -> int:
    """Return the number of connected parts of a graph, whose edges are taken in both directions."""
    n_points = len(row_starts) - 1
    edges = sparse.csr_array((np.ones(len(columns), np.bool_), columns, row_starts), shape=(n_points, n_points))
    return int(connected_components(edges, directed=False, return_labels=False))


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
