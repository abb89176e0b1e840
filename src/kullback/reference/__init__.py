"""The specification: a NumPy twin of every function that has kernels, written for reading."""

from .gradient import attractive_forces, descend, repulsive_forces, tsne_gradient, tsne_loss

__all__ = ["attractive_forces", "descend", "repulsive_forces", "tsne_gradient", "tsne_loss"]
