"""The gradient of t-SNE and its loss, as plain functions on arrays.

With P the input affinities, symmetric and summing to 1, Y the embedding and

    w_ij = (1 + |y_i - y_j|^2 / dof)^(-dof),    Z = sum over i != j of w_ij,    q_ij = w_ij / Z,

the loss is ``KL(P || Q) = H(P, Q) - H(P)`` and its gradient

    dKL/dy_i = 4 (sum_j p_ij w_ij^(1/dof) (y_i - y_j)  -  sum_j w_ij^(1 + 1/dof) (y_i - y_j) / Z),

attraction less repulsion. dof = 1 is t-SNE: van der Maaten and Hinton (2008), section 3; the tail's
exponent: Kobak et al. (2019). H(P) is fixed while P is, so KL and cross-entropy have this same gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._checks.data import check_positions
from .._checks.graphs import check_affinities
from .._checks.scalars import check_integer, check_real, check_tolerance
from .._kernels import attraction
from .._threads import resolve_threads
from ..divergence import Decomposition
from .repulsion import METHODS, ExactRepulsion, repel_once

__all__ = [
    "METHODS", "attractive_forces", "gradient_error", "point_kl", "repulsive_forces", "tsne_gradient", "tsne_loss",
]  # fmt: skip

EXACT_SUM_POINTS = 100_000
"""Up to here `gradient_error` sums Z over all pairs, which takes seconds."""

BLOCK_PAIRS = 2**18
"""Pairs at a time in `point_kl`: their arrays stay in the cache."""


def repulsive_forces(
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> tuple[FloatArray, float]:
    """Return the repulsion on every point, not yet divided by Z, and Z.

    Parameters
    ----------
    Y : array-like of shape (n_points, n_components)
        Embedding; float32 stays float32, anything else is taken as float64.
    method : {"auto", "exact", "barnes_hut", "fft"}, default "auto"
        ``"exact"`` is O(n^2) in any dimension; ``"barnes_hut"`` O(n log n) and ``"fft"`` O(n + g log g), for a
        grid of g nodes that grows with the volume of the map, in one to three dimensions. ``"auto"`` is exact
        up to 1,000 points, and then takes what a measured cost model predicts to be the fastest.
    theta : float in [0, 1], default 0.5
        Barnes-Hut: the largest radius of a cell, relative to ``sqrt(distance^2 + dof / 2)``, that stands for its
        points; more than 0.8 counts as 0.8. 0 gives the exact sum. The FFT takes a grid of the same error.
    tolerance : float in (0, 1], optional
        Relative error of the repulsion, in place of theta: sets theta, the order of the splines and the spacing
        of the grid, as measured on the worst of thirty-two maps.
    dof : float > 0, default 1
        Degrees of freedom of the kernel.
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

    Notes
    -----
    The scratch memory of a call, up to some 100 MB, is kept for the next one with the same shape, dtype and options,
    which takes three quarters of the time or less (of an FFT: a quarter). No bit depends on earlier calls.

    References
    ----------
    van der Maaten (2014), "Accelerating t-SNE using tree-based algorithms", section 4, for Barnes-Hut;
    Linderman et al. (2019), "Fast interpolation-based t-SNE", for the FFT.
    """
    positions = check_positions(Y, "Y")
    forces = np.empty_like(positions)
    sum_q = repel_once(
        positions,
        forces,
        method=method,
        theta=check_real(theta, "theta", low=0, high=1),
        tolerance=check_tolerance(tolerance),
        dof=check_real(dof, "dof", low=0, open_low=True),
        n_threads=resolve_threads(n_threads),
    )
    return forces, sum_q


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
    parts = check_affinities(P, "P", positions.shape[0], positions.dtype)
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
    tolerance: float | None = None,
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
    method, theta, tolerance, dof, n_threads
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
    forces, sum_q = repulsive_forces(Y, method=method, theta=theta, tolerance=tolerance, dof=dof, n_threads=n_threads)
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
    tolerance: float | None = None,
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
    method, theta, tolerance, dof, n_threads
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
    _, sum_q = repulsive_forces(
        positions, method=method, theta=theta, tolerance=tolerance, dof=dof, n_threads=n_threads
    )
    parts = check_affinities(P, "P", positions.shape[0], positions.dtype)
    sums = np.empty(-(-positions.shape[0] // attraction.BLOCK_ROWS))
    log_affinity = attraction.sum_log_affinity(*parts, positions, dof, sums, resolve_threads(n_threads))
    return loss_of(entropy_of(parts[0]), log_affinity, sum_q)


def point_kl(
    P: Any,
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    exact: bool = False,
    n_threads: int | None = None,
) -> npt.NDArray[np.float64]:
    """Return what each point contributes to KL(P || Q): ``sum_j p_ij log(p_ij / q_ij)``, in nats.

    Large values are points whose neighbours the map does not keep together.

    Parameters
    ----------
    P, Y, method, theta, tolerance, dof, exact, n_threads
        As in `tsne_loss`.

    Returns
    -------
    ndarray of shape (n_points,), float64
        They add up to the KL divergence that `tsne_loss` gives for the same arguments. A point that the map
        keeps closer to its neighbours than P does may have a negative one. O(nnz(P)), besides the sum for Z.
    """
    positions = check_positions(Y, "Y").astype(np.float64)
    _, sum_q = repulsive_forces(
        positions if exact else Y, method="exact" if exact else method, theta=theta, tolerance=tolerance, dof=dof,
        n_threads=n_threads,
    )  # fmt: skip
    values, columns, row_starts = check_affinities(P, "P", len(positions), np.float64)
    terms = np.empty_like(values)
    rows = np.repeat(np.arange(len(positions)), np.diff(row_starts))
    for start in range(0, len(values), BLOCK_PAIRS):
        part = slice(start, start + BLOCK_PAIRS)
        p, difference = values[part], positions[rows[part]] - positions[columns[part]]
        log_w = -dof * np.log1p(np.einsum("ij,ij->i", difference, difference) / dof)
        log_p = np.log(p, out=np.zeros_like(p), where=p > 0)
        terms[part] = p * (log_p - log_w + np.log(sum_q))
    return np.asarray(np.bincount(rows, terms, minlength=len(positions)), dtype=np.float64)


def loss_of(entropy: float, log_affinity: float, sum_q: float) -> Decomposition:
    """Return the loss from H(P), - sum P log w and Z."""
    cross_entropy = float(log_affinity + np.log(sum_q))
    return Decomposition(entropy, cross_entropy, cross_entropy - entropy)


def gradient_error(
    P: Any,
    Y: npt.ArrayLike,
    *,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    sample: int = 1000,
    rng: np.random.Generator | int | None = 0,
    n_threads: int | None = None,
) -> float:
    """Return the relative error of the gradient, ``||g - g_exact|| / ||g_exact||``, on a sample of points.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, no diagonal, sum 1.
    Y : array-like of shape (n_points, n_components)
        Embedding.
    method, theta, tolerance, dof, n_threads
        As in `repulsive_forces`: the gradient that is audited.
    sample : int >= 1, default 1000
        Points whose exact gradient is taken, in float64 over all pairs: O(sample * n_points).
    rng : numpy.random.Generator or seed, default 0
        Chooses the sample.

    Returns
    -------
    float
        Z is summed over all pairs up to 100,000 points, and beyond that at a tolerance of 0.1 %, which leaves
        1e-4 of it.
    """
    positions = check_positions(Y, "Y")
    n_points = len(positions)
    size = min(check_integer(sample, "sample", low=1), n_points)
    rows = np.sort(np.random.default_rng(rng).choice(n_points, size, replace=False))
    gradient = tsne_gradient(
        P, positions, method=method, theta=theta, tolerance=tolerance, dof=dof, n_threads=n_threads
    )

    exact = positions.astype(np.float64)
    engine = ExactRepulsion(exact.shape, np.float64, dof, resolve_threads(n_threads))
    forces = np.empty_like(exact[rows])
    engine.repel(rows.astype(np.int32), exact, forces)
    finer: dict[str, Any] = {"method": "exact"} if n_points <= EXACT_SUM_POINTS else {"tolerance": 1e-3}
    _, sum_q = repulsive_forces(exact, dof=dof, n_threads=n_threads, **finer)
    expected = 4 * (attractive_forces(P, exact, dof=dof, n_threads=n_threads)[rows] - forces / sum_q)
    norm = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(gradient[rows] - expected))
    return error / norm if norm > 0 else (0.0 if error == 0 else np.inf)
