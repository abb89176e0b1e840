"""The gradient of t-SNE and its loss, as plain functions on arrays.

With P the input affinities, symmetric and summing to 1, Y the embedding and

    w_ij = (1 + |y_i - y_j|^2 / dof)^(-dof),    Z = sum over i != j of w_ij,    q_ij = w_ij / Z,

the loss is ``KL(P || Q) = H(P, Q) - H(P)``. Its gradient is the attraction minus the repulsion,

    dKL/dy_i = 4 (sum_j p_ij w_ij^(1/dof) (y_i - y_j)  -  sum_j w_ij^(1 + 1/dof) (y_i - y_j) / Z).

t-SNE has dof = 1 (van der Maaten and Hinton 2008, section 3). Kobak et al. (2019) introduced the exponent of the tails.
As long as P is fixed, so is H(P), and therefore KL and the cross-entropy have the same gradient.

With ``masses``, a point stands for m rows at one position, and p_ij is the probability of all pairs of their rows.
The loss is that of the rows, and the forces and the gradient are those on whole points: see docs/gradient.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._checks.data import check_masses, check_positions
from .._checks.graphs import SparseParts, check_affinities
from .._checks.scalars import check_dof, check_integer, check_real
from .._kernels import attraction
from ..divergence import Decomposition
from .forces import attractive_forces, repulsive_forces, threads_for
from .masses import pairs_in_nats, row_pairs, times_masses
from .repulsion import METHODS, ExactRepulsion

__all__ = [
    "METHODS", "attractive_forces", "gradient_error", "point_kl", "repulsive_forces", "tsne_gradient", "tsne_loss",
]  # fmt: skip

EXACT_SUM_POINTS = 100_000
"""Up to so many points, `gradient_error` sums Z over all pairs, which takes seconds."""

LEAST_SINGLE_SUM = 1e-15
"""Z below which forces are taken in float64, because those that are not yet divided by Z would underflow in float32."""

BLOCK_PAIRS = 2**18
"""Pairs that `point_kl` works on at a time, so that their arrays stay in the cache."""


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
) -> FloatArray:
    """Return the gradient of KL(P || Q) with respect to Y.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, with an empty diagonal and a sum of 1.
    Y : array-like of shape (n_points, n_components)
        Embedding. float32 stays float32, and anything else is taken as float64.
    masses, method, theta, tolerance, dof, n_threads
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

    Examples
    --------
    In a map of only two points, Q does not depend on their distance.

    >>> from kullback.gradient import tsne_gradient
    >>> tsne_gradient([[0, 0.5], [0.5, 0]], [[0.0, 0.0], [1.0, 0.0]]).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    exaggeration = check_real(exaggeration, "exaggeration", low=0, open_low=True)
    positions = check_positions(Y, "Y")
    m = check_masses(masses, "masses", len(positions))
    parts = check_affinities(P, "P", len(positions), positions.dtype, symmetric=True, masses=m)
    options: dict[str, Any] = {
        "masses": m, "method": method, "theta": theta, "tolerance": tolerance, "dof": check_dof(dof),
        "n_threads": n_threads,
    }  # fmt: skip
    forces, sum_q = repulsive_forces(positions, **options)
    if positions.dtype == np.float32 and sum_q < LEAST_SINGLE_SUM:
        return tsne_gradient(P, positions.astype(np.float64), exaggeration=exaggeration, **options).astype(np.float32)
    _check_sum(sum_q, dof)
    attracted, threads = np.empty_like(positions), threads_for(positions, n_threads)
    attraction.accumulate_attraction(*parts, positions, options["dof"], attracted, threads)
    gradient: FloatArray = 4 * (exaggeration * attracted - forces / sum_q)
    return gradient


def _check_sum(sum_q: float, dof: float) -> None:
    """Raise an error where Z is 0, which has no logarithm."""
    if not sum_q > 0:
        near = "two points so near each other that w is above 1e-308"
        raise ValueError(f"Y must have {near}, got Z = {sum_q} at dof = {dof:g}")


