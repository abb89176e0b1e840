"""Repulsion by interpolation on a grid and the fast Fourier transform; see docs/gradient.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from math import comb, factorial, inf, log, log1p, prod, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft

from .._arrays import FloatArray
from .._kernels import repulsion_fft
from .._threads import SPARE_BYTES, startable_threads, useful_threads
from .masses import self_terms, total_mass

NODES_PER_WORKER = 2**20
"""Grid nodes that are worth a thread of SciPy. Its threads compete with those of OpenMP, which spin meanwhile."""

MOST_NODES = 2**24
"""Most grid nodes of the FFT, doubled sizes included. Larger maps are summed by Barnes-Hut."""

SELF_FORCE = {4: (3.3e-3, 3.5), 6: (5.5e-4, 6.2)}
"""Error of the force of a point on itself, which should be 0, at a spacing of 0.276, and the power of the spacing with
which it grows, by the order of the splines (devel/gradient.md). The error of Z / n is half of it."""


UNSEEN_ROWS = 8
"""Mass up to which a point is taken to act on itself like one row. So masses and a few repeated rows, which the FFT
does not know of, are summed by the same engine."""


class Spline(NamedTuple):
    """The B-splines of the FFT: their order, and the widest spacing of their grid."""

    order: int
    spacing: float


class FFTRepulsion:
    """Repulsion by the potential of all points on a grid, in O(n + g log g) for g grid nodes.

    The charges of the points are spread over the grid by B-splines, one convolution gives the potential, and its slope
    at each point is the force. The spacing is the widest of ``2^-k * widest_spacing`` that gives at least
    ``LEAST_NODES`` nodes across the map. So it seldom changes, and the transform of the kernel is kept until the map
    outgrows its grid.
    """

    LEAST_NODES = 48
    """Nodes across a map that is so small that the kernel is wider than the map."""

    def __init__(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, spline: Spline, dof: float, n_threads: int,
        error: float = inf, fall_back: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        n_points, n_components = shape
        self.dtype, self.dof, self.n_threads = np.dtype(dtype), dof, n_threads
        self.order, self.widest_spacing = spline.order, spline.spacing * kernel_width(dof)
        self.error, self.fall_back = error, fall_back
        self.n_components = n_components
        self.grid = np.empty(0, dtype)
        pieces = spline_pieces(self.order)
        self.spline = pieces.astype(dtype)
        # The slope has a minus sign, because the distance to the node above shrinks as a point moves up.
        self.slope = (-np.arange(1, self.order)[:, None] * pieces[1:]).astype(dtype)
        self.slots = np.empty(n_points, np.int32)
        self.nodes = np.empty(n_points, np.int32)
        self.distances = np.empty((n_points, n_components), dtype)
        self.sums = np.empty(-(-n_points // repulsion_fft.BLOCK_POINTS))
        self.bounds = np.empty((-(-n_points // repulsion_fft.BOUND_POINTS), 2 * n_components))
        self.n_nodes: tuple[int, ...] = ()
        self.spacing = self.offset = 0.0
        # Whether the grid is that of another call. Then it is used only if a new one would be the same.
        self.borrowed = False

    def __call__(self, positions: FloatArray, forces_out: FloatArray, masses: FloatArray | None = None) -> float:
        """See `Repulsion`. Where the grid would not keep the error, another engine takes its place."""
        repulsion_fft.bound_positions(positions, self.bounds, self.n_threads)
        low, high = self.bounds[0].reshape(2, -1)
        if self.fall_back is not None and grid_nodes((high - low).tolist(), self.widest_spacing) > MOST_NODES:
            return float(self.fall_back()(positions, forces_out, masses))
        potential = self.sum_potential(positions, low, high, masses)
        sum_q = repulsion_fft.gather_forces(
            self.slots, self.nodes, self.distances, self.spline, self.slope, self.spacing, potential, self.sums,
            forces_out, self.n_threads,
        )  # fmt: skip
        if masses is not None:  # sum_i m_i u(y_i) by the splines: charges times potential, summed over the nodes
            sum_w = float(np.einsum("ijk,ijk->", self.grid, potential, dtype=np.float64))
            sum_q = sum_w - self_terms(masses, len(positions))
        sum_q += self.offset * total_mass(masses, len(positions)) ** 2
        if self.fall_back is not None and not self._holds(sum_q, forces_out, masses):
            return float(self.fall_back()(positions, forces_out, masses))
        return sum_q

    def _holds(self, sum_q: float, forces: FloatArray, masses: FloatArray | None) -> bool:
        """Return whether forces and Z are large beside what points of a thin map do to themselves on the grid."""
        least = self_force(self.order, self.spacing, self.dof) / self.error
        if masses is None:
            norm = sqrt(float(np.einsum("ij,ij->", forces, forces)))
            return norm >= least * sqrt(len(forces)) and sum_q >= 0.5 * least * len(forces)
        m = np.asarray(masses, np.float64)
        own = np.maximum(np.minimum(m, 1), m / UNSEEN_ROWS)  # the mass with which a point acts on its rows
        wide = np.asarray(forces, np.float64)
        norm = sqrt(float(np.einsum("i,ij,ij->", m, wide, wide)))
        return norm >= least * sqrt(float(np.sum(m * own**2))) and sum_q >= 0.5 * least * float(np.sum(m * own))

    def sum_potential(
        self, positions: FloatArray, low: FloatArray, high: FloatArray, masses: FloatArray | None = None
    ) -> FloatArray:
        """Return sum_j m_j (w(y - y_j) - offset) as coefficients of splines on a grid over the box that is given."""
        kernel, n_threads = repulsion_fft, self.n_threads
        self._fit_grid((high - low).tolist())
        kernel.sort_points(
            positions, low, self.spacing, self.strides, self.counts, self.band_starts, self.slots, self.nodes,
            self.distances, n_threads,
        )  # fmt: skip
        if masses is None:
            kernel.spread_charges(self.band_starts, self.nodes, self.distances, self.spline, self.grid, n_threads)
        else:
            by_slot = np.empty(len(masses), self.dtype)
            by_slot[self.slots] = masses
            kernel.spread_masses(
                self.band_starts, self.nodes, self.distances, by_slot, self.spline, self.grid, n_threads
            )
        return self._convolve()

    def _fit_grid(self, spans: list[float]) -> None:
        """Choose the spacing and the size of the grid, and transform the kernel if they change."""
        span = max(spans)
        spacing = self.widest_spacing
        while 0 < span < self.LEAST_NODES * spacing and spacing > 1e-30:
            spacing /= 2
        needed = [max(int(extent / spacing) + self.order + 2, self.LEAST_NODES // 2) for extent in spans]
        # In a map that is smaller than the kernel, w is nearly 1 everywhere. Rounding would hide its slope, so 1 is
        # subtracted from it.
        offset = 1.0 if self.dof * log1p(span**2 / self.dof) < log(2) else 0.0
        fits = all(has >= n for has, n in zip(self.n_nodes, needed, strict=True)) if self.n_nodes else False
        if fits and not self.borrowed and (spacing, offset) == (self.spacing, self.offset):
            return
        # The grid is a little larger than needed, so that a growing map does not change it in every iteration.
        n_nodes = tuple(fft.next_fast_len(n + n // 16, real=True) for n in needed)
        if (spacing, offset, n_nodes) != (self.spacing, self.offset, self.n_nodes):
            self.lay_grid(spacing, offset, n_nodes)
        self.borrowed = False

    def lay_grid(self, spacing: float, offset: float, n_nodes: tuple[int, ...]) -> None:
        """Take a grid, and transform the kernel on it."""
        self.n_nodes = n_nodes
        self.spacing, self.offset = spacing, offset
        # The convolution needs each axis doubled by zeros. The last axis is doubled here, where zeros cost nothing, and
        # the others in the spectrum.
        padded = (*self.n_nodes[:-1], 2 * self.n_nodes[-1])
        self.grid = np.zeros((1,) * (3 - self.n_components) + padded, self.dtype)
        doubled = float(np.prod(2.0 * np.array(self.n_nodes)))
        self.n_workers = useful_threads(self.n_threads, int(doubled), NODES_PER_WORKER)
        pool = 1 + (os.cpu_count() or 1)  # SciPy starts a thread for each CPU
        if self.n_workers > 1 and startable_threads(pool, SPARE_BYTES) < pool:
            self.n_workers = 1
        self.spectrum = np.empty(
            (*(2 * n for n in self.n_nodes[:-1]), self.n_nodes[-1] + 1), np.result_type(self.dtype, np.complex64)
        )
        n_bands = -(-self.n_nodes[0] // repulsion_fft.BAND_ROWS)
        self.counts = np.empty((self.n_threads, n_bands), np.int64)
        self.band_starts = np.empty(n_bands + 1, np.int64)
        self.strides = np.cumprod((1, *padded[:0:-1]))[::-1].astype(np.intp)
        self.transform = self._transform_kernel()
        # The transform is even along each axis, so only its lower frequencies are kept.
        halves = [[(slice(n + 1), slice(None)), (slice(n + 1, 2 * n), slice(n - 1, 0, -1))] for n in self.n_nodes[:-1]]
        self.mirrored = [
            (self.spectrum[tuple(part for part, _ in parts)], self.transform[tuple(kept for _, kept in parts)])
            for parts in product(*halves)
        ]

    def _transform_kernel(self) -> FloatArray:
        """Return the transform of w - offset on the doubled grid, divided by the transforms of the splines.

        The kernel is even along each axis, so its transform is a cosine transform of the first half.
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
        # These are the values of the cardinal B-spline at the nodes, see Schoenberg (1973). Their transform is real and
        # positive, so one can divide by it.
        values = {4: (2 / 3, 1 / 6), 6: (11 / 20, 13 / 60, 1 / 120)}[self.order]
        for axis, n in enumerate(self.n_nodes):
            angles = np.pi * np.arange(n + 1) / n
            spline = np.full(n + 1, values[0])
            for k, value in enumerate(values[1:], 1):
                spline += 2 * value * np.cos(k * angles)
            transform /= along(axis, spline**2)
        return np.asarray(transform, self.dtype)

    def _convolve(self) -> FloatArray:
        """Return the convolution of the charges with w, on the grid.

        Rows that hold only zeros are never transformed. The two real transforms allocate their results, because SciPy
        has no argument for them; everything else is in place.
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
        """Transform a part of the spectrum along one axis, in place."""
        part = self.spectrum[kept]
        result = transform(part, axis=axis, overwrite_x=True, workers=self.n_workers)
        if not np.may_share_memory(result, part):  # SciPy may work in place, but it need not
            part[...] = result


def spline_pieces(order: int) -> FloatArray:
    """Return the pieces of the cardinal B-spline as polynomials, with a row for each power and a column for each piece.

    Piece j is, for t in [0, 1], M_n(j + t) = sum_k (-1)^k C(n, k) (j - k + t)_+^(n-1) / (n-1)!: Schoenberg (1973).
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


def kernel_width(dof: float) -> float:
    """Return by how much a grid has to be finer for a narrow kernel."""
    return min(1.0, sqrt(2 * dof))


def self_force(order: int, spacing: float, dof: float) -> float:
    """Return the error of the force of a point on itself. Distances and forces are in units of the kernel's width."""
    error, power = SELF_FORCE[order]
    width = min(1.0, sqrt(dof))
    return float(width * error * (spacing / width / 0.276) ** power)
