"""Joint probabilities P from the conditional probabilities of each point's neighbours.

Notation: d_ij are distances, p_j|i conditional probabilities (each row i sums to 1), and P = (p_j|i + p_i|j) / 2n.
Conditional probabilities are kept in the order of a `Graph`: row by row, each sorted by distance.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import _kernels
from .._arrays import FloatArray
from .._recall import Recall
from .._threads import useful_threads
from .affinity_graphs import RowGraph
from .graphs import Description, Graph
from .masses import Masses, empty_without

SMALLEST_DISTANCE, LARGEST_DISTANCE = 1e-150, 1e300
"""If the largest distance is outside of these, distances are scaled before bandwidths are searched.

The kernel takes the points of a row for duplicates if its distances are below 1e-300, and it adds two distances."""

ROWS_PER_THREAD = 128
"""Rows whose bandwidths are worth a thread. They take it about 200 microseconds."""

PAIRS_PER_THREAD = 2**16
"""Conditional probabilities whose transposition is worth a thread. They take it about 100 microseconds."""

COPIES_SHARE, COPIES_PER_NEIGHBOR = 0.1, 3
"""A map in which so many of the points, and so many times the neighbours of a point, have none but copies as
neighbours is not worth much."""

MOST_OWN_SHARE = 0.75
"""Share of P between rows of one point above which a warning says that the perplexity is small beside the masses."""

UNIFORM_BANDWIDTH = 1e308
"""The bandwidth that the kernel gives to a row that is uniform because it has too few neighbours."""


@dataclass(frozen=True, eq=False)
class Affinities:
    """Joint probabilities of a data set, and what they were made from.

    Attributes
    ----------
    P : scipy.sparse.csr_array of shape (n_points, n_points)
        Joint probabilities: symmetric, with an empty diagonal and a sum of 1. Columns are sorted in each row.
    neighbors : scipy.sparse.csr_array of shape (n_points, n_points)
        Distances to the neighbours in scikit-learn's form: rows are sorted by distance and do not hold the point
        itself. Pass it as X with ``metric="precomputed"`` to use it for another perplexity.
    bandwidths : ndarray of shape (n_points,), float64
        Standard deviation sigma of each row's Gaussian, in the unit of the distances. It is 0 if all neighbours are
        equally near, and infinite if the row is uniform because it has no more neighbours than the perplexity.
    row_perplexity : ndarray of shape (n_points,), float64
        Exponential of the entropy of each row of conditional probabilities.
    recall : Recall (value, error) or None
        The share of the true neighbours that are in ``neighbors``: see `kullback.neighbors.Graph`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> found = affinities.perplexity(load_digits().data, 30)
    >>> found.P.shape, round(float(found.P.sum()), 6), round(found.entropy, 1)
    ((1797, 1797), 1.0, 11.0)
    """

    P: Any
    neighbors: Any
    bandwidths: npt.NDArray[np.float64] | None
    row_perplexity: npt.NDArray[np.float64]
    recall: Recall | None = None
    _entropy: list[float] = field(default_factory=list, repr=False)

    @property
    def entropy(self) -> float:
        """H(P) in nats: the part of the cross-entropy that no embedding can reduce."""
        if not self._entropy:
            values = self.P.data.astype(np.float64)
            values = values[values > 0]
            self._entropy.append(float(-np.sum(values * np.log(values))))
        return self._entropy[0]

    def describe(self) -> Description:
        """Return what ``neighbors`` say about the data: see `kullback.neighbors.Graph.describe`.

        Raises
        ------
        ValueError
            If ``neighbors`` is None.
        """
        if self.neighbors is None:
            raise ValueError("affinities of a given matrix have no neighbors to describe")
        return Graph(self.neighbors.indices, self.neighbors.data, self.neighbors.indptr).describe()

    @property
    def n_points(self) -> int:
        """Number of points."""
        return int(self.P.shape[0])


def join(conditional: FloatArray, graph: Graph, bandwidths: npt.NDArray[np.float64], n_threads: int) -> Affinities:
    """Return the affinities of conditional probabilities."""
    P = symmetrize(conditional, graph, n_threads)
    return Affinities(P, as_csr(graph), bandwidths, row_perplexity(conditional, graph.row_starts), graph.recall)


def join_rows(
    conditional: FloatArray, graph: Graph, bandwidths: npt.NDArray[np.float64], rows: RowGraph, masses: Masses,
    n_threads: int,
) -> Affinities:  # fmt: skip
    """Return the affinities of points with masses: P = (m_i p_j|i + m_j p_i|j) / 2 sum m.

    The conditional probabilities are in the order of ``rows``, and ``graph`` are the neighbours that were found.
    """
    starts = rows.graph.row_starts
    weighed = conditional * np.repeat(masses, np.diff(starts)).astype(conditional.dtype)
    P = symmetrize(weighed, rows.graph, n_threads)
    return Affinities(P, as_csr(graph), bandwidths, row_perplexity(conditional, starts, rows.masses), graph.recall)


def row_perplexity(
    conditional: FloatArray, row_starts: npt.NDArray[np.int64], masses: FloatArray | None = None
) -> npt.NDArray[np.float64]:
    """Return the exponential of the entropy of each row, and 0 for an empty row. With masses, it counts rows."""
    p = conditional.astype(np.float64)
    logarithms = np.log(p, out=np.zeros_like(p), where=p > 0)
    if masses is not None:
        logarithms -= np.log(masses.astype(np.float64))
    # One more element lets an empty last row start inside the array.
    terms = np.concatenate([-p * logarithms, [0.0]])
    counts = np.diff(row_starts)
    entropies = np.add.reduceat(terms, row_starts[:-1])
    return np.where(counts > 0, np.exp(entropies), 0.0)


def warn_of_few_neighbors(
    graph: Graph, perplexity: float, *, n_neighbors: int | None = None, name: str = "perplexity"
) -> None:
    """Warn if rows have fewer neighbours than the perplexity, which makes them uniform, and say what caused it.

    Parameters
    ----------
    graph : Graph
        The neighbours of the rows.
    perplexity : float
        The perplexity that is wanted.
    n_neighbors : int, optional
        The number of neighbours that the user asked for.
    name : str
        What the perplexity is to the user.
    """
    counts = np.diff(graph.row_starts)
    n_few = int(np.count_nonzero(counts < perplexity))
    if not n_few:
        return
    row, wanted = int(np.argmin(counts)), f"{name} = {perplexity:g}"
    if n_neighbors is not None and n_neighbors < perplexity:
        cause = f"n_neighbors = {n_neighbors} is less than {wanted}"
    elif counts[row] == len(counts) - 1:
        cause = f"{wanted} is more than the {counts[row]} other points"
    else:
        cause = f"X holds fewer neighbours than {wanted}: row {row} has {counts[row]}"
    warnings.warn(f"{cause}; rows that are uniform over their neighbours: {n_few} of {len(counts)}", stacklevel=3)


def warn_of_copies(graph: Graph) -> None:
    """Warn if many points, but not all, have none but copies of themselves as neighbours."""
    last = graph.distances[graph.row_starts[1:] - 1]  # rows are sorted
    n_copies, n_points = int(np.count_nonzero(last == 0)), len(last)
    k = len(graph.columns) / n_points
    if max(COPIES_SHARE * n_points, COPIES_PER_NEIGHBOR * k) <= n_copies < n_points:
        warnings.warn(
            f"{n_copies} of {n_points} rows have no neighbours but copies of themselves; in the map they are islands "
            "whose size is their number and whose place means nothing: embed distinct rows, as "
            "numpy.unique(X, axis=0) gives them, or raise the perplexity",
            stacklevel=4,
        )


def warn_of_few_rows(joint: Affinities, rows: RowGraph, perplexity: float, masses: Masses) -> None:
    """Warn if the neighbours of points have too few rows, or if points attract hardly anything but themselves."""
    n_few = int(np.count_nonzero(np.add.reduceat(rows.masses, rows.graph.row_starts[:-1]) < perplexity))
    if n_few:
        warnings.warn(
            f"neighbours stand for fewer rows than perplexity = {perplexity:g}; "
            f"points whose affinities are uniform over these rows: {n_few} of {len(masses)}",
            stacklevel=3,
        )
    share = float(joint.P.diagonal().sum())
    if share > MOST_OWN_SHARE:
        warnings.warn(
            f"perplexity = {perplexity:g} counts rows, and {share:.0%} of P is between rows of one point; "
            f"a larger one would see more of the other points (the mean mass is {masses.mean():g})",
            stacklevel=3,
        )


def as_csr(graph: Graph) -> Any:
    """Return a graph as a SciPy array, with indices of 32 bits if they suffice."""
    n_points = len(graph.row_starts) - 1
    index = np.int32 if graph.row_starts[-1] < 2**31 else np.int64
    return sparse.csr_array(
        (graph.distances, graph.columns.astype(index, copy=False), graph.row_starts.astype(index)),
        shape=(n_points, n_points),
    )


def search_bandwidths(
    graph: Graph, perplexity: float, n_threads: int, masses: FloatArray | None = None
) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Return the conditional probabilities of one perplexity, in the order of the graph, and the bandwidths.

    With masses, which are those of the neighbours in the order of the graph, the perplexity counts rows.
    """
    n_points = len(graph.row_starts) - 1
    largest = float(graph.distances.max())
    scale = 2.0**-600 if 0 < largest < SMALLEST_DISTANCE else 2.0**10 if largest > LARGEST_DISTANCE else 1.0
    distances = graph.distances if scale == 1 else graph.distances.astype(np.float64) / scale
    conditional = np.empty_like(distances)
    bandwidths, entropies = np.empty(n_points), np.empty(n_points)
    n_threads = useful_threads(n_threads, n_points, ROWS_PER_THREAD)
    _kernels.perplexity.search_bandwidths(
        distances, empty_without(masses, distances.dtype), graph.row_starts, perplexity, conditional, bandwidths,
        entropies, n_threads,
    )  # fmt: skip
    bandwidths[bandwidths == UNIFORM_BANDWIDTH] = np.inf
    return conditional.astype(graph.distances.dtype, copy=False), bandwidths * scale


