"""Affinities in NumPy: the specification of ``kullback.affinities`` and its kernels.

Everything is in float64, and P is dense.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def conditional_probabilities(
    distances: npt.ArrayLike, perplexity: float, masses: npt.ArrayLike | None = None
) -> tuple[Array, Array]:
    """Return the affinities p_j|i of each point i to its neighbours j, and the widths sigma_i.

    p_j|i = exp(-beta_i d_ij^2) / sum_k exp(-beta_i d_ik^2), where beta_i = 1 / (2 sigma_i^2): van der Maaten and
    Hinton (2008), eq. 1. The entropy of a row falls as beta grows, so that bisection finds the log(beta) at which the
    entropy equals log(perplexity).

    Parameters
    ----------
    distances : array_like of shape (n_points, k)
        The distances of each point to its k neighbours.
    perplexity : float
        The effective number of neighbours that each row shall have.
    masses : array_like of shape (n_points, k), optional
        How many rows each neighbour stands for. p_j|i is that of all of them, and the entropy is that of the rows.

    Returns
    -------
    conditional : float64 array of shape (n_points, k)
        The affinities. A row is uniform where all its distances are equal or the perplexity is not below k.
    sigma : float64 array of shape (n_points,)
        The widths, in the unit of the distances. In uniform rows they are 0 for equal distances and infinite otherwise.
    """
    distances = np.asarray(distances, dtype=np.float64)
    m = np.ones_like(distances) if masses is None else np.asarray(masses, dtype=np.float64)
    largest = distances.max(axis=1, keepdims=True)
    ratios = np.divide(distances, largest, out=np.zeros_like(distances), where=largest > 0)
    nearest = ratios.min(axis=1, keepdims=True, where=m > 0, initial=np.inf)
    squared = np.maximum(ratios**2 - nearest**2, 0)
    low, high = np.full((len(squared), 1), -700.0), np.full((len(squared), 1), 700.0)
    for _ in range(100):
        middle = (low + high) / 2
        above = _entropy(_softmax(squared, np.exp(middle), m), m) > np.log(perplexity)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    conditional = _softmax(squared, np.exp(middle), m)
    sigma = largest[:, 0] / np.sqrt(2 * np.exp(middle[:, 0]))
    uniform = (squared.max(axis=1) == 0) | (perplexity >= m.sum(axis=1))
    conditional[uniform] = (m / m.sum(axis=1, keepdims=True))[uniform]
    sigma[uniform] = np.where(squared[uniform].max(axis=1) == 0, 0, np.inf)
    return conditional, sigma


def _softmax(squared: Array, beta: Array, masses: Array) -> Array:
    """Return m exp(-beta squared), divided by the sum of its row. Exponents are no lower than float64's least, -708."""
    weights = masses * np.exp(np.maximum(-beta * squared, -708))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _entropy(conditional: Array, masses: Array) -> Array:
    """Return -sum p log(p / m) of each row, as a column."""
    shares = np.maximum(conditional, 1e-320) / np.where(masses > 0, masses, 1)
    terms = np.where(conditional > 0, conditional * np.log(shares), 0)
    return np.asarray(-terms.sum(axis=1, keepdims=True))


def joint_probabilities(
    indices: npt.ArrayLike, conditional: npt.ArrayLike, masses: npt.ArrayLike | None = None
) -> Array:
    """Return P = (p_j|i + p_i|j) / 2n: van der Maaten and Hinton (2008), section 3.1.

    Parameters
    ----------
    indices : integer array_like of shape (n_points, k)
        The neighbours of each point.
    conditional : array_like of shape (n_points, k)
        The affinities of each point to its neighbours.
    masses : array_like of shape (n_points,), optional
        How many rows each point stands for, by which its affinities are multiplied. Their sum takes the place of n.

    Returns
    -------
    float64 array of shape (n_points, n_points)
        The symmetric matrix P, which sums to 1.
    """
    indices, conditional = np.asarray(indices), np.asarray(conditional, dtype=np.float64)
    m = np.ones(len(indices)) if masses is None else np.asarray(masses, dtype=np.float64)
    dense = np.zeros((len(indices), len(indices)))
    np.add.at(dense, (np.arange(len(indices))[:, None], indices), m[:, None] * conditional)
    return np.asarray((dense + dense.T) / (2 * m.sum()))


def nearest_neighbors(X: npt.ArrayLike, k: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Return the indices and the Euclidean distances of the k nearest other rows.

    They are sorted by distance, and equal distances by index. Where there are fewer than k other rows, all of them are
    returned.
    """
    X = np.asarray(X, dtype=np.float64)
    distances = np.sqrt(((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1, kind="stable")[:, : min(k, len(X) - 1)]
    return indices, np.take_along_axis(distances, indices, axis=1)


def perplexity(
    X: npt.ArrayLike,
    perplexity: float = 30.0,
    *,
    n_neighbors: int | None = None,
    masses: npt.ArrayLike | None = None,
) -> Array:
    """Return the matrix P of ``kullback.affinities.perplexity``, for Euclidean distances.

    ``n_neighbors`` is by default three times the perplexity, as in van der Maaten (2014), section 4.1. With masses,
    ``n_neighbors`` does not count: every point is a neighbour of every other, and of its own rows, too.
    """
    n_points = len(np.asarray(X))
    if masses is None:
        indices, distances = nearest_neighbors(X, n_neighbors or max(1, int(min(3 * perplexity, n_points))))
        return joint_probabilities(indices, conditional_probabilities(distances, perplexity)[0])
    m = np.asarray(masses, dtype=np.float64)
    indices, distances = nearest_neighbors(X, n_points)
    indices = np.column_stack([np.arange(n_points), indices])
    distances = np.column_stack([np.zeros(n_points), distances])
    rows = np.column_stack([np.maximum(m - 1, 0), m[indices[:, 1:]]])
    return joint_probabilities(indices, conditional_probabilities(distances, perplexity, rows)[0], m)
