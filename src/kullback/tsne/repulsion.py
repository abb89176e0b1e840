"""Engines of repulsion, and the choice among them.

An engine is made for a number of points and owns its scratch memory, which is allocated once. It is called with
positions, writes ``sum_j w_ij^(1 + 1/dof) (y_i - y_j)`` for every point i, and returns Z, the sum of ``w_ij`` over
i != j. With masses it writes the force on a unit of mass, ``sum_j m_j w_ij^(1 + 1/dof) (y_i - y_j)``, and returns the
sum of w over all pairs of rows (masses.py).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log2
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray, aligned_empty
from .._checks.scalars import check_choice
from .._kernels import repulsion_exact, repulsion_fft
from .._threads import useful_threads
from .barnes_hut import LEAST_MEAN_SUM, SORTED_PER_THREAD, WIDEST_SINGLE, BarnesHutRepulsion
from .fft_repulsion import MOST_NODES, FFTRepulsion, Spline, grid_nodes, kernel_width
from .masses import self_terms, times_masses

METHODS = ("auto", "exact", "barnes_hut", "fft")

EXACT_POINTS = 1000
"""Up to so many points ``auto`` is exact, which costs less than 0.1 ms more than Barnes-Hut and has no error."""

POINTS_PER_THREAD = 512
"""Points that are worth a thread of the forces or of the loss. They take it about 50 microseconds."""

CALL_PAIRS = {True: 2**31, False: 2**27}
"""Pairs in one call of the exact kernel, which nothing interrupts, by whether dof is 1: some 0.3 s."""

LARGEST_THETA = 0.8
"""Larger values of theta count as this one, because the expansions of neighbouring cells would hardly converge."""

IDLE_SIZE = 2**21
"""Most points or grid nodes for which `repel_once` keeps the scratch memory, which is then some 100 MB."""


LEAST_SAMPLE, SAMPLED_PAIRS = 64, 2**19
"""Least number of points at which a tolerance is checked, and the pairs that the check takes if they are more points.
They cost 0.3 ms on one core."""

SURE = 0.8
"""Share of a tolerance that the error of a sample may have. It is that of all points within a tenth, nine times of ten
(devel/gradient.md)."""

REFINEMENT = 2
"""Factor by which a tolerance is divided where its check has failed."""


class Repulsion(Protocol):
    """Scratch memory for repulsion among a fixed number of points, allocated once."""

    def __call__(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None = None) -> float:
        """Write sum_j m_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z. Without masses, each m_j is 1."""


class ExactRepulsion:
    """Repulsion of every point from every other, in O(n^2)."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        self.dof, self.n_threads = dof, n_threads
        self.rows = np.arange(n_points, dtype=np.int32)
        self.columns = aligned_empty((n_components, n_points), dtype)
        self.sums = np.empty(-(-n_points // repulsion_exact.BLOCK_POINTS) * (n_components + 3))

    def __call__(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None = None) -> float:
        """Write the forces and return Z; see `Repulsion`. In float32, squares of w would underflow in wide maps."""
        if positions.dtype != np.float32 or float(positions.max()) - float(positions.min()) <= WIDEST_SINGLE:
            return self.repel(self.rows, positions, forces_out, masses)
        wide = ExactRepulsion(positions.shape, np.float64, self.dof, self.n_threads)
        forces = np.empty(positions.shape)
        sum_q = wide(positions.astype(np.float64), forces, masses)
        forces_out[:] = forces
        return sum_q

    def repel(
        self,
        rows: npt.NDArray[np.int32],
        positions: FloatArray,
        forces_out: FloatArray,
        masses: FloatArray | None = None,
    ) -> float:
        """Do the same for some of the points."""
        n_components = positions.shape[1]
        if masses is not None and len(self.columns) == n_components:
            self.columns = aligned_empty((n_components + 2, len(positions)), self.columns.dtype)
        columns = self.columns if masses is not None else self.columns[:n_components]
        np.copyto(columns[:n_components], positions.T)
        if masses is not None:
            columns[n_components], columns[n_components + 1] = masses, 0
        blocks = CALL_PAIRS[self.dof == 1] // (len(positions) * repulsion_exact.BLOCK_POINTS)
        step, sum_q = max(1, blocks) * repulsion_exact.BLOCK_POINTS, 0.0
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            sum_q += repulsion_exact.accumulate_repulsion(
                rows[part], columns, self.dof, self.sums, forces_out[part], self.n_threads
            )
        return sum_q


class AutoRepulsion:
    """The engine that a cost model predicts to be the fastest for the map as it is now."""

    def __init__(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, accuracy: Accuracy, dof: float, n_threads: int
    ) -> None:
        self.make: dict[str, Callable[[], Repulsion]] = {
            "exact": lambda: ExactRepulsion(shape, dtype, dof, n_threads),
            "barnes_hut": lambda: BarnesHutRepulsion(shape, dtype, accuracy.theta, dof, n_threads),
            "fft": lambda: FFTRepulsion(
                shape, dtype, accuracy.spline, dof, n_threads, accuracy.error, lambda: self.engine("barnes_hut")
            ),
        }
        self.shape, self.accuracy, self.dof, self.n_threads = shape, accuracy, dof, n_threads
        self.n_bound_threads = useful_threads(n_threads, shape[0], SORTED_PER_THREAD)
        self.bounds = np.empty((-(-shape[0] // repulsion_fft.BOUND_POINTS), 2 * shape[1]))
        self.engines: dict[str, Repulsion] = {}

    def __call__(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None = None) -> float:
        """Write the forces and return Z; see `Repulsion`."""
        repulsion_fft.bound_positions(positions, self.bounds, self.n_bound_threads)
        low, high = self.bounds[0].reshape(2, -1)
        method = cheapest_method(self.shape[0], (high - low).tolist(), self.accuracy, self.dof)
        return self.engine(method)(positions, forces_out, masses)

    def engine(self, method: str) -> Repulsion:
        """Return the engine for a method, which is made when it is first needed."""
        if method not in self.engines:
            self.engines[method] = self.make[method]()
        return self.engines[method]


class CheckedRepulsion(AutoRepulsion):
    """An engine whose forces are compared with the exact ones at a sample of points.

    Where they err by more than the tolerance, Barnes-Hut repeats them at smaller ones, in float64, until they hold or
    the exact sum costs less.
    """

    def __init__(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, method: str, tolerance: float, dof: float, n_threads: int
    ) -> None:
        super().__init__(shape, dtype, choose_accuracy(0, tolerance, shape[1]), dof, n_threads)
        self.method, self.tolerance = method, tolerance
        self.exact = ExactRepulsion(shape, np.float64, dof, n_threads)

    def __call__(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None = None) -> float:
        """Write the forces and return Z; see `Repulsion`."""
        engine = super().__call__ if self.method == "auto" else self.engine(self.method)
        sum_q = engine(positions, forces_out, masses)
        wide = np.asarray(positions, np.float64)
        if self._holds(wide, forces_out, sum_q, masses):
            return sum_q
        tolerance, forces = self.tolerance, np.empty(self.shape)
        while True:
            tolerance /= REFINEMENT
            accuracy = choose_accuracy(0, tolerance, self.shape[1])
            # A map that is infinitely wide has no grid: one that has failed would fail again.
            method = cheapest_method(self.shape[0], [inf] * self.shape[1], accuracy, self.dof)
            finer = AutoRepulsion(self.shape, np.float64, accuracy, self.dof, self.n_threads).engine(method)
            sum_q = finer(wide, forces, masses)
            if method == "exact" or self._holds(wide, forces, sum_q, masses):
                forces_out[:] = forces
                return sum_q

    def _holds(self, positions: FloatArray, forces: FloatArray, sum_q: float, masses: FloatArray | None) -> bool:
        """Return whether the forces keep the tolerance at a sample of points, and Z keeps it beside its rounding.

        Half of the sample are points that are drawn by the square of their force, and half are any points.
        """
        n_points, own = len(forces), self_terms(masses, len(forces))
        with_self_terms = sum_q >= LEAST_MEAN_SUM[forces.itemsize] * own
        if with_self_terms and 8 * float(np.finfo(forces.dtype).eps) * own > self.tolerance * sum_q:
            return False
        forces = times_masses(np.asarray(forces, np.float64), masses)  # on whole points
        largest = float(np.abs(forces).max())
        scaled = forces / (largest or 1.0)
        squares = np.einsum("ij,ij->i", scaled, scaled)
        total = float(squares.sum())
        shares = 0.5 / n_points + 0.5 * squares / total if total > 0 else np.full(n_points, 1 / n_points)
        size = max(LEAST_SAMPLE, min(n_points, SAMPLED_PAIRS // n_points))
        # One point of each stratum, at a place that the golden ratio spreads.
        quantiles = (np.arange(size) + np.arange(size) * 0.6180339887498949 % 1) / size
        rows = np.minimum(np.searchsorted(np.cumsum(shares), quantiles), n_points - 1)
        expected = np.empty((size, forces.shape[1]))
        self.exact.repel(rows.astype(np.int32), positions, expected, masses)
        expected = times_masses(expected, None if masses is None else masses[rows])
        errors = scaled[rows] - expected / (largest or 1.0)
        squared_error = np.mean(np.einsum("ij,ij->i", errors, errors) / shares[rows])
        return bool(squared_error <= (SURE * self.tolerance) ** 2 * total)


class Accuracy(NamedTuple):
    """What a theta or a tolerance means for each engine."""

    theta: float
    spline: Spline
    error: float
    """The error that is asked for: a tolerance, or twice what a theta has on thin maps."""


def choose_accuracy(theta: float, tolerance: float | None, n_components: int) -> Accuracy:
    """Return the parameters of Barnes-Hut and FFT for a tolerance, or for Barnes-Hut's theta.

    The errors were measured on thirty-two maps in one to three dimensions (docs/gradient.md). A tolerance is held on
    the worst of them; `CheckedRepulsion` looks after other maps. A theta gives both engines the same error in the
    middle of a run on MNIST: 1.5 % at 0.5.
    """
    if tolerance is not None:
        if tolerance >= 0.008:
            spline = Spline(4, min(0.45 * (tolerance / 0.048) ** (1 / 3.2), 1.0))
        else:
            spline = Spline(6, 0.45 * (tolerance / 0.02) ** (1 / 5))
        at_half, power = (0.045, 3.2) if n_components == 1 else (0.02, 2.7)
        return Accuracy(min(0.5 * (tolerance / at_half) ** (1 / power), 0.6), spline, 0.8 * tolerance)
    theta = min(theta, LARGEST_THETA)
    error = 0.04 * (theta / 0.5) ** 2.7
    if theta >= 0.35:
        return Accuracy(theta, Spline(4, 0.45 * (theta / 0.5) ** 0.7), error)
    return Accuracy(theta, Spline(6, 0.45 * (theta / 0.33) ** 0.48), error)


def cheapest_method(n_points: int, spans: list[float], accuracy: Accuracy, dof: float) -> str:
    """Return the engine that is predicted to take the least time on two cores; costs are in ns (docs/gradient.md)."""
    n_components = len(spans)
    costs = {"exact": (0.12 if dof == 1 else 3.0) * float(n_points) ** 2}
    theta, (order, spacing), _ = accuracy
    if n_points > EXACT_POINTS and theta > 0 and n_components <= 3:
        base, steep = {1: (37, 0.3), 2: (50, 11), 3: (75, 160)}[n_components]
        costs["barnes_hut"] = n_points * (base + steep / theta**2) * (1 if dof == 1 else 7 if dof < 1 else 15)
        nodes = max(grid_nodes(spans, spacing * kernel_width(dof)), (2.0 * FFTRepulsion.LEAST_NODES) ** n_components)
        if nodes <= MOST_NODES:
            point = {4: (13, 16, 75), 6: (23, 55, 245)}[order][n_components - 1]
            costs["fft"] = 6e5 + n_points * point + 0.36 * nodes * log2(nodes)
    return min(costs, key=lambda method: costs[method])


def get_grid(engine: Repulsion) -> list[float]:
    """Return the grid that an engine keeps from earlier maps, on which later bits depend. Without one, it is empty."""
    fft_engine = engine.engines.get("fft") if isinstance(engine, AutoRepulsion) else engine
    if not isinstance(fft_engine, FFTRepulsion) or not fft_engine.n_nodes:
        return []
    return [fft_engine.spacing, fft_engine.offset, *map(float, fft_engine.n_nodes)]


def set_grid(engine: Repulsion, grid: list[float]) -> None:
    """Use the grid that `get_grid` returned. Anything else raises a ValueError."""
    if not grid:
        return
    if isinstance(engine, AutoRepulsion):
        engine = engine.engines.setdefault("fft", engine.make["fft"]())
    if not isinstance(engine, FFTRepulsion) or len(grid) != 2 + engine.n_components:
        raise ValueError(f"the grid must be that of an FFT in the map's dimensions, got {grid}")
    (spacing, offset), n_nodes = grid[:2], [int(n) for n in grid[2:]]
    known = 0 < spacing < 1e30 and offset in (0.0, 1.0) and list(map(float, n_nodes)) == grid[2:]
    # Sizes are rounded up, by less than a half.
    if not known or min(n_nodes) < engine.order or np.prod([2.0 * n for n in n_nodes]) > 4 * MOST_NODES:
        raise ValueError(f"the grid must have a spacing, an offset and sizes of a grid, got {grid}")
    engine.lay_grid(spacing, offset, tuple(n_nodes))


def check_method(method: str, n_components: int, accuracy: Accuracy) -> None:
    """Raise an error if the method does not apply."""
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
    small = shape[0] <= EXACT_POINTS or shape[1] > 3
    if method == "exact" or (small and (method == "auto" or tolerance is not None)):
        return ExactRepulsion(shape, dtype, dof, n_threads)
    if tolerance is not None:
        return CheckedRepulsion(shape, dtype, method, tolerance, dof, n_threads)
    engine = AutoRepulsion(shape, dtype, accuracy, dof, n_threads)
    return engine if method == "auto" else engine.make[method]()


_idle: dict[tuple[object, ...], Repulsion] = {}


def repel_once(positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None, **options: Any) -> float:
    """Call an engine of `make_repulsion` with these options, in the scratch memory of the last such call.

    New pages of memory would cost a quarter of the call. No bit depends on what was called before.
    """
    check_choice(options["method"], "method", METHODS)  # the method is a part of the key
    key = (positions.shape, positions.dtype, *sorted(options.items()))
    engine = _idle.pop(key, None)  # no other thread can take it now
    if engine is None:
        engine = make_repulsion(positions.shape, positions.dtype, **options)
    sum_q = engine(positions, forces_out, masses)
    size = len(positions)
    for one in engine.engines.values() if isinstance(engine, AutoRepulsion) else [engine]:
        if isinstance(one, FFTRepulsion):
            one.borrowed = True
            size = max(size, one.grid.size)
    if size <= IDLE_SIZE:
        _idle.clear()
        _idle[key] = engine
    return sum_q
