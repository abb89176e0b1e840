"""Points sorted along a Z-order (Morton) curve."""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from common.bounds cimport BOUND_BLOCK, bound_all
from tsne.codes cimport (
    BUCKET_BITS, DIGIT_BITS, LOCAL, N_DIGITS, bits_per_component, cells_per_unit, count_points, log_of, scatter_points,
    sort_range,
)

RADIX = N_DIGITS
LOCAL_KEYS = LOCAL
BLOCK_POINTS = BOUND_BLOCK


def order_points(
    const floating[:, ::1] positions,  # IN
    uint32_t[::1] codes_out,           # OUT: the codes, sorted
    int32_t[::1] order_out,            # OUT: the points in Z-order
    floating[:, ::1] columns_out,      # OUT: their positions, a row a component
    uint8_t[::1] digits_out,           # OUT: scratch, one value a point
    uint64_t[:, ::1] keys_out,         # OUT: scratch, 2 x (n_points + n_threads LOCAL_KEYS)
    floating[::1] row_out,             # OUT: scratch, n_points + n_threads LOCAL_KEYS
    int64_t[:, ::1] histogram_out,     # OUT: scratch, n_threads x RADIX
    double[:, ::1] bounds_out,         # OUT: scratch, a row of low and high corners a block
    int n_threads,
):
    """Sort points along a Z-order curve, stably; return the side of the finest cell.

    They are moved into buckets, and each of these is sorted on its own, in the cache.
    """
    cdef Py_ssize_t k, n_points = positions.shape[0], n_components = positions.shape[1], stride = columns_out.shape[1]
    cdef Py_ssize_t share = (n_points + n_threads - 1) // n_threads, chunk, digit, n_digits, count, seen = 0
    cdef Py_ssize_t start, place
    cdef double span = 0, scale
    cdef int bits = min(max(log_of(n_points) - BUCKET_BITS, 0), DIGIT_BITS)
    cdef const double* low = &bounds_out[0, 0]
    cdef const int64_t* ends = &histogram_out[n_threads - 1, 0]  # the last thread's counters come to the buckets' ends
    with nogil:
        bound_all(positions, bounds_out, n_threads)
    for k in range(n_components):
        span = max(span, bounds_out[0, n_components + k] - bounds_out[0, k])
    scale = cells_per_unit(span, bits_per_component(n_components), 1e-37 if sizeof(floating) == 4 else 1e-300)
    n_digits = <Py_ssize_t>1 << bits
    for chunk in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        count_points(&positions[0, 0], chunk * share, min((chunk + 1) * share, n_points), low, scale, n_components,
                     bits, &digits_out[0], &histogram_out[chunk, 0])
    for digit in range(n_digits):
        for chunk in range(n_threads):
            count = histogram_out[chunk, digit]
            histogram_out[chunk, digit] = seen
            seen += count
    for chunk in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        if n_components == 2:
            scatter_points(&positions[0, 0], chunk * share, min((chunk + 1) * share, n_points), 2, &digits_out[0],
                           &histogram_out[chunk, 0], &order_out[0], &columns_out[0, 0], stride)
        elif n_components == 1:
            scatter_points(&positions[0, 0], chunk * share, min((chunk + 1) * share, n_points), 1, &digits_out[0],
                           &histogram_out[chunk, 0], &order_out[0], &columns_out[0, 0], stride)
        else:
            scatter_points(&positions[0, 0], chunk * share, min((chunk + 1) * share, n_points), 3, &digits_out[0],
                           &histogram_out[chunk, 0], &order_out[0], &columns_out[0, 0], stride)
    for digit in prange(n_digits, nogil=True, num_threads=n_threads, schedule="dynamic", chunksize=2):
        start = ends[digit - 1] if digit > 0 else 0
        place = n_points + threadid() * LOCAL if ends[digit] - start <= LOCAL else start
        sort_range(&columns_out[0, 0], stride, n_components, &order_out[0], &codes_out[0], start, ends[digit], low,
                   scale, 32 - bits, &keys_out[0, place], &keys_out[1, place], &row_out[place])
    return ldexp(span, -bits_per_component(n_components))
