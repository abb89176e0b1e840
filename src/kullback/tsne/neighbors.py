"""Nearest neighbours: exact or approximate by size, with the same bits for any number of threads.

Euclidean distances go through faiss, see :mod:`kullback._search`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.data import (
    check_data,
    check_distance_values,
    check_distances,
    check_new_data,
    check_rows_of_probabilities,
)
from .._checks.graphs import check_neighbor_lists
from .._checks.scalars import check_choice, check_integer
from .._search import DEFAULT_SEED, EuclideanSearch, Found
from .._threads import resolve_threads

Metric = str | Callable[..., float]

METHODS = ("auto", "exact", "approximate")

EXACT_WORK = 5e9
"""``auto`` is exact up to so many differences of coordinates: 10,000 rows of 50, 0.4 s on two cores."""

DENSE_ELEMENTS = 2**26
"""Sparse data of up to so many elements are searched as dense ones: 256 MB in float32."""

FAISS_METRICS = ("euclidean", "sqeuclidean", "l2", "cosine", "inner_product", "hellinger")


class Graph(NamedTuple):
    """A k-nearest-neighbour graph in CSR, rows sorted by distance and then by column, without self."""

    columns: npt.NDArray[np.int32]
    distances: FloatArray
    row_starts: npt.NDArray[np.int64]


def nearest_neighbors(
    X: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    n_threads: int | None = None,
    random_state: Any = None,
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Find the k nearest other rows of every row.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data. With ``metric="precomputed"``: distances, dense or sparse, of shape (n_points, n_points); in a
        sparse matrix the stored entries are the candidates, each pair once.
    k : int >= 1
        Neighbours. Where there are not so many other rows, all of them are returned: n_points - 1 columns.
    metric : str or callable, default "euclidean"
        "euclidean", "sqeuclidean", "cosine", "inner_product" (the nearest row has the largest product) and, for
        rows that are distributions, "hellinger" go through faiss, the others, "jensen_shannon" (the
        root of the divergence, in nats) and any of `sklearn.metrics.pairwise_distances`, through all distances,
        block by block. "precomputed" sorts the distances that are given.
    metric_params : dict, optional
        Further keyword arguments of the metric.
    method : {"auto", "exact", "approximate"}, default "auto"
        ``"approximate"`` searches 16 lists of an inverted file (faiss IVF), at a recall of about 0.99.
        ``"auto"`` does so above 10,000 rows of 50 features or an equal amount of work. Metrics that do not go
        through faiss are always exact.
    n_threads : int, optional
        Default: all. The bits of the result do not depend on it.
    random_state : int, RandomState or None, default None
        Seed of the lists of the approximate search. None is a fixed seed.

    Returns
    -------
    indices : ndarray of shape (n_points, k), int64
        Never the row itself; duplicates of it are neighbours like any other. Sorted by distance, then index.
    distances : ndarray of shape (n_points, k)
        float32 where X is float32, else float64; computed in float32 from centred and scaled rows. For
        "inner_product": ``sqrt(|x_i|^2 + m^2 - 2 x_i.x_j)``, m the largest length of a row of X, so that
        Gaussian weights of it are a softmax of the products (Bachrach et al. 2014, section 3).

    Raises
    ------
    ValueError, TypeError
        For data that are not finite, fewer than 2 rows, or a sparse graph with fewer than k candidates in a
        row.
    """
    graph = neighbor_graph(X, k, metric=metric, metric_params=metric_params, method=method,
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
    n_threads: int | None = None,
    random_state: Any = None,
) -> Graph:
    """Return the graph of `nearest_neighbors`; rows of a sparse precomputed X may have fewer entries."""
    if isinstance(X, NeighborIndex):
        return X.graph(k, n_threads=n_threads)
    if isinstance(X, tuple):
        check_choice(method, "method", METHODS)
        return _graph_of_sparse(check_neighbor_lists(X, "X"), check_integer(k, "k", low=1), own_rows=True)
    index = NeighborIndex(X, metric=metric, metric_params=metric_params, method=method, random_state=random_state)
    return index.graph(k, n_threads=n_threads)


