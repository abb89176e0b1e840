"""Header-only: the bounding box of points, in blocks that do not depend on the number of threads."""

from cython cimport floating
from cython.parallel cimport prange

from common.threads cimport startable

cdef enum:
    BOUND_BLOCK = 4096  # points of a block
    LANES = 16          # points that are worked side by side


cdef inline void bound_points(const floating* positions, Py_ssize_t n_points, int n_components,
                              double* low_out, double* high_out) noexcept nogil:
    """Bound points, LANES of them side by side, which is vectorised where n_components is a literal."""
    cdef floating[3 * LANES] low
    cdef floating[3 * LANES] high
    cdef const floating* points
    cdef Py_ssize_t i, j, n_values = n_points * n_components
    for j in range(LANES * n_components):
        low[j] = high[j] = positions[j % n_components]
    i = 0
    while i + LANES * n_components <= n_values:
        points = positions + i
        for j in range(LANES * n_components):
            low[j] = points[j] if points[j] < low[j] else low[j]
            high[j] = points[j] if points[j] > high[j] else high[j]
        i += LANES * n_components
    for i in range(i, n_values):
        j = i % n_components
        low[j] = min(low[j], positions[i])
        high[j] = max(high[j], positions[i])
    for j in range(n_components, LANES * n_components):
        low[j % n_components] = min(low[j % n_components], low[j])
        high[j % n_components] = max(high[j % n_components], high[j])
    for j in range(n_components):
        low_out[j] = low[j]
        high_out[j] = high[j]


cdef inline void bound_block(const floating* positions, Py_ssize_t n_points, Py_ssize_t n_components,
                             double* low_out, double* high_out) noexcept nogil:
    """Bound the points of a block, with the number of components as a literal."""
    if n_components == 2:
        bound_points(positions, n_points, 2, low_out, high_out)
    elif n_components == 1:
        bound_points(positions, n_points, 1, low_out, high_out)
    else:
        bound_points(positions, n_points, 3, low_out, high_out)


cdef inline void bound_all(
    const floating[:, ::1] positions,
    double[:, ::1] bounds_out,  # OUT: the low and the high corner of each block; row 0 ends as the box of all points
    int n_threads,
) noexcept nogil:
    """Bound all points: first the points of each block, and then the blocks in order."""
    cdef Py_ssize_t block, k, n_points = positions.shape[0], n_components = positions.shape[1]
    cdef Py_ssize_t n_blocks = (n_points + BOUND_BLOCK - 1) // BOUND_BLOCK
    for block in prange(n_blocks, num_threads=startable(n_threads), schedule="static"):
        bound_block(&positions[block * BOUND_BLOCK, 0], min(<Py_ssize_t>BOUND_BLOCK, n_points - block * BOUND_BLOCK),
                    n_components, &bounds_out[block, 0], &bounds_out[block, n_components])
    for k in range(n_components):
        for block in range(1, n_blocks):
            bounds_out[0, k] = min(bounds_out[0, k], bounds_out[block, k])
            bounds_out[0, n_components + k] = max(bounds_out[0, n_components + k],
                                                  bounds_out[block, n_components + k])
