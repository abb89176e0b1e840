"""The bounding box of points, in blocks whose order does not depend on the thread count."""

from cython cimport floating
from cython.parallel cimport prange

cdef enum:
    BOUND_BLOCK = 4096  # points a block


cdef inline void bound_points(const floating[:, ::1] positions, Py_ssize_t start, Py_ssize_t end,
                              double* low_out, double* high_out) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef floating low, high
    for k in range(positions.shape[1]):
        low = high = positions[start, k]
        for i in range(start + 1, end):
            low = min(low, positions[i, k])
            high = max(high, positions[i, k])
        low_out[k] = low
        high_out[k] = high


cdef inline void bound_all(
    const floating[:, ::1] positions,
    double[:, ::1] bounds_out,  # OUT: a row a block, low corner and high corner; row 0 ends as the box of all
    int n_threads,
) noexcept nogil:
    cdef Py_ssize_t block, k, n_points = positions.shape[0], n_components = positions.shape[1]
    cdef Py_ssize_t n_blocks = (n_points + BOUND_BLOCK - 1) // BOUND_BLOCK
    for block in prange(n_blocks, num_threads=n_threads, schedule="static"):
        bound_points(positions, block * BOUND_BLOCK, min((block + 1) * BOUND_BLOCK, n_points),
                     &bounds_out[block, 0], &bounds_out[block, n_components])
    for k in range(n_components):
        for block in range(1, n_blocks):
            bounds_out[0, k] = min(bounds_out[0, k], bounds_out[block, k])
            bounds_out[0, n_components + k] = max(bounds_out[0, n_components + k],
                                                  bounds_out[block, n_components + k])
