"""What affinities are made from: the graph of each point's neighbours, searched for or given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._checks.graphs import check_graph
from .._checks.scalars import check_integer, check_real
from .neighbors import Graph, neighbor_graph


def check_perplexity(value: Any, X: Any) -> float:
    """Return a perplexity that is below the number of points."""
    perplexity = check_real(value, "perplexity", low=1)
    n_points = count_points(X)
    if n_points >= 2 and perplexity >= n_points:
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
    graph = Graph(*check_graph(*X, "X"))
    counts = np.diff(graph.row_starts)
    if counts.max() <= k:  # what is returned does not change with what was given
        return Graph(graph.columns.copy(), graph.distances.copy(), graph.row_starts.copy())
    keep = np.arange(len(graph.columns)) - np.repeat(graph.row_starts[:-1], counts) < k  # rows are sorted by distance
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, k), dtype=np.int64)])
    return Graph(graph.columns[keep], graph.distances[keep], starts)
