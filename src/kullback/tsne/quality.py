"""How well an embedding keeps the neighbourhoods and the distances of the data.

`trustworthiness` and `continuity` need the rank of every false or missing neighbour among all distances, which takes
O(n^2) time. Above ``sample`` points they are means over a sample of rows. Each row is still compared with all points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.data import check_data, check_positions
from .._checks.scalars import check_integer
from .._distances import measure_all, measure_pairs
from .._threads import resolve_threads
from .all_pairs import AllPairsSearch, to_dense
from .metric_searches import EUCLIDEAN_METRICS, EuclideanForm, Metric
from .neighbors import nearest_neighbors

BLOCK_ELEMENTS = 2**22
"""Distances that are computed at a time. They take 32 MiB."""

LOST_BELOW = 2.0**-22
"""A squared distance that is a smaller share of the squared length of its row is measured again, by differences."""

COUNTED_NEIGHBORS = 32
"""Up to so many neighbours are ranked by counting the points that are nearer, others by sorting the row.

With 10^5 points, one count takes 0.13 ms and sorting takes 6 ms."""


def neighborhood_recall(
    X: Any,
    embedding: npt.ArrayLike,
    *,
    n_neighbors: int = 10,
    metric: Metric = "euclidean",
    sample: int | None = None,
    random_state: Any = 0,
    n_threads: int | None = None,
) -> float:
    """Return the share of the nearest neighbours in the data that are nearest neighbours in the embedding.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features), or a tuple
        Data, or (indices, distances) from `kullback.neighbors.nearest_neighbors`, to search only once.
    embedding : array-like of shape (n_points, n_components)
        Positions.
    n_neighbors : int >= 1, default 10
        Size of a neighbourhood.
    metric : str or callable, default "euclidean"
        Distance between rows of the data, as in `kullback.neighbors.nearest_neighbors`. In the embedding it is
        Euclidean.
    sample : int or None, default None
        Number of rows that the mean is taken over. None means all, as do lists of neighbours that are given.
    random_state : int, RandomState or None, default 0
        Seed of the sample.
    n_threads : int, optional
        Number of threads, by default all.

    Returns
    -------
    float
        Mean over the points, from 0 to 1. Neighbours in the data are exact. 10^5 points of 50 features take half a
        minute on two cores, nearly all of it for the search in the data. A sample of 2,000 rows takes some seconds.

    Raises
    ------
    ValueError, TypeError
        If there is not one position for each row, or there are not so many neighbours.

    Examples
    --------
    >>> from kullback.quality import neighborhood_recall
    >>> X = [[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [6.0, 0.0]]
    >>> neighborhood_recall(X, [[0.0], [1.0], [5.0], [6.0]], n_neighbors=1)
    1.0
    """
    positions = check_positions(embedding, "embedding")
    k = _check_neighbors(n_neighbors, len(positions), len(positions) - 1)
    if sample is not None and not isinstance(X, tuple):
        positions, data = _check_pair(X, embedding)
        rows = _sample_rows(len(positions), sample, random_state)
        return _recall_of_rows(data, metric, positions, rows, k, resolve_threads(n_threads))
    if isinstance(X, tuple):
        true = np.asarray(X[0])[:, :k]
    else:
        true, _ = nearest_neighbors(X, k, metric=metric, method="exact", n_threads=n_threads)
    if true.shape != (len(positions), k):
        raise ValueError(f"X must have {k} neighbours of {len(positions)} points, got shape {true.shape}")
    found, _ = nearest_neighbors(positions, k, method="exact", n_threads=n_threads)
    return float(_count_shared(true, found) / true.size)


def trustworthiness(
    X: Any,
    embedding: npt.ArrayLike,
    *,
    n_neighbors: int = 5,
    metric: Metric = "euclidean",
    sample: int | None = 2000,
    random_state: Any = 0,
    n_threads: int | None = None,
) -> float:
    """Return how far the neighbours in the embedding are neighbours in the data.

    It is ``1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in U_i} (r(i, j) - k)``, where U_i are the neighbours of i in the
    embedding that are not among its k nearest in the data, and r is their rank there. It is the same measure as
    `sklearn.manifold.trustworthiness`.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data.
    embedding : array-like of shape (n_points, n_components)
        Positions.
    n_neighbors : int, default 5
        Size k of a neighbourhood, below n_points / 2.
    metric : str or callable, default "euclidean"
        Distance between rows of the data, as in `kullback.neighbors.nearest_neighbors`.
    sample : int or None, default 2000
        Number of rows that the mean is taken over. None means all, which takes O(n^2) time.
    random_state : int, RandomState or None, default 0
        Seed of the sample.
    n_threads : int, optional
        Number of threads, by default all.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError, TypeError
        If there is not one position for each row, or too few points for so many neighbours.

    References
    ----------
    Venna and Kaski (2001), "Neighborhood preservation in nonlinear projection methods".

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.quality import trustworthiness
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> trustworthiness(X, X)
    1.0
    """
    positions, data = _check_pair(X, embedding)
    penalty = _rank_penalty(positions, "euclidean", data, metric, n_neighbors, sample, random_state, n_threads)
    return 1 - penalty


def continuity(
    X: Any,
    embedding: npt.ArrayLike,
    *,
    n_neighbors: int = 5,
    metric: Metric = "euclidean",
    sample: int | None = 2000,
    random_state: Any = 0,
    n_threads: int | None = None,
) -> float:
    """Return how far the neighbours in the data are still neighbours in the embedding.

    It is `trustworthiness` with data and embedding exchanged.

    Parameters
    ----------
    X, embedding, n_neighbors, metric, sample, random_state, n_threads
        As in `trustworthiness`.

    Returns
    -------
    float
        From 0 to 1.

    References
    ----------
    Venna and Kaski (2001), "Neighborhood preservation in nonlinear projection methods".

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.quality import continuity
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> continuity(X, X)
    1.0
    """
    positions, data = _check_pair(X, embedding)
    penalty = _rank_penalty(data, metric, positions, "euclidean", n_neighbors, sample, random_state, n_threads)
    return 1 - penalty


def distance_correlation(
    X: Any,
    embedding: npt.ArrayLike,
    *,
    metric: Metric = "euclidean",
    sample: int = 100_000,
    random_state: Any = 0,
) -> float:
    """Return Spearman's correlation of distances in the data with distances in the embedding.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data.
    embedding : array-like of shape (n_points, n_components)
        Positions.
    metric : str or callable, default "euclidean"
        Distance between rows of the data, as in `kullback.neighbors.nearest_neighbors`.
    sample : int, default 100,000
        Number of pairs of points. If there are no more, all pairs are taken.
    random_state : int, RandomState or None, default 0
        Seed of the sample.

    Returns
    -------
    float
        From -1 to 1: how well the map keeps the large shape of the data. It is NaN if all distances are equal.

    Examples
    --------
    >>> from kullback.quality import distance_correlation
    >>> round(distance_correlation([[0.0], [1.0], [5.0]], [[0.0], [2.0], [6.0]]), 6)
    1.0
    """
    from scipy.stats import rankdata
    from sklearn.utils import check_random_state

    positions, data = _check_pair(X, embedding)
    n_points = len(positions)
    if n_points * (n_points - 1) // 2 <= check_integer(sample, "sample", low=1):
        first, second = np.triu_indices(n_points, 1)
    else:
        generator = check_random_state(random_state)
        first = generator.randint(n_points, size=sample)
        second = (first + 1 + generator.randint(n_points - 1, size=sample)) % n_points
    ranks = [rankdata(_pair_distances(rows, kind, first, second)) for rows, kind in
             ((data, metric), (positions, "euclidean"))]  # fmt: skip
    a, b = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(float(a @ b) / scale) if scale > 0 else float("nan")


def _check_neighbors(n_neighbors: int, n_points: int, limit: int) -> int:
    """Return a number of neighbours that is at most ``limit``."""
    k = check_integer(n_neighbors, "n_neighbors", low=1)
    if k > limit:
        raise ValueError(f"n_neighbors must be at most {limit} for {n_points} points, got {k}")
    return k


def _check_pair(X: Any, embedding: npt.ArrayLike) -> tuple[FloatArray, Any]:
    """Return positions and data of the same number of points."""
    positions, data = check_positions(embedding, "embedding"), check_data(X, "X")
    if data.shape[0] != len(positions):
        raise ValueError(f"embedding must have the {data.shape[0]} rows of X, got {len(positions)}")
    return positions, data


def _recall_of_rows(
    data: Any, metric: Metric, positions: FloatArray, rows: npt.NDArray[np.int64], k: int, n_threads: int
) -> float:
    """Return the share of the k nearest neighbours in the data that are so in the embedding, over some rows."""
    sides = _distances_from(data, metric, n_threads), _distances_from(positions, "euclidean", n_threads)
    n_shared = 0
    for block in _blocks(rows, len(positions)):
        true, found = (_nearest(_without_self(distances(block), block), k) for distances in sides)
        n_shared += _count_shared(true, found)
    return n_shared / (len(rows) * k)


def _count_shared(true: npt.NDArray[Any], found: npt.NDArray[Any]) -> int:
    """Return how many indices are in the same row of both lists."""
    both = np.sort(np.concatenate([true, found], axis=1), axis=1)  # an index in both lists comes twice in a row
    return int(np.count_nonzero(both[:, 1:] == both[:, :-1]))


def _rank_penalty(
    near: Any, near_metric: Metric, ranked: Any, ranked_metric: Metric, n_neighbors: int, sample: int | None,
    random_state: Any, n_threads: int | None,
) -> float:  # fmt: skip
    """Return the mean of rank - k, scaled to [0, 1], of the k nearest neighbours in ``near``, ranked in ``ranked``."""
    n_points = near.shape[0]
    k = _check_neighbors(n_neighbors, n_points, max(1, (n_points - 1) // 2))
    if 2 * n_points - 3 * k - 1 <= 0:
        raise ValueError(f"X must have more points for n_neighbors = {k}, got {n_points}")
    rows = _sample_rows(n_points, sample, random_state)
    threads = resolve_threads(n_threads)
    near_distances = _distances_from(near, near_metric, threads)
    ranked_distances = _distances_from(ranked, ranked_metric, threads)
    total = 0
    for block in _blocks(rows, n_points):
        neighbors = _nearest(_without_self(near_distances(block), block), k)
        total += _excess_rank(_without_self(ranked_distances(block), block), neighbors, k)
    return float(2 * total / (len(rows) * k * (2 * n_points - 3 * k - 1)))


def _sample_rows(n_points: int, sample: int | None, random_state: Any) -> npt.NDArray[np.int64]:
    """Return a sorted sample of rows, or all rows."""
    from sklearn.utils import check_random_state

    if sample is None or check_integer(sample, "sample", low=1) >= n_points:
        return np.arange(n_points)
    return np.sort(check_random_state(random_state).permutation(n_points)[:sample])


def _blocks(rows: npt.NDArray[np.int64], n_points: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows in blocks whose distances to all points fit into memory."""
    step = max(1, BLOCK_ELEMENTS // n_points)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _without_self(distances: FloatArray, rows: npt.NDArray[np.int64]) -> FloatArray:
    """Make the distance of each row to itself infinite, in place, and return the distances."""
    distances[np.arange(len(rows)), rows] = np.inf
    return distances


def _nearest(distances: FloatArray, k: int) -> npt.NDArray[np.int64]:
    """Return the indices of the k smallest distances of each row, in any order."""
    return np.asarray(np.argpartition(distances, k - 1, axis=1)[:, :k], dtype=np.int64)


def _excess_rank(distances: FloatArray, neighbors: npt.NDArray[Any], k: int) -> int:
    """Return the sum of max(rank - k, 0) over neighbours. The nearest point has rank 1."""
    if neighbors.shape[1] <= COUNTED_NEIGHBORS:
        found = np.take_along_axis(distances, neighbors, axis=1)
        ranks = np.stack([1 + np.count_nonzero(distances < column[:, None], axis=1) for column in found.T])
        return int(np.maximum(ranks - k, 0).sum())
    total = 0
    for row, among, columns in zip(distances, np.sort(distances, axis=1), neighbors, strict=True):
        ranks = 1 + np.searchsorted(among, row[columns])
        total += int(np.maximum(ranks - k, 0).sum())
    return total


def _distances_from(rows: Any, metric: Metric, n_threads: int) -> Callable[[npt.NDArray[Any]], FloatArray]:
    """Return a function that returns, for some rows, numbers in the order of their distances to all rows."""
    if metric not in EUCLIDEAN_METRICS:
        search = AllPairsSearch(rows, metric, {})
        return lambda block: search.from_rows(block, n_threads).astype(np.float64)
    points, asking = _euclidean_rows(rows, str(metric))
    scale = max(float(abs(points).max()), float(abs(asking).max()), np.finfo(float).tiny)
    points, asking = points / scale, asking / scale
    if sparse.issparse(points):
        squared = points.power(2).sum(axis=1)
        return lambda block: np.asarray(squared - 2 * (asking[block] @ points.T).toarray())
    centre = points.mean(axis=0)
    points, asking = points - centre, asking - centre
    squared, squared_asking = (np.einsum("ij,ij->i", side, side) for side in (points, asking))

    def find_order(block: npt.NDArray[Any]) -> FloatArray:
        # The squared distances without |x|^2 of the row itself, which does not change the order.
        order: FloatArray = squared - 2 * (asking[block] @ points.T)
        nearest = _without_self(order, block).min(axis=1) + squared_asking[block]
        lost = np.flatnonzero(nearest < LOST_BELOW * squared_asking[block])
        if len(lost):
            order[lost] = measure_all(points, asking[block[lost]])
        return order

    return find_order


def _euclidean_rows(rows: Any, metric: str) -> tuple[Any, Any]:
    """Return the rows that are found, and those that ask, whose Euclidean distances have the order of the metric's."""
    form, rows = EuclideanForm(rows, metric), rows.astype(np.float64)
    points = form.derive(rows, asking=False)
    return points, form.derive_asking(rows, points)


def _pair_distances(
    rows: Any, metric: Metric, first: npt.NDArray[Any], second: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Return numbers in the order of the distances of pairs of rows."""
    if metric not in EUCLIDEAN_METRICS:
        return AllPairsSearch(rows, metric, {}).of_pairs(first, second)
    points, asking = _euclidean_rows(rows, str(metric))
    distances = np.empty(len(first))
    step = max(1, BLOCK_ELEMENTS // points.shape[1])
    for start in range(0, len(first), step):
        block = slice(start, start + step)
        a, b = to_dense(asking[first[block]]), to_dense(points[second[block]])
        distances[block] = measure_pairs(b, a, np.arange(len(a))[:, None])[:, 0]
    return distances