class NeighborIndex:
    """Rows among which neighbours are searched: their own, or those of new rows.

    Parameters
    ----------
    X, metric, metric_params, method, random_state
        As in `nearest_neighbors`. With ``metric="precomputed"`` new rows are distances to the rows of X.

    Attributes
    ----------
    shape : tuple of int
        That of X.

    Notes
    -----
    The neighbours of a new row, and the bits of its distances, depend on that row and X alone: not on the rows
    that it comes with, nor on the number of threads. X is kept, not copied. The search structure is built when
    it is first needed and left out of pickles.
    """

    def __init__(
        self,
        X: Any,
        *,
        metric: Metric = "euclidean",
        metric_params: dict[str, Any] | None = None,
        method: str = "auto",
        random_state: Any = None,
    ) -> None:
        check_choice(method, "method", METHODS)
        self._metric, self._params, self._method = metric, dict(metric_params or {}), method
        self._name = metric if isinstance(metric, str) else "callable"
        self._precomputed = self._name == "precomputed"
        X = check_distances(X, "X") if self._precomputed else check_data(X, "X")
        # even with few entries a row, a search of dense rows is faster than products of sparse ones
        self._dense = not sparse.issparse(X) or (not self._precomputed and math.prod(X.shape) <= DENSE_ELEMENTS)
        self._X = X.toarray() if self._dense and sparse.issparse(X) else X
        self.shape = (int(X.shape[0]), int(X.shape[1]))
        self._seed = _draw_seed(random_state)
        self._search: _Search | None = None
        self._sorted_keys: tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows, and of the distances to them: float32 or float64."""
        dtype: np.dtype[Any] = self._X.dtype
        return dtype

    @property
    def precomputed(self) -> bool:
        """Whether the rows are distances."""
        return self._precomputed

    def graph(self, k: int, *, n_threads: int | None = None) -> Graph:
        """Return the k nearest other rows of every row; fewer where there are not so many.

        Parameters
        ----------
        k : int >= 1
            Neighbours of a row.
        n_threads : int, optional
            Default: all.
        """
        k, threads = check_integer(k, "k", low=1), resolve_threads(n_threads)
        return self._neighbors(self._X, min(k, self.shape[0] - 1), threads, own_rows=True)

    def search(self, rows: Any, k: int, *, n_threads: int | None = None) -> Graph:
        """Return the k nearest rows of X for every new row.

        Parameters
        ----------
        rows : array-like or sparse matrix of shape (n_rows, n_features)
            New rows, or their distances to the rows of X, of shape (n_rows, n_points).
        k : int >= 1
            Neighbours of a row; all rows where there are not so many.
        n_threads : int, optional
            Default: all.
        """
        k, threads = check_integer(k, "k", low=1), resolve_threads(n_threads)
        return self._neighbors(self.cast(rows), min(k, self.shape[0]), threads, own_rows=False)

    def cast(self, rows: Any) -> Any:
        """Return new rows, checked, in the dtype and the form, dense or sparse, in which X is kept."""
        return check_new_data(rows, "X", self.shape[1], self.dtype, dense=self._dense, distances=self._precomputed)

    def find(self, rows: Any) -> npt.NDArray[np.int64]:
        """Return for each new row the first row of X that is equal to it, or -1.

        ``rows`` come from `cast`. Rows of distances are at a distance of 0 from the row that they equal.
        """
        if self._precomputed:
            graph = self._neighbors(rows, 1, 1, own_rows=False)
            return np.where(graph.distances == 0, graph.columns, -1).astype(np.int64)
        if self._sorted_keys is None:
            keys = self._keys(self._X)
            order = np.argsort(keys, kind="stable")
            self._sorted_keys = keys[order], order
        sorted_keys, order = self._sorted_keys
        keys = self._keys(rows)
        slots = np.minimum(np.searchsorted(sorted_keys, keys), len(order) - 1)
        found = np.where(sorted_keys[slots] == keys, order[slots], -1)
        candidates = np.flatnonzero(found >= 0)
        differs = self._X[found[candidates]] != rows[candidates]
        found[candidates[np.asarray(differs.sum(axis=1)).reshape(-1) > 0]] = -1
        return found

    def _keys(self, rows: Any) -> npt.NDArray[np.uint64]:
        """Return a 64-bit key of each row: a sum of the bits of its values times odd numbers."""
        if not sparse.issparse(rows):
            odd, step = _odd_numbers(np.arange(self.shape[1])), max(1, 2**20 // self.shape[1])
            keys = [(_bits(rows[i : i + step]) * odd).sum(axis=1) for i in range(0, len(rows), step)]
            return np.concatenate(keys)
        products = _bits(rows.data) * _odd_numbers(rows.indices)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(products)])
        return np.asarray(sums[rows.indptr[1:]] - sums[rows.indptr[:-1]])

    def extend(self, rows: Any) -> NeighborIndex:
        """Return an index of the rows of X and then new ones, searched in the same way."""
        if self._precomputed:
            raise ValueError('metric must not be "precomputed" where rows are added: their own distances are missing')
        rows = self.cast(rows)
        larger = copy.copy(self)
        larger._X = np.concatenate([self._X, rows]) if self._dense else sparse.vstack([self._X, rows], format="csr")
        larger.shape = (int(larger._X.shape[0]), self.shape[1])
        larger._search = larger._sorted_keys = None
        return larger

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_search": None, "_sorted_keys": None}

    def _neighbors(self, rows: Any, k: int, n_threads: int, *, own_rows: bool) -> Graph:
        if self._precomputed:
            make = _graph_of_dense if self._dense else _graph_of_sparse
            return make(rows, k, own_rows=own_rows)
        if self._search is None:
            self._search = self._prepare(n_threads)
        if own_rows:
            return _regular_graph(*self._search.among_themselves(k, n_threads))
        return _regular_graph(*self._search.of_new_rows(rows, k, n_threads))

    def _prepare(self, n_threads: int) -> _Search:
        if self._dense and not self._params and self._name in FAISS_METRICS:
            return _FaissSearch(self._X, self._name, self._method, self._seed, n_threads)
        return _BruteSearch(self._X, self._metric, self._params)


def _bits(values: FloatArray) -> npt.NDArray[np.uint64]:
    """Return the bits of numbers, those of -0 as of 0, mixed so that round numbers differ in their lower halves."""
    bits = (values + values.dtype.type(0)).view(f"u{values.dtype.itemsize}").astype(np.uint64)
    bits ^= bits >> np.uint64(32)
    return np.asarray(bits)


def _odd_numbers(columns: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return an odd number for each column, as random as SplitMix64 makes them (Steele et al. 2014)."""
    x = (columns.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) | np.uint64(1))


