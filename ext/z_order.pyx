"""Points sorted along a Z-order (Morton) curve."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint64_t

from _bounds cimport BOUND_BLOCK, bound_all
from _z_order cimport N_DIGITS, bits_per_component, cells_per_unit, encode, sort_codes

cdef enum:
    SORTED_BITS = 30   # leading bits that are radix-sorted; equal ones are put right by insertion

RADIX = N_DIGITS
BLOCK_POINTS = BOUND_BLOCK


cdef void encode_block(const floating[:, ::1] positions, Py_ssize_t block, const double* low, double scale,
                       uint64_t[::1] codes_out, int32_t[::1] order_out) noexcept nogil:
    cdef Py_ssize_t i, n_components = positions.shape[1]
    cdef int bits = bits_per_component(n_components)
    for i in range(block * BOUND_BLOCK, min((block + 1) * BOUND_BLOCK, positions.shape[0])):
        codes_out[i] = encode(&positions[i, 0], low, scale, n_components, bits)
        order_out[i] = <int32_t>i


cdef void settle_ties(uint64_t* codes, int32_t* order, uint64_t* codes_scratch, int32_t* order_scratch,
                      Py_ssize_t n_points, int n_bits, int64_t* histogram) noexcept nogil:
    """Sort runs of codes that agree in their leading SORTED_BITS: short ones by insertion."""
    cdef int shift = max(0, n_bits - SORTED_BITS)
    cdef Py_ssize_t start = 0, end, i, j
    cdef uint64_t code
    cdef int32_t point
    while start < n_points:
        end = start + 1
        while end < n_points and codes[end] >> shift == codes[start] >> shift:
            end += 1
        if end - start > 64:
            sort_codes(codes + start, order + start, codes_scratch + start, order_scratch + start, end - start,
                       0, shift, histogram, 1)
        else:
            for i in range(start + 1, end):
                code = codes[i]
                point = order[i]
                j = i
                while j > start and codes[j - 1] > code:
                    codes[j] = codes[j - 1]
                    order[j] = order[j - 1]
                    j -= 1
                codes[j] = code
                order[j] = point
        start = end


def order_points(
    const floating[:, ::1] positions,  # IN
    uint64_t[:, ::1] codes_out,        # OUT: row 0 the sorted codes, row 1 scratch
    int32_t[:, ::1] order_out,         # OUT: row 0 the points in Z-order, row 1 scratch
    int64_t[:, ::1] histogram_out,     # OUT: scratch, n_threads x RADIX
    double[:, ::1] bounds_out,         # OUT: scratch, a row of low and high corners a block
    int n_threads,
):
    """Sort points along a Z-order curve; return the side of the finest cell."""
    cdef Py_ssize_t block, k, n_points = positions.shape[0], n_components = positions.shape[1]
    cdef Py_ssize_t n_blocks = (n_points + BOUND_BLOCK - 1) // BOUND_BLOCK
    cdef double span = 0, scale
    cdef int bits = bits_per_component(n_components), n_bits = bits * <int>n_components
    with nogil:
        bound_all(positions, bounds_out, n_threads)
    for k in range(n_components):
        span = max(span, bounds_out[0, n_components + k] - bounds_out[0, k])
    scale = cells_per_unit(span, bits)
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
        encode_block(positions, block, &bounds_out[0, 0], scale, codes_out[0], order_out[0])
    with nogil:
        sort_codes(&codes_out[0, 0], &order_out[0, 0], &codes_out[1, 0], &order_out[1, 0], n_points,
                   max(0, n_bits - SORTED_BITS), n_bits, &histogram_out[0, 0], n_threads)
        settle_ties(&codes_out[0, 0], &order_out[0, 0], &codes_out[1, 0], &order_out[1, 0], n_points, n_bits,
                    &histogram_out[0, 0])
    return ldexp(span, -bits)