def entropy_of(parts: SparseParts, masses: FloatArray | None = None) -> float:
    """Return - sum p log p in nats, to which p = 0 contributes 0. With masses, p is that of a pair of rows."""
    nonzero = np.asarray(parts[0], dtype=np.float64)
    nonzero = nonzero[nonzero > 0]
    entropy = float(-np.sum(nonzero * np.log(nonzero)))
    return entropy if masses is None else entropy + pairs_in_nats(parts, masses)


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
    """Return H(P), H(P, Q) and KL(P || Q) of an embedding, in nats.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: non-negative, with an empty diagonal and a sum of 1.
    Y : array-like of shape (n_points, n_components)
        Embedding.
    masses, method, theta, tolerance, dof, n_threads
        As in `repulsive_forces`. They decide how Z is summed.
    exact : bool, default False
        Whether to sum Z over all pairs in float64, in O(n^2) time, whatever ``method`` says, to compare embeddings.

    Returns
    -------
    Decomposition
        ``entropy`` is H(P), ``cross_entropy`` is H(P, Q) = - sum P log w + log Z, and ``kl_divergence`` is
        H(P, Q) - H(P). A p = 0 contributes 0.

    Examples
    --------
    >>> from kullback.gradient import tsne_loss
    >>> loss = tsne_loss([[0, 0.5], [0.5, 0]], [[0.0, 0.0], [1.0, 0.0]])
    >>> round(loss.entropy, 4), round(loss.cross_entropy, 4)
    (0.6931, 0.6931)
    """
    positions = check_positions(Y, "Y")
    if exact:
        positions, method = positions.astype(np.float64), "exact"
    m = check_masses(masses, "masses", len(positions))
    parts = check_affinities(P, "P", len(positions), positions.dtype, masses=m)
    _, sum_q = repulsive_forces(
        positions, masses=m, method=method, theta=theta, tolerance=tolerance, dof=dof, n_threads=n_threads
    )
    _check_sum(sum_q, dof)
    sums = np.empty(-(-positions.shape[0] // attraction.BLOCK_ROWS))
    log_affinity = attraction.sum_log_affinity(*parts, positions, dof, sums, threads_for(positions, n_threads))
    return loss_of(entropy_of(parts, m), log_affinity, sum_q)


def point_kl(
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
) -> npt.NDArray[np.float64]:
    """Return what each point contributes to KL(P || Q): ``sum_j p_ij log(p_ij / q_ij)``, in nats.

    A point with a large value is one whose neighbours the map does not keep together.

    Parameters
    ----------
    P, Y, masses, method, theta, tolerance, dof, exact, n_threads
        As in `tsne_loss`.

    Returns
    -------
    ndarray of shape (n_points,), float64
        The contributions, in O(nnz(P)) time besides the sum for Z. They add up to the KL divergence that `tsne_loss`
        returns. A point that the map keeps closer to its neighbours than P does may have a negative one.

    Examples
    --------
    >>> from kullback.gradient import point_kl
    >>> P = [[0, 0.4, 0.1], [0.4, 0, 0], [0.1, 0, 0]]
    >>> point_kl(P, [[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]).round(3)
    array([0.072, 0.04 , 0.032])
    """
    positions = check_positions(Y, "Y").astype(np.float64)
    m = check_masses(masses, "masses", len(positions))
    values, columns, row_starts = check_affinities(P, "P", len(positions), np.float64, masses=m)
    _, sum_q = repulsive_forces(
        positions if exact else Y, masses=m, method="exact" if exact else method, theta=theta, tolerance=tolerance,
        dof=dof, n_threads=n_threads,
    )  # fmt: skip
    _check_sum(sum_q, dof)
    terms = np.empty_like(values)
    rows = np.repeat(np.arange(len(positions)), np.diff(row_starts))
    for start in range(0, len(values), BLOCK_PAIRS):
        part = slice(start, start + BLOCK_PAIRS)
        p, difference = values[part], positions[rows[part]] - positions[columns[part]]
        log_w = -dof * np.log1p(np.einsum("ij,ij->i", difference, difference) / dof)
        log_p = np.log(p, out=np.zeros_like(p), where=p > 0)
        if m is not None:
            log_p -= np.log(row_pairs(rows[part], columns[part], m), out=np.zeros_like(p), where=p > 0)
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
    masses: npt.ArrayLike | None = None,
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
        Joint probabilities: symmetric, non-negative, with an empty diagonal and a sum of 1.
    Y : array-like of shape (n_points, n_components)
        Embedding.
    masses, method, theta, tolerance, dof, n_threads
        As in `repulsive_forces`. They belong to the gradient that is audited.
    sample : int >= 1, default 1000
        Number of points whose gradient is compared with the exact one. The latter is summed over all pairs in float64,
        in O(sample * n_points) time.
    rng : numpy.random.Generator or seed, default 0
        Generator that chooses the sample.

    Returns
    -------
    float
        The error. The exact Z is summed over all pairs up to 100,000 points, and beyond at a tolerance of 0.1 %.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback import affinities
    >>> from kullback.gradient import gradient_error
    >>> Y = np.random.default_rng(0).normal(size=(2000, 2))
    >>> gradient_error(affinities.perplexity(Y, 30).P, 10 * Y, method="barnes_hut") < 0.05
    True
    """
    positions = check_positions(Y, "Y")
    n_points = len(positions)
    m = check_masses(masses, "masses", n_points)
    size = min(check_integer(sample, "sample", low=1), n_points)
    rows = np.sort(np.random.default_rng(rng).choice(n_points, size, replace=False))
    gradient = tsne_gradient(
        P, positions, masses=m, method=method, theta=theta, tolerance=tolerance, dof=dof, n_threads=n_threads
    )
    exact = positions.astype(np.float64)
    engine = ExactRepulsion(exact.shape, np.float64, dof, threads_for(exact, n_threads))
    forces = np.empty_like(exact[rows])
    engine.repel(rows.astype(np.int32), exact, forces, m)
    forces = times_masses(forces, None if m is None else m[rows])
    finer: dict[str, Any] = {"method": "exact"} if n_points <= EXACT_SUM_POINTS else {"tolerance": 1e-3}
    _, sum_q = repulsive_forces(exact, masses=m, dof=dof, n_threads=n_threads, **finer)
    attracted = attractive_forces(P, exact, masses=m, dof=dof, n_threads=n_threads)
    expected = 4 * (attracted[rows] - forces / sum_q)
    norm = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(gradient[rows] - expected))
    return error / norm if norm > 0 else (0.0 if error == 0 else np.inf)