class _Search(Protocol):
    """A way to search; `of_new_rows` treats each row on its own."""

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """Return the k nearest other rows of every row."""

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """Return the k nearest rows of every new row."""


def _regular_graph(indices: npt.NDArray[Any], distances: FloatArray) -> Graph:
    n_points, k = indices.shape
    starts = np.arange(n_points + 1, dtype=np.int64) * k
    return Graph(np.ascontiguousarray(indices.reshape(-1), np.int32), distances.reshape(-1), starts)


# ---- Euclidean -----------------------------------------------------------------------------------


class _FaissSearch:
    """Metrics that are Euclidean distances, between the rows of X or between rows that are made of them."""

    def __init__(self, X: FloatArray, metric: str, method: str, seed: int, n_threads: int) -> None:
        self.metric = metric
        self.longest, self.unit = 0.0, 1.0
        if metric == "inner_product":
            self.unit = 2.0 ** np.frexp(float(np.abs(X).max()))[1]  # squares stay in range
            self.longest = float(np.linalg.norm(X / self.unit, axis=1).max())
        points = self._form(X, new=False)
        n_points, n_features = points.shape
        exact = method == "exact" or (
            method == "auto" and (n_points <= 2_000 or n_points**2 * max(n_features, 50) <= EXACT_WORK)
        )
        self.search = EuclideanSearch(points, exact=exact, seed=seed, n_threads=n_threads)

    def _form(self, X: FloatArray, *, new: bool) -> FloatArray:
        """Return the rows whose Euclidean distances are meant."""
        if self.metric == "hellinger":  # the distance between square roots, over the root of 2
            return np.asarray(np.sqrt(check_rows_of_probabilities(X, "X")))
        if self.metric == "cosine":
            # squared distances of unit rows are twice the cosine distance; zeros are at right angles to all others
            largest = np.abs(X).max(axis=1, keepdims=True)
            rows = np.divide(X, largest, out=np.zeros_like(X), where=largest > 0)
            rows = np.concatenate([rows, largest == 0], axis=1, dtype=X.dtype)
            return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        if self.metric == "inner_product":
            # Bachrach et al. (2014), theorem 1: among rows filled up to one length, the nearest has the largest product
            beside = np.zeros((len(X), 1))
            if not new:
                lengths = np.linalg.norm(X / self.unit, axis=1, keepdims=True).astype(np.float64)
                beside = self.unit * np.sqrt(np.maximum((self.longest - lengths) * (self.longest + lengths), 0))
            return np.concatenate([X, beside], axis=1, dtype=X.dtype, casting="same_kind")
        return X

    def _values(self, distances: FloatArray) -> FloatArray:
        """Return the distances of the metric from those of its rows."""
        if self.metric == "cosine":
            return distances * distances / 2
        if self.metric == "sqeuclidean":
            return distances * distances
        return distances * distances.dtype.type(0.5**0.5) if self.metric == "hellinger" else distances

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """See `_Search`."""
        asking = None
        if self.metric == "inner_product":  # a row as it asks is not the row that answers
            asking = self._form(self.search.points[:, :-1], new=True)
        indices, distances = self.search.among_themselves(k, n_threads, asking=asking)
        return indices, self._values(distances)

    def of_new_rows(self, rows: FloatArray, k: int, n_threads: int) -> Found:
        """See `_Search`."""
        indices, distances = self.search.of_new_rows(self._form(rows, new=True), k, n_threads)
        return indices, self._values(distances)


