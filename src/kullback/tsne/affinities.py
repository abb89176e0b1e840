"""Affinities: from data to the joint probabilities P that t-SNE embeds.

Notation: d_ij are distances, p_j|i conditional probabilities (each row i sums to 1), and P = (p_j|i + p_i|j) / 2n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._checks.data import check_distances, check_masses
from .._checks.labels import find_known, split_missing
from .._checks.scalars import check_integer, check_real
from .._checks.sparse import check_sparse
from .._recall import TARGET
from .._threads import resolve_threads
from .affinity_graphs import (
    check_perplexity,
    count_points,
    count_rows,
    find_graph,
    resolve_neighbors,
    search_rows,
)
from .joint import (
    Affinities,
    join,
    join_rows,
    row_perplexity,
    search_bandwidths,
    symmetrize,
    warn_of_few_neighbors,
    warn_of_few_rows,
)
from .neighbors import Graph, Metric

__all__ = ["Affinities", "fixed_sigma", "given", "multiscale", "perplexity", "supervise", "uniform"]

LARGEST_EXPONENT = 708
"""exp(-708) is about the smallest normal double."""


def perplexity(
    X: Any,
    perplexity: float = 30.0,
    *,
    masses: npt.ArrayLike | None = None,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    n_neighbors: int | None = None,
    method: str = "auto",
    recall: float = TARGET,
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities in which every row has the same effective number of neighbours.

    ``p_j|i`` is proportional to ``exp(- d_ij^2 / 2 sigma_i^2)`` over the nearest neighbours of i. sigma_i is such
    that the entropy of the row is log(perplexity) to 1e-9 nats. Then ``P = (p_j|i + p_i|j) / 2n``.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data, or one of these:

        - With ``metric="precomputed"``: distances, dense or a sparse graph of neighbours.
        - A tuple (indices, distances), each of shape (n_points, k), as `kullback.neighbors.nearest_neighbors` returns.
        - A `kullback.neighbors.Graph`, which serves for any number of neighbours up to its own without a search.
        - A `kullback.neighbors.NeighborIndex`, which has a metric of its own.
    perplexity : float in [1, n_points), default 30
        Effective number of neighbours. With masses, it counts rows and must be less than their total.
    masses : array-like of shape (n_points,), optional
        How many rows each point stands for. Neighbours count as often as they have rows, and so do other rows of the
        point itself, whose affinities are on the diagonal of P. So P is that of repeated rows, summed by point.
    metric, metric_params, method, recall, random_state
        As in `kullback.neighbors.nearest_neighbors`.
    n_neighbors : int >= 1, optional
        Neighbours of a row, at most n_points - 1. The default is 3 * perplexity, as in van der Maaten (2014). With
        masses, the default are neighbours that stand for so many rows.
    n_threads : int, optional
        Number of threads, by default all. The bits of the result do not depend on it.

    Returns
    -------
    Affinities
        float32 if X is float32, and float64 otherwise. A row is uniform over its neighbours if they are all equally
        near, or if there are no more of them than the perplexity. A warning tells if there are fewer.

    Raises
    ------
    ValueError, TypeError
        If the perplexity is not below n_points, or data are not finite.

    References
    ----------
    van der Maaten and Hinton (2008), eq. 1 and section 3.1; van der Maaten (2014), eq. 5 to 7.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> affinities.perplexity(load_digits().data, 30).row_perplexity[:3].round(6)
    array([30., 30., 30.])
    """
    m = check_masses(masses, "masses", count_points(X))
    perplexity = check_perplexity(perplexity, X, m)
    threads = resolve_threads(n_threads)
    options: dict[str, Any] = {
        "metric": metric, "metric_params": metric_params, "method": method, "recall": recall, "n_threads": threads,
        "random_state": random_state,
    }  # fmt: skip
    if m is None:
        graph = find_graph(X, resolve_neighbors(n_neighbors, perplexity, X), **options)
        warn_of_few_neighbors(graph, perplexity, n_neighbors=n_neighbors)
        conditional, bandwidths = search_bandwidths(graph, perplexity, threads)
        return join(conditional, graph, bandwidths, threads)
    if n_neighbors is None:
        graph = search_rows(lambda k: find_graph(X, k, **options), 3 * perplexity, m)
    else:
        graph = find_graph(X, check_integer(n_neighbors, "n_neighbors", low=1), **options)
    rows = count_rows(graph, m, 3 * perplexity if n_neighbors is None else math.inf)
    conditional, bandwidths = search_bandwidths(rows.graph, perplexity, threads, rows.masses)
    joint = join_rows(conditional, graph, bandwidths, rows, m, threads)
    warn_of_few_rows(joint, rows, perplexity, m)
    return joint


