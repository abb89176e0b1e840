"""The two forces of t-SNE, as plain functions on arrays; `kullback.gradient` has the notation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._checks.data import check_masses, check_positions
from .._checks.graphs import check_affinities
from .._checks.scalars import check_dof, check_real, check_tolerance
from .._kernels import attraction
from .._threads import resolve_threads, useful_threads
from .masses import times_masses
from .repulsion import POINTS_PER_THREAD, repel_once


def repulsive_forces(
    Y: npt.ArrayLike,
    *,
    masses: npt.ArrayLike | None = None,
    method: str = "auto",
    theta: float = 0.5,
    tolerance: float | None = None,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> tuple[FloatArray, float]:
    """Return the repulsion on every point, before it is divided by Z, and Z.

    Parameters
    ----------
    Y : array-like of shape (n_points, n_components)
        Embedding. float32 stays float32, and anything else is taken as float64.
    masses : array-like of shape (n_points,), optional
        How many rows each point stands for, any numbers in [1e-9, 1e9]. By default each is one row. Integers give the
        same as repeated rows do: see docs/gradient.md.
    method : {"auto", "exact", "barnes_hut", "fft"}, default "auto"
        ``"exact"`` takes O(n^2) time and works in any dimension. ``"barnes_hut"`` takes O(n log n). ``"fft"`` takes
        O(n + g log g) for a grid of g nodes, which grows with the volume of the map; Barnes-Hut takes its place on maps
        that are too wide or too thin for a grid. The last two work in one to three dimensions. ``"auto"`` is exact up
        to 1,000 points. Above, it takes the method that a measured cost model predicts to be the fastest.
    theta : float in [0, 1], default 0.5
        Accuracy. In Barnes-Hut it is the largest radius of a cell that stands for its points, relative to the length on
        which the kernel changes: ``sqrt(distance^2 + dof / 2)`` for dof up to 1. Values above 0.8 count as 0.8, and 0
        gives the exact sum. The FFT takes a grid with the same error.
    tolerance : float in (0, 1], optional
        Largest relative error of the forces, ``||f - f_exact|| / ||f_exact||``, and of Z, which replaces theta. Up to
        1,000 points the sum is exact, whatever the method. Above, the engine is set for the tolerance, the forces at a
        sample of points are compared with the exact ones, and where they err by more, a finer sum takes their place.
    dof : float in [1e-6, 1e9], default 1
        Degrees of freedom of the kernel. As they grow, it tends to ``exp(-|y_i - y_j|^2)``.
    n_threads : int, optional
        Number of threads, by default all. The bits of the result do not depend on it.

    Returns
    -------
    forces : ndarray of shape (n_points, n_components), dtype of Y
        ``sum_j w_ij^(1 + 1/dof) (y_i - y_j)``. With masses, ``m_i sum_j m_j w_ij^(1 + 1/dof) (y_i - y_j)``.
    sum_q : float
        Z, the sum of ``w_ij`` over ordered pairs i != j. With masses, the sum of ``m_i m_j w_ij`` over these pairs, and
        of ``m_i max(m_i - 1, 0)``, the pairs of rows at one position.

    Raises
    ------
    ValueError, TypeError
        If positions are not finite, or an option is out of its range.

    Notes
    -----
    The scratch memory of a call, up to some 100 MB, is kept for the next call with the same shape, dtype and options.
    That call then takes three quarters of the time or less, and a quarter with an FFT. No bit depends on earlier calls.

    References
    ----------
    van der Maaten (2014), "Accelerating t-SNE using tree-based algorithms", section 4, for Barnes-Hut;
    Linderman et al. (2019), "Fast interpolation-based t-SNE", for the FFT.

    Examples
    --------
    >>> from kullback.gradient import repulsive_forces
    >>> forces, Z = repulsive_forces([[0.0, 0.0], [1.0, 0.0]])
    >>> forces.tolist(), Z
    ([[-0.25, 0.0], [0.25, 0.0]], 1.0)
    """
    positions = check_positions(Y, "Y")
    m = check_masses(masses, "masses", len(positions))
    forces = np.empty_like(positions)
    sum_q = repel_once(
        positions,
        forces,
        None if m is None else m.astype(positions.dtype),
        method=method,
        theta=check_real(theta, "theta", low=0, high=1),
        tolerance=check_tolerance(tolerance),
        dof=check_dof(dof),
        n_threads=resolve_threads(n_threads),
    )
    return times_masses(forces, m), sum_q


def attractive_forces(
    P: Any,
    Y: npt.ArrayLike,
    *,
    masses: npt.ArrayLike | None = None,
    dof: float = 1.0,
    n_threads: int | None = None,
) -> FloatArray:
    """Return the attraction on every point, ``sum_j p_ij w_ij^(1/dof) (y_i - y_j)``.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: non-negative, with an empty diagonal and a sum of 1. If points have masses, each is that of
        all pairs of rows of two points.
    Y : array-like of shape (n_points, n_components)
        Embedding. float32 stays float32, and anything else is taken as float64.
    masses : array-like of shape (n_points,), optional
        How many rows each point stands for. A point of more than one row may have a probability of its own on the
        diagonal of P, which exerts no force.
    dof : float in [1e-6, 1e9], default 1
        Degrees of freedom of the kernel. As they grow, it tends to ``exp(-|y_i - y_j|^2)``.
    n_threads : int, optional
        Number of threads, by default all. The bits of the result do not depend on it.

    Returns
    -------
    ndarray of shape (n_points, n_components), dtype of Y
        The forces. They take O(nnz(P)) time.

    Raises
    ------
    ValueError, TypeError
        If P is not a joint distribution over the points of Y, or positions are not finite.

    Examples
    --------
    >>> from kullback.gradient import attractive_forces
    >>> attractive_forces([[0, 0.5], [0.5, 0]], [[0.0, 0.0], [1.0, 0.0]]).tolist()
    [[-0.25, 0.0], [0.25, 0.0]]
    """
    positions = check_positions(Y, "Y")
    m = check_masses(masses, "masses", len(positions))
    parts = check_affinities(P, "P", len(positions), positions.dtype, masses=m)
    dof = check_dof(dof)
    forces = np.empty_like(positions)
    attraction.accumulate_attraction(*parts, positions, dof, forces, threads_for(positions, n_threads))
    return forces


def threads_for(positions: FloatArray, n_threads: int | None) -> int:
    """Return how many threads have enough points to be worth waiting for."""
    return useful_threads(resolve_threads(n_threads), len(positions), POINTS_PER_THREAD)
