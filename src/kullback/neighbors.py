"""Nearest neighbours: exact or approximate by size, with the same bits for any number of threads.

Euclidean distances go through faiss. Two of its habits are worked around. Its flat index hands large blocks
to a BLAS, whose rounding depends on the thread count: here it always sums squared differences directly, which
measured only a fifth slower and keeps small distances between rows far from the origin. And it computes in
float32: rows are centred and scaled first, so data with a large offset, or of the order of 1e30 or 1e-40,
lose nothing.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ._arrays import (
    FloatArray,
    check_choice,
    check_data,
    check_distances,
    check_integer,
    check_neighbor_lists,
    check_rows_of_probabilities,
)
from ._threads import resolve_threads

Metric = str | Callable[..., float]

METHODS = ("auto", "exact", "approximate")

EXACT_WORK = 5e9
"""``auto`` is exact up to so many differences of coordinates: 10,000 rows of 50, 0.4 s on two cores."""

SERIAL_WORK = 1e7
"""Below so many differences of coordinates, 1 ms, one thread serves as well, and a busy machine better."""

N_PROBES = 16
"""Lists of the inverted file that are searched for a row. With about n^0.75 / 16 lists, the recall of 90
neighbours measured 0.986 to 0.995 on images of digits (4,000 to 63,000 rows of 50)."""

POINTS_PER_LIST = 64
"""Rows per list for k-means; 256 made the recall 0.002 higher and training four times as long."""

FAR = 1e16
"""Rows so many times farther from the median than the typical row: their squares would overflow float32."""

DENSE_ELEMENTS = 2**26
"""Sparse data of up to so many elements are searched as dense ones: 256 MB in float32."""

DISTRIBUTION_METRICS = ("hellinger", "jensen_shannon")

FAISS_METRICS = ("euclidean", "sqeuclidean", "l2")

_faiss_lock = threading.Lock()


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
        "euclidean", "sqeuclidean", "cosine" and, for rows that are distributions, "hellinger" go through faiss,
        "precomputed" and "jensen_shannon" (the root of the divergence, in nats) through a partial sort, any
        other through `sklearn.neighbors.NearestNeighbors` by brute force.
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
        float32 where X is float32, else float64; computed in float32 from centred and scaled rows.

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
    k = check_integer(k, "k", low=1)
    check_choice(method, "method", METHODS)
    threads = resolve_threads(n_threads)
    if isinstance(X, tuple):
        return _graph_of_sparse(check_neighbor_lists(X, "X"), k)
    if isinstance(metric, str) and metric == "precomputed":
        distances = check_distances(X, "X")
        return _graph_of_sparse(distances, k) if sparse.issparse(distances) else _graph_of_dense(distances, k)
    X = check_data(X, "X")
    k = min(k, X.shape[0] - 1)
    if metric in (*FAISS_METRICS, "cosine") and sparse.issparse(X) and math.prod(X.shape) <= DENSE_ELEMENTS:
        X = X.toarray()  # even with few entries a row, faiss on dense rows is faster than products of sparse ones
    if metric == "cosine" and not sparse.issparse(X) and not metric_params:
        lengths = np.linalg.norm(X, axis=1, keepdims=True)
        if lengths.all() and np.isfinite(lengths).all():
            indices, distances = _euclidean(X / lengths, k, method, threads, random_state)
            return _regular_graph(indices, distances * distances / 2)
    if isinstance(metric, str) and metric in DISTRIBUTION_METRICS:
        X = check_rows_of_probabilities(X, "X")
        if metric == "hellinger":  # the Euclidean distance between square roots, over the root of 2
            indices, distances = _euclidean(np.sqrt(X), k, method, threads, random_state)
            return _regular_graph(indices, distances * distances.dtype.type(0.5**0.5))
        return _regular_graph(*_jensen_shannon(X, k))
    if metric in FAISS_METRICS and not sparse.issparse(X) and not metric_params:
        indices, distances = _euclidean(X, k, method, threads, random_state)
        return _regular_graph(indices, distances * distances if metric == "sqeuclidean" else distances)
    return _regular_graph(*_scikit_learn(X, k, metric, metric_params, threads))


def _regular_graph(indices: npt.NDArray[Any], distances: FloatArray) -> Graph:
    n_points, k = indices.shape
    starts = np.arange(n_points + 1, dtype=np.int64) * k
    return Graph(np.ascontiguousarray(indices.reshape(-1), np.int32), distances.reshape(-1), starts)


def _sort_ties(indices: npt.NDArray[Any], distances: FloatArray) -> None:
    """Order columns by index within equal distances, in place; distances are sorted already."""
    rows = np.flatnonzero((distances[:, 1:] == distances[:, :-1]).any(axis=1))
    order = np.lexsort((indices[rows], distances[rows]), axis=1)
    indices[rows] = np.take_along_axis(indices[rows], order, axis=1)


def _without_self(indices: npt.NDArray[Any], distances: FloatArray) -> tuple[npt.NDArray[Any], FloatArray]:
    """Drop from each row the row itself, or its last column where so many duplicates came first."""
    drop = indices == np.arange(len(indices))[:, None]
    drop[~drop.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return indices[~drop].reshape(shape), distances[~drop].reshape(shape)


# ---- Euclidean -----------------------------------------------------------------------------------


def _euclidean(
    X: FloatArray, k: int, method: str, n_threads: int, random_state: Any
) -> tuple[npt.NDArray[Any], FloatArray]:
    rows, far, scale = _scale_rows(X)
    n_points = len(rows)
    if n_points - len(far) <= k:
        far = np.arange(n_points)
    indices = np.empty((n_points, k), dtype=np.int64)
    distances = np.empty((n_points, k), dtype=X.dtype)
    if len(far) < n_points:
        near = np.delete(np.arange(n_points), far) if len(far) else None
        found, squared = _search(rows if near is None else rows[near], k, method, n_threads, random_state)
        found, squared = _without_self(found, squared)
        _sort_ties(found, squared)
        root = np.sqrt(squared, dtype=X.dtype)
        root *= scale
        if near is None:
            return found, root
        indices[near], distances[near] = near[found], root
    if len(far):
        indices[far], distances[far] = _search_far(X, far, k)
    return indices, distances


def _scale_rows(X: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], Any]:
    """Return rows centred on a median and scaled to about 1 in float32; the rows too far for that; the scale.

    The median is that of up to 1,024 rows spread evenly: any robust centre serves, and a mean would not be
    robust. It is a value of the data and the scale a power of 2, so that whole numbers stay exact and ties
    stay ties.
    """
    sample = X[:: -(-len(X) // 1024)]
    centre = np.partition(sample, len(sample) // 2, axis=0)[len(sample) // 2]
    with np.errstate(over="ignore"):
        rows = X - centre
    reach = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    positive = reach[reach > 0]
    typical = np.partition(positive, len(positive) // 2)[len(positive) // 2] if len(positive) else X.dtype.type(1)
    scale = np.ldexp(X.dtype.type(1), np.frexp(min(typical, np.finfo(X.dtype).max))[1] - 1)
    with np.errstate(over="ignore"):
        far = np.flatnonzero(~(reach / scale <= FAR))
    rows[far] = 0
    rows /= scale
    return np.ascontiguousarray(rows, dtype=np.float32), far, scale


@contextmanager
def _faiss(n_threads: int) -> Iterator[Any]:
    """Give faiss so many threads and keep it off its BLAS; both are settings of the process: restore them."""
    import faiss

    with _faiss_lock:
        threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
        faiss.omp_set_num_threads(n_threads)
        faiss.cvar.distance_compute_blas_threshold = 2**31 - 1
        try:
            yield faiss
        finally:
            faiss.omp_set_num_threads(threads)
            faiss.cvar.distance_compute_blas_threshold = threshold


def _search(
    rows: npt.NDArray[np.float32], k: int, method: str, n_threads: int, random_state: Any
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the k + 1 nearest rows, themselves included, and their squared distances."""
    n_points, n_features = rows.shape
    if n_points**2 * n_features < SERIAL_WORK:
        n_threads = 1
    exact = method == "exact" or (
        method == "auto" and (n_points <= 2_000 or n_points**2 * max(n_features, 50) <= EXACT_WORK)
    )
    with _faiss(n_threads) as faiss:
        flat = faiss.IndexFlatL2(n_features)
        if exact:
            flat.add(rows)
            squared, indices = flat.search(rows, k + 1)
            return indices, squared
        n_lists = 2 ** max(0, round(0.75 * math.log2(n_points) - 4))
        index = faiss.IndexIVFFlat(flat, n_features, n_lists)
        index.cp.seed = _seed(random_state)
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = POINTS_PER_LIST
        index.train(rows)
        index.add(rows)
        index.nprobe = min(n_lists, max(N_PROBES, math.ceil(2 * (k + 1) * n_lists / n_points)))
        squared, indices = index.search(rows, k + 1)
        short = np.flatnonzero(indices[:, -1] < 0)
        if len(short):  # lists that together hold fewer than k + 1 rows
            index.nprobe = n_lists
            squared[short], indices[short] = index.search(rows[short], k + 1)
        return indices, squared


