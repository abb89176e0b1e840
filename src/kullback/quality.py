"""How faithful a map is; see :mod:`kullback.tsne.quality`."""

from .tsne.quality import continuity, distance_correlation, neighborhood_recall, trustworthiness

__all__ = ["continuity", "distance_correlation", "neighborhood_recall", "trustworthiness"]


def __dir__() -> list[str]:
    return __all__
