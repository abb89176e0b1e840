"""A step of t-SNE's gradient descent in NumPy: the specification of the kernel ``descent``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def descend(
    positions: Array,
    velocity: Array,
    gains: Array,
    attraction: Array,
    repulsion: Array,
    rates: Any,
    centre: Array,
    sums_out: Array | None = None,
    n_threads: int = 1,
) -> float:
    """Move every point by one step, in place, and return the norm of the gradient.

    Parameters
    ----------
    positions, velocity, gains : float64 array of shape (n_points, n_components)
        The state of the descent, which is changed in place. Gains follow Jacobs (1988), as in van der Maaten and Hinton
        (2008), section 3.4: a gain grows where the step goes on downhill and shrinks where it does not.
    attraction, repulsion : float64 array of shape (n_points, n_components)
        The forces on the points.
    rates : Rates
        What the step is taken with, see `kullback.tsne.rates.Rates`: exaggeration, 1 / Z, learning rate, momentum,
        the length of the longest step, and how gains change.
    centre : float64 array of shape (n_components,)
        The mean of the positions, which is subtracted from them and then set to their new mean.
    sums_out : float64 array, optional
        Scratch of the kernel, which is ignored here.
    n_threads : int, default 1
        Threads of the kernel, which are ignored here.

    Returns
    -------
    float
        The Euclidean norm of the gradient of all points.
    """
    gradient = 4 * (rates.exaggeration * attraction - rates.inverse_sum_q * repulsion)
    downhill = gradient * velocity < 0
    gains[:] = np.maximum(np.where(downhill, gains + rates.gain_step, gains * rates.gain_decay), 0.01)
    velocity[:] = rates.momentum * velocity - rates.learning_rate * gains * gradient
    length = np.linalg.norm(velocity, axis=1, keepdims=True)
    velocity *= np.where(length > rates.max_step, rates.max_step / np.where(length > 0, length, 1), 1)
    positions += velocity - centre
    centre[:] = positions.mean(axis=0)
    return float(np.linalg.norm(gradient))
