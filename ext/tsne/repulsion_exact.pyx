"""Exact repulsion of t-SNE: every point against every other, tiled so that a tile stays in L1.

``kullback.reference.repulsive_forces`` is the same in NumPy. At dof = 1 and in up to three components, sums within a
tile are taken in the precision of the positions, and the sums of the tiles in float64. Otherwise all is in float64. The
pair of a point with itself is left out rather than subtracted, so Z keeps its relative precision however far the points
are apart.

Points may have masses, which follow the positions in ``columns``, and then a row of zeros, the spreads of points. A
mass m stands for m rows at one position, so Z gains their m max(m - 1, 0) pairs.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t

from common.threads cimport startable
from tsne.pairs cimport add_sources, add_sources_general

cdef enum:
    BLOCK = 16   # points that share a tile while it is in L1
    TILE = 1024  # sources a tile: 12 KiB of three float32 components
BLOCK_POINTS = BLOCK


cdef inline void add_tile(const floating[:, ::1] columns, Py_ssize_t start, Py_ssize_t end, const floating* point,
                           Py_ssize_t n_components, double* sums) noexcept nogil:
    """Add the sources of a tile, with the number of components as a literal."""
    cdef Py_ssize_t n_points = columns.shape[1]
    cdef const floating* sources = &columns[0, 0] + start
    if columns.shape[0] > n_components:
        add_massive_tile(sources, n_points, end - start, point, n_components, sums)
    elif n_components == 1:
        add_sources(sources, n_points, end - start, point, 1, False, sums)
    elif n_components == 2:
        add_sources(sources, n_points, end - start, point, 2, False, sums)
    else:
        add_sources(sources, n_points, end - start, point, 3, False, sums)


cdef void add_massive_tile(const floating* sources, Py_ssize_t n_points, Py_ssize_t n_sources, const floating* point,
                           Py_ssize_t n_components, double* sums) noexcept nogil:
    """Do so for points with masses."""
    if n_components == 1:
        add_sources(sources, n_points, n_sources, point, 1, True, sums)
    elif n_components == 2:
        add_sources(sources, n_points, n_sources, point, 2, True, sums)
    else:
        add_sources(sources, n_points, n_sources, point, 3, True, sums)


cdef inline double weigh(const floating[:, ::1] columns, Py_ssize_t n_components, Py_ssize_t point,
                         double sum_w) noexcept nogil:
    """Return the sum of w of all rows of a point, from the sum of one of them over all other points."""
    cdef double mass
    if columns.shape[0] == n_components:
        return sum_w
    mass = columns[n_components, point]
    return mass * (sum_w + (mass - 1 if mass > 1 else 0))


cdef double repel_block(const int32_t[::1] rows, const floating[:, ::1] columns, Py_ssize_t block,
                        floating[:, ::1] forces_out) noexcept nogil:
    """Repel BLOCK points in one, two or three dimensions at dof = 1; return their sum of w."""
    cdef double[BLOCK * 4] sums
    cdef floating[3] point
    cdef Py_ssize_t n_components = forces_out.shape[1], n_points = columns.shape[1]
    cdef Py_ssize_t i, k, index, tile, tile_end, self, start = block * BLOCK
    cdef Py_ssize_t end = min(start + BLOCK, rows.shape[0])
    cdef double sum_w = 0
    for i in range(BLOCK * 4):
        sums[i] = 0
    for index in range((n_points + TILE - 1) // TILE):
        tile = index * TILE
        tile_end = min(tile + TILE, n_points)
        for i in range(start, end):
            self = rows[i]
            for k in range(n_components):
                point[k] = columns[k, self]
            if tile <= self < tile_end:
                add_tile(columns, tile, self, point, n_components, &sums[(i - start) * 4])
                add_tile(columns, self + 1, tile_end, point, n_components, &sums[(i - start) * 4])
            else:
                add_tile(columns, tile, tile_end, point, n_components, &sums[(i - start) * 4])
    for i in range(start, end):
        for k in range(n_components):
            forces_out[i, k] = <floating>sums[(i - start) * 4 + k]
        sum_w += weigh(columns, n_components, rows[i], sums[(i - start) * 4 + n_components])
    return sum_w


cdef double repel_block_general(const int32_t[::1] rows, const floating[:, ::1] columns, Py_ssize_t block, double dof,
                                double* sums, floating[:, ::1] forces_out) noexcept nogil:
    """Repel BLOCK points in any number of components, at any dof; return their sum of w. ``sums`` are scratch."""
    cdef Py_ssize_t n_components = forces_out.shape[1], n_points = columns.shape[1]
    cdef Py_ssize_t i, k, self, start, end
    cdef const floating* sources = &columns[0, 0]
    cdef bint massive = columns.shape[0] > n_components
    cdef double sum_w = 0
    sums[n_components] = sums[n_components + 1] = 0
    for i in range(block * BLOCK, min((block + 1) * BLOCK, rows.shape[0])):
        self = rows[i]
        for k in range(n_components):
            sums[k] = 0
        start = 0
        while start < n_points:
            if start == self:
                start += 1
                continue
            end = min(start + TILE, self if start < self else n_points)
            add_sources_general(sources + start, n_points, end - start, sources + self, n_points, <int>n_components,
                                massive, dof, sums)
            start = end
        for k in range(n_components):
            forces_out[i, k] = <floating>sums[k]
        if massive:
            sum_w += weigh(columns, n_components, self, sums[n_components] + sums[n_components + 1])
            sums[n_components] = sums[n_components + 1] = 0
    return sum_w + (sums[n_components] + sums[n_components + 1])


def accumulate_repulsion(
    const int32_t[::1] rows,           # IN: the points that are repelled
    const floating[:, ::1] columns,    # IN: a column a point: its position, and then, if any, its mass and 0
    double dof,                        # IN
    double[::1] sums_out,              # OUT: scratch, n_components + 3 values a block of BLOCK_POINTS
    floating[:, ::1] forces_out,       # OUT: a row for each of these points
    int n_threads,
):
    """Write sum_j m_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z, the sum of w over all pairs of rows."""
    cdef Py_ssize_t block, n_blocks = (rows.shape[0] + BLOCK - 1) // BLOCK, n_sums = forces_out.shape[1] + 2
    cdef bint special = dof == 1 and forces_out.shape[1] <= 3
    cdef double sum_w = 0
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="static"):
        if special:
            sums_out[block] = repel_block(rows, columns, block, forces_out)
        else:
            sums_out[block] = repel_block_general(rows, columns, block, dof, &sums_out[n_blocks + block * n_sums],
                                                  forces_out)
    for block in range(n_blocks):
        sum_w += sums_out[block]
    return sum_w