def conditional_of_new_rows(
    graph: Graph, perplexity: float, n_threads: int, masses: FloatArray | None = None
) -> FloatArray:
    """Return conditional probabilities of new rows. Each row is scaled by a power of 2 of its own.

    The masses are those of the neighbours, in the order of the graph.
    """
    distances, starts = graph.distances, graph.row_starts
    n_rows = len(starts) - 1
    largest = distances[starts[1:] - 1]  # rows are sorted
    scaled = np.ldexp(distances, -np.repeat(np.frexp(largest)[1], np.diff(starts)))
    conditional: FloatArray = np.empty_like(scaled)
    n_threads = useful_threads(n_threads, n_rows, ROWS_PER_THREAD)
    _kernels.perplexity.search_bandwidths(
        scaled, empty_without(masses, scaled.dtype), starts, perplexity, conditional, np.empty(n_rows),
        np.empty(n_rows), n_threads,
    )  # fmt: skip
    return conditional


def symmetrize(conditional: FloatArray, graph: Graph, n_threads: int) -> Any:
    """Return P = (C + C^T) / 2n as CSR with sorted columns, where C are the conditional probabilities.

    A transpose has its columns sorted, so C is transposed twice. Then the rows of C and C^T are merged.
    """
    kernel = _kernels.symmetrize
    starts = graph.row_starts
    n_threads = useful_threads(n_threads, len(conditional), PAIRS_PER_THREAD)

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
    # This is 2n, but summed, so that P sums to 1 even if the conditional probabilities are rounded to float32.
    total = 2 * float(conditional.sum(dtype=np.float64))
    kernel.add_scaled(ordered, transposed, 1 / total, sum_starts, values, columns, n_threads)
    return as_csr(Graph(columns, values, sum_starts))
