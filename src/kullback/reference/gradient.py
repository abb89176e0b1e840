"""The gradient of t-SNE in NumPy: the specification of ``kullback.gradient`` and its kernels.

The notation is that of ``kullback.gradient``: P are the affinities, Y is the embedding, w_ij is
(1 + |y_i - y_j|^2 / dof)^(-dof), and Z is the sum of w_ij over all pairs. Everything is dense, in float64, and takes
O(n^2) operations. ``method="barnes_hut"`` follows the tree of the kernel cell by cell, and ``method="fft"`` builds the
grid of splines. ``tolerance`` and ``n_threads`` are accepted and ignored.

A point of mass m stands for m rows at one position (docs/gradient.md). Points i and j make m_i m_j pairs of rows, and
the rows of one point make m_i max(m_i - 1, 0). P and the forces are those of a point, all its rows together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .barnes_hut import repel_by_tree
from .divergence import Decomposition
from .splines import grid_spacing, repel_by_splines

Array = npt.NDArray[np.float64]

MOST_NODES = 2**24
"""Most nodes of a grid, doubled sizes included."""


def _dense(P: Any) -> Array:
    """Return P, sparse or not, as a dense array."""
    return np.asarray(P.astype(np.float64).todense() if hasattr(P, "todense") else P, dtype=np.float64)


def _pairs(Y: npt.ArrayLike, dof: float) -> tuple[Array, Array]:
    """Return y_i - y_j for all pairs, of shape (n, n, d), and |y_i - y_j|^2 / dof, of shape (n, n)."""
    Y = np.asarray(Y, dtype=np.float64)
    differences = Y[:, None, :] - Y[None, :, :]
    return differences, np.sum(differences**2, axis=2) / dof


def _masses(masses: npt.ArrayLike | None, n_points: int) -> Array:
    """Return the masses of the points, which are 1 where none are given."""
    return np.ones(n_points) if masses is None else np.asarray(masses, dtype=np.float64)


def row_pairs(masses: Array) -> Array:
    """Return how many ordered pairs of rows every two points make, and on the diagonal those of each by itself."""
    pairs = np.outer(masses, masses)
    np.fill_diagonal(pairs, masses * np.maximum(masses - 1, 0))
    return pairs


def attractive_forces(
    P: Any,
    Y: npt.ArrayLike,
    *,
    masses: npt.ArrayLike | None = None,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> Array:
    """Return sum_j p_ij w_ij^(1/dof) (y_i - y_j): the first term of van der Maaten (2014), eq. 8.

    Masses do not matter, because P is that of whole points.
    """
    differences, ratios = _pairs(Y, dof)
    forces: Array = np.einsum("ij,ijd->id", _dense(P) / (1 + ratios), differences)
    return forces


def repulsive_forces(
    Y: npt.ArrayLike,
    *,
    masses: npt.ArrayLike | None = None,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> tuple[Array, float]:
    """Return m_i sum_j m_j w_ij^(1 + 1/dof) (y_i - y_j), and Z, the sum of w over all pairs of rows.

    Without masses this is the second term of van der Maaten (2014), eq. 8.
    """
    Y = np.asarray(Y)
    m = _masses(masses, len(Y))
    if method in ("barnes_hut", "fft"):
        forces, sum_q = (repel_by_tree if method == "barnes_hut" else _by_grid)(Y, m, theta, dof)
        return m[:, None] * forces, sum_q
    differences, ratios = _pairs(Y, dof)
    weights = row_pairs(m) * np.exp(-dof * np.log1p(ratios))
    return np.einsum("ij,ijd->id", weights / (1 + ratios), differences), float(weights.sum())


def tsne_gradient(
    P: Any,
    Y: npt.ArrayLike,
    *,
    masses: npt.ArrayLike | None = None,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    exaggeration: float = 1.0,
    n_threads: int | None = None,
) -> Array:
    """Return dKL/dY = 4 (exaggeration * attraction - repulsion / Z): van der Maaten (2014), eq. 8."""
    forces, sum_q = repulsive_forces(Y, masses=masses, method=method, theta=theta, dof=dof)
    return 4 * (exaggeration * attractive_forces(P, Y, dof=dof) - forces / sum_q)


def tsne_loss(
    P: Any,
    Y: npt.ArrayLike,
    *,
    masses: npt.ArrayLike | None = None,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    exact: bool = False,
    n_threads: int | None = None,
) -> Decomposition:
    """Return H(P) = - sum P log P, H(P, Q) = - sum P log w + log Z, and KL(P || Q) = H(P, Q) - H(P), in nats.

    The entropy is that of the pairs of rows, among which the probability of two points is divided evenly.
    """
    P = _dense(P)
    _, ratios = _pairs(Y, dof)
    _, sum_q = repulsive_forces(Y, masses=masses, method="exact" if exact else method, theta=theta, dof=dof)
    pairs = row_pairs(_masses(masses, len(P)))
    entropy = -float(np.sum(P[P > 0] * np.log(P[P > 0] / pairs[P > 0])))
    cross_entropy = float(np.sum(P * dof * np.log1p(ratios)) + np.log(sum_q))
    return Decomposition(entropy, cross_entropy, cross_entropy - entropy)


def _by_grid(Y: Array, masses: Array, theta: float, dof: float) -> tuple[Array, float]:
    """Return the repulsion and Z by splines, or by a tree where these are small beside the errors of a grid."""
    theta = min(theta, 0.8)
    spacing = grid_spacing(Y, 0.45 * (theta / 0.5) ** 0.7, dof)
    if np.prod(2 * (np.ptp(Y.astype(np.float64), axis=0) / spacing + 6)) > MOST_NODES:
        return repel_by_tree(Y, masses, theta, dof)
    width = min(1.0, np.sqrt(dof))
    forces, sum_w = repel_by_splines(Y.astype(np.float64), masses, 4, spacing, dof)
    own = width * 3.3e-3 * (spacing / width / 0.276) ** 3.5
    least = own / (0.04 * (theta / 0.5) ** 2.7)
    acting = np.maximum(np.minimum(masses, 1), masses / 8)  # the mass with which a point acts on its rows
    norm = np.sqrt(masses @ np.sum(forces**2, axis=1))
    if norm < least * np.sqrt(masses @ acting**2) or sum_w < 0.5 * least * (masses @ acting):
        return repel_by_tree(Y, masses, theta, dof)
    return forces, sum_w
