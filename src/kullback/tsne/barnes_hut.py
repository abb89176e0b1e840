"""Repulsion by the method of Barnes and Hut; see docs/gradient.md."""

from __future__ import annotations

from math import exp, inf, log, log1p
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray, aligned_empty
from .._kernels import repulsion_barnes_hut, tree, z_order
from .._threads import useful_threads
from .masses import empty_without, self_terms

SORTED_PER_THREAD = 8192
"""Points that are worth a thread of the bounding box or of the sort, which has eight barriers."""

WIDEST_SINGLE = 1e9
"""Extent of a map above which float32 positions are summed in float64, because cubes of distances would overflow."""

LEAST_MEAN_SUM = {4: 1e-3, 8: 1e-8}
"""Z / n below which Z is summed without the n self terms, by the bytes of a number: their rounding is 1e-4 of it."""

VANISHED = {False: 1e-7, True: 1e-17}
"""Share of the force at the nearest points which that of all points beyond the kernel's reach may have, by whether the
sum is to be exact."""


class ZOrder:
    """Points sorted along a Z-order (Morton) curve."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, n_threads: int) -> None:
        n_points, n_components = shape
        self.n_threads = useful_threads(n_threads, n_points, SORTED_PER_THREAD)
        self.codes = np.empty(n_points, np.uint32)
        self.order = np.empty(n_points, np.int32)
        self.columns = np.zeros((n_components, n_points + tree.LEAF_SIZE), dtype)
        self.digits = np.empty(n_points, np.uint8)
        n_scratch = n_points + self.n_threads * z_order.LOCAL_KEYS
        self.keys = np.empty((2, n_scratch), np.uint64)
        self.row = np.empty(n_scratch, dtype)
        self.histogram = np.empty((n_threads, z_order.RADIX), np.int64)
        self.bounds = np.empty((-(-n_points // z_order.BLOCK_POINTS), 2 * n_components))
        self.finest_side = 0.0

    def __call__(self, positions: FloatArray) -> npt.NDArray[np.int32]:
        """Return the indices of the points in the order of the curve. The next call overwrites them."""
        self.finest_side = z_order.order_points(
            positions, self.codes, self.order, self.columns, self.digits, self.keys, self.row, self.histogram,
            self.bounds, self.n_threads,
        )  # fmt: skip
        return self.order


class Tree(NamedTuple):
    """The arrays of a tree, which `build_tree` fills and the walk reads; ext/tsne/nodes.pxd explains the rows."""

    links: npt.NDArray[np.int32]
    """A row for each cell: first child, number of children, first point, end of the points."""
    cells: FloatArray
    """A row for each cell: centre of mass, mass, spread, radius."""
    sides: npt.NDArray[np.float64]
    """Sides of the cells; 0 for one point or coincident points."""
    units: npt.NDArray[np.float64]
    """Sides of the finest cells in the grid by which a cell is divided."""
    roots: npt.NDArray[np.int32]
    """The cells under which one thread works."""


class WalkScratch(NamedTuple):
    """The scratch memory of the walk through a tree: a row for each thread, but for the sums."""

    queue: npt.NDArray[np.int32]
    """Cells that are still to be judged: as many as there are cells, and 8 more."""
    kept: FloatArray
    """Sources that targets keep for their children: components, masses, spreads, radii."""
    names: npt.NDArray[np.int32]
    """Their cells."""
    frames: npt.NDArray[np.int32]
    """Targets that are still to be visited: 4 numbers for each of STACK_SIZE."""
    expansions: npt.NDArray[np.float64]
    """Their expansions: N_TERMS numbers for each."""
    far: FloatArray
    """Far sources of a target: n_components + 5 rows of FAR_SIZE."""
    near: FloatArray
    """Near sources of a group of points: n_components + 5 rows of NEAR_SIZE."""
    sums: npt.NDArray[np.float64]
    """The sum of w of each subtree."""


class Criterion(NamedTuple):
    """By what cells are judged."""

    theta: float
    """Accuracy. 0 opens every cell, which makes the sum exact."""
    dof: float
    """Degrees of freedom of the kernel."""
    reach: float
    """Distance at which the kernel has vanished. Tails of dof <= 1 never do."""
    careful: bool
    """Whether self terms are left out of the sum of w, and not subtracted in the end."""
    self_terms: float
    """Their sum: see `kullback.tsne.masses.self_terms`."""


class BarnesHutRepulsion:
    """Repulsion from far cells as from their mass and spread, in O(n log n) and one to three dimensions."""

    KEPT = 2**16
    """Sources for which there is room at first, to be kept for the children of a target."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, theta: float, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        most_cells = tree.most_cells(n_points, n_threads)
        self.theta, self.dof, self.n_threads = theta, dof, n_threads
        self.wide: BarnesHutRepulsion | None = None
        self.z_order = ZOrder(shape, dtype, n_threads)
        self.stack = np.empty((n_threads, 2 * tree.STACK_SIZE + 2), np.int64)
        self.tree = Tree(
            links=np.empty((most_cells, 4), np.int32),
            cells=np.empty((most_cells, n_components + 3), dtype),
            sides=np.empty(most_cells),
            units=np.empty(most_cells),
            roots=np.empty(tree.TOP_CELLS, np.int32),
        )
        kernel = repulsion_barnes_hut
        self.scratch = WalkScratch(
            queue=np.empty((n_threads, most_cells + 8), np.int32),
            kept=np.empty((n_threads, n_components + 3, self.KEPT), dtype),
            names=np.empty((n_threads, self.KEPT), np.int32),
            frames=np.empty((n_threads, 4 * tree.STACK_SIZE), np.int32),
            expansions=np.empty((n_threads, kernel.N_TERMS * tree.STACK_SIZE)),
            far=aligned_empty((n_threads, n_components + 5, kernel.FAR_SIZE), dtype),
            near=aligned_empty((n_threads, n_components + 5, kernel.NEAR_SIZE), dtype),
            sums=np.empty(tree.TOP_CELLS),
        )

    def __call__(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None = None) -> float:
        """Write the forces and return Z; see `Repulsion`."""
        points, given = self.z_order, empty_without(masses, positions.dtype)
        points(positions)
        low, high = points.bounds[0].reshape(2, -1)
        if positions.dtype == np.float32 and (high - low).max() > WIDEST_SINGLE:
            return self._repel_wide(positions, forces_out, masses)
        n_subtrees = tree.build_tree(
            points, points.columns, given, self.theta, self.dof, self.stack, self.tree, self.n_threads
        )
        if len(given):  # in Z-order, with as many more as a leaf has
            given = np.append(given[points.order], np.ones(tree.LEAF_SIZE, given.dtype))
        own = self_terms(masses, len(positions))
        reach = reach_of(points.columns[:, : len(positions)], given, self.dof, VANISHED[self.theta == 0])
        criterion = Criterion(self.theta, self.dof, reach, self.dof != 1, own)
        sum_q = self._walk(n_subtrees, given, criterion, forces_out)
        if not criterion.careful and sum_q < LEAST_MEAN_SUM[positions.itemsize] * own:
            sum_q = self._walk(n_subtrees, given, criterion._replace(careful=True), forces_out)
        return sum_q

    def _repel_wide(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None) -> float:
        """Do the same in float64."""
        if self.wide is None:
            self.wide = BarnesHutRepulsion(positions.shape, np.float64, self.theta, self.dof, self.n_threads)
        forces = np.empty(positions.shape)
        sum_q = self.wide(positions.astype(np.float64), forces, masses)
        forces_out[:] = forces
        return sum_q

    def _walk(self, n_subtrees: int, masses: FloatArray, criterion: Criterion, forces_out: FloatArray) -> float:
        """Walk through the tree, with as much room for the sources that targets keep as it takes."""
        points = self.z_order
        while True:
            sum_q = repulsion_barnes_hut.accumulate_repulsion(
                points.columns, points.order, self.tree, n_subtrees, masses, criterion, self.scratch, forces_out,
                self.n_threads,
            )  # fmt: skip
            if sum_q != -inf:
                return sum_q
            n_threads, n_rows, n_kept = self.scratch.kept.shape
            self.scratch = self.scratch._replace(
                kept=np.empty((n_threads, n_rows, 4 * n_kept), forces_out.dtype),
                names=np.empty((n_threads, 4 * n_kept), np.int32),
            )


