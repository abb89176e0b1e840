"""The specification: a NumPy twin of every function that has kernels, written for reading, never a fallback."""

from .affinities import conditional_probabilities, joint_probabilities
from .divergence import Decomposition, cross_entropy, decompose, entropy, kl_divergence
from .gradient import attractive_forces, descend, repulsive_forces, tsne_gradient, tsne_loss

__all__ = [
    "Decomposition",
    "attractive_forces",
    "conditional_probabilities",
    "cross_entropy",
    "decompose",
    "descend",
    "entropy",
    "joint_probabilities",
    "kl_divergence",
    "repulsive_forces",
    "tsne_gradient",
    "tsne_loss",
]
