"""Nearest neighbours and their graphs; see :mod:`kullback.tsne.neighbors`."""

from .tsne.neighbors import Description, Graph, NeighborIndex, Recall, nearest_neighbors, neighbor_graph

__all__ = ["Description", "Graph", "NeighborIndex", "Recall", "nearest_neighbors", "neighbor_graph"]


def __dir__() -> list[str]:
    return __all__