def _draw_seed(random_state: Any) -> int:
    from sklearn.utils import check_random_state

    return DEFAULT_SEED if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))


# ---- Other metrics and given distances -----------------------------------------------------------


class _BruteSearch:
    """All distances, block by block: a metric of scikit-learn's, a function of two rows, or Jensen-Shannon."""

    def __init__(self, X: Any, metric: Metric, metric_params: dict[str, Any]) -> None:
        from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS

        self.metric, self.params, self.dtype = metric, metric_params, X.dtype
        self.boolean = isinstance(metric, str) and metric in PAIRWISE_BOOLEAN_FUNCTIONS
        self.rows = self._form(X)
        if metric == "seuclidean" and "V" not in self.params:  # what SciPy takes from the data
            self.params = {**self.params, "V": X.var(axis=0, ddof=1)}
        if metric == "mahalanobis" and not {"V", "VI"} & set(self.params):
            self.params = {**self.params, "VI": np.linalg.inv(np.cov(X.T)).T}

    def _form(self, X: Any) -> Any:
        if self.metric == "jensen_shannon":
            return check_rows_of_probabilities(X, "X")
        return X != 0 if self.boolean else X

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """See `_Search`."""
        return self._search(self.rows, k, n_threads, own_rows=True)

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """See `_Search`."""
        return self._search(self._form(rows), k, n_threads, own_rows=False)

    def _search(self, rows: Any, k: int, n_threads: int, *, own_rows: bool) -> Found:
        n_rows = rows.shape[0]
        indices, found = np.empty((n_rows, k), dtype=np.int64), np.empty((n_rows, k), dtype=self.dtype)
        step = max(1, 2**22 // self.rows.shape[0])
        for start in range(0, n_rows, step):
            part = slice(start, start + step)
            between = self._distances(rows if step >= n_rows else rows[part], n_threads)
            indices[part], found[part] = _nearest_in_rows(between, k, start if own_rows else None)
        return indices, found

    def _distances(self, rows: Any, n_threads: int) -> FloatArray:
        if self.metric == "jensen_shannon":
            from ..divergence import pairwise_divergence

            return np.asarray(
                pairwise_divergence(rows, self.rows, measure="js_distance", normalize=True, n_threads=n_threads)
            )
        from sklearn.metrics import pairwise_distances

        others = rows if rows is self.rows else self.rows
        with np.errstate(invalid="ignore", divide="ignore"):
            between = pairwise_distances(rows, others, metric=self.metric, n_jobs=n_threads, **self.params)
        if self.metric == "correlation":
            between[np.isnan(between)] = 1  # a constant row, which nothing is correlated with
        return check_distance_values(np.asarray(np.maximum(between, 0)))


def _nearest_in_rows(between: FloatArray, k: int, first_own: int | None) -> Found:
    """Return the k nearest for each row of distances; rows are points ``first_own`` and on, or new ones."""
    indices, found = np.empty((len(between), k), dtype=np.int64), np.empty((len(between), k), dtype=between.dtype)
    for i, row in enumerate(between):
        indices[i], found[i] = _nearest_in_row(row, None if first_own is None else first_own + i, k)
    return indices, found


def _nearest_in_row(row: FloatArray, own: int | None, k: int) -> tuple[npt.NDArray[Any], FloatArray]:
    """Return the k nearest, but for the point's own index, from its distances to all, ties by index."""
    # every candidate at the distance of the last one that is kept, so that ties are broken by index
    limit = np.partition(row, k)[k] if k < len(row) else np.inf
    candidates = np.flatnonzero(row <= limit)
    candidates = candidates[candidates != own] if own is not None else candidates
    order = candidates[np.lexsort((candidates, row[candidates]))][:k]
    return order, row[order]


def _graph_of_dense(distances: FloatArray, k: int, *, own_rows: bool) -> Graph:
    return _regular_graph(*_nearest_in_rows(distances, k, 0 if own_rows else None))


def _graph_of_sparse(distances: Any, k: int, *, own_rows: bool) -> Graph:
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
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Graph(np.ascontiguousarray(columns, np.int32), np.ascontiguousarray(values), starts)
