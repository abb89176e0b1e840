"""Points sorted along a Z-order (Morton) curve."""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from common.bounds cimport BOUND_BLOCK, bound_all
from common.threads cimport startable
from tsne.codes cimport (
    BUCKET_BITS, DIGIT_BITS, LOCAL, N_DIGITS, Points, bits_per_component, cells_per_unit, count_points, floor_log2,
    scatter_points, sort_range,
)

RADIX = N_DIGITS
LOCAL_KEYS = LOCAL
BLOCK_POINTS = BOUND_BLOCK


cdef double lay_grid(const floating[:, ::1] positions, double[:, ::1] bounds_out, int n_threads,
                     double* cells_per_side_out) noexcept nogil:
    """Bound the points and write how many cells there are per unit of length; return the side of the finest cell."""
    cdef Py_ssize_t k, n_components = positions.shape[1]
    cdef double span = 0
    cdef int bits = bits_per_component(n_components)
    bound_all(positions, bounds_out, n_threads)
    for k in range(n_components):
        span = max(span, bounds_out[0, n_components + k] - bounds_out[0, k])
    cells_per_side_out[0] = cells_per_unit(span, bits, 1e-37 if sizeof(floating) == 4 else 1e-300)
    return ldexp(span, -bits)


cdef void scatter_chunk(const floating[:, ::1] positions, Py_ssize_t start, Py_ssize_t end, const uint8_t* digits,
                        int64_t* next_slots, int32_t* order_out, floating[:, ::1] columns_out) noexcept nogil:
    """Move the points of one thread to their buckets, with the number of components as a literal."""
    cdef const floating* first = &positions[0, 0]
    cdef floating* columns = &columns_out[0, 0]
    cdef Py_ssize_t stride = columns_out.shape[1]
    if positions.shape[1] == 2:
        scatter_points(first, start, end, 2, digits, next_slots, order_out, columns, stride)
    elif positions.shape[1] == 1:
        scatter_points(first, start, end, 1, digits, next_slots, order_out, columns, stride)
    else:
        scatter_points(first, start, end, 3, digits, next_slots, order_out, columns, stride)


cdef void sum_histograms(int64_t[:, ::1] histogram, Py_ssize_t n_digits) noexcept nogil:
    """Replace the number of points in each bucket, a row a thread, by the slot of the thread's first point there."""
    cdef Py_ssize_t digit, chunk, count, seen = 0
    for digit in range(n_digits):
        for chunk in range(histogram.shape[0]):
            count = histogram[chunk, digit]
            histogram[chunk, digit] = seen
            seen += count


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

    They are moved into buckets, and each bucket is sorted on its own, in the cache.
    """
    cdef Py_ssize_t n_points = positions.shape[0], n_components = positions.shape[1]
    cdef Py_ssize_t share = (n_points + n_threads - 1) // n_threads, chunk, digit, n_digits, start, place
    cdef double scale, finest_side
    cdef int bits = min(max(floor_log2(n_points) - BUCKET_BITS, 0), DIGIT_BITS)
    cdef const double* low = &bounds_out[0, 0]
    cdef const int64_t* ends = &histogram_out[n_threads - 1, 0]  # the last thread's slots move to the buckets' ends
    cdef Points points
    points.codes, points.order = &codes_out[0], &order_out[0]
    points.keys, points.others = &keys_out[0, 0], &keys_out[1, 0]
    points.stride, points.n_components = columns_out.shape[1], <int>n_components
    n_digits = <Py_ssize_t>1 << bits
    with nogil:
        finest_side = lay_grid(positions, bounds_out, n_threads, &scale)
    for chunk in prange(n_threads, nogil=True, num_threads=startable(n_threads), schedule="static"):
        count_points(&positions[0, 0], chunk * share, min((chunk + 1) * share, n_points), low, scale, n_components,
                     bits, &digits_out[0], &histogram_out[chunk, 0])
    sum_histograms(histogram_out[:n_threads], n_digits)
    for chunk in prange(n_threads, nogil=True, num_threads=startable(n_threads), schedule="static"):
        scatter_chunk(positions, chunk * share, min((chunk + 1) * share, n_points), &digits_out[0],
                      &histogram_out[chunk, 0], &order_out[0], columns_out)
    for digit in prange(n_digits, nogil=True, num_threads=startable(n_threads), schedule="dynamic", chunksize=2):
        start = ends[digit - 1] if digit > 0 else 0
        place = n_points + threadid() * LOCAL if ends[digit] - start <= LOCAL else start
        sort_range(&points, &columns_out[0, 0], start, ends[digit], place, low, scale, 32 - bits, &row_out[0])
    return finest_side