def reach_of(columns: FloatArray, masses: FloatArray, dof: float, vanished: float) -> float:
    """Return the distance beyond which all forces together are but a share of one that two points do exert.

    The points are in Z-order, a row a component. Those that follow each other are near each other, so the largest force
    between two of these is nearly the largest of all. In logarithms no force underflows. Without masses, which may be
    empty, each is 1.
    """
    if dof <= 1:
        return inf
    n_points = columns.shape[1]
    squares = np.sum(np.diff(columns.astype(np.float64), axis=1) ** 2, axis=0)
    apart = squares > 0
    if not apart.any():
        return inf
    squares, total = squares[apart], n_points
    forces = 0.5 * np.log(squares) - (dof + 1) * np.log1p(squares / dof)
    if len(masses):
        logarithms = np.log(masses[:n_points].astype(np.float64))
        forces += (logarithms[1:] + logarithms[:-1])[apart]
        total = float(masses[:n_points].sum(dtype=np.float64))
    least = float(np.max(forces)) + log(vanished) - 2 * log(total)
    low, high = 0.0, 100.0  # logarithms of distances; below 1, forces grow with the distance
    for _ in range(50):
        middle = (low + high) / 2
        vanishes = middle - (dof + 1) * log1p(exp(2 * middle) / dof) < least
        low, high = (low, middle) if vanishes else (middle, high)
    return exp(high)
