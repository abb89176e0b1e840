"""Points with masses: a point of mass m stands for m rows at one position.

Points i and j make ``m_i m_j`` ordered pairs of rows, and the rows of point i make ``m_i max(m_i - 1, 0)`` among
themselves. So a row of point i meets all rows but ``min(m_i, 1)`` of its own point, which is itself; a point of less
than a row has no pair with itself. With integers, all sums are those of the repeated rows: see docs/gradient.md.

Engines and the descent take None where every mass is 1, and then run as they do without masses.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.graphs import SparseParts

Masses = npt.NDArray[np.float64]


def self_terms(masses: FloatArray | None, n_points: int) -> float:
    """Return ``sum_i m_i min(m_i, 1)``, by which the sum of w over all pairs of rows exceeds Z."""
    if masses is None:
        return float(n_points)
    return float(np.sum(masses * np.minimum(masses, 1), dtype=np.float64))


def total_mass(masses: FloatArray | None, n_points: int) -> float:
    """Return how many rows all points stand for."""
    return float(n_points if masses is None else np.sum(masses, dtype=np.float64))


def empty_without(masses: FloatArray | None, dtype: npt.DTypeLike) -> FloatArray:
    """Return masses in the type of the positions, as kernels take them: an empty array where there are none."""
    return np.empty(0, dtype) if masses is None else np.ascontiguousarray(masses, dtype)


def join_masses(old: Masses | None, n_old: int, new: Masses | None, n_new: int) -> Masses | None:
    """Return the masses of old points followed by new ones."""
    if old is None and new is None:
        return None
    return np.concatenate([np.ones(n_old) if old is None else old, np.ones(n_new) if new is None else new])


def times_masses(forces: FloatArray, masses: FloatArray | None) -> FloatArray:
    """Return the forces on whole points from those on a unit of mass."""
    if masses is None:
        return forces
    product: FloatArray = forces * masses[:, None].astype(forces.dtype)
    return product


def row_pairs(rows: npt.NDArray[np.intp], columns: npt.NDArray[np.int32], masses: Masses) -> Masses:
    """Return how many pairs of rows each two points make, a point with itself included."""
    first, second = masses[rows], masses[columns]
    pairs: Masses = first * np.where(rows == columns, np.maximum(first - 1, 0), second)
    return pairs


def pairs_in_nats(parts: SparseParts, masses: FloatArray) -> float:
    """Return ``sum_ij p_ij log n_ij`` for the number n_ij of pairs of rows that points i and j make.

    The entropy of P among pairs of rows exceeds that among pairs of points by so much.
    """
    n_points = len(masses)
    P = sparse.csr_array(parts, shape=(n_points, n_points))
    logarithms, own = np.log(np.asarray(masses, np.float64)), P.diagonal().astype(np.float64)
    nats = float(np.sum(P @ logarithms)) + float(np.sum(logarithms * (P @ np.ones(n_points))))
    within = own > 0
    return nats + float(np.sum(own[within] * (np.log(masses[within] - 1) - logarithms[within])))


def mean_row(positions: FloatArray, masses: Masses) -> npt.NDArray[np.float64]:
    """Return the mean position of all rows."""
    centre: npt.NDArray[np.float64] = np.einsum("i,ij->j", masses, positions) / np.sum(masses)
    return centre


def norm_of_rows(
    attraction: FloatArray, repulsion: FloatArray, exaggeration: float, inverse_sum_q: float, masses: Masses
) -> float:
    """Return the Euclidean norm of the gradient with respect to all rows, from the forces on a unit of mass."""
    gradient = 4 * (exaggeration * attraction - inverse_sum_q * repulsion)
    return float(np.sqrt(np.einsum("i,ij,ij->", masses, gradient, gradient)))
