"""What affinities are made from: the graph of each point's neighbours, searched for or given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._checks.graphs import check_graph
from .._checks.scalars import check_integer, check_real, check_recall
from .masses import Masses
from .neighbors import Graph, NeighborIndex, neighbor_graph

MOST_EDGES = 2**27
"""Neighbours in all lists at which the search for the rows that points with masses need goes no further: 1 GB."""


def check_perplexity(value: Any, X: Any, masses: Masses | None = None) -> float:
    """Return a perplexity that is below the number of points, or of the rows that they stand for."""
    perplexity = check_real(value, "perplexity", low=1)
    n_points = count_points(X)
    if masses is not None and perplexity >= masses.sum():
        raise ValueError(
            f"perplexity must be less than the sum of the masses, {masses.sum():g}, because it counts rows, "
            f"got {perplexity:g}"
        )
    if masses is None and n_points >= 2 and perplexity >= n_points:
        raise ValueError(f"perplexity must be less than n_points = {n_points}, got {perplexity:g}")
    return perplexity


def count_points(X: Any) -> int:
    """Return how many points there are, or 0 if X is no data at all and will be refused."""
    if isinstance(X, Graph):
        return max(0, np.size(X.row_starts) - 1)
    first = X[0] if isinstance(X, tuple) and len(X) == 2 else X
    shape = first.shape if hasattr(first, "shape") else np.shape(first)
    return int(shape[0]) if len(shape) else 0


def resolve_neighbors(n_neighbors: int | None, perplexity: float, X: Any) -> int:
    """Return how many neighbours of a row to use: three times the perplexity unless a number is given."""
    if n_neighbors is not None:
        return check_integer(n_neighbors, "n_neighbors", low=1)
    return max(1, math.floor(min(3 * perplexity, max(1, count_points(X)))))


def find_graph(X: Any, k: int, **options: Any) -> Graph:
    """Return the graph of the k nearest neighbours: searched for, or cut out of a graph that is given."""
    if not isinstance(X, Graph):
        return neighbor_graph(X, k, **options)
    check_recall(options["recall"])
    graph = Graph(*check_graph(*X, "X"), recall=X.recall)
    counts = np.diff(graph.row_starts)
    if counts.max() <= k:  # what is returned does not change with what was given
        return Graph(graph.columns.copy(), graph.distances.copy(), graph.row_starts.copy(), recall=X.recall)
    keep = np.arange(len(graph.columns)) - np.repeat(graph.row_starts[:-1], counts) < k  # rows are sorted by distance
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, k), dtype=np.int64)])
    return Graph(graph.columns[keep], graph.distances[keep], starts, recall=X.recall)


# ---- Points with masses --------------------------------------------------------------------------


class RowGraph(NamedTuple):
    """A graph of neighbours that stand for rows."""

    graph: Graph
    """The neighbours of each point. A point that is more than one row comes first among its own."""
    masses: FloatArray
    """How many rows each of them is to a row of the point."""


def search_rows(search: Callable[[int], Graph], wanted: float, masses: Masses) -> Graph:
    """Return a graph in which the neighbours of every point stand for so many rows as are wanted, its own included.

    The search is for as many neighbours as have these rows in the mean, and then for twice as many, and so on. It ends
    where the lists would take too much memory.
    """
    n_points, own = len(masses), np.maximum(masses - 1, 0)
    k, n_found = min(max(1, math.ceil(wanted * n_points / masses.sum())), max(1, n_points - 1)), -1
    while True:
        graph = search(k)
        rows = own + np.add.reduceat(masses[graph.columns], graph.row_starts[:-1])
        found_all = k >= n_points - 1 or len(graph.columns) == n_found  # a graph that is given may have no more
        if found_all or (rows >= wanted).all() or 2 * k * n_points > MOST_EDGES:
            return graph
        n_found = len(graph.columns)
        k = min(2 * k, n_points - 1)


def search_graph(
    index: NeighborIndex, perplexity: float, n_neighbors: int | None, masses: Masses | None, n_threads: int
) -> Graph:
    """Return the neighbours that affinities of a perplexity take, unless a number of them is given."""
    if n_neighbors is None and masses is not None:
        return search_rows(lambda k: index.graph(k, n_threads=n_threads), 3 * perplexity, masses)
    k = n_neighbors or max(1, int(min(3 * perplexity, index.shape[0] - 1)))
    return index.graph(k, n_threads=n_threads)


def count_rows(graph: Graph, masses: Masses, most_rows: float = math.inf) -> RowGraph:
    """Return the neighbours that each row of a point has: other rows of the point, and those of its neighbours.

    Neighbours are left out beyond ``most_rows`` rows, and the last one counts in part.
    """
    counts, own = np.diff(graph.row_starts), np.maximum(masses - 1, 0)
    first = own > 0
    starts = np.concatenate([[0], np.cumsum(counts + first, dtype=np.int64)])
    places = np.arange(len(graph.columns)) + np.repeat(np.cumsum(first), counts)
    columns = np.empty(starts[-1], np.int32)
    distances, rows = np.zeros(starts[-1], graph.distances.dtype), np.empty(starts[-1])
    columns[places], distances[places], rows[places] = graph.columns, graph.distances, masses[graph.columns]
    columns[starts[:-1][first]], rows[starts[:-1][first]] = np.flatnonzero(first), own[first]
    if math.isfinite(most_rows):
        rows = rows_within(rows, starts, most_rows)
        keep = rows > 0
        starts = np.concatenate([[0], np.cumsum(np.add.reduceat(keep, starts[:-1], dtype=np.int64))])
        columns, distances, rows = columns[keep], distances[keep], rows[keep]
    return RowGraph(Graph(columns, distances, starts), rows.astype(distances.dtype))


def rows_within(masses: Masses, row_starts: npt.NDArray[np.int64], most_rows: float) -> Masses:
    """Return the masses of neighbours, in the order of a graph, with those beyond ``most_rows`` rows cut off."""
    nearer = np.cumsum(masses) - masses
    nearer -= np.repeat(nearer[row_starts[:-1]], np.diff(row_starts))
    within: Masses = np.clip(most_rows - nearer, 0, masses)
    return within
