"""The gradient of t-SNE in NumPy: the specification of ``kullback.gradient`` and its kernels.

The notation is that of ``kullback.gradient``: P are the affinities, Y is the embedding, w_ij is
(1 + |y_i - y_j|^2 / dof)^(-dof), and Z is the sum of w_ij over all pairs. Everything is dense, in float64, and takes
O(n^2) operations. ``method="barnes_hut"`` follows the tree of the kernel cell by cell, and ``method="fft"`` builds the
grid of splines. ``tolerance`` and ``n_threads`` are accepted and ignored.
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


def attractive_forces(P: Any, Y: npt.ArrayLike, *, dof: float = 1.0, n_threads: int | None = None) -> Array:
    """Return sum_j p_ij w_ij^(1/dof) (y_i - y_j): the first term of van der Maaten (2014), eq. 8."""
    differences, ratios = _pairs(Y, dof)
    forces: Array = np.einsum("ij,ijd->id", _dense(P) / (1 + ratios), differences)
    return forces


def repulsive_forces(
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> tuple[Array, float]:
    """Return sum_j w_ij^(1 + 1/dof) (y_i - y_j) and Z: the second term of van der Maaten (2014), eq. 8."""
    if method == "barnes_hut":
        return repel_by_tree(np.asarray(Y), theta, dof)
    if method == "fft":
        return _by_grid(np.asarray(Y), theta, dof)
    differences, ratios = _pairs(Y, dof)
    w = np.exp(-dof * np.log1p(ratios))
    np.fill_diagonal(w, 0)
    return np.einsum("ij,ijd->id", w / (1 + ratios), differences), float(w.sum())


def tsne_gradient(
    P: Any,
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    exaggeration: float = 1.0,
    n_threads: int | None = None,
) -> Array:
    """Return dKL/dY = 4 (exaggeration * attraction - repulsion / Z): van der Maaten (2014), eq. 8."""
    forces, sum_q = repulsive_forces(Y, method=method, theta=theta, dof=dof)
    return 4 * (exaggeration * attractive_forces(P, Y, dof=dof) - forces / sum_q)


def tsne_loss(
    P: Any,
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    exact: bool = False,
    n_threads: int | None = None,
) -> Decomposition:
    """Return H(P) = - sum P log P, H(P, Q) = - sum P log w + log Z, and KL(P || Q) = H(P, Q) - H(P), in nats."""
    P = _dense(P)
    _, ratios = _pairs(Y, dof)
    _, sum_q = repulsive_forces(Y, method="exact" if exact else method, theta=theta, dof=dof)
    entropy = -float(np.sum(P[P > 0] * np.log(P[P > 0])))
    cross_entropy = float(np.sum(P * dof * np.log1p(ratios)) + np.log(sum_q))
    return Decomposition(entropy, cross_entropy, cross_entropy - entropy)


def _by_grid(Y: Array, theta: float, dof: float) -> tuple[Array, float]:
    """Return the repulsion and Z by splines, or by a tree where these are small beside the errors of a grid."""
    theta = min(theta, 0.8)
    spacing = grid_spacing(Y, 0.45 * (theta / 0.5) ** 0.7, dof)
    if np.prod(2 * (np.ptp(Y.astype(np.float64), axis=0) / spacing + 6)) > MOST_NODES:
        return repel_by_tree(Y, theta, dof)
    width = min(1.0, np.sqrt(dof))
    forces, sum_w = repel_by_splines(Y.astype(np.float64), 4, spacing, dof)
    own = width * 3.3e-3 * (spacing / width / 0.276) ** 3.5
    least = own / (0.04 * (theta / 0.5) ** 2.7)
    if np.linalg.norm(forces) < least * np.sqrt(len(Y)) or sum_w < 0.5 * least * len(Y):
        return repel_by_tree(Y, theta, dof)
    return forces, sum_w
