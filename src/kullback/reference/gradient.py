"""The gradient of t-SNE in NumPy: the specification of ``kullback.gradient`` and its kernels.

Notation as there: P the affinities, Y the embedding, w_ij = (1 + |y_i - y_j|^2 / dof)^(-dof), Z their sum.
Everything is dense, in float64 and O(n^2), except Barnes-Hut, which follows the kernel's tree cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .divergence import Decomposition

Array = npt.NDArray[np.float64]


def _dense(P: Any) -> Array:
    return np.asarray(P.todense() if hasattr(P, "todense") else P, dtype=np.float64)


def _pairs(Y: npt.ArrayLike, dof: float) -> tuple[Array, Array]:
    """Return differences y_i - y_j, shape (n, n, d), and 1 + |y_i - y_j|^2 / dof, shape (n, n)."""
    Y = np.asarray(Y, dtype=np.float64)
    differences = Y[:, None, :] - Y[None, :, :]
    return differences, 1 + np.sum(differences**2, axis=2) / dof


def attractive_forces(P: Any, Y: npt.ArrayLike, *, dof: float = 1.0, n_threads: int | None = None) -> Array:
    """Return sum_j p_ij w_ij^(1/dof) (y_i - y_j): the first term of van der Maaten (2014), eq. 8."""
    differences, base = _pairs(Y, dof)
    forces: Array = np.einsum("ij,ijd->id", _dense(P) / base, differences)
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
    """Return sum_j w_ij^(1 + 1/dof) (y_i - y_j) and Z = sum over i != j of w_ij: eq. 8, second term."""
    if method == "barnes_hut":
        return _barnes_hut(np.asarray(Y), theta, dof)
    if method == "fft":
        return _splines(np.asarray(Y, dtype=np.float64), 4, 0.45 * (theta / 0.5) ** 0.7, dof)
    differences, base = _pairs(Y, dof)
    w = base**-dof
    np.fill_diagonal(w, 0)
    return np.einsum("ij,ijd->id", w / base, differences), float(w.sum())


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
    """Return dKL/dY = 4 (exaggeration * attraction - repulsion / Z): eq. 8."""
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
    """Return H(P) = - sum P log P, H(P, Q) = - sum P log w + log Z, and KL = H(P, Q) - H(P)."""
    P = _dense(P)
    _, base = _pairs(Y, dof)
    _, sum_q = repulsive_forces(Y, method="exact" if exact else method, theta=theta, dof=dof)
    entropy = -float(np.sum(P[P > 0] * np.log(P[P > 0])))
    cross_entropy = float(np.sum(P * dof * np.log(base)) + np.log(sum_q))
    return Decomposition(entropy, cross_entropy, cross_entropy - entropy)


def descend(
    positions: Array,
    velocity: Array,
    gains: Array,
    attraction: Array,
    repulsion: Array,
    rates: Array,
    centre: Array,
    sums_out: Array | None = None,
    n_threads: int = 1,
) -> float:
    """Move every point one step, in place; return the norm of the gradient.

    ``rates`` holds exaggeration, 1 / Z, learning rate, momentum and the longest step. Gains: Jacobs (1988),
    as in van der Maaten and Hinton (2008), section 3.4. ``centre`` is subtracted, then set to the new mean.
    """
    exaggeration, inverse_sum_q, learning_rate, momentum, max_step = rates
    gradient = 4 * (exaggeration * attraction - inverse_sum_q * repulsion)
    downhill = gradient * velocity < 0
    gains[:] = np.maximum(np.where(downhill, gains + 0.2, gains * 0.8), 0.01)
    velocity[:] = momentum * velocity - learning_rate * gains * gradient
    length = np.linalg.norm(velocity, axis=1, keepdims=True)
    velocity *= np.where(length > max_step, max_step / np.where(length > 0, length, 1), 1)
    positions += velocity - centre
    centre[:] = positions.mean(axis=0)
    return float(np.linalg.norm(gradient))


# ---- Barnes-Hut ------------------------------------------------------------------------------------

LEAF_SIZE, GROUP_SIZE = 8, 64
BITS = {1: 48, 2: 24, 3: 20}


class _Cell(NamedTuple):
    points: npt.NDArray[np.intp]
    side: float
    children: list[_Cell]


def _grow(Y: Array, points: npt.NDArray[np.intp], cells: npt.NDArray[np.uint64], unit: float) -> _Cell:
    """Return the cell of ``points``, whose integer coordinates at the finest level are ``cells``."""
    spread = int(np.max(cells ^ cells[0]))
    if spread == 0 and len(points) > LEAF_SIZE:
        cells, unit = _quantise(Y[points])
        spread = int(np.max(cells ^ cells[0]))
    if len(points) == 1 or (spread == 0 and unit == 0):
        return _Cell(points, 0.0, [])
    level = spread.bit_length() - 1  # the cell's side is 2^(level + 1) finest cells
    side = unit * 2.0 ** (level + 1)
    if len(points) <= LEAF_SIZE:
        return _Cell(points, side, [])
    digits = (cells >> np.uint64(level)) & np.uint64(1)
    quadrant = digits @ (np.uint64(1) << np.arange(Y.shape[1], dtype=np.uint64))
    children = [
        _grow(Y, points[quadrant == q], cells[quadrant == q], unit) for q in np.unique(quadrant)
    ]
    return _Cell(points, side, children)


def _quantise(Y: Array) -> tuple[npt.NDArray[np.uint64], float]:
    """Return integer coordinates on the finest grid over the bounding square, and the side of its cells."""
    n_cells = 2.0 ** BITS[Y.shape[1]]
    span = float(np.max(Y.max(axis=0) - Y.min(axis=0)))
    if span < n_cells / 1e300:  # coincident, or as good as
        return np.zeros(Y.shape, np.uint64), 0.0
    return np.minimum((Y - Y.min(axis=0)) * (n_cells / span), n_cells - 1).astype(np.uint64), span / n_cells


def _groups(cell: _Cell) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the points of the largest cells of at most GROUP_SIZE points."""
    if len(cell.points) <= GROUP_SIZE or cell.side == 0:
        yield from np.split(cell.points, range(GROUP_SIZE, len(cell.points), GROUP_SIZE))
    for child in cell.children if len(cell.points) > GROUP_SIZE else []:
        yield from _groups(child)


