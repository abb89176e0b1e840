"""New points in a finished map, in NumPy: the specification of ``kullback.tsne.placement``. Float64, O(n) a step.

Notation: p the affinities of the new point to its neighbours, whose positions are rows of the map Y, y its own
position, w(y) = (1 + |y|^2 / dof)^(-dof), c the mean over the map of each point's own sum of w.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def placement_loss(
    p: npt.ArrayLike, neighbors: npt.ArrayLike, Y: npt.ArrayLike, y: npt.ArrayLike, *, mean_sum: float, dof: float = 1.0
) -> tuple[float, Array, float]:
    """Return F(y) = - sum_j p_j log w(y - y_j) + sum_i w(y - y_i) / c, half its gradient, and sum_j p_j w^(1/dof)."""
    p, Y, y = np.asarray(p, dtype=np.float64), np.asarray(Y, dtype=np.float64), np.asarray(y, dtype=np.float64)
    differences = y - Y
    base = 1 + (differences**2).sum(axis=1) / dof
    near = np.asarray(neighbors)
    weights = p / base[near]
    loss = dof * float(p @ np.log(base[near])) + float((base**-dof).sum()) / mean_sum
    half = weights @ differences[near] - base ** (-dof - 1) @ differences / mean_sum
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
) -> tuple[Array, float]:
    """Return where the descent from the best neighbour ends, and F there.

    A step of stride 1 goes to the least point of the quadratic that lies above the attraction; the stride doubles
    where F fell as its slope promised and halves where it did not: Nocedal and Wright (2006), section 3.1.
    """
    low, high = np.asarray(box, dtype=np.float64)
    Y = np.asarray(Y, dtype=np.float64)

    def evaluate(y: Any) -> tuple[float, Array, float]:
        return placement_loss(p, neighbors, Y, y, mean_sum=mean_sum, dof=dof)

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
