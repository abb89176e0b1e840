"""Codes of 32 bits along a Z-order (Morton) curve, and the sort of points by them."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    SOME = 256         # points whose codes are made at a time
    DIGIT_BITS = 8     # of the radix sort: more buckets than 256 do not stay in the cache while they are filled
    N_DIGITS = 1 << DIGIT_BITS
    BUCKET_BITS = 7    # logarithm of the points of a bucket, if the first digit can make that many
    LOCAL = 16384      # points of a bucket that is sorted in memory of its thread, which stays in the cache
    FEW = 16           # keys that are sorted by insertion: clearing the counters takes longer


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


cdef inline uint32_t quantise_line(double offset, double scale) noexcept nogil:
    """Return the cell of a coordinate of 32 bits; whatever is not a number goes to cell 0."""
    cdef double cell = offset * scale, last = 4294967295.0
    cell = cell if cell > 0 else 0
    cell = cell if cell < last else last
    return <uint32_t><int64_t>cell


cdef inline uint32_t quantise(floating offset, floating scale, int n_components) noexcept nogil:
    """Do so with fewer bits, for which the precision of the positions suffices and vectors have instructions."""
    cdef floating cell = offset * scale, last = (1 << bits_per_component(n_components)) - 1
    cell = cell if cell > 0 else 0
    cell = cell if cell < last else last
    return <uint32_t><int32_t>cell


cdef inline double cells_per_unit(double span, int bits, double tiny) noexcept nogil:
    """Return 0 where points coincide, or are apart by so little that it makes no difference: 2^bits tiny."""
    return ldexp(1.0, bits) / span if span >= ldexp(1.0, bits) * tiny else 0


cdef inline void make_codes(
    const floating* positions, Py_ssize_t step, Py_ssize_t stride,  # from one point, and component, to the next
    Py_ssize_t n_points, const double* low, double cells_per_side, int n_components, uint32_t* codes_out,
) noexcept nogil:
    """Write codes in a loop that compilers vectorise."""
    cdef floating scale = <floating>cells_per_side, x = <floating>low[0]
    cdef floating y = <floating>low[1] if n_components > 1 else 0, z = <floating>low[2] if n_components > 2 else 0
    cdef Py_ssize_t i
    for i in range(n_points):
        if n_components == 1:
            codes_out[i] = quantise_line(<double>positions[i * step] - low[0], cells_per_side)
        elif n_components == 2:
            codes_out[i] = (spread_by_two(quantise(positions[i * step] - x, scale, 2))
                            | (spread_by_two(quantise(positions[stride + i * step] - y, scale, 2)) << 1))
        else:
            codes_out[i] = (spread_by_three(quantise(positions[i * step] - x, scale, 3))
                            | (spread_by_three(quantise(positions[stride + i * step] - y, scale, 3)) << 1)
                            | (spread_by_three(quantise(positions[2 * stride + i * step] - z, scale, 3)) << 2))


cdef inline void make_user_codes(const floating* positions, Py_ssize_t n_points, const double* low, double scale,
                                 Py_ssize_t n_components, uint32_t* codes_out) noexcept nogil:
    """Do so for positions a row a point."""
    if n_components == 2:
        make_codes(positions, 2, 1, n_points, low, scale, 2, codes_out)
    elif n_components == 1:
        make_codes(positions, 1, 1, n_points, low, scale, 1, codes_out)
    else:
        make_codes(positions, 3, 1, n_points, low, scale, 3, codes_out)


cdef inline void make_column_codes(const floating* columns, Py_ssize_t stride, Py_ssize_t n_points, const double* low,
                                   double scale, Py_ssize_t n_components, uint32_t* codes_out) noexcept nogil:
    """Do so for positions a row a component."""
    if n_components == 2:
        make_codes(columns, 1, stride, n_points, low, scale, 2, codes_out)
    elif n_components == 1:
        make_codes(columns, 1, stride, n_points, low, scale, 1, codes_out)
    else:
        make_codes(columns, 1, stride, n_points, low, scale, 3, codes_out)


cdef inline void insert_keys(uint64_t* keys, Py_ssize_t n_keys) noexcept nogil:
    """Sort a few keys by code, stably."""
    cdef Py_ssize_t i, j
    cdef uint64_t key
    for i in range(1, n_keys):
        key = keys[i]
        j = i
        while j > 0 and keys[j - 1] >> 32 > key >> 32:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key


cdef inline int log_of(Py_ssize_t n) noexcept nogil:
    """Return the logarithm to base 2, rounded down."""
    cdef int bits = 0
    while n > 1:
        n >>= 1
        bits += 1
    return bits


cdef inline void sort_keys(uint64_t* keys, uint64_t* scratch, Py_ssize_t n_keys, int top) noexcept nogil:
    """Sort keys, which are in the scratch memory, by those bits of their codes that are below bit ``top``, stably.

    Three or four digits, least significant first: no jump depends on a code.
    """
    cdef int32_t[4 * N_DIGITS] ends
    cdef int32_t* end
    cdef int32_t seen, count
    cdef Py_ssize_t i
    cdef uint64_t key
    cdef uint64_t* swap
    cdef uint64_t* source = scratch
    cdef uint64_t* target = keys
    cdef int k, shift, n_digits = 3 if top <= 3 * DIGIT_BITS else 4, bits = (top - 1) // n_digits + 1
    cdef uint64_t mask = (<uint64_t>1 << bits) - 1
    if n_keys <= FEW:
        for i in range(n_keys):
            keys[i] = scratch[i]
        insert_keys(keys, n_keys)
        return
    for i in range(4 << bits):
        ends[i] = 0
    for i in range(n_keys):
        key = scratch[i] >> 32
        ends[key & mask] += 1
        ends[(1 << bits) + (key >> bits & mask)] += 1
        ends[(2 << bits) + (key >> 2 * bits & mask)] += 1
    if n_digits == 4:
        for i in range(n_keys):
            ends[(3 << bits) + (scratch[i] >> 32 >> 3 * bits & mask)] += 1
    for k in range(n_digits):
        seen = 0
        for i in range(k << bits, (k + 1) << bits):
            count = ends[i]
            ends[i] = seen
            seen += count
    for k in range(n_digits):
        shift = 32 + k * bits
        for i in range(n_keys):
            key = source[i]
            end = ends + (k << bits) + (key >> shift & mask)
            target[end[0]] = key
            end[0] += 1
        swap = source
        source = target
        target = swap
    if source != keys:
        for i in range(n_keys):
            keys[i] = scratch[i]


cdef inline void sort_range(
    floating* columns, Py_ssize_t stride, Py_ssize_t n_components, int32_t* order, uint32_t* codes,  # IN/OUT
    Py_ssize_t start, Py_ssize_t end, const double* low, double scale,
    int top,                                        # bits above are the same in all codes
    uint64_t* keys, uint64_t* scratch, floating* row,  # OUT: scratch, end - start values
) noexcept nogil:
    """Sort some of the points, in place, by new codes."""
    cdef Py_ssize_t i, k, n_points = end - start, first = 0
    columns += start
    order += start
    codes += start
    while first < n_points:
        make_column_codes(columns + first, stride, min(<Py_ssize_t>SOME, n_points - first), low, scale, n_components,
                          codes + first)
        first += SOME
    for i in range(n_points):
        scratch[i] = <uint64_t>codes[i] << 32 | <uint64_t>i
    sort_keys(keys, scratch, n_points, top)
    for i in range(n_points):
        codes[i] = <uint32_t>(keys[i] >> 32)
        scratch[i] = <uint64_t>order[i]
    for i in range(n_points):
        order[i] = <int32_t>scratch[<uint32_t>keys[i]]
    for k in range(n_components):
        for i in range(n_points):
            row[i] = columns[k * stride + i]
        for i in range(n_points):
            columns[k * stride + i] = row[<uint32_t>keys[i]]


cdef inline void count_points(
    const floating* positions, Py_ssize_t start, Py_ssize_t end, const double* low, double scale,
    Py_ssize_t n_components, int bits, uint8_t* digits_out, int64_t* histogram,
) noexcept nogil:
    """Write the bucket of each point, which is the first bits of its code, and count those of each."""
    cdef uint32_t[SOME] codes
    cdef Py_ssize_t i, n
    for i in range(<Py_ssize_t>1 << bits):
        histogram[i] = 0
    while start < end:
        n = min(<Py_ssize_t>SOME, end - start)
        make_user_codes(positions + start * n_components, n, low, scale, n_components, codes)
        for i in range(n):
            digits_out[start + i] = <uint8_t>(<uint64_t>codes[i] >> (32 - bits))
        for i in range(n):
            histogram[digits_out[start + i]] += 1
        start += n


cdef inline void scatter_points(
    const floating* positions, Py_ssize_t start, Py_ssize_t end, int n_components, const uint8_t* digits,
    int64_t* histogram, int32_t* order, floating* columns, Py_ssize_t stride,
) noexcept nogil:
    """Move points to their buckets."""
    cdef Py_ssize_t i, k
    cdef int64_t slot
    cdef int64_t* end_of
    for i in range(start, end):
        end_of = histogram + digits[i]
        slot = end_of[0]
        end_of[0] = slot + 1
        order[slot] = <int32_t>i
        for k in range(n_components):
            columns[k * stride + slot] = positions[i * n_components + k]