def multiscale(
    X: Any,
    perplexities: Sequence[float],
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    n_neighbors: int | None = None,
    method: str = "auto",
    recall: float = TARGET,
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities that see several scales at once, such as 30 points and a hundredth of all points.

    The conditional probabilities are the means of those of each perplexity (Kobak and Berens 2019).

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `perplexity`.
    perplexities : sequence of floats in [1, n_points)
        The scales.
    metric, metric_params, method, recall, n_neighbors, n_threads, random_state
        As in `perplexity`. The default of ``n_neighbors`` is three times the largest perplexity.

    Returns
    -------
    Affinities
        ``bandwidths`` has shape (n_points, n_perplexities).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> affinities.multiscale(load_digits().data, [10, 100]).bandwidths.shape
    (1797, 2)
    """
    if isinstance(perplexities, str) or not np.iterable(perplexities) or not len(list(perplexities)):
        raise TypeError(f"perplexities must be a sequence of numbers, got {perplexities!r}")
    scales = [check_perplexity(value, X) for value in perplexities]
    threads = resolve_threads(n_threads)
    graph = find_graph(
        X, resolve_neighbors(n_neighbors, max(scales), X), metric=metric, metric_params=metric_params,
        method=method, recall=recall, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    warn_of_few_neighbors(graph, max(scales), n_neighbors=n_neighbors, name="the largest of perplexities")
    mean = np.zeros(len(graph.distances))
    bandwidths = np.empty((len(graph.row_starts) - 1, len(scales)))
    for column, scale in enumerate(scales):
        conditional, bandwidths[:, column] = search_bandwidths(graph, scale, threads)
        mean += conditional
    mean /= len(scales)
    return join(mean.astype(graph.distances.dtype), graph, bandwidths, threads)


def uniform(
    X: Any,
    n_neighbors: int = 15,
    *,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    recall: float = TARGET,
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities that are the same for all ``n_neighbors`` nearest neighbours of a point.

    They are nearly as good as those of a perplexity of about the same size, and need fewer entries (Boehm et al. 2022).

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `perplexity`.
    n_neighbors : int >= 1, default 15
        Neighbours of a point, at most all others.
    metric, metric_params, method, recall, n_threads, random_state
        As in `perplexity`.

    Returns
    -------
    Affinities
        ``bandwidths`` are infinite.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> int(affinities.uniform(load_digits().data, 15).row_perplexity[0].round())
    15
    """
    threads = resolve_threads(n_threads)
    graph = find_graph(
        X, check_integer(n_neighbors, "n_neighbors", low=1), metric=metric, metric_params=metric_params,
        method=method, recall=recall, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    counts = np.diff(graph.row_starts)
    conditional = np.repeat(1 / counts, counts).astype(graph.distances.dtype)
    return join(conditional, graph, np.full(len(counts), np.inf), threads)


def fixed_sigma(
    X: Any,
    sigma: float,
    *,
    n_neighbors: int = 90,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    method: str = "auto",
    recall: float = TARGET,
    n_threads: int | None = None,
    random_state: Any = None,
) -> Affinities:
    """Return affinities from Gaussians of one bandwidth, so that points in dense regions have more neighbours.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        As in `perplexity`.
    sigma : float > 0
        Bandwidth, in the unit of the distances.
    n_neighbors : int >= 1, default 90
        Neighbours of a point, at most all others.
    metric, metric_params, method, recall, n_threads, random_state
        As in `perplexity`.

    Returns
    -------
    Affinities
        Each row of conditional probabilities sums to 1, however far its neighbours are.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> affinities.fixed_sigma(load_digits().data, 10.0).bandwidths[:3]
    array([10., 10., 10.])
    """
    sigma = check_real(sigma, "sigma", low=0, open_low=True)
    threads = resolve_threads(n_threads)
    graph = find_graph(
        X, check_integer(n_neighbors, "n_neighbors", low=1), metric=metric, metric_params=metric_params,
        method=method, recall=recall, n_threads=threads, random_state=random_state,
    )  # fmt: skip
    counts, starts = np.diff(graph.row_starts), graph.row_starts[:-1]
    distances = graph.distances.astype(np.float64)
    nearest = np.repeat(distances[starts], counts)  # rows are sorted
    # (d^2 - nearest^2) / 2 sigma^2: the nearest neighbour gets weight 1, however many sigma away it is.
    with np.errstate(over="ignore", invalid="ignore"):
        exponents = (distances - nearest) / sigma * ((distances / 2 + nearest / 2) / sigma)
    exponents[distances == nearest] = 0
    weights = np.exp(-np.minimum(exponents, LARGEST_EXPONENT))
    conditional = weights / np.repeat(np.add.reduceat(weights, starts), counts)
    return join(conditional.astype(graph.distances.dtype), graph, np.full(len(counts), sigma), threads)


def given(P: Any, *, n_threads: int | None = None) -> Affinities:
    """Return affinities from any non-negative matrix W: ``P = (W + W^T) / sum``, without the diagonal.

    Parameters
    ----------
    P : sparse matrix or array-like of shape (n_points, n_points)
        The weights W, such as joint or conditional probabilities, or the connectivities of a graph.
    n_threads : int, optional
        Number of threads, by default all.

    Returns
    -------
    Affinities
        ``neighbors`` and ``bandwidths`` are None. ``row_perplexity`` is that of the rows of W, divided by their sums,
        and 0 for an empty row.

    Raises
    ------
    ValueError, TypeError
        If the matrix is not square, or holds a number that is negative or not finite, or no positive number off its
        diagonal.

    Examples
    --------
    >>> from kullback import affinities
    >>> affinities.given([[0, 3, 0], [0, 0, 1], [0, 0, 0]]).P.toarray()
    array([[0.   , 0.375, 0.   ],
           [0.375, 0.   , 0.125],
           [0.   , 0.125, 0.   ]])
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
    joint = symmetrize(values, graph, resolve_threads(n_threads))
    if not joint.has_canonical_format:
        joint.sum_duplicates()
    sums = np.bincount(rows, values, minlength=weights.shape[0])
    return Affinities(joint, None, None, row_perplexity(values / sums[rows], starts))


def supervise(affinities: Any, labels: npt.ArrayLike, strength: float = 0.5, *, unknown: Any = -1) -> Affinities:
    """Return affinities in which points of different classes attract each other less.

    ``P_ij`` is multiplied by 1 - strength if i and j are of different classes. Then P is divided by its new sum.

    Parameters
    ----------
    affinities : Affinities or matrix
        What to change, or a joint P.
    labels : array-like of shape (n_points,)
        Classes.
    strength : float in [0, 1], default 0.5
        0 changes nothing. At 1, points of different classes do not attract each other at all, and a point without a
        neighbour of its own class is attracted by nothing.
    unknown : int, str or None, default -1
        Label of points whose class is not known. Their pairs are left as they are. It is never cast to the type of
        the labels: among bool and unsigned numbers, there is no -1.

    Returns
    -------
    Affinities
        A new object. The old one is not changed.

    Raises
    ------
    ValueError, TypeError
        If there is not one label for each point, or no two neighbours of one class are left at strength 1.

    Examples
    --------
    >>> from kullback import affinities
    >>> P = affinities.given([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    >>> affinities.supervise(P, ["a", "a", "b"], strength=1).P.toarray()
    array([[0. , 0.5, 0. ],
           [0.5, 0. , 0. ],
           [0. , 0. , 0. ]])
    """
    strength = check_real(strength, "strength", low=0, high=1)
    old = affinities if isinstance(affinities, Affinities) else given(affinities)
    values, missing = split_missing(labels, "labels", old.n_points)
    known = ~missing
    known[~missing] = find_known(values, unknown)
    classes = np.zeros(old.n_points, values.dtype)
    classes[~missing] = values
    P = check_sparse(old.P, "affinities").copy()
    rows = np.repeat(np.arange(old.n_points), np.diff(P.indptr))
    differ = (classes[rows] != classes[P.indices]) & known[rows] & known[P.indices]
    P.data[differ] *= P.data.dtype.type(1 - strength)
    if strength == 1:
        P.eliminate_zeros()
    total = P.data.sum(dtype=np.float64)
    if not total > 0:
        raise ValueError("labels must leave some neighbours of the same class at strength 1, got none")
    P.data /= P.data.dtype.type(total)
    return Affinities(P, old.neighbors, old.bandwidths, old.row_perplexity, old.recall)
