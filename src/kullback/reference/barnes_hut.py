"""The repulsion of t-SNE by the method of Barnes and Hut, in NumPy: the specification of the kernels of the tree.

It follows the kernels cell by cell, in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Array = npt.NDArray[np.float64]

LEAF_SIZE = 8
"""A cell of at most so many points has no children."""
GROUP_SIZE = 192
"""At most so many points share one list of near sources."""
SHARES = 128
"""Subtrees have at most 1 / SHARES of all points, so that threads find equal work."""
UNOPENED = 1.15
"""A cell whose squared radius is at most this times theta^2 and the least squared scale is never opened."""
CAUTION = 0.7
"""The squared radius of a far cell has to be smaller by this factor than that of a near one.

The error of a far cell grows with a power of the radius that is higher by one.
"""
REACH = 0.4
"""Share of the way beyond the kernel's reach that the radius of a cell may have: its points reach 2.5 times as far."""
BITS = {1: 32, 2: 16, 3: 10}
"""How many bits a coordinate has on the finest grid, by the number of components."""


class _Bodies(NamedTuple):
    """The positions of all points, and their masses, which are 1 without masses."""

    positions: Array
    masses: Array


class _Cell(NamedTuple):
    """A square of the plane (or an interval, or a cube) with the numbers of its points, its side and its children."""

    points: npt.NDArray[np.intp]
    side: float
    children: list[_Cell]


def _grow(
    bodies: _Bodies,
    points: npt.NDArray[np.intp],
    cells: npt.NDArray[np.uint64],
    unit: float,
    unopened: float,
    dtype: npt.DTypeLike,
) -> _Cell:
    """Return the cell of ``points``, with all its children.

    ``cells`` are the integer coordinates of the points on the finest grid, whose cells have the side ``unit``. A cell
    whose squared radius is at most ``unopened`` is accepted by every target, so that it needs no children.
    """
    spread = int(np.max(cells ^ cells[0]))
    if LEAF_SIZE < len(points) <= GROUP_SIZE:
        undivided = _Cell(points, unit * 2.0 ** spread.bit_length(), [])
        if _summarise(bodies, undivided).radius ** 2 <= unopened:
            return undivided
    if spread == 0 and len(points) > LEAF_SIZE:
        cells, unit = _quantise(bodies.positions[points], dtype)
        spread = int(np.max(cells ^ cells[0]))
    if len(points) == 1 or (spread == 0 and unit == 0):
        return _Cell(points, 0.0, [])
    level = spread.bit_length() - 1  # the side of the cell is that of 2^(level + 1) finest cells
    side = unit * 2.0 ** (level + 1)
    if len(points) <= LEAF_SIZE:
        return _Cell(points, side, [])
    digits = (cells >> np.uint64(level)) & np.uint64(1)
    quadrant = digits @ (np.uint64(1) << np.arange(cells.shape[1], dtype=np.uint64))
    children = [
        _grow(bodies, points[quadrant == q], cells[quadrant == q], unit, unopened, dtype) for q in np.unique(quadrant)
    ]
    return _Cell(points, side, children)


def _quantise(Y: Array, dtype: npt.DTypeLike) -> tuple[npt.NDArray[np.uint64], float]:
    """Return integer coordinates on the finest grid over the bounding square, and the side of the cells of that grid.

    The coordinates are computed in the precision of the positions, except on a line, whose 32 bits need float64.
    """
    n_cells = 2.0 ** BITS[Y.shape[1]]
    low = Y.min(axis=0)
    span = float(np.max(Y.max(axis=0) - low))
    if span < n_cells * (
        1e-37 if dtype == np.float32 else 1e-300
    ):  # the points coincide, or are as near as makes no difference
        return np.zeros(Y.shape, np.uint64), 0.0
    real = np.float32 if dtype == np.float32 and Y.shape[1] > 1 else np.float64
    cells = (Y.astype(real) - low.astype(real)) * real(n_cells / span)
    return np.minimum(cells, real(n_cells - 1)).astype(np.uint64), span / n_cells


class _Source(NamedTuple):
    """The points of a cell, summarised as a mass at a centre.

    ``spread`` is half of the variance of a component, times the mass. ``radius`` tells how far the points lie from the
    centre.
    """

    centre: Array
    mass: float
    spread: float
    radius: float


