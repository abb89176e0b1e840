"""Distances in any metric that is no function of a Euclidean one, and a search among all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.data import check_distance_values, check_rows_of_probabilities
from .._distances import Found, Indices, nearest_in_rows
from .._recall import EXACT, Recall
from .._threads import SPARE_BYTES, startable_threads

BLOCK_ELEMENTS = 2**22
"""Distances that are computed at a time, and elements of sparse rows that are dense at a time: 32 MB in float64."""

BLOCK_PAIRS = 32
"""Pairs whose distances are the diagonal of a matrix. One pair at a time costs as much as so many rows do."""

JOBLIB_THREADS = 4
"""Threads that joblib has beside its workers, ours among them."""

SPARSE_METRICS = ("cityblock", "l1", "manhattan")
"""Metrics that scikit-learn computes from sparse rows. For others, blocks of rows are made dense."""


class AllPairsSearch:
    """A search among all distances, computed block by block, in O(n_points * n_features) time for each row.

    The metric is one of scikit-learn's, a function of two rows, or the Jensen-Shannon distance.

    Parameters
    ----------
    X : ndarray or scipy.sparse.csr_array of shape (n_points, n_features)
        Data.
    metric : str or callable
        As in `kullback.neighbors.nearest_neighbors`.
    metric_params : dict
        Further keyword arguments of the metric.
    """

    def __init__(self, X: Any, metric: Any, metric_params: dict[str, Any]) -> None:
        from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS

        self.metric, self.params, self.dtype = metric, metric_params, X.dtype
        self.boolean = isinstance(metric, str) and metric in PAIRWISE_BOOLEAN_FUNCTIONS
        self.rows = self._derive(X)
        # SciPy takes these from the rows of a call. Here they are those of X, whatever rows are searched for.
        if metric == "seuclidean" and "V" not in self.params:
            self.params = {**self.params, "V": _variances(X)}
        if metric == "mahalanobis" and "VI" not in self.params:
            rest = {name: value for name, value in self.params.items() if name != "V"}
            self.params = {**rest, "VI": _invert(self.params["V"] if "V" in self.params else _covariances(X))}

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """See `kullback.tsne.metric_searches.MetricSearch`."""
        return self._search(self.rows, k, n_threads, own_rows=True)

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """See `kullback.tsne.metric_searches.MetricSearch`."""
        return self._search(self._derive(rows), k, n_threads, own_rows=False)

    def recall(self, k: int, n_threads: int) -> Recall:
        """See `kullback.tsne.metric_searches.MetricSearch`."""
        return EXACT

    def from_rows(self, places: Indices, n_threads: int) -> FloatArray:
        """Return the distances of some rows of the data to all of them."""
        return self._distances(self.rows[places], n_threads)

    def of_pairs(self, first: Indices, second: Indices) -> npt.NDArray[np.float64]:
        """Return the distances of pairs of rows of the data."""
        distances = np.empty(len(first))
        step = max(1, BLOCK_ELEMENTS // self.rows.shape[1])
        for start in range(0, len(first), step):
            block = slice(start, start + step)
            a, b = (to_dense(self.rows[places[block]]) for places in (first, second))
            distances[block] = self._paired(a, b)
        return distances

    def _derive(self, X: Any) -> Any:
        """Return the rows in the form that the metric takes."""
        if self.metric == "jensen_shannon":
            return check_rows_of_probabilities(X, "X")
        if sparse.issparse(X) and X.indices.dtype != np.int32 and max(*X.shape, X.nnz) < 2**31:
            X = sparse.csr_array((X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32)), X.shape)
        return X != 0 if self.boolean else X

    def _search(self, rows: Any, k: int, n_threads: int, *, own_rows: bool) -> Found:
        """Return the k nearest rows of the data for every row. With ``own_rows``, the rows are those of the data."""
        n_rows = rows.shape[0]
        indices, found = np.empty((n_rows, k), dtype=np.int64), np.empty((n_rows, k), dtype=self.dtype)
        step = max(1, BLOCK_ELEMENTS // max(self.rows.shape[0], rows.shape[1] if sparse.issparse(rows) else 1))
        own = np.arange(n_rows) if own_rows else np.full(n_rows, -1)
        for start in range(0, n_rows, step):
            block = slice(start, start + step)
            distances = self._distances(rows if step >= n_rows else rows[block], n_threads)
            indices[block], found[block] = nearest_in_rows(distances, k, own[block])
        return indices, found

    def _distances(self, rows: Any, n_threads: int) -> FloatArray:
        """Return the distances of rows to all rows of the data."""
        if not sparse.issparse(rows) or self.metric in SPARSE_METRICS:
            return self._between(rows, rows if rows is self.rows else self.rows, n_threads)
        step, rows = max(1, BLOCK_ELEMENTS // rows.shape[1]), rows.toarray()
        blocks = [slice(start, start + step) for start in range(0, self.rows.shape[0], step)]
        return np.concatenate([self._between(rows, self.rows[block].toarray(), n_threads) for block in blocks], axis=1)

    def _between(self, rows: Any, others: Any, n_threads: int) -> FloatArray:
        """Return the distances of rows to other rows."""
        if self.metric == "jensen_shannon":
            from ..divergence import pairwise_divergence

            return np.asarray(
                pairwise_divergence(rows, others, measure="js_distance", normalize=True, n_threads=n_threads)
            )
        from sklearn.metrics import pairwise_distances

        n_jobs = max(1, startable_threads(n_threads + JOBLIB_THREADS, SPARE_BYTES) - JOBLIB_THREADS)
        with np.errstate(invalid="ignore", divide="ignore"):
            distances = pairwise_distances(rows, others, metric=self.metric, n_jobs=n_jobs, **self.params)
        return self._check(np.asarray(distances))

    def _paired(self, rows: FloatArray, others: FloatArray) -> FloatArray:
        """Return the distance of each row to the row in its place."""
        if self.metric == "jensen_shannon":
            from ..divergence import jensen_shannon_distance

            return np.asarray(jensen_shannon_distance(rows, others, normalize=True))
        from sklearn.metrics.pairwise import PAIRED_DISTANCES, paired_distances

        if callable(self.metric) or self.metric in PAIRED_DISTANCES:
            return self._check(paired_distances(rows, others, metric=self.metric, **self.params))
        blocks = [slice(start, start + BLOCK_PAIRS) for start in range(0, len(rows), BLOCK_PAIRS)]
        return np.concatenate([self._between(rows[block], others[block], 1).diagonal() for block in blocks])

    def _check(self, distances: FloatArray) -> FloatArray:
        """Return the distances of the metric, none of which is negative or NaN."""
        if self.metric == "correlation":
            distances[np.isnan(distances)] = 1  # a constant row is correlated with nothing
        return check_distance_values(distances)


def to_dense(rows: Any) -> FloatArray:
    """Return rows as an array."""
    return np.asarray(rows.toarray() if sparse.issparse(rows) else rows)


def _variances(X: Any) -> npt.NDArray[np.float64]:
    """Return the variance of each feature."""
    step = max(1, BLOCK_ELEMENTS // X.shape[0])
    blocks = [X[:, start : start + step] for start in range(0, X.shape[1], step)]
    return np.concatenate([to_dense(block).var(axis=0, ddof=1, dtype=np.float64) for block in blocks])


def _covariances(X: Any) -> FloatArray:
    """Return the covariances of the features."""
    if not sparse.issparse(X):
        return np.atleast_2d(np.cov(X.T))
    n_points = X.shape[0]
    mean = X.mean(axis=0, dtype=np.float64)
    X = X.astype(np.float64)
    return np.asarray(((X.T @ X).toarray() - n_points * np.outer(mean, mean)) / (n_points - 1))


def _invert(covariances: npt.ArrayLike) -> FloatArray:
    """Return the inverse of covariances, transposed as SciPy does it."""
    matrix = np.asarray(covariances, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or np.linalg.matrix_rank(matrix) < len(matrix):
        raise ValueError(
            'metric="mahalanobis" needs covariances that can be inverted, got those of features that depend on each '
            f'other, or shape {matrix.shape}; pass metric_params={{"VI": ...}}, the inverse'
        )
    return np.asarray(np.linalg.inv(matrix).T)
