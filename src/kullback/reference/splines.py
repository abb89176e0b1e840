"""The repulsion of t-SNE by a grid of splines, in NumPy: the specification of the kernel ``repulsion_fft``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def spline(x: Array, order: int) -> Array:
    """Return the cardinal B-spline of an order, centred at 0, at each x: Schoenberg (1946).

    The recurrence is that of de Boor (1972).
    """
    if order == 1:
        return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)
    left, right = x + order / 2, order / 2 - x
    return (left * spline(x + 0.5, order - 1) + right * spline(x - 0.5, order - 1)) / (order - 1)


def grid_spacing(Y: Array, widest: float, dof: float) -> float:
    """Return the spacing of a grid over a map: finer for a narrow kernel, and with 48 nodes or more across the map."""
    spacing = widest * min(1.0, np.sqrt(2 * dof))
    while 0 < np.max(np.ptp(Y, axis=0)) < 48 * spacing:
        spacing /= 2
    return float(spacing)


def repel_by_splines(Y: Array, masses: Array, order: int, spacing: float, dof: float) -> tuple[Array, float]:
    """Return the repulsion of a unit of mass, and Z, by a grid of splines, on which sums of w are convolutions.

    The kernel is interpolated by splines B on both sides: w(y - y') = sum_mn B(y - m) G(m - n) B(y' - n), where G is
    such that this is exact at the nodes. The slope of the potential u(y) = sum_j m_j w(y - y_j) is the repulsion:
    grad u = - 2 sum_j m_j w^(1 + 1/dof) (y - y_j).
    """
    n_components = Y.shape[1]
    low = Y.min(axis=0)
    scaled = (Y - low) / spacing + (order + 1) / 2
    half = int(1.5 * scaled.max()) + 24  # nodes, and as many again to keep the periodic images away
    nodes = np.arange(2 * half)
    values = [spline(scaled[:, k, None] - nodes, order) for k in range(n_components)]
    slopes = [  # the slope of a spline: B_n'(x) = B_{n-1}(x + 1/2) - B_{n-1}(x - 1/2)
        spline(scaled[:, k, None] - nodes + 0.5, order - 1) - spline(scaled[:, k, None] - nodes - 0.5, order - 1)
        for k in range(n_components)
    ]
    letters = "abc"[:n_components]
    each = ",".join("i" + letter for letter in letters)
    charges = np.einsum(f"i,{each}->{letters}", masses, *values, optimize=True)
    distance = np.minimum(nodes, 2 * half - nodes)
    squared = sum(np.meshgrid(*[(distance * spacing) ** 2] * n_components, indexing="ij"))
    spectrum = np.fft.fftn(charges) * np.fft.fftn(np.exp(-dof * np.log1p(squared / dof)))
    at_nodes = np.fft.fft(spline(distance.astype(float), order))  # what interpolation by the splines does to a spectrum
    for axis in range(n_components):
        spectrum /= np.expand_dims(at_nodes**2, tuple(k for k in range(n_components) if k != axis))
    potential = np.fft.ifftn(spectrum).real
    forces = [
        np.einsum(f"{letters},{each}->i", potential, *values[:k], slopes[k], *values[k + 1 :], optimize=True)
        for k in range(n_components)
    ]
    at_points = np.einsum(f"{letters},{each}->i", potential, *values, optimize=True)
    return -0.5 / spacing * np.stack(forces, axis=1), float(masses @ (at_points - np.minimum(masses, 1)))
