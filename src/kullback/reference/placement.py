"""New points in a finished map, in NumPy: the specification of ``kullback.tsne.placement``.

Everything is in float64, and a step takes O(n) operations. The notation is:

- p are the affinities of the new point to its neighbours, whose positions are rows of the map Y;
- y is the position of the new point;
- w(y) = (1 + |y|^2 / dof)^(-dof) is the kernel of the map;
- c, or ``mean_sum``, is the mean over the points of the map of each point's own sum of w. With masses, it is the mean
  over all rows that the points stand for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def placement_loss(
    p: npt.ArrayLike,
    neighbors: npt.ArrayLike,
    Y: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    mean_sum: float,
    dof: float = 1.0,
    masses: npt.ArrayLike | None = None,
) -> tuple[float, Array, float]:
    """Return the loss of one new point, half of its gradient, and the pull on the point.

    The loss is F(y) = - sum_j p_j log w(y - y_j) + sum_i m_i w(y - y_i) / c.

    Parameters
    ----------
    p : array_like of shape (k,)
        Affinities of the new point to its neighbours.
    neighbors : integer array_like of shape (k,)
        Which rows of Y these are.
    Y : array_like of shape (n_points, n_components)
        The map.
    y : array_like of shape (n_components,)
        The position of the new point.
    mean_sum : float
        The c of the formula.
    dof : float, default 1
        Degrees of freedom of w.
    masses : array_like of shape (n_points,), optional
        How many rows each point of the map stands for: the m_i of the formula.

    Returns
    -------
    loss : float
        F(y), in nats.
    half : float64 array of shape (n_components,)
        Half of the gradient of F.
    pull : float
        sum_j p_j w(y - y_j)^(1/dof), the curvature of a parabola above the attraction.
    """
    p, Y, y = np.asarray(p, dtype=np.float64), np.asarray(Y, dtype=np.float64), np.asarray(y, dtype=np.float64)
    differences = y - Y
    base = 1 + (differences**2).sum(axis=1) / dof
    near, m = np.asarray(neighbors), np.ones(len(Y)) if masses is None else np.asarray(masses, dtype=np.float64)
    weights = p / base[near]
    loss = dof * float(p @ np.log(base[near])) + float(m @ base**-dof) / mean_sum
    half = weights @ differences[near] - (m * base ** (-dof - 1)) @ differences / mean_sum
    return loss, half, float(weights.sum())


def place_point(
    p: npt.ArrayLike,
    neighbors: npt.ArrayLike,
    Y: npt.ArrayLike,
    *,
    mean_sum: float,
    box: npt.ArrayLike,
    tolerance: float,
    max_iter: int,
    dof: float = 1.0,
    masses: npt.ArrayLike | None = None,
) -> tuple[Array, float]:
    """Return the position at which the descent from the best neighbour ends, and the loss F there.

    A step of stride 1 goes to the lowest point of the parabola that lies above the attraction. The stride doubles after
    a step on which F fell as its slope promised, and it halves otherwise: Nocedal and Wright (2006), section 3.1.

    Parameters
    ----------
    p, neighbors, Y, mean_sum, dof, masses
        As for :func:`placement_loss`.
    box : array_like of shape (2, n_components)
        The lowest and the highest coordinates that the point may take.
    tolerance : float
        The length of a step below which the descent ends, in the unit of Y.
    max_iter : int
        The number of steps after which it ends in any case.

    Returns
    -------
    y : float64 array of shape (n_components,)
        The position.
    loss : float
        F(y), in nats.
    """
    low, high = np.asarray(box, dtype=np.float64)
    Y = np.asarray(Y, dtype=np.float64)

    def evaluate(y: Any) -> tuple[float, Array, float]:
        return placement_loss(p, neighbors, Y, y, mean_sum=mean_sum, dof=dof, masses=masses)

    y: Array = min(Y[np.asarray(neighbors)], key=lambda start: evaluate(start)[0])
    loss, half, pull = evaluate(y)
    stride = 1.0
    for _ in range(max_iter):
        trial = np.clip(y - stride * half / pull, low, high)
        if np.linalg.norm(y - trial) <= tolerance:
            break
        at_trial = evaluate(trial)
        if at_trial[0] <= loss - 1e-4 * 2 * half @ (y - trial):
            y, (loss, half, pull), stride = trial, at_trial, 2 * stride
        else:
            stride /= 2
    return y, loss
