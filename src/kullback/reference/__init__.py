"""Pure NumPy twins: same names, same signatures, written for reading; the specification, never a fallback."""

from .divergence import Decomposition, cross_entropy, decompose, entropy, kl_divergence
from .gradient import attractive_forces, descend, repulsive_forces, tsne_gradient, tsne_loss

__all__ = [
    "Decomposition", "attractive_forces", "cross_entropy", "decompose", "descend", "entropy", "kl_divergence",
    "repulsive_forces", "tsne_gradient", "tsne_loss",
]  # fmt: skip
