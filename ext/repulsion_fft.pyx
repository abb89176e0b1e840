"""Spreading points onto a grid and gathering forces from it, for FFT-accelerated repulsion.

Linderman et al. (2019) interpolate the kernels of t-SNE on a grid and sum them by FFT, with a charge for
every term. One charge is enough: the repulsion on a point is the slope of the potential

    u(y) = sum_j w(y - y_j),    grad u(y_i) = - 2 sum_j w_ij^(1 + 1/dof) (y_i - y_j),

so one convolution with w gives Z = sum_i u(y_i) - n, and its interpolant's derivative gives the forces, in
any dimension and for any dof. The interpolant is a B-spline of order 4 or 6, smooth enough to be
differentiated; ``kullback.gradient`` divides the splines' own transform out of the kernel's.

Bands of grid rows are filled in two rounds, even ones and then odd ones. Bands of one round write to
different rows, and points keep their order within a band, so the thread count changes no bit.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport floor
from libc.stdint cimport int32_t, int64_t

from _bounds cimport BOUND_BLOCK, bound_all
from _spline cimport MAX_ORDER, gather_point, grid_position, spline_weights

cdef enum:
    BAND = 16       # grid rows a band: more than the widest spline, so that every other band is apart
    BLOCK = 1024    # points a block of the gathering
BAND_ROWS = BAND
BLOCK_POINTS = BLOCK
BOUND_POINTS = BOUND_BLOCK


def bound_positions(
    const floating[:, ::1] positions,  # IN
    double[:, ::1] bounds_out,         # OUT: a row a block of BOUND_POINTS; row 0: low corner, high corner
    int n_threads,
):
    """Write the bounding box of the points."""
    bound_all(positions, bounds_out, n_threads)


cdef inline Py_ssize_t find_band(const floating* point, const double* low, double inverse_spacing, int order) noexcept nogil:
    return (<Py_ssize_t>floor(grid_position(point[0], low[0], inverse_spacing, order) - 0.5 * order) + 1) // BAND


def sort_bands(
    const floating[:, ::1] positions,  # IN
    const double[::1] low,             # IN: the least of each coordinate
    double spacing,
    int order,
    int64_t[::1] band_starts_out,      # OUT: one more than there are bands
    int32_t[::1] points_out,           # OUT: points by band, in their order within it
):
    """Sort points by the band of grid rows in which their splines begin."""
    cdef Py_ssize_t i, band, n_bands = band_starts_out.shape[0] - 1
    cdef double inverse_spacing = 1 / spacing
    with nogil:
        for band in range(n_bands + 1):
            band_starts_out[band] = 0
        for i in range(positions.shape[0]):
            band_starts_out[find_band(&positions[i, 0], &low[0], inverse_spacing, order)] += 1
        for band in range(1, n_bands + 1):
            band_starts_out[band] += band_starts_out[band - 1]
        for i in range(positions.shape[0] - 1, -1, -1):
            band = find_band(&positions[i, 0], &low[0], inverse_spacing, order)
            band_starts_out[band] -= 1
            points_out[band_starts_out[band]] = <int32_t>i


cdef inline void spread_point(
    const floating* point, const double* low, double inverse_spacing, int order, int n_components,  # literals
    floating* grid, Py_ssize_t row_stride, Py_ssize_t plane_stride,
) noexcept nogil:
    cdef double[3][MAX_ORDER] weights
    cdef double[MAX_ORDER] slopes
    cdef Py_ssize_t[3] first
    cdef floating[MAX_ORDER] last
    cdef floating outer
    cdef int k, a, b, c
    cdef floating* row
    for k in range(n_components):
        first[k] = spline_weights(grid_position(point[k], low[k], inverse_spacing, order), order, weights[k], slopes)
    for c in range(order):
        last[c] = <floating>weights[n_components - 1][c]
    if n_components == 1:
        for c in range(order):
            grid[first[0] + c] += last[c]
    elif n_components == 2:
        for b in range(order):
            row = grid + (first[0] + b) * row_stride + first[1]
            outer = <floating>weights[0][b]
            for c in range(order):
                row[c] += outer * last[c]
    else:
        for a in range(order):
            for b in range(order):
                row = grid + (first[0] + a) * plane_stride + (first[1] + b) * row_stride + first[2]
                outer = <floating>(weights[0][a] * weights[1][b])
                for c in range(order):
                    row[c] += outer * last[c]


cdef void spread_band(
    const floating[:, ::1] positions, const double[::1] low, double inverse_spacing, int order,
    const int64_t[::1] band_starts, const int32_t[::1] points, Py_ssize_t band, floating[:, :, ::1] grid,
) noexcept nogil:
    cdef Py_ssize_t i, n_components = positions.shape[1]
    cdef Py_ssize_t row_stride = grid.shape[2], plane_stride = grid.shape[1] * grid.shape[2]
    for i in range(band_starts[band], band_starts[band + 1]):
        if n_components == 2 and order == 4:
            spread_point(&positions[points[i], 0], &low[0], inverse_spacing, 4, 2, &grid[0, 0, 0], row_stride, 0)
        elif n_components == 2:
            spread_point(&positions[points[i], 0], &low[0], inverse_spacing, 6, 2, &grid[0, 0, 0], row_stride, 0)
        elif n_components == 1:
            spread_point(&positions[points[i], 0], &low[0], inverse_spacing, order, 1, &grid[0, 0, 0], 0, 0)
        else:
            spread_point(&positions[points[i], 0], &low[0], inverse_spacing, order, 3, &grid[0, 0, 0],
                         row_stride, plane_stride)


def spread_charges(
    const floating[:, ::1] positions,   # IN
    const double[::1] low,              # IN: the least of each coordinate
    double spacing,
    int order,                          # IN: 4 or 6
    const int64_t[::1] band_starts,     # IN: from sort_bands
    const int32_t[::1] points,          # IN: from sort_bands
    floating[:, :, ::1] grid_out,       # OUT: 1 x 1 x n, 1 x n x n or n x n x n nodes
    int n_threads,
):
    """Give every point a charge of 1, spread over the grid by a B-spline in each component."""
    cdef Py_ssize_t band, n_bands = band_starts.shape[0] - 1, i, n_nodes
    cdef double inverse_spacing = 1 / spacing
    cdef floating* nodes = &grid_out[0, 0, 0]
    n_nodes = grid_out.shape[0] * grid_out.shape[1] * grid_out.shape[2]
    for i in prange(n_nodes, nogil=True, num_threads=n_threads, schedule="static"):
        nodes[i] = 0
    for band in prange(0, n_bands, 2, nogil=True, num_threads=n_threads, schedule="dynamic"):
        spread_band(positions, low, inverse_spacing, order, band_starts, points, band, grid_out)
    for band in prange(1, n_bands, 2, nogil=True, num_threads=n_threads, schedule="dynamic"):
        spread_band(positions, low, inverse_spacing, order, band_starts, points, band, grid_out)


cdef double gather_block(
    const floating[:, ::1] positions, const double[::1] low, double inverse_spacing, int order,
    const int32_t[::1] points, Py_ssize_t block, const floating[:, :, ::1] grid, floating[:, ::1] forces_out,
) noexcept nogil:
    cdef Py_ssize_t i, p, n_components = positions.shape[1]
    cdef Py_ssize_t row_stride = grid.shape[2], plane_stride = grid.shape[1] * grid.shape[2]
    cdef double total = 0
    for p in range(block * BLOCK, min((block + 1) * BLOCK, positions.shape[0])):
        i = points[p]
        if n_components == 2 and order == 4:
            total += gather_point(&positions[i, 0], &low[0], inverse_spacing, 4, 2, &grid[0, 0, 0], row_stride, 0,
                                  &forces_out[i, 0])
        elif n_components == 2:
            total += gather_point(&positions[i, 0], &low[0], inverse_spacing, 6, 2, &grid[0, 0, 0], row_stride, 0,
                                  &forces_out[i, 0])
        elif n_components == 1:
            total += gather_point(&positions[i, 0], &low[0], inverse_spacing, order, 1, &grid[0, 0, 0], 0, 0,
                                  &forces_out[i, 0])
        else:
            total += gather_point(&positions[i, 0], &low[0], inverse_spacing, order, 3, &grid[0, 0, 0], row_stride,
                                  plane_stride, &forces_out[i, 0])
    return total


def gather_forces(
    const floating[:, ::1] positions,    # IN
    const double[::1] low,               # IN: the least of each coordinate
    double spacing,
    int order,                           # IN: 4 or 6
    const int32_t[::1] points,           # IN: from sort_bands
    const floating[:, :, ::1] potential, # IN: coefficients of the splines
    double[::1] sums_out,                # OUT: scratch, one value a block of BLOCK_POINTS
    floating[:, ::1] forces_out,         # OUT
    int n_threads,
):
    """Write minus half the slope of the potential at every point; return the sum of the potential, less n."""
    cdef Py_ssize_t block, n_blocks = (positions.shape[0] + BLOCK - 1) // BLOCK
    cdef double inverse_spacing = 1 / spacing, total = 0
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
        sums_out[block] = gather_block(positions, low, inverse_spacing, order, points, block, potential, forces_out)
    for block in range(n_blocks):
        total += sums_out[block]
    return total - positions.shape[0]
