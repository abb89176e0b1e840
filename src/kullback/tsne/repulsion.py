"""Engines of repulsion, and the choice among them.

An engine is made for a number of points and owns its scratch memory, which is allocated once. It is called with
positions, writes ``sum_j w_ij^(1 + 1/dof) (y_i - y_j)`` for every point i, and returns Z, the sum of ``w_ij`` over
i != j.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray, aligned_empty
from .._checks.scalars import check_choice
from .._kernels import repulsion_exact, repulsion_fft
from .._threads import useful_threads
from .barnes_hut import SORTED_PER_THREAD, BarnesHutRepulsion
from .fft_repulsion import MOST_NODES, FFTRepulsion, Spline, grid_nodes, kernel_width

METHODS = ("auto", "exact", "barnes_hut", "fft")

EXACT_POINTS = 1000
"""Up to so many points ``auto`` is exact, which costs less than 0.1 ms more than Barnes-Hut and has no error."""

POINTS_PER_THREAD = 512
"""Points that are worth a thread of the forces or of the loss. They take it about 50 microseconds."""

CALL_PAIRS = {True: 2**31, False: 2**27}
"""Pairs in one call of the exact kernel, which nothing interrupts, by whether dof is 1: some 0.3 s."""

LARGEST_THETA = 0.8
"""Larger values of theta count as this one, because the expansions of neighbouring cells would hardly converge."""

LEAST_SINGLE = 1e-20
"""Largest force below which the exact sum is taken in float64, because squares of w may have underflowed in float32."""

IDLE_SIZE = 2**21
"""Most points or grid nodes for which `repel_once` keeps the scratch memory, which is then some 100 MB."""


class Repulsion(Protocol):
    """Scratch memory for repulsion among a fixed number of points, allocated once."""

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """Write sum_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z."""


class ExactRepulsion:
    """Repulsion of every point from every other, in O(n^2)."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        self.dof, self.n_threads = dof, n_threads
        self.rows = np.arange(n_points, dtype=np.int32)
        self.columns = aligned_empty((n_components, n_points), dtype)
        self.sums = np.empty(-(-n_points // repulsion_exact.BLOCK_POINTS) * (n_components + 3))

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """Write the forces and return Z; see `Repulsion`."""
        sum_q = self.repel(self.rows, positions, forces_out)
        if positions.dtype != np.float32 or np.abs(forces_out).max() > LEAST_SINGLE:
            return sum_q
        wide = ExactRepulsion(positions.shape, np.float64, self.dof, self.n_threads)
        forces = np.empty(positions.shape)
        sum_q = wide(positions.astype(np.float64), forces)
        forces_out[:] = forces
        return sum_q

    def repel(self, rows: npt.NDArray[np.int32], positions: FloatArray, forces_out: FloatArray) -> float:
        """Do the same for some of the points."""
        np.copyto(self.columns, positions.T)
        blocks = CALL_PAIRS[self.dof == 1] // (len(positions) * repulsion_exact.BLOCK_POINTS)
        step, sum_q = max(1, blocks) * repulsion_exact.BLOCK_POINTS, 0.0
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            sum_q += repulsion_exact.accumulate_repulsion(
                rows[part], self.columns, self.dof, self.sums, forces_out[part], self.n_threads
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

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """Write the forces and return Z; see `Repulsion`."""
        repulsion_fft.bound_positions(positions, self.bounds, self.n_bound_threads)
        low, high = self.bounds[0].reshape(2, -1)
        method = cheapest_method(self.shape[0], (high - low).tolist(), self.accuracy, self.dof)
        return self.engine(method)(positions, forces_out)

    def engine(self, method: str) -> Repulsion:
        """Return the engine for a method, which is made when it is first needed."""
        if method not in self.engines:
            self.engines[method] = self.make[method]()
        return self.engines[method]


class Accuracy(NamedTuple):
    """What a theta or a tolerance means for each engine."""

    theta: float
    spline: Spline
    error: float
    """The error that is asked for: a tolerance, or twice what a theta has on thin maps."""


def choose_accuracy(theta: float, tolerance: float | None, n_components: int) -> Accuracy:
    """Return the parameters of Barnes-Hut and FFT for a tolerance, or for Barnes-Hut's theta.

    The errors were measured on thirty-two maps in one to three dimensions (docs/gradient.md). A tolerance is held on
    the worst of them. A theta gives both engines the same error in the middle of a run on MNIST: 1.5 % at 0.5.
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
    engine = AutoRepulsion(shape, dtype, accuracy, dof, n_threads)
    if method == "auto" and shape[0] > EXACT_POINTS and shape[1] <= 3:
        return engine
    return engine.make["exact" if method == "auto" else method]()


_idle: dict[tuple[object, ...], Repulsion] = {}


def repel_once(positions: FloatArray, forces_out: FloatArray, **options: Any) -> float:
    """Call an engine of `make_repulsion` with these options, in the scratch memory of the last such call.

    New pages of memory would cost a quarter of the call. No bit depends on what was called before.
    """
    check_choice(options["method"], "method", METHODS)  # the method is a part of the key
    key = (positions.shape, positions.dtype, *sorted(options.items()))
    engine = _idle.pop(key, None)  # no other thread can take it now
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
