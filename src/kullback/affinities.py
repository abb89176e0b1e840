"""Affinities: from data to the joint probabilities P that t-SNE embeds.

Notation: d_ij distances, p_j|i conditional probabilities (each row sums to 1), P = (p_j|i + p_i|j) / 2n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from . import _kernels
from ._arrays import FloatArray, check_integer, check_real
from ._threads import resolve_threads
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
    bandwidths: npt.NDArray[np.float64]
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
        Data, or distances where ``metric="precomputed"``: dense, or a sparse graph of neighbours.
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
    perplexity = check_real(perplexity, "perplexity", low=1)
    n_points = np.shape(X)[0] if np.ndim(X) or sparse.issparse(X) else 0
    if n_points >= 2 and perplexity >= n_points:
        raise ValueError(f"perplexity must be less than n_points = {n_points}, got {perplexity:g}")
    if n_neighbors is None:
        n_neighbors = max(1, math.floor(min(3 * perplexity, n_points)))
    check_integer(n_neighbors, "n_neighbors", low=1)
    threads = resolve_threads(n_threads)
    graph = neighbor_graph(X, n_neighbors, metric=metric, metric_params=metric_params, method=method,
                           n_threads=threads, random_state=random_state)  # fmt: skip
    conditional, bandwidths, entropies = _search_bandwidths(graph, perplexity, threads)
    joint = _symmetrize(conditional, graph, threads)
    return Affinities(joint, _as_csr(graph), bandwidths, np.exp(entropies))


def _as_csr(graph: Graph) -> Any:
    n_points = len(graph.row_starts) - 1
    index = np.int32 if graph.row_starts[-1] < 2**31 else np.int64
    return sparse.csr_array(
        (graph.distances, graph.columns.astype(index, copy=False), graph.row_starts.astype(index)),
        shape=(n_points, n_points),
    )


def _search_bandwidths(
    graph: Graph, perplexity: float, n_threads: int
) -> tuple[FloatArray, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return conditional probabilities in the order of the graph, bandwidths and entropies."""
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
    return conditional.astype(graph.distances.dtype, copy=False), bandwidths * scale, entropies


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
    kernel.add_scaled(*ordered, *transposed, 1 / total, sum_starts, values, columns, n_threads)
    return _as_csr(Graph(columns, values, sum_starts))