def _summarise(bodies: _Bodies, cell: _Cell) -> _Source:
    """Return the mass, the centre, the spread and the radius of the points of a cell."""
    Y, masses = bodies.positions[cell.points], bodies.masses[cell.points]
    mass = float(masses.sum())
    centre = masses @ Y / mass
    squares = float(masses @ np.sum((Y - centre) ** 2, axis=1)) if cell.side > 0 else 0.0
    factor = 1.75 if Y.shape[1] == 2 else 2.0
    radius = max(factor * np.sqrt(squares / mass), 0.4 * np.sqrt(Y.shape[1]) * cell.side)
    return _Source(centre, mass, squares / (2 * Y.shape[1]), radius)


def _radial(source: _Source, squared: npt.ArrayLike, dof: float, n_components: int) -> tuple[Array, ...]:
    """Return the potential u of a source at a squared distance x^2, and D u, D^2 u and D^3 u, where D = - d / d(x^2).

    The potential is u = m w + s (Laplacian of w) for a source of mass m and spread s, with w = (1 + x^2 / dof)^-dof.
    It is a sum of powers of p = 1 / (1 + x^2 / dof), and D p^k = k / dof p^(k + 1).
    """
    log_p = -np.log1p(np.asarray(squared) / dof)
    terms = {
        dof: source.mass,
        dof + 1: source.spread * (4 * (dof + 1) - 2 * n_components),
        dof + 2: -source.spread * 4 * (dof + 1),
    }
    results = []
    for _ in range(4):
        results.append(sum(factor * np.exp(power * log_p) for power, factor in terms.items()))
        terms = {power + 1: factor * power / dof for power, factor in terms.items()}
    return tuple(np.asarray(result) for result in results)


class _Expansion(NamedTuple):
    """A Taylor expansion about a centre: the potential u, the force f = - grad u / 2, and the two derivatives of f."""

    centre: Array
    u: float
    f: Array
    f1: Array
    f2: Array

    def add(self, source: _Source, dof: float) -> _Expansion:
        """Return the expansion with the potential of one more source."""
        x, identity = self.centre - source.centre, np.eye(len(self.centre))
        u, g, h, k = _radial(source, x @ x, dof, len(x))  # f = g x, and each derivative of g adds a factor of -2 x
        mixed = sum(np.einsum(f"{pair}->ijk", identity, x) for pair in ("ij,k", "ik,j", "jk,i"))
        return _Expansion(
            self.centre,
            self.u + float(u),
            self.f + g * x,
            self.f1 + g * identity - 2 * h * np.multiply.outer(x, x),
            self.f2 - 2 * h * mixed + 4 * k * np.multiply.outer(np.multiply.outer(x, x), x),
        )

    def at(self, centre: Array) -> _Expansion:
        """Return the same expansion about another centre."""
        e = centre - self.centre
        first, second = self.f1 @ e, self.f2 @ e
        u = self.u - e @ (2 * self.f + first + second @ e / 3)
        return _Expansion(centre, float(u), self.f + first + second @ e / 2, self.f1 + second, self.f2)


class _Rule(NamedTuple):
    """What sources are judged by."""

    theta: float
    dof: float
    reach: float

    def scale(self, squared: float) -> float:
        """Return the square of the length over which the kernel changes by a factor, at a squared distance."""
        if self.dof <= 1:
            return squared + self.dof / 2
        stretch = self.dof + 1
        return 4 * ((self.dof + squared) / stretch) ** 2 / (squared + 4 * self.dof / stretch)

    def bound(self, squared: float, caution: float = 1.0) -> float:
        """Return the largest squared radius that is accepted at a squared distance."""
        beyond = max(REACH * (np.sqrt(squared) - self.reach), 0.0)
        return float(max(caution * self.theta**2 * self.scale(squared), beyond**2))

    @property
    def unopened(self) -> float:
        """The largest squared radius that is accepted at any distance."""
        return UNOPENED * self.theta**2 * min(self.scale(0), self.scale(9))


def _reach(bodies: _Bodies, cells: npt.NDArray[np.uint64], theta: float, dof: float) -> float:
    """Return the distance beyond which all forces are a share of 1e-7 of the largest between successive points.

    The points succeed each other along the Z-order curve. At theta = 0 the share is 1e-17. Tails of dof <= 1 never end.
    """
    Y, masses = bodies
    codes = np.zeros(len(Y), np.uint64)
    for bit in range(BITS[Y.shape[1]]):
        for k in range(Y.shape[1]):
            codes |= (cells[:, k] >> np.uint64(bit) & np.uint64(1)) << np.uint64(bit * Y.shape[1] + k)
    order = np.argsort(codes, kind="stable")
    squares = np.sum(np.diff(Y[order], axis=0) ** 2, axis=1)
    pairs = masses[order[1:]] * masses[order[:-1]]
    if dof <= 1 or not squares.any():
        return np.inf

    def log_force(log_square: Any) -> Any:
        return 0.5 * log_square - (dof + 1) * np.log1p(np.exp(log_square) / dof)

    apart = squares > 0
    largest = np.max(log_force(np.log(squares[apart])) + np.log(pairs[apart]))
    least = largest + np.log(1e-17 if theta == 0 else 1e-7) - 2 * np.log(masses.sum())
    return float(np.exp(0.5 * brentq(lambda log_square: log_force(log_square) - least, 0, 200)))


