"""The gradient of t-SNE and its loss, as plain functions on arrays.

With P the input affinities, symmetric and summing to 1, Y the embedding and

    w_ij = (1 + |y_i - y_j|^2 / dof)^(-dof),    Z = sum over i != j of w_ij,    q_ij = w_ij / Z,

the loss is ``KL(P || Q) = H(P, Q) - H(P)`` and its gradient

    dKL/dy_i = 4 (sum_j p_ij w_ij^(1/dof) (y_i - y_j)  -  sum_j w_ij^(1 + 1/dof) (y_i - y_j) / Z),

attraction less repulsion. dof = 1 is t-SNE: van der Maaten and Hinton (2008), section 3; the tail's
exponent: Kobak et al. (2019). H(P) is fixed while P is, so KL and cross-entropy have this same gradient.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray, aligned_empty, check_affinities, check_choice, check_positions, check_real
from ._kernels import attraction, repulsion_barnes_hut, repulsion_exact
from ._threads import resolve_threads
from .divergence import Decomposition

__all__ = ["METHODS", "attractive_forces", "repulsive_forces", "tsne_gradient", "tsne_loss"]

METHODS = ("auto", "exact", "barnes_hut")

EXACT_POINTS = 2000
"""Up to here ``auto`` is exact: it costs less than 1.5 x Barnes-Hut at theta = 0.5 and has no error."""


class Repulsion(Protocol):
    """Scratch memory for repulsion among a fixed number of points, allocated once."""

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """Write sum_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z."""


class ExactRepulsion:
    """Every point against every other: O(n^2)."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        self.dof, self.n_threads = dof, n_threads
        self.columns = aligned_empty((n_components, n_points), dtype)
        self.sums = np.empty(-(-n_points // repulsion_exact.BLOCK_POINTS))

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        np.copyto(self.columns, positions.T)
        return repulsion_exact.accumulate_repulsion(self.columns, self.dof, self.sums, forces_out, self.n_threads)


class BarnesHutRepulsion:
    """Far cells as their centre of mass: O(n log n), in one to three dimensions."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, theta: float, n_threads: int) -> None:
        kernel = repulsion_barnes_hut
        n_points, n_components = shape
        most_cells = 2 * n_points + kernel.TOP_CELLS  # every inner cell has two children or more
        self.theta, self.n_threads = theta, n_threads
        self.codes = np.empty((2, n_points), np.uint64)
        self.order = np.empty((2, n_points), np.int32)
        self.histogram = np.empty((n_threads, kernel.RADIX), np.int64)
        self.bounds = np.empty((-(-n_points // kernel.BLOCK_POINTS), 2 * n_components))
        self.stack = np.empty((n_threads, kernel.STACK_SIZE), np.int64)
        self.roots = np.empty((2, kernel.TOP_CELLS), np.int32)
        self.units = np.empty(most_cells)
        self.sides = np.empty(most_cells)
        self.links = np.empty((most_cells, 4), np.int32)
        self.columns = np.zeros((n_components, n_points + kernel.LEAF_SIZE), dtype)
        self.cells = np.empty((most_cells, n_components + 2), dtype)
        self.groups = np.empty((n_points, 2), np.int32)
        self.queue = np.empty((n_threads, most_cells + 8), np.int32)
        self.sources = aligned_empty((n_threads, n_components + 1, kernel.LIST_SIZE), dtype)
        self.sums = np.empty(n_points)

    def order_points(self, positions: FloatArray) -> npt.NDArray[np.int32]:
        """Return the indices of the points along a Z-order curve; the next call overwrites them."""
        self.finest_side = repulsion_barnes_hut.order_points(
            positions, self.codes, self.order, self.histogram, self.bounds, self.n_threads
        )
        return self.order[0]

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        kernel, n_threads = repulsion_barnes_hut, self.n_threads
        self.order_points(positions)
        n_groups = kernel.build_tree(
            positions, self.finest_side, self.theta, self.codes, self.order, self.histogram, self.stack, self.roots,
            self.units, self.sides, self.links, self.columns, self.cells, self.groups, n_threads,
        )  # fmt: skip
        return kernel.accumulate_repulsion(
            self.columns, self.cells, self.links, self.groups, self.order, n_groups, self.queue, self.sources,
            self.sums, forces_out, n_threads,
        )  # fmt: skip


def choose_method(method: str, shape: tuple[int, int], dof: float) -> str:
    """Return ``"exact"`` or ``"barnes_hut"`` for ``"auto"``; raise where the method asked for does not apply."""
    check_choice(method, "method", METHODS)
    tree_applies = shape[1] <= 3 and dof == 1
    if method == "auto":
        return "barnes_hut" if tree_applies and shape[0] > EXACT_POINTS else "exact"
    if method == "barnes_hut" and not tree_applies:
        raise ValueError(
            f'method="barnes_hut" needs at most 3 components and dof = 1, got {shape[1]} components and dof = {dof:g}; '
            'use method="exact"'
        )
    return method


def make_repulsion(
    shape: tuple[int, int], dtype: npt.DTypeLike, *, method: str, theta: float, dof: float, n_threads: int
) -> Repulsion:
    """Return the engine for ``method``, with its scratch memory."""
    if choose_method(method, shape, dof) == "exact":
        return ExactRepulsion(shape, dtype, dof, n_threads)
    return BarnesHutRepulsion(shape, dtype, theta, n_threads)


def repulsive_forces(
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> tuple[FloatArray, float]:
    """Return the repulsion on every point, not yet divided by Z, and Z.

    Parameters
    ----------
    Y : array-like of shape (n_points, n_components)
        Embedding; float32 stays float32, anything else is taken as float64.
    method : {"auto", "exact", "barnes_hut"}, default "auto"
        ``"exact"`` is O(n^2) in any dimension; ``"barnes_hut"`` O(n log n) in one to three. ``"auto"``
        is exact up to 2,000 points.
    theta : float in [0, 1], default 0.5
        Barnes-Hut: the largest side of a cell, relative to its distance, that is replaced by its centre of
        mass. 0 gives the exact sum.
    dof : float > 0, default 1
        Degrees of freedom of the kernel; other than 1 needs ``"exact"``.
    n_threads : int, optional
        Default: all. The bits of the result do not depend on it.

    Returns
    -------
    forces : ndarray of shape (n_points, n_components), dtype of Y
        ``sum_j w_ij^(1 + 1/dof) (y_i - y_j)``.
    sum_q : float
        Z, the sum of ``w_ij`` over ordered pairs i != j.

    Raises
    ------
    ValueError, TypeError
        For positions that are not finite, or options outside their range.

    References
    ----------
    van der Maaten (2014), "Accelerating t-SNE using tree-based algorithms", section 4.
    """
    positions = check_positions(Y, "Y")
    theta = check_real(theta, "theta", low=0, high=1)
    dof = check_real(dof, "dof", low=0, open_low=True)
    repulsion = make_repulsion(
        positions.shape, positions.dtype, method=method, theta=theta, dof=dof, n_threads=resolve_threads(n_threads)
    )
    forces = np.empty_like(positions)
    return forces, repulsion(positions, forces)


def attractive_forces(P: Any, Y: npt.ArrayLike, *, dof: float = 1.0, n_threads: int | None = None) -> FloatArray:
    """Return the attraction on every point, ``sum_j p_ij w_ij^(1/dof) (y_i - y_j)``.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: non-negative, no diagonal, sum 1.
    Y : array-like of shape (n_points, n_components)
        Embedding; float32 stays float32, anything else is taken as float64.
    dof : float > 0, default 1
        Degrees of freedom of the kernel.
    n_threads : int, optional
        Default: all. The bits of the result do not depend on it.

    Returns
    -------
    ndarray of shape (n_points, n_components), dtype of Y
        In O(nnz(P)).

    Raises
    ------
    ValueError, TypeError
        For a P that is not a joint distribution over the points of Y, or positions that are not finite.
    """
    positions = check_positions(Y, "Y")
    parts = check_affinities(P, positions.shape[0], positions.dtype, "P")
    dof = check_real(dof, "dof", low=0, open_low=True)
    forces = np.empty_like(positions)
    attraction.accumulate_attraction(*parts, positions, dof, forces, resolve_threads(n_threads))
    return forces


def tsne_gradient(
    P: Any,
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    dof: float = 1.0,
    exaggeration: float = 1.0,
    n_threads: int | None = None,
) -> FloatArray:
    """Return the gradient of KL(P || Q) with respect to Y.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, no diagonal, sum 1.
    Y : array-like of shape (n_points, n_components)
        Embedding; float32 stays float32, anything else is taken as float64.
    method, theta, dof, n_threads
        As in `repulsive_forces`.
    exaggeration : float > 0, default 1
        Factor on the attraction.

    Returns
    -------
    ndarray of shape (n_points, n_components), dtype of Y
        ``4 (exaggeration * attraction - repulsion / Z)``.

    References
    ----------
    van der Maaten (2014), equation 8.
    """
    exaggeration = check_real(exaggeration, "exaggeration", low=0, open_low=True)
    forces, sum_q = repulsive_forces(Y, method=method, theta=theta, dof=dof, n_threads=n_threads)
    return 4 * (exaggeration * attractive_forces(P, Y, dof=dof, n_threads=n_threads) - forces / sum_q)


def entropy_of(values: FloatArray) -> float:
    """Return - sum p log p in nats; p = 0 contributes 0."""
    nonzero = np.asarray(values, dtype=np.float64)
    nonzero = nonzero[nonzero > 0]
    return float(-np.sum(nonzero * np.log(nonzero)))


def tsne_loss(
    P: Any,
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    dof: float = 1.0,
    exact: bool = False,
    n_threads: int | None = None,
) -> Decomposition:
    """Return H(P), H(P, Q) and KL(P || Q) of an embedding, in nats.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, no diagonal, sum 1.
    Y : array-like of shape (n_points, n_components)
        Embedding.
    method, theta, dof, n_threads
        As in `repulsive_forces`; they decide how Z is summed.
    exact : bool, default False
        Sum Z over all pairs in float64, whatever ``method`` says: O(n^2). Compare embeddings by this.

    Returns
    -------
    Decomposition
        ``entropy`` H(P), ``cross_entropy`` H(P, Q) = - sum P log w + log Z, ``kl_divergence`` their difference.
    """
    positions = check_positions(Y, "Y")
    if exact:
        positions, method = positions.astype(np.float64), "exact"
    _, sum_q = repulsive_forces(positions, method=method, theta=theta, dof=dof, n_threads=n_threads)
    parts = check_affinities(P, positions.shape[0], positions.dtype, "P")
    sums = np.empty(-(-positions.shape[0] // attraction.BLOCK_ROWS))
    log_affinity = attraction.sum_log_affinity(*parts, positions, dof, sums, resolve_threads(n_threads))
    return loss_of(entropy_of(parts[0]), log_affinity, sum_q)


def loss_of(entropy: float, log_affinity: float, sum_q: float) -> Decomposition:
    """Return the loss from H(P), - sum P log w and Z."""
    cross_entropy = float(log_affinity + np.log(sum_q))
    return Decomposition(entropy, cross_entropy, cross_entropy - entropy)
