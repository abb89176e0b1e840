"""Nearest neighbours: exact or approximate by the size of the data, with the same bits for any number of threads.

`NeighborIndex` holds data and searches in them. `nearest_neighbors` and `neighbor_graph` are for those who search only
once. The searches themselves are in `kullback.tsne.metric_searches`.
"""

from __future__ import annotations

import math
from copy import copy as shallow_copy
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.data import check_data, check_distances, check_new_data, shares_memory
from .._checks.graphs import check_neighbor_lists
from .._checks.scalars import check_choice, check_flag, check_integer, check_recall
from .._recall import TARGET, Recall
from .._search import DEFAULT_SEED
from .._threads import resolve_threads
from .all_pairs import AllPairsSearch
from .equal_rows import EqualRows
from .graphs import Description, Graph, graph_of_dense, graph_of_found, graph_of_sparse
from .metric_searches import EUCLIDEAN_METRICS, EuclideanMetricSearch, Metric, MetricSearch

__all__ = [
    "METHODS",
    "Description",
    "Graph",
    "Metric",
    "NeighborIndex",
    "Recall",
    "nearest_neighbors",
    "neighbor_graph",
]

METHODS = ("auto", "exact", "approximate")

PLAIN_METRICS = ("inner_product", "hellinger", "jensen_shannon", "precomputed")
"""Metrics without parameters, which scikit-learn does not know."""

DENSE_ELEMENTS = 2**26
"""Sparse data of up to so many elements, which take 256 MB in float32, are searched as dense ones.

Even if there are few entries in a row, a search of dense rows is faster than products of sparse ones."""