def _seed(random_state: Any) -> int:
    from sklearn.utils import check_random_state

    return 1234 if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))


def _search_far(X: FloatArray, far: npt.NDArray[Any], k: int) -> tuple[npt.NDArray[Any], FloatArray]:
    """Search for the few rows whose squares overflow float32: in float64, scaled by the largest value."""
    from scipy.spatial.distance import cdist

    scale = max(float(np.abs(X).max()), np.finfo(np.float64).tiny)
    rows = X / scale if X.dtype == np.float64 else X.astype(np.float64) / scale
    indices = np.empty((len(far), k), dtype=np.int64)
    distances = np.empty((len(far), k))
    for start in range(0, len(far), 64):
        block = far[start : start + 64]
        between = cdist(rows[block], rows)
        between[np.arange(len(block)), block] = np.inf
        order = np.argsort(between, axis=1, kind="stable")[:, :k]
        indices[start : start + 64] = order
        distances[start : start + 64] = np.take_along_axis(between, order, axis=1)
    return indices, np.minimum(distances * scale, np.finfo(X.dtype).max).astype(X.dtype)


# ---- Other metrics and given distances -----------------------------------------------------------


def _scikit_learn(
    X: Any, k: int, metric: Metric, metric_params: dict[str, Any] | None, n_threads: int
) -> tuple[npt.NDArray[Any], FloatArray]:
    from sklearn.neighbors import NearestNeighbors

    rest = dict(metric_params or {})
    order = rest.pop("p", 2)  # Minkowski's, which scikit-learn wants to be given apart
    search = NearestNeighbors(
        n_neighbors=k, algorithm="brute", metric=metric, p=order, metric_params=rest or None, n_jobs=n_threads
    )
    distances, indices = search.fit(X).kneighbors()
    distances = np.maximum(distances, 0)
    _sort_ties(indices, distances)
    return indices, distances


