"""Keys along a Z-order (Morton) curve, and their sort: 32 bits of the code, above the number of the point."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define KULLBACK_FETCH(pointer) __builtin_prefetch(pointer)
    #else
    #define KULLBACK_FETCH(pointer)
    #endif
    """
    void fetch "KULLBACK_FETCH"(const void* pointer) noexcept nogil

cdef enum:
    AHEAD = 16         # points whose positions are fetched ahead: they come from all over the memory
    DIGIT_BITS = 11    # of the radix sort, which takes three for 32 bits
    N_DIGITS = 1 << DIGIT_BITS
    FEW = 64           # keys that are sorted by insertion: clearing the counters takes longer


cdef inline int bits_per_component(Py_ssize_t n_components) noexcept nogil:
    return 32 if n_components == 1 else 16 if n_components == 2 else 10


cdef inline uint32_t spread_by_two(uint32_t x) noexcept nogil:
    """Put one zero bit between the low 16 bits of x."""
    x = (x | (x << 8)) & 0x00FF00FFU
    x = (x | (x << 4)) & 0x0F0F0F0FU
    x = (x | (x << 2)) & 0x33333333U
    return (x | (x << 1)) & 0x55555555U


cdef inline uint32_t spread_by_three(uint32_t x) noexcept nogil:
    """Put two zero bits between the low 10 bits of x."""
    x = (x | (x << 16)) & 0x030000FFU
    x = (x | (x << 8)) & 0x0300F00FU
    x = (x | (x << 4)) & 0x030C30C3U
    return (x | (x << 2)) & 0x09249249U


cdef inline uint32_t quantise(double offset, double scale, double last) noexcept nogil:
    """Return the cell of a coordinate; whatever is not a number goes to cell 0."""
    cdef double cell = offset * scale
    if not cell > 0:
        return 0
    return <uint32_t>(cell if cell < last else last)


cdef inline double cells_per_unit(double span, int bits) noexcept nogil:
    """Return 0 where points coincide, or are apart by so little (1e-285) that it makes no difference."""
    return ldexp(1.0, bits) / span if span >= ldexp(1.0, bits) * 1e-300 else 0


cdef inline uint64_t make_key(const floating* positions, Py_ssize_t point, const double* low, double scale,
                              Py_ssize_t n_components) noexcept nogil:
    cdef const floating* position = positions + point * n_components
    cdef double last = <double>((<int64_t>1 << bits_per_component(n_components)) - 1)
    cdef uint32_t code = quantise(position[0] - low[0], scale, last)
    if n_components == 2:
        code = spread_by_two(code) | (spread_by_two(quantise(position[1] - low[1], scale, last)) << 1)
    elif n_components == 3:
        code = (spread_by_three(code) | (spread_by_three(quantise(position[1] - low[1], scale, last)) << 1)
                | (spread_by_three(quantise(position[2] - low[2], scale, last)) << 2))
    return <uint64_t>code << 32 | <uint64_t>point


cdef inline uint64_t* sort_keys(
    uint64_t* keys, uint64_t* scratch,  # IN/OUT
    Py_ssize_t n_keys,                  # IN
    int64_t* histogram,                 # OUT: scratch, n_threads x N_DIGITS
    int n_threads,
) noexcept nogil:
    """Sort by code, stably, least significant digit first; return where the result is: n_threads does not matter."""
    cdef Py_ssize_t chunk, i, j, digit, seen, count, share = (n_keys + n_threads - 1) // n_threads
    cdef uint64_t key
    cdef uint64_t* swap
    cdef bint constant
    cdef int shift = 64 - 3 * DIGIT_BITS  # the bit below the codes is the sign of the number, 0
    if n_keys <= FEW:
        for i in range(1, n_keys):
            key = keys[i]
            j = i
            while j > 0 and keys[j - 1] >> 32 > key >> 32:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key
        return keys
    while shift < 64:
        for chunk in prange(n_threads, num_threads=n_threads, schedule="static"):
            count_digits(keys, chunk * share, min((chunk + 1) * share, n_keys), shift, histogram + chunk * N_DIGITS)
        seen = 0
        constant = False
        for digit in range(N_DIGITS):
            i = seen
            for chunk in range(n_threads):
                count = histogram[chunk * N_DIGITS + digit]
                histogram[chunk * N_DIGITS + digit] = seen
                seen += count
            constant |= seen - i == n_keys
        if not constant:
            for chunk in prange(n_threads, num_threads=n_threads, schedule="static"):
                scatter_digits(keys, scratch, chunk * share, min((chunk + 1) * share, n_keys), shift,
                               histogram + chunk * N_DIGITS)
            swap = keys
            keys = scratch
            scratch = swap
        shift += DIGIT_BITS
    return keys


cdef inline void count_digits(const uint64_t* keys, Py_ssize_t start, Py_ssize_t end, int shift,
                       int64_t* histogram) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(N_DIGITS):
        histogram[i] = 0
    for i in range(start, end):
        histogram[(keys[i] >> shift) & (N_DIGITS - 1)] += 1


cdef inline void scatter_digits(const uint64_t* keys, uint64_t* keys_out, Py_ssize_t start, Py_ssize_t end, int shift,
                                int64_t* histogram) noexcept nogil:
    cdef Py_ssize_t i, digit, slot
    for i in range(start, end):
        digit = (keys[i] >> shift) & (N_DIGITS - 1)
        slot = histogram[digit]
        histogram[digit] = slot + 1
        keys_out[slot] = keys[i]


cdef inline void sort_points(
    const floating* positions, Py_ssize_t n_components, const double* low, double scale,
    uint64_t* keys, uint64_t* scratch,     # OUT: keys, in order
    int32_t* order,                        # IN/OUT: the points
    floating* columns, Py_ssize_t stride,  # OUT: their positions, a row a component
    Py_ssize_t start, Py_ssize_t end, int64_t* histogram, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t i, k, point
    for i in prange(start, end, num_threads=n_threads, schedule="static"):
        scratch[i] = make_key(positions, order[i], low, scale, n_components)
    if sort_keys(scratch + start, keys + start, end - start, histogram, n_threads) != keys + start:
        for i in prange(start, end, num_threads=n_threads, schedule="static"):
            keys[i] = scratch[i]
    for i in prange(start, end, num_threads=n_threads, schedule="static"):
        fetch(positions + <Py_ssize_t>(<int32_t>keys[min(i + AHEAD, end - 1)]) * n_components)
        order[i] = <int32_t>keys[i]
        for k in range(n_components):
            columns[k * stride + i] = positions[<Py_ssize_t>(<int32_t>keys[i]) * n_components + k]
