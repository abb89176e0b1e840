"""Codes along a Z-order (Morton) curve, and their sort."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef enum:
    DIGIT_BITS = 10    # of the radix sort: 1,024 write streams stay within the L1 and TLB reach
    N_DIGITS = 1 << DIGIT_BITS


cdef inline int bits_per_component(Py_ssize_t n_components) noexcept nogil:
    """24 bits a component hold every bit of a float32 in two dimensions; three have room for 20."""
    return 48 if n_components == 1 else 24 if n_components == 2 else 20


cdef inline uint64_t spread_by_two(uint64_t x) noexcept nogil:
    """Put one zero bit between the low 32 bits of x."""
    x = (x | (x << 16)) & 0x0000FFFF0000FFFFULL
    x = (x | (x << 8)) & 0x00FF00FF00FF00FFULL
    x = (x | (x << 4)) & 0x0F0F0F0F0F0F0F0FULL
    x = (x | (x << 2)) & 0x3333333333333333ULL
    return (x | (x << 1)) & 0x5555555555555555ULL


cdef inline uint64_t spread_by_three(uint64_t x) noexcept nogil:
    """Put two zero bits between the low 21 bits of x."""
    x = (x | (x << 32)) & 0x001F00000000FFFFULL
    x = (x | (x << 16)) & 0x001F0000FF0000FFULL
    x = (x | (x << 8)) & 0x100F00F00F00F00FULL
    x = (x | (x << 4)) & 0x10C30C30C30C30C3ULL
    return (x | (x << 2)) & 0x1249249249249249ULL


cdef inline uint64_t quantise(double offset, double scale, int bits) noexcept nogil:
    """Return the cell of a coordinate; whatever is not a number goes to cell 0."""
    cdef double cell = offset * scale
    cdef double last = ldexp(1.0, bits) - 1
    if not cell > 0:
        return 0
    return <uint64_t>(cell if cell < last else last)


cdef inline double cells_per_unit(double span, int bits) noexcept nogil:
    """Return 0 where points coincide, or are apart by so little (1e-285) that it makes no difference."""
    return ldexp(1.0, bits) / span if span >= ldexp(1.0, bits) * 1e-300 else 0


cdef inline uint64_t encode(const floating* position, const double* low, double scale,
                            Py_ssize_t n_components, int bits) noexcept nogil:
    cdef uint64_t x = quantise(position[0] - low[0], scale, bits)
    if n_components == 1:
        return x
    cdef uint64_t y = quantise(position[1] - low[1], scale, bits)
    if n_components == 2:
        return spread_by_two(x) | (spread_by_two(y) << 1)
    cdef uint64_t z = quantise(position[2] - low[2], scale, bits)
    return spread_by_three(x) | (spread_by_three(y) << 1) | (spread_by_three(z) << 2)


cdef inline void sort_codes(
    uint64_t* codes, int32_t* order,                  # IN/OUT
    uint64_t* codes_scratch, int32_t* order_scratch,  # OUT: scratch
    Py_ssize_t n_points, int shift, int n_bits,       # IN: sort by bits shift to n_bits
    int64_t* histogram,                               # OUT: scratch, n_threads x N_DIGITS
    int n_threads,
) noexcept nogil:
    """Sort by code, stably, least significant digit first; the outcome does not depend on n_threads."""
    cdef Py_ssize_t chunk, i, digit, seen, count, share = (n_points + n_threads - 1) // n_threads
    cdef uint64_t* keys = codes
    cdef uint64_t* keys_out = codes_scratch
    cdef int32_t* values = order
    cdef int32_t* values_out = order_scratch
    cdef uint64_t* keys_swap
    cdef int32_t* values_swap
    cdef bint constant
    while shift < n_bits:
        for chunk in prange(n_threads, num_threads=n_threads, schedule="static"):
            count_digits(keys, chunk * share, min((chunk + 1) * share, n_points), shift,
                         histogram + chunk * N_DIGITS)
        seen = 0
        constant = False
        for digit in range(N_DIGITS):
            i = seen
            for chunk in range(n_threads):
                count = histogram[chunk * N_DIGITS + digit]
                histogram[chunk * N_DIGITS + digit] = seen
                seen += count
            constant |= seen - i == n_points
        if not constant:
            for chunk in prange(n_threads, num_threads=n_threads, schedule="static"):
                scatter_digits(keys, values, keys_out, values_out, chunk * share,
                               min((chunk + 1) * share, n_points), shift, histogram + chunk * N_DIGITS)
            keys_swap = keys
            keys = keys_out
            keys_out = keys_swap
            values_swap = values
            values = values_out
            values_out = values_swap
        shift += DIGIT_BITS
    if keys != codes:
        for i in range(n_points):
            codes[i] = keys[i]
            order[i] = values[i]


cdef inline void count_digits(const uint64_t* keys, Py_ssize_t start, Py_ssize_t end, int shift,
                       int64_t* histogram) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(N_DIGITS):
        histogram[i] = 0
    for i in range(start, end):
        histogram[(keys[i] >> shift) & (N_DIGITS - 1)] += 1


cdef inline void scatter_digits(const uint64_t* keys, const int32_t* values, uint64_t* keys_out,
                         int32_t* values_out, Py_ssize_t start, Py_ssize_t end, int shift,
                         int64_t* histogram) noexcept nogil:
    cdef Py_ssize_t i, digit, slot
    for i in range(start, end):
        digit = (keys[i] >> shift) & (N_DIGITS - 1)
        slot = histogram[digit]
        histogram[digit] = slot + 1
        keys_out[slot] = keys[i]
        values_out[slot] = values[i]
