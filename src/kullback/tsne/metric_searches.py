"""How the nearest neighbours of each metric are searched: as Euclidean ones, or among all distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .._arrays import FloatArray
from .._checks.data import check_distance_values, check_rows_of_probabilities
from .._distances import Found, nearest_in_rows
from .._search import EuclideanSearch

Metric = str | Callable[..., float]
"""Name of a metric, or a function of two rows."""

EUCLIDEAN_METRICS = ("euclidean", "sqeuclidean", "l2", "cosine", "inner_product", "hellinger")
"""Metrics that are functions of a Euclidean distance."""

EXACT_POINTS, EXACT_WORK = 2_000, 5e9
"""``method="auto"`` is exact up to so many points, or so many differences of coordinates. The latter are those of
10,000 rows of 50 features, which took 0.4 s on two cores."""

LEAST_COUNTED_FEATURES = 50
"""Rows with fewer features count as rows of so many in ``EXACT_WORK``."""

BLOCK_ELEMENTS = 2**22
"""Distances that `AllPairsSearch` computes at a time: 32 MB in float64."""


class MetricSearch(Protocol):
    """A search for neighbours in one metric."""

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """Return the k nearest other rows of every row."""

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """Return the k nearest rows of every new row. Each new row is treated on its own."""


class EuclideanMetricSearch:
    """A search in a metric that is a function of the Euclidean distance between rows derived from the data.

    - Hellinger: the rows are the square roots of probabilities.
    - Cosine: the rows have unit length, and half the squared distance is the cosine distance. A row of zeros counts as
      being at right angles to all others, so it gets an additional feature of its own.
    - Inner product: the rows of the data are filled up to one length by an additional feature, which is 0 in the rows
      that ask. Then the nearest row has the largest product (Bachrach et al. 2014, theorem 1).

    Parameters
    ----------
    X : ndarray of shape (n_points, n_features), float32 or float64
        Data.
    metric : str
        One of ``EUCLIDEAN_METRICS``.
    method : {"auto", "exact", "approximate"}
        As in `kullback.neighbors.nearest_neighbors`.
    seed : int
        Seed of the approximate search.
    n_threads : int
        Number of threads that build the index.
    """

    def __init__(self, X: FloatArray, metric: str, method: str, seed: int, n_threads: int) -> None:
        self.metric = metric
        self.largest_length, self.unit = 0.0, 1.0
        if metric == "inner_product":
            self.unit = 2.0 ** np.frexp(float(np.abs(X).max()))[1]  # squares stay in range
            self.largest_length = float(np.linalg.norm(X / self.unit, axis=1).max())
        points = self._derive(X, asking=False)
        n_points, n_features = points.shape
        work = n_points**2 * max(n_features, LEAST_COUNTED_FEATURES)
        exact = method == "exact" or (method == "auto" and (n_points <= EXACT_POINTS or work <= EXACT_WORK))
        self.search = EuclideanSearch(points, exact=exact, seed=seed, n_threads=n_threads)

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """See `MetricSearch`."""
        asking = None
        if self.metric == "inner_product":
            asking = self._derive(self.search.points[:, :-1], asking=True)
        indices, distances = self.search.among_themselves(k, n_threads, asking=asking)
        return indices, self._convert(distances)

    def of_new_rows(self, rows: FloatArray, k: int, n_threads: int) -> Found:
        """See `MetricSearch`."""
        indices, distances = self.search.of_new_rows(self._derive(rows, asking=True), k, n_threads)
        return indices, self._convert(distances)

    def _derive(self, X: FloatArray, *, asking: bool) -> FloatArray:
        """Return the rows whose Euclidean distances are meant. ``asking`` tells rows that ask from those found."""
        if self.metric == "hellinger":
            return np.asarray(np.sqrt(check_rows_of_probabilities(X, "X")))
        if self.metric == "cosine":
            largest = np.abs(X).max(axis=1, keepdims=True)
            rows = np.divide(X, largest, out=np.zeros_like(X), where=largest > 0)
            rows = np.concatenate([rows, largest == 0], axis=1, dtype=X.dtype)
            return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        if self.metric == "inner_product":
            filling = np.zeros((len(X), 1))
            if not asking:
                lengths = np.linalg.norm(X / self.unit, axis=1, keepdims=True).astype(np.float64)
                squared = (self.largest_length - lengths) * (self.largest_length + lengths)
                filling = self.unit * np.sqrt(np.maximum(squared, 0))
            return np.concatenate([X, filling], axis=1, dtype=X.dtype, casting="same_kind")
        return X

    def _convert(self, distances: FloatArray) -> FloatArray:
        """Return the distances in the metric, for Euclidean distances of derived rows."""
        if self.metric == "cosine":
            return distances * distances / 2
        if self.metric == "sqeuclidean":
            return distances * distances
        return distances * distances.dtype.type(0.5**0.5) if self.metric == "hellinger" else distances


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

    def __init__(self, X: Any, metric: Metric, metric_params: dict[str, Any]) -> None:
        from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS

        self.metric, self.params, self.dtype = metric, metric_params, X.dtype
        self.boolean = isinstance(metric, str) and metric in PAIRWISE_BOOLEAN_FUNCTIONS
        self.rows = self._derive(X)
        # SciPy takes these from the rows of a call. Here they are those of X, whatever rows are searched for.
        if metric == "seuclidean" and "V" not in self.params:
            self.params = {**self.params, "V": X.var(axis=0, ddof=1)}
        if metric == "mahalanobis" and not {"V", "VI"} & set(self.params):
            self.params = {**self.params, "VI": np.linalg.inv(np.cov(X.T)).T}

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """See `MetricSearch`."""
        return self._search(self.rows, k, n_threads, own_rows=True)

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """See `MetricSearch`."""
        return self._search(self._derive(rows), k, n_threads, own_rows=False)

    def _derive(self, X: Any) -> Any:
        """Return the rows in the form that the metric takes."""
        if self.metric == "jensen_shannon":
            return check_rows_of_probabilities(X, "X")
        return X != 0 if self.boolean else X

    def _search(self, rows: Any, k: int, n_threads: int, *, own_rows: bool) -> Found:
        """Return the k nearest rows of the data for every row. With ``own_rows``, the rows are those of the data."""
        n_rows = rows.shape[0]
        indices, found = np.empty((n_rows, k), dtype=np.int64), np.empty((n_rows, k), dtype=self.dtype)
        step = max(1, BLOCK_ELEMENTS // self.rows.shape[0])
        own = np.arange(n_rows) if own_rows else np.full(n_rows, -1)
        for start in range(0, n_rows, step):
            block = slice(start, start + step)
            distances = self._distances(rows if step >= n_rows else rows[block], n_threads)
            indices[block], found[block] = nearest_in_rows(distances, k, own[block])
        return indices, found

    def _distances(self, rows: Any, n_threads: int) -> FloatArray:
        """Return the distances of rows to all rows of the data."""
        if self.metric == "jensen_shannon":
            from ..divergence import pairwise_divergence

            return np.asarray(
                pairwise_divergence(rows, self.rows, measure="js_distance", normalize=True, n_threads=n_threads)
            )
        from sklearn.metrics import pairwise_distances

        others = rows if rows is self.rows else self.rows
        with np.errstate(invalid="ignore", divide="ignore"):
            distances = pairwise_distances(rows, others, metric=self.metric, n_jobs=n_threads, **self.params)
        if self.metric == "correlation":
            distances[np.isnan(distances)] = 1  # a constant row is correlated with nothing
        return check_distance_values(np.asarray(np.maximum(distances, 0)))
