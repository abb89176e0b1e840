"""Engines of repulsion: each owns its scratch memory, allocated once for a number of points.

An engine is called with positions and writes ``sum_j w_ij^(1 + 1/dof) (y_i - y_j)`` for every point i; it
returns Z, the sum of ``w_ij`` over i != j.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import comb, factorial, inf, log2, prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import fft

from .._arrays import FloatArray, aligned_empty
from .._checks.scalars import check_choice
from .._kernels import repulsion_barnes_hut, repulsion_exact, repulsion_fft, tree, z_order
from .._threads import useful_threads

METHODS = ("auto", "exact", "barnes_hut", "fft")

EXACT_POINTS = 1000
"""Up to here ``auto`` is exact: it costs less than 0.1 ms more than Barnes-Hut and has no error."""

POINTS_PER_THREAD = 512
"""Points of a force that are worth a thread: about 50 microseconds of work."""

SORTED_PER_THREAD = 8192
"""Points that are worth a thread of the sort, which has eight barriers, or of the bounding box."""

NODES_PER_WORKER = 2**20
"""Grid nodes that are worth a thread of SciPy's: they compete with OpenMP's, which spin meanwhile."""

MOST_THETA = 0.8
"""Larger values of theta count as this: beyond, the expansions of neighbouring cells hardly converge."""

IDLE_SIZE = 2**21
"""Points, and nodes of a grid, of which `repel_once` keeps the scratch at the most: some 100 MB."""

MOST_NODES = 2**24
"""Grid nodes of the FFT, doubled sizes included, at the most: beyond, the spacing widens (docs/gradient.md)."""


class Repulsion(Protocol):
    """Scratch memory for repulsion among a fixed number of points, allocated once."""

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """Write sum_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z."""


class ExactRepulsion:
    """Every point against every other: O(n^2)."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        self.dof, self.n_threads = dof, n_threads
        self.rows = np.arange(n_points, dtype=np.int32)
        self.columns = aligned_empty((n_components, n_points), dtype)
        self.sums = np.empty(-(-n_points // repulsion_exact.BLOCK_POINTS))

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        return self.repel(self.rows, positions, forces_out)

    def repel(self, rows: npt.NDArray[np.int32], positions: FloatArray, forces_out: FloatArray) -> float:
        """Do the same for some of the points only."""
        np.copyto(self.columns, positions.T)
        return repulsion_exact.accumulate_repulsion(rows, self.columns, self.dof, self.sums, forces_out, self.n_threads)


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
        """Return the indices of the points along the curve; the next call overwrites them."""
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


class BarnesHutRepulsion:
    """Far cells as their mass and spread: O(n log n), in one to three dimensions."""

    KEPT = 2**16
    """Sources that may be kept for the children of a target, at first."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, theta: float, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        most_cells = tree.most_cells(n_points, n_threads)
        self.theta, self.dof, self.n_threads = theta, dof, n_threads
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

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        points = self.z_order
        points(positions)
        n_subtrees = tree.build_tree(
            points, points.columns, self.theta, self.dof, self.stack, self.tree, self.n_threads
        )
        while True:
            sum_q = repulsion_barnes_hut.accumulate_repulsion(
                points.columns, points.order, self.tree, n_subtrees, self.theta, self.dof, self.scratch, forces_out,
                self.n_threads,
            )  # fmt: skip
            if sum_q != -inf:
                return sum_q
            n_threads, n_rows, n_kept = self.scratch.kept.shape
            self.scratch = self.scratch._replace(
                kept=np.empty((n_threads, n_rows, 4 * n_kept), positions.dtype),
                names=np.empty((n_threads, 4 * n_kept), np.int32),
            )


class FFTRepulsion:
    """The potential of all points on a grid, by one convolution: O(n + g log g) with g grid nodes.

    The spacing is the widest of ``2^-k * widest_spacing`` that gives at least ``LEAST_NODES`` nodes across the
    map, so the transform of the kernel is kept until the map outgrows its grid.
    """

    LEAST_NODES = 48  # across a small map, where the kernel is wider than the map itself

    def __init__(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, spline: Spline, dof: float, n_threads: int
    ) -> None:
        n_points, n_components = shape
        self.dtype, self.dof, self.n_threads = np.dtype(dtype), dof, n_threads
        self.order, self.widest_spacing = spline
        self.n_components = n_components
        pieces = spline_pieces(self.order)
        self.spline = pieces.astype(dtype)
        # the slope is negative: as a point moves up, its distance to the node above shrinks
        self.slope = (-np.arange(1, self.order)[:, None] * pieces[1:]).astype(dtype)
        self.slots = np.empty(n_points, np.int32)
        self.nodes = np.empty(n_points, np.int32)
        self.distances = np.empty((n_points, n_components), dtype)
        self.sums = np.empty(-(-n_points // repulsion_fft.BLOCK_POINTS))
        self.bounds = np.empty((-(-n_points // repulsion_fft.BOUND_POINTS), 2 * n_components))
        self.n_nodes: tuple[int, ...] = ()
        self.spacing = self.offset = 0.0
        self.borrowed = False  # the grid is that of another call: taken only if one made now would be the same

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        repulsion_fft.bound_positions(positions, self.bounds, self.n_threads)
        low, high = self.bounds[0].reshape(2, -1)
        potential = self.sum_potential(positions, low, high)
        sum_q = repulsion_fft.gather_forces(
            self.slots, self.nodes, self.distances, self.spline, self.slope, self.spacing, potential, self.sums,
            forces_out, self.n_threads,
        )  # fmt: skip
        return sum_q + self.offset * float(len(positions)) ** 2

    def sum_potential(self, positions: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
        """Return sum_j (w(y - y_j) - offset) as coefficients of splines on a grid over the box that is given."""
        kernel, n_threads = repulsion_fft, self.n_threads
        self._fit_grid((high - low).tolist())
        kernel.sort_points(
            positions, low, self.spacing, self.strides, self.counts, self.band_starts, self.slots, self.nodes,
            self.distances, n_threads,
        )  # fmt: skip
        kernel.spread_charges(self.band_starts, self.nodes, self.distances, self.spline, self.grid, n_threads)
        return self._convolve()

    def _fit_grid(self, spans: list[float]) -> None:
        """Choose spacing and size of the grid, and transform the kernel where they change."""
        span = max(spans)
        spacing = self.widest_spacing
        while 0 < span < self.LEAST_NODES * spacing and spacing > 1e-30:
            spacing /= 2
        while grid_nodes(spans, spacing) > MOST_NODES:
            spacing *= 2
        needed = [max(int(extent / spacing) + self.order + 2, self.LEAST_NODES // 2) for extent in spans]
        # in a map smaller than the kernel, w is all but constant: 1 is taken off, or rounding would drown the slope
        offset = 1.0 if span < 1 else 0.0
        fits = all(has >= n for has, n in zip(self.n_nodes, needed, strict=True)) if self.n_nodes else False
        if fits and not self.borrowed and (spacing, offset) == (self.spacing, self.offset):
            return
        # a little more than is needed, so that a growing map does not change its grid at every iteration
        n_nodes = tuple(fft.next_fast_len(n + n // 16, real=True) for n in needed)
        if (spacing, offset, n_nodes) != (self.spacing, self.offset, self.n_nodes):
            self.lay_grid(spacing, offset, n_nodes)
        self.borrowed = False

    def lay_grid(self, spacing: float, offset: float, n_nodes: tuple[int, ...]) -> None:
        """Take a grid, and transform the kernel on it."""
        self.n_nodes = n_nodes
        self.spacing, self.offset = spacing, offset
        # the last axis is doubled here, where zeros cost nothing; the others in the spectrum
        padded = (*self.n_nodes[:-1], 2 * self.n_nodes[-1])
        self.grid = np.zeros((1,) * (3 - self.n_components) + padded, self.dtype)
        doubled = float(np.prod(2.0 * np.array(self.n_nodes)))
        self.n_workers = useful_threads(self.n_threads, int(doubled), NODES_PER_WORKER)
        self.spectrum = np.empty(
            (*(2 * n for n in self.n_nodes[:-1]), self.n_nodes[-1] + 1), np.result_type(self.dtype, np.complex64)
        )
        n_bands = -(-self.n_nodes[0] // repulsion_fft.BAND_ROWS)
        self.counts = np.empty((self.n_threads, n_bands), np.int64)
        self.band_starts = np.empty(n_bands + 1, np.int64)
        self.strides = np.cumprod((1, *padded[:0:-1]))[::-1].astype(np.intp)
        self.transform = self._transform_kernel()
        # a transform is even along each axis, and so kept for the lower frequencies only
        halves = [[(slice(n + 1), slice(None)), (slice(n + 1, 2 * n), slice(n - 1, 0, -1))] for n in self.n_nodes[:-1]]
        self.mirrored = [
            (self.spectrum[tuple(part for part, _ in parts)], self.transform[tuple(kept for _, kept in parts)])
            for parts in product(*halves)
        ]

    def _transform_kernel(self) -> FloatArray:
        """Return the transform of w - offset on the doubled grid, the splines' own transforms divided out.

        It is even along each axis: a cosine transform of the first half.
        """
        axes = range(self.n_components)

        def along(axis: int, values: FloatArray) -> FloatArray:
            return np.expand_dims(values, tuple(other for other in axes if other != axis))

        squared = np.zeros([1] * self.n_components)
        for axis, n in enumerate(self.n_nodes):
            squared = squared + along(axis, (np.arange(n + 1) * self.spacing) ** 2)
        one = self.dof == 1
        less_one = -squared / (1 + squared) if one else np.expm1(-self.dof * np.log1p(squared / self.dof))  # w - 1
        transform = fft.dctn(less_one + (1 - self.offset), type=1, overwrite_x=True, workers=self.n_workers)
        # values of the cardinal B-spline at the nodes: Schoenberg (1973); its transform is real and positive
        values = {4: (2 / 3, 1 / 6), 6: (11 / 20, 13 / 60, 1 / 120)}[self.order]
        for axis, n in enumerate(self.n_nodes):
            angles = np.pi * np.arange(n + 1) / n
            spline = np.full(n + 1, values[0])
            for k, value in enumerate(values[1:], 1):
                spline += 2 * value * np.cos(k * angles)
            transform /= along(axis, spline**2)
        return np.asarray(transform, self.dtype)

    def _convolve(self) -> FloatArray:
        """Return the convolution of the charges with w, on the grid; rows of zeros are never transformed.

        Only the two real transforms allocate: SciPy has no argument for their results.
        """
        last = self.n_components - 1
        kept = tuple(slice(n) for n in self.n_nodes[:last])
        charges = self.grid.reshape(self.grid.shape[2 - last :])
        self.spectrum.fill(0)
        self.spectrum[kept] = fft.rfft(charges, axis=last, workers=self.n_workers)
        for axis in range(last - 1, -1, -1):
            self._transform_along(fft.fft, axis, kept[:axis])
        for part, transform in self.mirrored:
            part *= transform
        for axis in range(last):
            self._transform_along(fft.ifft, axis, kept[:axis])
        potential = fft.irfft(self.spectrum[kept], axis=last, workers=self.n_workers)
        return np.asarray(potential.reshape(self.grid.shape))

    def _transform_along(self, transform: Callable[..., FloatArray], axis: int, kept: tuple[slice, ...]) -> None:
        part = self.spectrum[kept]
        result = transform(part, axis=axis, overwrite_x=True, workers=self.n_workers)
        if not np.may_share_memory(result, part):  # SciPy may, but need not, work in place
            part[...] = result


class AutoRepulsion:
    """Whichever engine a cost model predicts to be the fastest for the map as it is now."""

    def __init__(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, accuracy: Accuracy, dof: float, n_threads: int
    ) -> None:
        self.make: dict[str, Callable[[], Repulsion]] = {
            "exact": lambda: ExactRepulsion(shape, dtype, dof, n_threads),
            "barnes_hut": lambda: BarnesHutRepulsion(shape, dtype, accuracy.theta, dof, n_threads),
            "fft": lambda: FFTRepulsion(shape, dtype, accuracy.spline, dof, n_threads),
        }
        self.shape, self.accuracy, self.dof, self.n_threads = shape, accuracy, dof, n_threads
        self.n_bound_threads = useful_threads(n_threads, shape[0], SORTED_PER_THREAD)
        self.bounds = np.empty((-(-shape[0] // repulsion_fft.BOUND_POINTS), 2 * shape[1]))
        self.engines: dict[str, Repulsion] = {}

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        repulsion_fft.bound_positions(positions, self.bounds, self.n_bound_threads)
        low, high = self.bounds[0].reshape(2, -1)
        method = cheapest_method(self.shape[0], (high - low).tolist(), self.accuracy, self.dof)
        if method not in self.engines:
            self.engines[method] = self.make[method]()
        return self.engines[method](positions, forces_out)


class Spline(NamedTuple):
    """Order of the B-splines of the FFT, and the widest spacing of their grid."""

    order: int
    spacing: float


class Accuracy(NamedTuple):
    """What theta or a tolerance means for each engine."""

    theta: float
    spline: Spline


def choose_accuracy(theta: float, tolerance: float | None, n_components: int) -> Accuracy:
    """Return the parameters of Barnes-Hut and FFT for a tolerance, or for Barnes-Hut's theta.

    The errors were measured on thirty-two maps in one to three dimensions (docs/gradient.md). A tolerance is held
    on the worst of them; theta is matched on the middle of a run on MNIST, where both err by 1.5 % at 0.5.
    """
    if tolerance is not None:
        if tolerance >= 0.008:
            spline = Spline(4, min(0.45 * (tolerance / 0.048) ** (1 / 3.2), 1.0))
        else:
            spline = Spline(6, 0.45 * (tolerance / 0.02) ** (1 / 5))
        at_half, power = (0.045, 3.2) if n_components == 1 else (0.02, 2.7)
        return Accuracy(min(0.5 * (tolerance / at_half) ** (1 / power), 0.6), spline)
    theta = min(theta, MOST_THETA)
    if theta >= 0.35:
        return Accuracy(theta, Spline(4, 0.45 * (theta / 0.5) ** 0.7))
    return Accuracy(theta, Spline(6, 0.45 * (theta / 0.33) ** 0.48))


def spline_pieces(order: int) -> FloatArray:
    """Return the pieces of the cardinal B-spline as polynomials, a row a power, a column a piece.

    Piece j, on t in [0, 1], is M_n(j + t) = sum_k (-1)^k C(n, k) (j - k + t)_+^(n-1) / (n-1)!: Schoenberg (1973).
    """
    pieces = np.zeros((order, order))
    for j in range(order):
        for k in range(j + 1):
            for power in range(order):
                term = comb(order - 1, power) * (j - k) ** (order - 1 - power)
                pieces[power, j] += (-1) ** k * comb(order, k) * term
    return pieces / factorial(order - 1)


def grid_nodes(spans: list[float], spacing: float) -> float:
    """Return how many nodes the doubled grid over a map has."""
    return prod(2 * (span / spacing + 6) for span in spans)


def cheapest_method(n_points: int, spans: list[float], accuracy: Accuracy, dof: float) -> str:
    """Return the engine of the least predicted time, in nanoseconds on two cores (docs/gradient.md)."""
    n_components = len(spans)
    costs = {"exact": (0.12 if dof == 1 else 2.0) * float(n_points) ** 2}
    theta, (order, spacing) = accuracy
    if n_points > EXACT_POINTS and theta > 0 and n_components <= 3:
        base, steep = {1: (37, 0.3), 2: (50, 11), 3: (75, 160)}[n_components]
        costs["barnes_hut"] = n_points * (base + steep / theta**2) * (1 if dof == 1 else 7)
        nodes = max(grid_nodes(spans, spacing), (2.0 * FFTRepulsion.LEAST_NODES) ** n_components)
        if nodes <= MOST_NODES:
            point = {4: (13, 16, 75), 6: (23, 55, 245)}[order][n_components - 1]
            costs["fft"] = 6e5 + n_points * point + 0.36 * nodes * log2(nodes)
    return min(costs, key=lambda method: costs[method])


def get_grid(engine: Repulsion) -> list[float]:
    """Return the grid that an engine keeps from earlier maps, on which later bits depend; empty without one."""
    fft_engine = engine.engines.get("fft") if isinstance(engine, AutoRepulsion) else engine
    if not isinstance(fft_engine, FFTRepulsion) or not fft_engine.n_nodes:
        return []
    return [fft_engine.spacing, fft_engine.offset, *map(float, fft_engine.n_nodes)]


def set_grid(engine: Repulsion, grid: list[float]) -> None:
    """Take over what `get_grid` returned; raise a ValueError for anything else."""
    if not grid:
        return
    if isinstance(engine, AutoRepulsion):
        engine = engine.engines.setdefault("fft", engine.make["fft"]())
    if not isinstance(engine, FFTRepulsion) or len(grid) != 2 + engine.n_components:
        raise ValueError(f"the grid must be that of an FFT in the map's dimensions, got {grid}")
    (spacing, offset), n_nodes = grid[:2], [int(n) for n in grid[2:]]
    known = 0 < spacing < 1e30 and offset in (0.0, 1.0) and list(map(float, n_nodes)) == grid[2:]
    # sizes are rounded up, by less than a half
    if not known or min(n_nodes) < engine.order or np.prod([2.0 * n for n in n_nodes]) > 4 * MOST_NODES:
        raise ValueError(f"the grid must have a spacing, an offset and sizes of a grid, got {grid}")
    engine.lay_grid(spacing, offset, tuple(n_nodes))


def check_method(method: str, n_components: int, accuracy: Accuracy) -> None:
    """Raise where the method that was asked for does not apply."""
    check_choice(method, "method", METHODS)
    if method in ("barnes_hut", "fft") and n_components > 3:
        raise ValueError(f'method="{method}" needs at most 3 components, got {n_components}; use method="exact"')
    if method == "fft" and accuracy.theta == 0:
        raise ValueError('method="fft" is never exact: theta must be above 0, got 0; use method="exact"')


def make_repulsion(
    shape: tuple[int, int],
    dtype: npt.DTypeLike,
    *,
    method: str,
    theta: float,
    tolerance: float | None = None,
    dof: float,
    n_threads: int,
) -> Repulsion:
    """Return the engine for ``method``, with its scratch memory."""
    accuracy = choose_accuracy(theta, tolerance, shape[1])
    n_threads = useful_threads(n_threads, shape[0], POINTS_PER_THREAD)
    check_method(method, shape[1], accuracy)
    engine = AutoRepulsion(shape, dtype, accuracy, dof, n_threads)
    if method == "auto" and shape[0] > EXACT_POINTS and shape[1] <= 3:
        return engine
    return engine.make["exact" if method == "auto" else method]()


_idle: dict[tuple[object, ...], Repulsion] = {}


def repel_once(positions: FloatArray, forces_out: FloatArray, **options: Any) -> float:
    """Do what an engine of `make_repulsion` with these options does, in the scratch memory of the last such call.

    Pages anew would cost a quarter of the call. No bit depends on what was called before.
    """
    check_choice(options["method"], "method", METHODS)  # or it might not serve as a key
    key = (positions.shape, positions.dtype, *sorted(options.items()))
    engine = _idle.pop(key, None)  # nobody else has it meanwhile
    if engine is None:
        engine = make_repulsion(positions.shape, positions.dtype, **options)
    sum_q = engine(positions, forces_out)
    size = len(positions)
    for one in engine.engines.values() if isinstance(engine, AutoRepulsion) else [engine]:
        if isinstance(one, FFTRepulsion):
            one.borrowed = True
            size = max(size, one.grid.size)
    if size <= IDLE_SIZE:
        _idle.clear()
        _idle[key] = engine
    return sum_q