def _repel_target(
    bodies: _Bodies, target: _Cell, sources: list[_Cell], expansion: _Expansion, rule: _Rule, forces: Array
) -> float:
    """Write the forces on the points of a target cell, and return the sum of w over these points and all others.

    No source contains the target. As in Dehnen (2002), far sources are expanded about the centre of the target; other
    sources are opened, or are left to the children of the target.
    """
    kept = list(sources)
    centre = _summarise(bodies, target)
    if len(target.points) <= max(GROUP_SIZE, len(bodies.masses) // SHARES) or not target.children:
        kept, queue = [], list(sources)
        while queue:
            cell = queue.pop()
            source = _summarise(bodies, cell)
            squared = np.sum((centre.centre - source.centre) ** 2)
            if (centre.radius + source.radius) ** 2 <= rule.bound(squared, CAUTION):
                expansion = expansion.add(source, rule.dof)
            elif source.radius > 1.5 * centre.radius and cell.children:
                queue += cell.children
            else:
                kept.append(cell)
    if len(target.points) > GROUP_SIZE and target.children:
        return sum(
            _repel_target(
                bodies, child, kept + [other for other in target.children if other is not child],
                expansion.at(_summarise(bodies, child).centre), rule, forces,
            )
            for child in target.children
        )  # fmt: skip
    return sum(
        _repel_group(bodies, group, [*kept, target], expansion, rule, forces)
        for group in np.split(target.points, range(GROUP_SIZE, len(target.points), GROUP_SIZE))
    )


def _repel_group(
    bodies: _Bodies, group: npt.NDArray[np.intp], queue: list[_Cell], expansion: _Expansion, rule: _Rule, forces: Array
) -> float:
    """Write the forces on a group of points from the expansion and from near sources, and return their sum of w.

    Near sources are added one by one. Each is a cell that is small for its distance from the box of the group, or a
    point.
    """
    Y, masses = bodies
    low, high = Y[group].min(axis=0), Y[group].max(axis=0)
    near: list[_Source] = []
    while queue:
        cell = queue.pop()
        source = _summarise(bodies, cell)
        gap = np.maximum(np.maximum(low - source.centre, source.centre - high), 0)
        if source.radius**2 <= max(rule.bound(float(np.sum(gap**2))), rule.unopened):
            near.append(source)
        elif cell.children:
            queue += cell.children
        else:
            near += [_Source(Y[point], masses[point], 0.0, 0.0) for point in cell.points]
    at_points = [expansion.at(Y[point]) for point in group]
    repulsion, potential = np.array([e.f for e in at_points]), np.array([e.u for e in at_points])
    for source in near:
        x = Y[group] - source.centre
        u, g, _, _ = _radial(source, np.sum(x**2, axis=1), rule.dof, x.shape[1])
        repulsion += g[:, None] * x
        potential += u
    forces[group] = repulsion
    return float(masses[group] @ potential)


def repel_by_tree(Y: Array, masses: Array, theta: float, dof: float) -> tuple[Array, float]:
    """Return the repulsion of a unit of mass, and Z, by a tree: Barnes and Hut (1986), with cells that act on cells."""
    dtype = np.dtype(np.float32 if Y.dtype == np.float32 else np.float64)
    bodies = _Bodies(Y.astype(np.float64), masses)
    d = Y.shape[1]
    theta = min(theta, 0.8)
    cells, unit = _quantise(bodies.positions, dtype)
    rule = _Rule(theta, dof, _reach(bodies, cells, theta, dof))
    root = _grow(bodies, np.arange(len(Y)), cells, unit, rule.unopened, dtype)
    empty = _Expansion(_summarise(bodies, root).centre, 0.0, np.zeros(d), np.zeros((d, d)), np.zeros((d, d, d)))
    forces = np.zeros(Y.shape)
    sum_w = _repel_target(bodies, root, [], empty, rule, forces)
    return forces, sum_w - float(masses @ np.minimum(masses, 1))
