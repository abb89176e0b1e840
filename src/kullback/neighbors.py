"""Nearest neighbours and their graphs; see :mod:`kullback.tsne.neighbors`."""

from .tsne.neighbors import Graph, NeighborIndex, Recall, nearest_neighbors, neighbor_graph

__all__ = ["Graph", "NeighborIndex", "Recall", "nearest_neighbors", "neighbor_graph"]


def __dir__() -> list[str]:
    return __all__
