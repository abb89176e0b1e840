"""Points sorted along a Z-order (Morton) curve."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint64_t

from _bounds cimport BOUND_BLOCK, bound_all
from _z_order cimport N_DIGITS, bits_per_component, cells_per_unit, sort_points

RADIX = N_DIGITS
BLOCK_POINTS = BOUND_BLOCK


def order_points(
    const floating[:, ::1] positions,  # IN
    uint64_t[:, ::1] keys_out,         # OUT: row 0 the sorted keys, row 1 scratch
    int32_t[::1] order_out,            # OUT: the points in Z-order
    floating[:, ::1] columns_out,      # OUT: their positions, a row a component
    int64_t[:, ::1] histogram_out,     # OUT: scratch, n_threads x RADIX
    double[:, ::1] bounds_out,         # OUT: scratch, a row of low and high corners a block
    int n_threads,
):
    """Sort points along a Z-order curve; return the side of the finest cell."""
    cdef Py_ssize_t i, k, n_points = positions.shape[0], n_components = positions.shape[1]
    cdef double span = 0
    cdef int bits = bits_per_component(n_components)
    with nogil:
        bound_all(positions, bounds_out, n_threads)
    for k in range(n_components):
        span = max(span, bounds_out[0, n_components + k] - bounds_out[0, k])
    for i in prange(n_points, nogil=True, num_threads=n_threads, schedule="static"):
        order_out[i] = <int32_t>i
    with nogil:
        sort_points(&positions[0, 0], n_components, &bounds_out[0, 0], cells_per_unit(span, bits), &keys_out[0, 0],
                    &keys_out[1, 0], &order_out[0], &columns_out[0, 0], columns_out.shape[1], 0, n_points,
                    &histogram_out[0, 0], n_threads)
    return ldexp(span, -bits)
