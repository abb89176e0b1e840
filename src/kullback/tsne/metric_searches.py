"""How the nearest neighbours of each metric are searched: as Euclidean ones, or among all distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.data import check_rows_of_probabilities
from .._distances import Found
from .._recall import Recall, sample_rows
from .._search import EuclideanSearch
from .sparse_search import SparseEuclideanSearch

Metric = str | Callable[..., float]
"""Name of a metric, or a function of two rows."""

EUCLIDEAN_METRICS = ("euclidean", "sqeuclidean", "l2", "cosine", "inner_product", "hellinger")
"""Metrics that are functions of a Euclidean distance."""

EXACT_POINTS, EXACT_WORK = 2_000, 5e9
"""``method="auto"`` is exact up to so many points, or so many differences of coordinates. The latter are those of
10,000 rows of 50 features, which took 0.4 s on two cores."""

LEAST_COUNTED_FEATURES = 50
"""Rows with fewer features count as rows of so many in ``EXACT_WORK``."""


class MetricSearch(Protocol):
    """A search for neighbours in one metric."""

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """Return the k nearest other rows of every row."""

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """Return the k nearest rows of every new row. Each new row is treated on its own."""

    def recall(self, k: int, n_threads: int) -> Recall:
        """Return the recall of a search for k neighbours, measured on rows of the data."""


class EuclideanForm:
    """The rows, derived from data, whose Euclidean distances a metric is a function of.

    - Hellinger: the rows are the square roots of probabilities.
    - Cosine: the rows have unit length, and half the squared distance is the cosine distance. A row of zeros counts as
      being at right angles to all others, so it gets an additional feature of its own.
    - Inner product: the rows of the data are filled up to one length by an additional feature, which is 0 in the rows
      that ask. Then the nearest row has the largest product (Bachrach et al. 2014, theorem 1).

    Parameters
    ----------
    X : ndarray or scipy.sparse.csr_array of shape (n_points, n_features), float32 or float64
        Data.
    metric : str
        One of ``EUCLIDEAN_METRICS``.
    """

    def __init__(self, X: Any, metric: str) -> None:
        self.metric = metric
        self.largest_length, self.unit = 0.0, 1.0
        if metric == "inner_product":
            self.unit = 2.0 ** int(np.frexp(float(abs(X).max()))[1] - 1)  # squares stay in range
            self.largest_length = float(_lengths(X / self.unit).max())

    def derive(self, X: Any, *, asking: bool) -> Any:
        """Return the rows whose Euclidean distances are meant. ``asking`` tells rows that ask from those found."""
        if self.metric == "hellinger":
            return np.sqrt(check_rows_of_probabilities(X, "X"))
        if self.metric == "cosine":
            largest = _largest_values(X)
            rows = _append_column(_divide_rows(X, np.where(largest > 0, largest, 1)), largest == 0)
            return _divide_rows(rows, _lengths(rows))
        if self.metric == "inner_product":
            filling = np.zeros(X.shape[0])
            if not asking:
                lengths = _lengths(X / self.unit).astype(np.float64)
                squared = (self.largest_length - lengths) * (self.largest_length + lengths)
                filling = self.unit * np.sqrt(np.maximum(squared, 0))
            return _append_column(X, filling)
        return X

    def derive_asking(self, X: Any, points: Any) -> Any:
        """Return the data as rows that ask, where ``points`` are the data as rows that are found."""
        return self.derive(X, asking=True) if self.metric == "inner_product" else points

    def convert(self, distances: FloatArray) -> FloatArray:
        """Return the distances in the metric, for Euclidean distances of derived rows."""
        if self.metric == "cosine":
            return distances * distances / 2
        if self.metric == "sqeuclidean":
            return distances * distances
        return distances * distances.dtype.type(0.5**0.5) if self.metric == "hellinger" else distances


def _largest_values(X: Any) -> FloatArray:
    """Return the largest absolute value of each row."""
    largest = abs(X).max(axis=1)
    return np.asarray(largest.toarray() if sparse.issparse(largest) else largest).reshape(-1)


def _lengths(X: Any) -> FloatArray:
    """Return the Euclidean length of each row."""
    if sparse.issparse(X):
        return np.asarray(np.sqrt(X.power(2).sum(axis=1)))
    return np.asarray(np.linalg.norm(X, axis=1))


def _divide_rows(X: Any, divisors: FloatArray) -> Any:
    """Return rows that are divided by a number each, in the dtype of the rows."""
    divisors = divisors.astype(X.dtype, copy=False)
    if not sparse.issparse(X):
        return X / divisors[:, None]
    return sparse.csr_array((X.data / np.repeat(divisors, np.diff(X.indptr)), X.indices, X.indptr), X.shape)


def _append_column(X: Any, column: npt.NDArray[Any]) -> Any:
    """Return rows with one more feature, in the dtype of the rows."""
    column = column[:, None].astype(X.dtype)
    if not sparse.issparse(X):
        return np.concatenate([X, column], axis=1)
    return sparse.hstack([X, sparse.csr_array(column)], format="csr")


class EuclideanMetricSearch:
    """A search in a metric that is a function of the Euclidean distance between rows derived from the data.

    Parameters
    ----------
    X : ndarray or scipy.sparse.csr_array of shape (n_points, n_features), float32 or float64
        Data.
    metric : str
        One of ``EUCLIDEAN_METRICS``.
    method : {"auto", "exact", "approximate"}
        As in `kullback.neighbors.nearest_neighbors`. Sparse rows are always compared with all others.
    recall : float in (0, 1]
        The share of the true neighbours that an approximate search finds at least.
    seed : int
        Seed of the approximate search.
    n_threads : int
        Number of threads that build the index.
    """

    def __init__(self, X: Any, metric: str, method: str, *, recall: float, seed: int, n_threads: int) -> None:
        self.form = EuclideanForm(X, metric)
        self.X, points = X, self.form.derive(X, asking=False)
        n_points, n_features = points.shape
        work = n_points**2 * max(n_features, LEAST_COUNTED_FEATURES)
        exact = method == "exact" or (method == "auto" and (n_points <= EXACT_POINTS or work <= EXACT_WORK))
        self.search: EuclideanSearch | SparseEuclideanSearch
        if sparse.issparse(points):
            self.search = SparseEuclideanSearch(points)
        else:
            sample = sample_rows(n_points, seed)
            asking = self.form.derive_asking(X[sample], points[sample])
            options: dict[str, Any] = {"recall": recall, "seed": seed, "n_threads": n_threads}
            self.search = EuclideanSearch(points, exact=exact, sample=(sample, asking), **options)

    def among_themselves(self, k: int, n_threads: int) -> Found:
        """See `MetricSearch`."""
        asking = self.form.derive_asking(self.X, self.search.points)
        indices, distances = self.search.among_themselves(k, n_threads, asking=asking)
        return indices, self.form.convert(distances)

    def of_new_rows(self, rows: Any, k: int, n_threads: int) -> Found:
        """See `MetricSearch`."""
        indices, distances = self.search.of_new_rows(self.form.derive(rows, asking=True), k, n_threads)
        return indices, self.form.convert(distances)

    def recall(self, k: int, n_threads: int) -> Recall:
        """See `MetricSearch`."""
        return self.search.choose_effort(k, n_threads)[1]
