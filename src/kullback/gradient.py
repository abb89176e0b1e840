"""The loss of t-SNE, its gradient and their parts; see :mod:`kullback.tsne.gradient`."""

from .tsne.gradient import (
    METHODS,
    attractive_forces,
    gradient_error,
    point_kl,
    repulsive_forces,
    tsne_gradient,
    tsne_loss,
)

__all__ = [
    "METHODS",
    "attractive_forces",
    "gradient_error",
    "point_kl",
    "repulsive_forces",
    "tsne_gradient",
    "tsne_loss",
]


def __dir__() -> list[str]:
    return __all__