def _sources(
    Y: Array, cell: _Cell, group: npt.NDArray[np.intp], theta: float, dof: float
) -> Iterator[tuple[Array, int]]:
    """Yield the positions and masses that a group sees: Barnes and Hut (1986)."""
    centre = Y[cell.points].mean(axis=0)
    low, high = Y[group].min(axis=0), Y[group].max(axis=0)
    gap = np.maximum(np.maximum(low - centre, centre - high), 0)
    # A large cell with the group inside it is never accepted: its centre may be a diagonal away. A small one is,
    # for w is smooth on the scale of sqrt(dof) even at distance 0.
    reach = cell.side * max(1 / theta if theta > 0 else np.inf, 1.001 * np.sqrt(Y.shape[1])) if cell.side > 0 else 0
    if reach**2 <= np.sum(gap**2) + dof / 2:
        yield centre, len(cell.points)
    elif cell.children:
        for child in cell.children:
            yield from _sources(Y, child, group, theta, dof)
    else:
        for point in cell.points:
            yield Y[point], 1


def _barnes_hut(Y: Array, theta: float, dof: float) -> tuple[Array, float]:
    Y = Y.astype(np.float64)
    root = _grow(Y, np.arange(len(Y)), *_quantise(Y))
    forces, sum_q = np.zeros(Y.shape), -float(len(Y))
    for group in _groups(root):
        centres, masses = map(np.array, zip(*_sources(Y, root, group, theta, dof), strict=True))
        differences = Y[group][:, None, :] - centres[None, :, :]
        base = 1 + np.sum(differences**2, axis=2) / dof
        w = base**-dof
        forces[group] = np.einsum("ij,ijd->id", masses * w / base, differences)
        sum_q += float(np.sum(masses * w))
    return forces, sum_q


# ---- FFT ---------------------------------------------------------------------------------------------


def _spline(x: Array, order: int) -> Array:
    """Return the cardinal B-spline of ``order`` centred at 0 (Schoenberg 1946), by the recurrence of de Boor."""
    if order == 1:
        return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)
    left, right = x + order / 2, order / 2 - x
    return (left * _spline(x + 0.5, order - 1) + right * _spline(x - 0.5, order - 1)) / (order - 1)


def _splines(Y: Array, order: int, spacing: float, dof: float) -> tuple[Array, float]:
    """Interpolate w by splines on both sides: w(y - y') = sum_mn B(y - m) G(m - n) B(y' - n), exact at the nodes.

    The slope of the potential u(y) = sum_j w(y - y_j) is the repulsion: grad u = - 2 sum_j w^(1 + 1/dof) (y - y_j).
    """
    n_components = Y.shape[1]
    low = Y.min(axis=0)
    while 0 < np.max(Y.max(axis=0) - low) < 48 * spacing:
        spacing /= 2
    scaled = (Y - low) / spacing + (order + 1) / 2
    half = int(1.5 * scaled.max()) + 24  # nodes; as many again keep the periodic images away
    nodes = np.arange(2 * half)
    values = [_spline(scaled[:, k, None] - nodes, order) for k in range(n_components)]
    slopes = [  # B_n'(x) = B_{n-1}(x + 1/2) - B_{n-1}(x - 1/2)
        _spline(scaled[:, k, None] - nodes + 0.5, order - 1) - _spline(scaled[:, k, None] - nodes - 0.5, order - 1)
        for k in range(n_components)
    ]
    letters = "abc"[:n_components]
    each = ",".join("i" + letter for letter in letters)
    charges = np.einsum(f"{each}->{letters}", *values, optimize=True)
    distance = np.minimum(nodes, 2 * half - nodes)
    squared = sum(np.meshgrid(*[(distance * spacing) ** 2] * n_components, indexing="ij"))
    spectrum = np.fft.fftn(charges) * np.fft.fftn((1 + squared / dof) ** -dof)
    at_nodes = np.fft.fft(_spline(distance.astype(float), order))  # what the splines themselves do to a spectrum
    for axis in range(n_components):
        spectrum /= np.expand_dims(at_nodes**2, tuple(k for k in range(n_components) if k != axis))
    potential = np.fft.ifftn(spectrum).real
    forces = [
        np.einsum(f"{letters},{each}->i", potential, *values[:k], slopes[k], *values[k + 1 :], optimize=True)
        for k in range(n_components)
    ]
    at_points = np.einsum(f"{letters},{each}->i", potential, *values, optimize=True)
    return -0.5 / spacing * np.stack(forces, axis=1), float(at_points.sum()) - len(Y)
