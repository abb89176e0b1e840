"""Affinities: from data to the joint probabilities P that t-SNE embeds.

Notation: d_ij distances, p_j|i conditional probabilities (each row sums to 1), P = (p_j|i + p_i|j) / 2n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import _kernels
from .._arrays import FloatArray, check_distances, check_graph, check_integer, check_labels, check_real
from .._threads import resolve_threads
from .neighbors import Graph, Metric, neighbor_graph


@dataclass(frozen=True, eq=False)
class Affinities:
    """Joint probabilities of a data set, and what they were made from.

    Attributes
    ----------
    P : scipy.sparse.csr_array of shape (n_points, n_points)
        Symmetric, without a diagonal, sum 1, columns sorted in each row.
    neighbors : scipy.sparse.csr_array of shape (n_points, n_points)
        Distances to the neighbours in scikit-learn's form: rows sorted by distance, without the row itself.
        Give it back as X with ``metric="precomputed"`` to use it for another perplexity.
    bandwidths : ndarray of shape (n_points,)
        sigma of each row's Gaussian; 0 where all its neighbours are equally near, infinite where the row is
        uniform because it has no more neighbours than the perplexity.
    row_perplexity : ndarray of shape (n_points,)
        exp of the entropy of each row of conditional probabilities.
    """

    P: Any
    neighbors: Any
    bandwidths: npt.NDArray[np.float64] | None
    row_perplexity: npt.NDArray[np.float64]
    _entropy: list[float] = field(default_factory=list, repr=False)

    @property
    def entropy(self) -> float:
        """H(P) in nats: the part of the cross-entropy that no embedding can reduce."""
        if not self._entropy:
            values = self.P.data.astype(np.float64)
            values = values[values > 0]
            self._entropy.append(float(-np.sum(values * np.log(values))))
        return self._entropy[0]

    @property
    def n_points(self) -> int:
        """How many points there are."""
        return int(self.P.shape[0])


def perplexity(
    X: Any,
    perplexity: float = 30.0,
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    n_neighbors: int | None = None,
    method: str = "auto",
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities in which every row has the same effective number of neighbours.

    ``p_j|i`` is proportional to ``exp(- d_ij^2 / 2 sigma_i^2)`` over the nearest neighbours of i, with
    sigma_i such that the entropy of the row is log(perplexity) to 1e-9 nats; ``P = (p_j|i + p_i|j) / 2n``.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data; or distances where ``metric="precomputed"``: dense, or a sparse graph of neighbours; or a tuple
        (indices, distances), each of shape (n_points, k), as from `kullback.neighbors.nearest_neighbors`; or a
        `kullback.neighbors.Graph`, as from `kullback.neighbors.neighbor_graph`, which serves for any number of
        neighbours up to its own without another search; or a
        `kullback.neighbors.NeighborIndex`, which has a metric of its own.
    perplexity : float in [1, n_points), default 30
        Effective number of neighbours.
    metric, metric_params, method, random_state
        As in `kullback.neighbors.nearest_neighbors`.
    n_neighbors : int >= 1, optional
        Neighbours of a row; by default 3 * perplexity, as in van der Maaten (2014). At most n_points - 1.
    n_threads : int, optional
        Default: all. The bits of the result do not depend on it.

    Returns
    -------
    Affinities
        float32 where X is float32, else float64. A row whose neighbours are all equally near, or no more than
        the perplexity, is uniform over them.

    Raises
    ------
    ValueError, TypeError
        For a perplexity that is not below n_points, or data that are not finite.

    References
    ----------
    van der Maaten and Hinton (2008), eq. 1 and section 3.1; van der Maaten (2014), eq. 5 to 7.
    """
    perplexity = _check_perplexity(perplexity, X)
    threads = resolve_threads(n_threads)
    graph = _graph(
        X, _default_neighbors(n_neighbors, perplexity, X), metric=metric, metric_params=metric_params,
        method=method, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    conditional, bandwidths = _search_bandwidths(graph, perplexity, threads)
    return _join(conditional, graph, bandwidths, threads)


def multiscale(
    X: Any,
    perplexities: Sequence[float],
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    n_neighbors: int | None = None,
    method: str = "auto",
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities that see several scales at once, such as 30 and a hundredth of the points.

    The conditional probabilities are the means of those of each perplexity: Kobak and Berens (2019).

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `perplexity`.
    perplexities : sequence of floats in [1, n_points)
        The scales.
    metric, metric_params, method, n_neighbors, n_threads, random_state
        As in `perplexity`; by default three times the largest perplexity is the number of neighbours.

    Returns
    -------
    Affinities
        ``bandwidths`` has a column for each perplexity.
    """
    if isinstance(perplexities, str) or not np.iterable(perplexities) or not len(list(perplexities)):
        raise TypeError(f"perplexities must be a sequence of numbers, got {perplexities!r}")
    scales = [_check_perplexity(value, X) for value in perplexities]
    threads = resolve_threads(n_threads)
    graph = _graph(
        X, _default_neighbors(n_neighbors, max(scales), X), metric=metric, metric_params=metric_params,
        method=method, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    mean = np.zeros(len(graph.distances))
    bandwidths = np.empty((len(graph.row_starts) - 1, len(scales)))
    for column, scale in enumerate(scales):
        conditional, bandwidths[:, column] = _search_bandwidths(graph, scale, threads)
        mean += conditional
    mean /= len(scales)
    return _join(mean.astype(graph.distances.dtype), graph, bandwidths, threads)


def uniform(
    X: Any,
    n_neighbors: int = 15,
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities that are the same for all ``n_neighbors`` nearest neighbours of a point.

    Nearly as good as a perplexity of about the same size, at fewer entries: Boehm et al. (2022).

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `perplexity`.
    n_neighbors : int >= 1, default 15
        Neighbours of a point, at most all others.
    metric, metric_params, method, n_threads, random_state
        As in `perplexity`.

    Returns
    -------
    Affinities
        ``bandwidths`` are infinite.
    """
    threads = resolve_threads(n_threads)
    graph = _graph(
        X, check_integer(n_neighbors, "n_neighbors", low=1), metric=metric, metric_params=metric_params,
        method=method, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    counts = np.diff(graph.row_starts)
    conditional = np.repeat(1 / counts, counts).astype(graph.distances.dtype)
    return _join(conditional, graph, np.full(len(counts), np.inf), threads)


def fixed_sigma(
    X: Any,
    sigma: float,
    *,
    n_neighbors: int = 90,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities from Gaussians of one bandwidth: dense regions of the data have more neighbours.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `perplexity`.
    sigma : float > 0
        Bandwidth, in the unit of the distances.
    n_neighbors : int >= 1, default 90
        Neighbours of a point, at most all others.
    metric, metric_params, method, n_threads, random_state
        As in `perplexity`.

    Returns
    -------
    Affinities
        Each row of conditional probabilities sums to 1, however far its neighbours are.
    """
    sigma = check_real(sigma, "sigma", low=0, open_low=True)
    threads = resolve_threads(n_threads)
    graph = _graph(
        X, check_integer(n_neighbors, "n_neighbors", low=1), metric=metric, metric_params=metric_params,
        method=method, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    counts, starts = np.diff(graph.row_starts), graph.row_starts[:-1]
    distances = graph.distances.astype(np.float64)
    nearest = np.repeat(distances[starts], counts)  # rows are sorted
    with np.errstate(over="ignore", invalid="ignore"):
        exponents = (distances - nearest) / sigma * ((distances / 2 + nearest / 2) / sigma)
    exponents[distances == nearest] = 0  # the nearest has weight 1, however many sigma away it is
    weights = np.exp(-np.minimum(exponents, 708))
    conditional = weights / np.repeat(np.add.reduceat(weights, starts), counts)
    return _join(conditional.astype(graph.distances.dtype), graph, np.full(len(counts), sigma), threads)


def given(P: Any, *, n_threads: int | None = None) -> Affinities:
    """Return affinities from any non-negative matrix: made symmetric, without a diagonal, sum 1.

    Parameters
    ----------
    P : sparse matrix or array-like of shape (n_points, n_points)
        Weights: a joint or conditional P, or the connectivities of a graph.
    n_threads : int, optional
        Default: all.

    Returns
    -------
    Affinities
        ``P = (W + W^T) / sum``. ``neighbors`` and ``bandwidths`` are None; ``row_perplexity`` is that of the
        rows of W, divided by their sums, 0 for an empty row.
    """
    weights = check_distances(P, "P")
    weights = sparse.csr_array(weights)
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    keep = (rows != weights.indices) & (weights.data > 0)
    rows, columns, values = rows[keep], weights.indices[keep], weights.data[keep]
    if not len(values):
        raise ValueError("P must hold a positive number off its diagonal, got none")
    starts = np.searchsorted(rows, np.arange(weights.shape[0] + 1)).astype(np.int64)
    values = values / values.max()
    graph = Graph(np.ascontiguousarray(columns, np.int32), values, starts)
    joint = _symmetrize(values, graph, resolve_threads(n_threads))
    if not joint.has_canonical_format:
        joint.sum_duplicates()
    sums = np.bincount(rows, values, minlength=weights.shape[0])
    return Affinities(joint, None, None, _row_perplexity(values / sums[rows], starts))


def supervise(affinities: Any, labels: npt.ArrayLike, strength: float = 0.5, *, unknown: Any = -1) -> Affinities:
    """Return affinities in which pairs of different classes attract each other less.

    Parameters
    ----------
    affinities : Affinities or matrix
        What to change, or a joint P.
    labels : array-like of shape (n_points,)
        Classes.
    strength : float in [0, 1], default 0.5
        ``P_ij`` is multiplied by 1 - strength where i and j are of different classes, and P divided by its
        new sum. 0 changes nothing; at 1 different classes do not attract each other at all, and a point
        without a neighbour of its class is attracted by nothing.
    unknown : int or str, default -1
        Label of points whose class is not known; their pairs are left as they are.

    Returns
    -------
    Affinities
        A new object; the old one is not changed.
    """
    strength = check_real(strength, "strength", low=0, high=1)
    old = affinities if isinstance(affinities, Affinities) else given(affinities)
    classes = check_labels(labels, old.n_points, "labels")
    known = classes != np.asarray(unknown).astype(classes.dtype)
    P = old.P.copy()
    rows = np.repeat(np.arange(old.n_points), np.diff(P.indptr))
    differ = (classes[rows] != classes[P.indices]) & known[rows] & known[P.indices]
    P.data[differ] *= P.data.dtype.type(1 - strength)
    if strength == 1:
        P.eliminate_zeros()
    total = P.data.sum(dtype=np.float64)
    if not total > 0:
        raise ValueError("labels must leave some neighbours of the same class at strength 1, got none")
    P.data /= P.data.dtype.type(total)
    return Affinities(P, old.neighbors, old.bandwidths, old.row_perplexity)


def _check_perplexity(value: Any, X: Any) -> float:
    perplexity = check_real(value, "perplexity", low=1)
    n_points = _count_points(X)
    if n_points >= 2 and perplexity >= n_points:
        raise ValueError(f"perplexity must be less than n_points = {n_points}, got {perplexity:g}")
    return perplexity


def _count_points(X: Any) -> int:
    """Return how many points there are, 0 for something that is no data at all and will be refused."""
    if isinstance(X, Graph):
        return max(0, np.size(X.row_starts) - 1)
    first = X[0] if isinstance(X, tuple) and len(X) == 2 else X
    shape = first.shape if hasattr(first, "shape") else np.shape(first)
    return int(shape[0]) if len(shape) else 0


def _graph(X: Any, k: int, **options: Any) -> Graph:
    """Return the graph of the k nearest neighbours: searched for, or cut out of a graph that is given."""
    if not isinstance(X, Graph):
        return neighbor_graph(X, k, **options)
    graph = Graph(*check_graph(*X, "X"))
    counts = np.diff(graph.row_starts)
    if counts.max() <= k:
        return graph
    keep = np.arange(len(graph.columns)) - np.repeat(graph.row_starts[:-1], counts) < k  # rows are sorted by distance
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, k), dtype=np.int64)])
    return Graph(graph.columns[keep], graph.distances[keep], starts)


def _default_neighbors(n_neighbors: int | None, perplexity: float, X: Any) -> int:
    if n_neighbors is not None:
        return check_integer(n_neighbors, "n_neighbors", low=1)
    return max(1, math.floor(min(3 * perplexity, max(1, _count_points(X)))))


def _join(conditional: FloatArray, graph: Graph, bandwidths: npt.NDArray[np.float64], n_threads: int) -> Affinities:
    joint = _symmetrize(conditional, graph, n_threads)
    return Affinities(joint, _as_csr(graph), bandwidths, _row_perplexity(conditional, graph.row_starts))


def _row_perplexity(conditional: FloatArray, row_starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return exp of the entropy of each row, 0 for an empty one."""
    p = conditional.astype(np.float64)
    terms = np.concatenate([-p * np.log(p, out=np.zeros_like(p), where=p > 0), [0.0]])
    counts = np.diff(row_starts)
    entropies = np.add.reduceat(terms, row_starts[:-1])
    return np.where(counts > 0, np.exp(entropies), 0.0)


def _as_csr(graph: Graph) -> Any:
    n_points = len(graph.row_starts) - 1
    index = np.int32 if graph.row_starts[-1] < 2**31 else np.int64
    return sparse.csr_array(
        (graph.distances, graph.columns.astype(index, copy=False), graph.row_starts.astype(index)),
        shape=(n_points, n_points),
    )


def _search_bandwidths(graph: Graph, perplexity: float, n_threads: int) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Return conditional probabilities in the order of the graph, and bandwidths."""
    n_points = len(graph.row_starts) - 1
    largest = float(graph.distances.max())
    # the kernel takes a row below 1e-300 for duplicates and adds two distances: keep away from both ends
    scale = 2.0**-600 if 0 < largest < 1e-150 else 2.0**10 if largest > 1e300 else 1.0
    distances = graph.distances if scale == 1 else graph.distances.astype(np.float64) / scale
    conditional = np.empty_like(distances)
    bandwidths, entropies = np.empty(n_points), np.empty(n_points)
    _kernels.perplexity.search_bandwidths(
        distances, graph.row_starts, perplexity, conditional, bandwidths, entropies, n_threads
    )
    bandwidths[bandwidths == 1e308] = np.inf
    return conditional.astype(graph.distances.dtype, copy=False), bandwidths * scale


def _symmetrize(conditional: FloatArray, graph: Graph, n_threads: int) -> Any:
    """Return P = (C + C^T) / 2n as CSR with sorted columns."""
    kernel = _kernels.symmetrize
    starts = graph.row_starts

    def transpose(values: FloatArray, columns: npt.NDArray[np.int32], starts: npt.NDArray[np.int64]) -> Any:
        out = np.empty_like(values), np.empty_like(columns), np.empty_like(starts)
        kernel.transpose(values, columns, starts, *out, np.empty_like(starts), n_threads)
        return out

    transposed = transpose(conditional, graph.columns, starts)
    ordered = transpose(*transposed)
    sum_starts = np.empty_like(starts)
    kernel.count_sums(*ordered[1:], *transposed[1:], sum_starts, n_threads)
    values = np.empty(sum_starts[-1], dtype=conditional.dtype)
    columns = np.empty(sum_starts[-1], dtype=np.int32)
    # 2n, but summed: P sums to 1 to rounding even where the conditional probabilities are float32
    total = 2 * float(conditional.sum(dtype=np.float64))
    kernel.add_scaled(ordered, transposed, 1 / total, sum_starts, values, columns, n_threads)
    return _as_csr(Graph(columns, values, sum_starts))