def nearest_neighbors(
    X: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    recall: float = TARGET,
    n_threads: int | None = None,
    random_state: Any = None,
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Find the k nearest other rows of every row.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data. With ``metric="precomputed"`` they are distances, dense or sparse, of shape (n_points, n_points). The
        stored entries of a sparse matrix are the candidates, and each pair is stored once.
    k : int >= 1
        Number of neighbours. If there are fewer other rows, all of them are returned: n_points - 1 columns.
    metric : str or callable, default "euclidean"
        These are searched by faiss: "euclidean", "sqeuclidean", "l2", "cosine", "inner_product" (the nearest row has
        the largest product) and, for rows that are distributions, "hellinger". For all others, all distances are
        computed, block by block: "jensen_shannon" (the root of the divergence, in nats) and the metrics of
        `sklearn.metrics.pairwise_distances`, among them functions of two rows. "precomputed" sorts the distances that
        are given. Every metric takes sparse data, of any size.
    metric_params : dict, optional
        Further keyword arguments of the metric. "mahalanobis" takes V, the covariances, or VI, their inverse; without
        them they are those of the data.
    method : {"auto", "exact", "approximate"}, default "auto"
        ``"approximate"`` searches some lists of an inverted file (faiss IVF): 16, or as many as the recall needs, or
        all. ``"auto"`` does so above 10,000 rows of 50 features or an equal amount of work. Metrics that are not
        searched by faiss are always exact.
    recall : float in (0, 1], default 0.95
        The share of the true neighbours that an approximate search finds, on average over the rows. Before the search,
        it is measured on a sample of the rows how much effort that takes. 1 makes the search exact.
    n_threads : int, optional
        Number of threads, by default all. The bits of the result do not depend on it.
    random_state : int, RandomState or None, default None
        Seed of the lists of the approximate search. None is a fixed seed.

    Returns
    -------
    indices : ndarray of shape (n_points, k), int64
        Indices of the neighbours, sorted by distance and then by index. A row is never its own neighbour. Its
        duplicates are neighbours like all others.
    distances : ndarray of shape (n_points, k)
        float32 if X is float32, and float64 otherwise. They are computed in float64, from differences of coordinates.
        Those of the exact search are the smallest up to a relative difference of 1e-6.
        For "inner_product" they are ``sqrt(|x_i|^2 + m^2 - 2 x_i.x_j)``, where m is the largest length of a row of X.
        So their Gaussian weights are a softmax of the products (Bachrach et al. 2014, section 3).

    Raises
    ------
    ValueError, TypeError
        If data are not finite, have fewer than 2 rows, or a sparse graph has fewer than k candidates in a row.

    Notes
    -----
    The exact search takes O(n_points^2 * n_features) time. The approximate one takes O(n_points^1.25 * n_features) up
    to some 10^7 points, beyond which it takes longer to choose lists than to search them.

    Examples
    --------
    >>> from kullback.neighbors import nearest_neighbors
    >>> indices, distances = nearest_neighbors([[0.0], [1.0], [5.0]], 1)
    >>> indices.tolist(), distances.tolist()
    ([[1], [0], [1]], [[1.0], [1.0], [4.0]])
    """
    graph = neighbor_graph(X, k, metric=metric, metric_params=metric_params, method=method, recall=recall,
                           n_threads=n_threads, random_state=random_state)  # fmt: skip
    n_points = len(graph.row_starts) - 1
    counts = np.diff(graph.row_starts)
    k = min(k, n_points - 1)
    if (counts < k).any():
        row = int(np.argmax(counts < k))
        raise ValueError(f"X must hold at least k = {k} candidates in every row, got {counts[row]} in row {row}")
    return graph.columns.reshape(n_points, k).astype(np.int64), graph.distances.reshape(n_points, k)


def neighbor_graph(
    X: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    recall: float = TARGET,
    n_threads: int | None = None,
    random_state: Any = None,
) -> Graph:
    """Return the graph of the k nearest other rows of every row.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `nearest_neighbors`; or a tuple (indices, distances), as it returns; or a `NeighborIndex`, which has a
        metric of its own. Rows of a sparse matrix of distances may have fewer than k entries.
    k, metric, metric_params, method, recall, n_threads, random_state
        As in `nearest_neighbors`.

    Returns
    -------
    Graph
        The neighbours of all rows in CSR, and in ``recall`` the share of the true neighbours that were found.

    Raises
    ------
    ValueError, TypeError
        If data are not finite, have fewer than 2 rows, or a sparse graph has no candidate in a row.

    Examples
    --------
    >>> from kullback.neighbors import neighbor_graph
    >>> graph = neighbor_graph([[0.0], [1.0], [5.0]], 2)
    >>> graph.columns.tolist(), graph.row_starts.tolist()
    ([1, 2, 0, 2, 1, 0], [0, 2, 4, 6])
    """
    check_recall(recall)
    if isinstance(X, NeighborIndex):
        return X.graph(k, n_threads=n_threads)
    if isinstance(X, tuple):
        check_choice(method, "method", METHODS)
        return graph_of_sparse(check_neighbor_lists(X, "X"), check_integer(k, "k", low=1), own_rows=True)
    index = NeighborIndex(X, metric=metric, metric_params=metric_params, method=method, recall=recall,
                          random_state=random_state, copy=False)  # fmt: skip
    return index.graph(k, n_threads=n_threads)


class NeighborIndex:
    """Data in which nearest neighbours are searched, those of its own rows or of new ones.

    Parameters
    ----------
    X, metric, metric_params, method, recall, random_state
        As in `nearest_neighbors`. With ``metric="precomputed"``, new rows are distances to the rows of X.
    copy : bool, default True
        Whether to copy X. Without a copy, X must not be changed as long as the index is used.

    Attributes
    ----------
    shape : tuple of int
        Shape of X.

    Raises
    ------
    ValueError, TypeError
        If data are not finite or have fewer than 2 rows.

    Notes
    -----
    The neighbours of a new row, and the bits of its distances, depend on that row and on X alone. They depend neither
    on the rows that it comes with nor on the number of threads. The search structure is built when it is first
    needed, and it is left out of pickles. So is the effort that the recall takes, for each k.

    Examples
    --------
    >>> from kullback.neighbors import NeighborIndex
    >>> index = NeighborIndex([[0.0], [1.0], [5.0]])
    >>> index.search([[4.0]], 2).columns.tolist()
    [2, 1]
    """

    def __init__(
        self,
        X: Any,
        *,
        metric: Metric = "euclidean",
        metric_params: dict[str, Any] | None = None,
        method: str = "auto",
        recall: float = TARGET,
        random_state: Any = None,
        copy: bool = True,
    ) -> None:
        check_choice(method, "method", METHODS)
        self._metric, self._method, self._recall = metric, method, check_recall(recall)
        self._params = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in (metric_params or {}).items()
        }
        self._name = metric if isinstance(metric, str) else "callable"
        self._precomputed = self._name == "precomputed"
        if self._params and self._name in PLAIN_METRICS:
            raise ValueError(f"metric_params must be None for metric={self._name!r}, got {metric_params!r}")
        given, X = X, check_distances(X, "X") if self._precomputed else check_data(X, "X")
        self._dense = not sparse.issparse(X) or (not self._precomputed and math.prod(X.shape) <= DENSE_ELEMENTS)
        self._X = X.toarray() if self._dense and sparse.issparse(X) else X
        if check_flag(copy, "copy") and shares_memory(self._X, given):
            self._X = self._X.copy()
        self.shape = (int(X.shape[0]), int(X.shape[1]))
        self._seed = _draw_seed(random_state)
        self._search: MetricSearch | None = None
        self._equal_rows: EqualRows | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the rows and of the distances to them: float32 or float64."""
        dtype: np.dtype[Any] = self._X.dtype
        return dtype

    @property
    def precomputed(self) -> bool:
        """Whether the rows are distances."""
        return self._precomputed

    def graph(self, k: int, *, n_threads: int | None = None) -> Graph:
        """Return the k nearest other rows of every row, or all other rows if there are fewer.

        Parameters
        ----------
        k : int >= 1
            Neighbours of a row.
        n_threads : int, optional
            Number of threads, by default all.

        Returns
        -------
        Graph
            The neighbours of all rows in CSR.
        """
        k, threads = check_integer(k, "k", low=1), resolve_threads(n_threads)
        return self._neighbors(self._X, min(k, self.shape[0] - 1), threads, own_rows=True)

    def search(self, rows: Any, k: int, *, n_threads: int | None = None) -> Graph:
        """Return the k nearest rows of X for every new row, or all rows if there are fewer.

        Parameters
        ----------
        rows : array-like or sparse matrix of shape (n_rows, n_features)
            New rows. With ``metric="precomputed"``: their distances to the rows of X, of shape (n_rows, n_points).
        k : int >= 1
            Neighbours of a row.
        n_threads : int, optional
            Number of threads, by default all.

        Returns
        -------
        Graph
            The neighbours of the new rows in CSR. Its ``recall`` is that of rows of X, on which the effort of the
            search depends.
        """
        k, threads = check_integer(k, "k", low=1), resolve_threads(n_threads)
        return self._neighbors(self.cast(rows), min(k, self.shape[0]), threads, own_rows=False)

    def cast(self, rows: Any) -> Any:
        """Return new rows, checked, in the dtype and the form, dense or sparse, in which X is kept."""
        return check_new_data(rows, "X", self.shape[1], self.dtype, dense=self._dense, distances=self._precomputed)

    def find(self, rows: Any) -> npt.NDArray[np.int64]:
        """Return, for each new row, the index of the first row of X that is equal to it, or -1.

        Parameters
        ----------
        rows : ndarray or scipy.sparse.csr_array of shape (n_rows, n_features)
            New rows, as `cast` returns them. If they are distances, a row is equal to the row at distance 0.

        Returns
        -------
        ndarray of shape (n_rows,), int64
            Indices of rows of X.
        """
        if self._precomputed:
            graph = self._neighbors(rows, 1, 1, own_rows=False)
            return np.where(graph.distances == 0, graph.columns, -1).astype(np.int64)
        if self._equal_rows is None:
            self._equal_rows = EqualRows(self._X)
        return self._equal_rows.find(rows)

    def extend(self, rows: Any) -> NeighborIndex:
        """Return an index of the rows of X followed by new rows, searched in the same way.

        Parameters
        ----------
        rows : array-like or sparse matrix of shape (n_rows, n_features)
            New rows.

        Returns
        -------
        NeighborIndex
            A new index. The old one is not changed.

        Raises
        ------
        ValueError
            If rows are distances, as those among the new rows are not known.
        """
        if self._precomputed:
            raise ValueError('metric must not be "precomputed" where rows are added: their own distances are missing')
        rows = self.cast(rows)
        larger = shallow_copy(self)
        larger._X = np.concatenate([self._X, rows]) if self._dense else sparse.vstack([self._X, rows], format="csr")
        larger.shape = (int(larger._X.shape[0]), self.shape[1])
        larger._search = larger._equal_rows = None
        return larger

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_search": None, "_equal_rows": None}

    def _neighbors(self, rows: Any, k: int, n_threads: int, *, own_rows: bool) -> Graph:
        """Return the k nearest rows of X for every row. With ``own_rows``, the rows are those of X."""
        if self._precomputed:
            graph_of = graph_of_dense if self._dense else graph_of_sparse
            return graph_of(rows, k, own_rows=own_rows)
        if self._search is None:
            self._search = self._make_search(n_threads)
        recall = self._search.recall(k, n_threads)
        if own_rows:
            return graph_of_found(*self._search.among_themselves(k, n_threads), recall)
        return graph_of_found(*self._search.of_new_rows(rows, k, n_threads), recall)

    def _make_search(self, n_threads: int) -> MetricSearch:
        if not self._params and self._name in EUCLIDEAN_METRICS:
            options: dict[str, Any] = {"recall": self._recall, "seed": self._seed, "n_threads": n_threads}
            return EuclideanMetricSearch(self._X, self._name, self._method, **options)
        return AllPairsSearch(self._X, self._metric, self._params)


def _draw_seed(random_state: Any) -> int:
    """Return the seed of the approximate search."""
    from sklearn.utils import check_random_state

    return DEFAULT_SEED if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))