def _jensen_shannon(rows: FloatArray, k: int) -> tuple[npt.NDArray[Any], FloatArray]:
    """Return the k nearest by the root of the Jensen-Shannon divergence, block by block."""
    from scipy.spatial.distance import cdist

    indices = np.empty((len(rows), k), dtype=np.int64)
    found = np.empty((len(rows), k), dtype=rows.dtype)
    step = max(1, 2**22 // len(rows))
    for start in range(0, len(rows), step):
        between = np.nan_to_num(cdist(rows[start : start + step], rows, "jensenshannon"))
        for i, row in enumerate(between, start):
            indices[i], found[i] = _nearest_in_row(row, i, k)
    return indices, found


def _nearest_in_row(row: FloatArray, i: int, k: int) -> tuple[npt.NDArray[Any], FloatArray]:
    """Return the k nearest others of point i from its distances to all, ties by index."""
    # every candidate at the distance of the last one that is kept, so that ties are broken by index
    limit = np.partition(row, k)[k] if k < len(row) else np.inf
    candidates = np.flatnonzero(row <= limit)
    candidates = candidates[candidates != i]
    order = candidates[np.lexsort((candidates, row[candidates]))][:k]
    return order, row[order]


def _graph_of_dense(distances: FloatArray, k: int) -> Graph:
    n_points = len(distances)
    k = min(k, n_points - 1)
    indices = np.empty((n_points, k), dtype=np.int64)
    found = np.empty((n_points, k), dtype=distances.dtype)
    for i, row in enumerate(distances):
        indices[i], found[i] = _nearest_in_row(row, i, k)
    return _regular_graph(indices, found)


def _graph_of_sparse(distances: Any, k: int) -> Graph:
    n_points = distances.shape[0]
    columns, values = distances.indices, distances.data
    counts = np.diff(distances.indptr)
    rows = np.repeat(np.arange(n_points, dtype=columns.dtype), counts)
    keep = rows != columns
    if not keep.all():
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
