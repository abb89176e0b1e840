"""Affinities in NumPy: the specification of ``kullback.affinities`` and its kernels. Dense, float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def conditional_probabilities(distances: npt.ArrayLike, perplexity: float) -> tuple[Array, Array]:
    """Return p_j|i of shape (n_points, k), and sigma_i, from distances of that shape, by bisection.

    p_j|i = exp(-beta_i d_ij^2) / sum_k exp(-beta_i d_ik^2), beta_i = 1 / 2 sigma_i^2: van der Maaten and
    Hinton (2008), eq. 1. The entropy of each row falls as beta grows; log(beta) is halved towards
    where it equals log(perplexity). Where all distances are equal, or the perplexity is not below k, the row
    is uniform.
    """
    distances = np.asarray(distances, dtype=np.float64)
    largest = distances.max(axis=1, keepdims=True)
    ratios = np.divide(distances, largest, out=np.zeros_like(distances), where=largest > 0)
    squared = ratios**2 - ratios.min(axis=1, keepdims=True) ** 2
    low, high = np.full((len(squared), 1), -700.0), np.full((len(squared), 1), 700.0)
    for _ in range(100):
        middle = (low + high) / 2
        above = _entropy(_softmax(squared, np.exp(middle))) > np.log(perplexity)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    conditional = _softmax(squared, np.exp(middle))
    sigma = largest[:, 0] / np.sqrt(2 * np.exp(middle[:, 0]))
    uniform = (squared.max(axis=1) == 0) | (perplexity >= distances.shape[1])
    conditional[uniform] = 1 / distances.shape[1]
    sigma[uniform] = np.where(squared[uniform].max(axis=1) == 0, 0, np.inf)
    return conditional, sigma


def _softmax(squared: Array, beta: Array) -> Array:
    weights = np.exp(np.maximum(-beta * squared, -708))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _entropy(conditional: Array) -> Array:
    terms = np.where(conditional > 0, conditional * np.log(np.maximum(conditional, 1e-320)), 0)
    return np.asarray(-terms.sum(axis=1, keepdims=True))


def joint_probabilities(indices: npt.ArrayLike, conditional: npt.ArrayLike) -> Array:
    """Return P = (p_j|i + p_i|j) / 2n, dense: van der Maaten and Hinton (2008), section 3.1."""
    indices, conditional = np.asarray(indices), np.asarray(conditional, dtype=np.float64)
    dense = np.zeros((len(indices), len(indices)))
    np.add.at(dense, (np.arange(len(indices))[:, None], indices), conditional)
    return (dense + dense.T) / (2 * len(indices))


def nearest_neighbors(X: npt.ArrayLike, k: int, **_: Any) -> tuple[npt.NDArray[np.int64], Array]:
    """Return the k nearest other rows by Euclidean distance, sorted by distance and then by index."""
    X = np.asarray(X, dtype=np.float64)
    distances = np.sqrt(((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1, kind="stable")[:, : min(k, len(X) - 1)]
    return indices, np.take_along_axis(distances, indices, axis=1)


def perplexity(X: npt.ArrayLike, perplexity: float = 30.0, *, n_neighbors: int | None = None) -> Array:
    """Return the dense P of ``kullback.affinities.perplexity`` for Euclidean distances."""
    n_points = len(np.asarray(X))
    indices, distances = nearest_neighbors(X, n_neighbors or max(1, int(min(3 * perplexity, n_points))))
    return joint_probabilities(indices, conditional_probabilities(distances, perplexity)[0])
