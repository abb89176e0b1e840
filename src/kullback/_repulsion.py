"""Engines of repulsion: each owns its scratch memory, allocated once for a number of points.

An engine is called with positions and writes ``sum_j w_ij^(1 + 1/dof) (y_i - y_j)`` for every point i; it
returns Z, the sum of ``w_ij`` over i != j.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import fft

from ._arrays import FloatArray, aligned_empty, check_choice
from ._kernels import repulsion_barnes_hut, repulsion_exact, repulsion_fft

METHODS = ("auto", "exact", "barnes_hut")

EXACT_POINTS = 2000
"""Up to here ``auto`` is exact: it costs less than 1.5 x Barnes-Hut at theta = 0.5 and has no error."""


class Repulsion(Protocol):
    """Scratch memory for repulsion among a fixed number of points, allocated once."""

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """Write sum_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z."""


class ExactRepulsion:
    """Every point against every other: O(n^2)."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, dof: float, n_threads: int) -> None:
        n_points, n_components = shape
        self.dof, self.n_threads = dof, n_threads
        self.columns = aligned_empty((n_components, n_points), dtype)
        self.sums = np.empty(-(-n_points // repulsion_exact.BLOCK_POINTS))

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        np.copyto(self.columns, positions.T)
        return repulsion_exact.accumulate_repulsion(self.columns, self.dof, self.sums, forces_out, self.n_threads)


class BarnesHutRepulsion:
    """Far cells as their centre of mass: O(n log n), in one to three dimensions."""

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, theta: float, n_threads: int) -> None:
        kernel = repulsion_barnes_hut
        n_points, n_components = shape
        most_cells = 2 * n_points + kernel.TOP_CELLS  # every inner cell has two children or more
        self.theta, self.n_threads = theta, n_threads
        self.codes = np.empty((2, n_points), np.uint64)
        self.order = np.empty((2, n_points), np.int32)
        self.histogram = np.empty((n_threads, kernel.RADIX), np.int64)
        self.bounds = np.empty((-(-n_points // kernel.BLOCK_POINTS), 2 * n_components))
        self.stack = np.empty((n_threads, kernel.STACK_SIZE), np.int64)
        self.roots = np.empty((2, kernel.TOP_CELLS), np.int32)
        self.units = np.empty(most_cells)
        self.sides = np.empty(most_cells)
        self.links = np.empty((most_cells, 4), np.int32)
        self.columns = np.zeros((n_components, n_points + kernel.LEAF_SIZE), dtype)
        self.cells = np.empty((most_cells, n_components + 2), dtype)
        self.groups = np.empty((n_points, 2), np.int32)
        self.queue = np.empty((n_threads, most_cells + 8), np.int32)
        self.sources = aligned_empty((n_threads, n_components + 1, kernel.LIST_SIZE), dtype)
        self.sums = np.empty(n_points)

    def order_points(self, positions: FloatArray) -> npt.NDArray[np.int32]:
        """Return the indices of the points along a Z-order curve; the next call overwrites them."""
        self.finest_side = repulsion_barnes_hut.order_points(
            positions, self.codes, self.order, self.histogram, self.bounds, self.n_threads
        )
        return self.order[0]

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        kernel, n_threads = repulsion_barnes_hut, self.n_threads
        self.order_points(positions)
        n_groups = kernel.build_tree(
            positions, self.finest_side, self.theta, self.codes, self.order, self.histogram, self.stack, self.roots,
            self.units, self.sides, self.links, self.columns, self.cells, self.groups, n_threads,
        )  # fmt: skip
        return kernel.accumulate_repulsion(
            self.columns, self.cells, self.links, self.groups, self.order, n_groups, self.queue, self.sources,
            self.sums, forces_out, n_threads,
        )  # fmt: skip


class FFTRepulsion:
    """The potential of all points on a grid, by one convolution: O(n + g log g) with g grid nodes.

    The spacing is the widest of ``2^-k * widest_spacing`` that gives at least ``LEAST_NODES`` nodes across the
    map, so the transform of the kernel is kept until the map outgrows its grid.
    """

    LEAST_NODES = 48  # across a small map, where the kernel is wider than the map itself

    def __init__(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, dof: float, tolerance: float, n_threads: int
    ) -> None:
        n_points, n_components = shape
        self.dtype, self.dof, self.n_threads = np.dtype(dtype), dof, n_threads
        self.order, self.widest_spacing = 4, 0.45
        self.n_components = n_components
        self.points = np.empty(n_points, np.int32)
        self.sums = np.empty(-(-n_points // repulsion_fft.BLOCK_POINTS))
        self.bounds = np.empty((-(-n_points // repulsion_fft.BOUND_POINTS), 2 * n_components))
        self.n_nodes: tuple[int, ...] = ()
        self.spacing = 0.0

    def __call__(self, positions: FloatArray, forces_out: FloatArray) -> float:
        """See `Repulsion`."""
        kernel, order, n_threads = repulsion_fft, self.order, self.n_threads
        kernel.bound_positions(positions, self.bounds, n_threads)
        low, high = self.bounds[0].reshape(2, -1)
        self._fit_grid(high - low)
        spacing = self.spacing
        low = low - (order / 2 + 0.5) * spacing  # the splines of the outermost points stay inside
        kernel.sort_bands(positions, low, spacing, order, self.band_starts, self.points)
        kernel.spread_charges(positions, low, spacing, order, self.band_starts, self.points, self.grid, n_threads)
        potential = self._convolve(self.grid)
        return kernel.gather_forces(
            positions, low, spacing, order, self.points, potential, self.sums, forces_out, n_threads
        )

    def _fit_grid(self, spans: FloatArray) -> None:
        """Choose spacing and size of the grid, and transform the kernel where they change."""
        span = float(spans.max())
        spacing = self.widest_spacing
        while span < self.LEAST_NODES * spacing and spacing > 1e-30:
            spacing /= 2
        needed = [int(extent / spacing) + self.order + 2 for extent in spans]
        if spacing == self.spacing and all(has >= n for has, n in zip(self.n_nodes, needed, strict=True)):
            return
        # a little more than is needed, so that a growing map does not change its grid at every iteration
        self.n_nodes = tuple(fft.next_fast_len(2 * (n + n // 16), real=True) // 2 for n in needed)
        self.spacing = spacing
        self.grid = np.empty((1,) * (3 - self.n_components) + self.n_nodes, self.dtype)
        rows = self.n_nodes[0] if self.n_components > 1 else self.n_nodes[0]
        self.band_starts = np.empty(-(-rows // repulsion_fft.BAND_ROWS) + 1, np.int64)
        self.transform = self._transform_kernel()

    def _transform_kernel(self) -> FloatArray:
        """Return the transform of w on the doubled grid, the splines' own transforms divided out."""
        sizes = [2 * n for n in self.n_nodes]
        squared = np.zeros([1] * self.n_components)
        for axis, size in enumerate(sizes):
            nodes = np.arange(size)
            squared = squared + np.expand_dims(
                (np.minimum(nodes, size - nodes) * self.spacing) ** 2,
                tuple(other for other in range(self.n_components) if other != axis),
            )
        transform = fft.rfftn((1 + squared / self.dof) ** -self.dof, workers=self.n_threads).real
        # values of the cardinal B-spline at the nodes: Schoenberg (1973); its transform is real and positive
        values = {4: (2 / 3, 1 / 6), 6: (11 / 20, 13 / 60, 1 / 120)}[self.order]
        for axis, (size, kept) in enumerate(zip(sizes, transform.shape, strict=True)):
            angles = 2 * np.pi * np.arange(kept) / size
            spline = values[0] + 2 * sum(value * np.cos(k * angles) for k, value in enumerate(values[1:], 1))
            transform /= np.expand_dims(
                spline**2, tuple(other for other in range(self.n_components) if other != axis)
            )
        return transform.astype(self.dtype)

    def _convolve(self, charges: FloatArray) -> FloatArray:
        """Return the convolution of charges with w, on the grid; rows of zeros are never transformed."""
        spectrum = charges.reshape(self.n_nodes)
        last = self.n_components - 1
        spectrum = fft.rfft(spectrum, 2 * self.n_nodes[last], axis=last, workers=self.n_threads)
        for axis in range(last - 1, -1, -1):
            spectrum = fft.fft(spectrum, 2 * self.n_nodes[axis], axis=axis, workers=self.n_threads)
        spectrum *= self.transform
        for axis in range(last):
            spectrum = fft.ifft(spectrum, axis=axis, overwrite_x=True, workers=self.n_threads)
            spectrum = spectrum[(slice(None),) * axis + (slice(self.n_nodes[axis]),)]
        potential = fft.irfft(spectrum, 2 * self.n_nodes[last], axis=last, workers=self.n_threads)
        return np.ascontiguousarray(potential[..., : self.n_nodes[last]]).reshape(charges.shape)


def choose_method(method: str, shape: tuple[int, int], dof: float) -> str:
    """Return ``"exact"`` or ``"barnes_hut"`` for ``"auto"``; raise where the method asked for does not apply."""
    check_choice(method, "method", METHODS)
    tree_applies = shape[1] <= 3 and dof == 1
    if method == "auto":
        return "barnes_hut" if tree_applies and shape[0] > EXACT_POINTS else "exact"
    if method == "barnes_hut" and not tree_applies:
        raise ValueError(
            f'method="barnes_hut" needs at most 3 components and dof = 1, got {shape[1]} components and dof = {dof:g}; '
            'use method="exact"'
        )
    return method


def make_repulsion(
    shape: tuple[int, int], dtype: npt.DTypeLike, *, method: str, theta: float, dof: float, n_threads: int
) -> Repulsion:
    """Return the engine for ``method``, with its scratch memory."""
    if choose_method(method, shape, dof) == "exact":
        return ExactRepulsion(shape, dtype, dof, n_threads)
    return BarnesHutRepulsion(shape, dtype, theta, n_threads)
