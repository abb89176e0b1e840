"""Codes of 32 bits along a Z-order (Morton) curve, and the sort of points by them."""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    CHUNK = 256        # points whose codes are made at a time
    DIGIT_BITS = 8     # of the radix sort: more than 256 buckets do not stay in the cache while they are filled
    N_DIGITS = 1 << DIGIT_BITS
    BUCKET_BITS = 7    # logarithm of the points of a bucket, if the first digit can make so many buckets
    LOCAL = 16384      # points of a bucket that is sorted in its thread's own memory, which stays in the cache
    INSERTED = 16      # keys that are sorted by insertion: clearing the counters takes longer


cdef struct Points:    # in Z-order, but for their positions, whose type varies
    uint32_t* codes
    int32_t* order     # the user's indices
    Py_ssize_t stride  # of the columns of positions
    int n_components
    uint64_t* keys     # scratch: a code in the upper half of each key, a place in the lower one
    uint64_t* others   # scratch: as many keys


cdef inline int bits_per_component(Py_ssize_t n_components) noexcept nogil:
    """Return how many of the 32 bits of a code each component has."""
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
    """Return the cell of a coordinate on a line, as 32 bits; what is not a number goes to cell 0."""
    cdef double cell = offset * scale, last = 4294967295.0
    cell = cell if cell > 0 else 0
    cell = cell if cell < last else last
    return <uint32_t><int64_t>cell


cdef inline uint32_t quantise(floating offset, floating scale, int n_components) noexcept nogil:
    """Return the cell of a coordinate in more components, as 16 or 10 bits.

    For so few bits the precision of the positions suffices, and vectors have the instructions.
    """
    cdef floating cell = offset * scale, last = (1 << bits_per_component(n_components)) - 1
    cell = cell if cell > 0 else 0
    cell = cell if cell < last else last
    return <uint32_t><int32_t>cell


cdef inline double cells_per_unit(double span, int bits, double tiny) noexcept nogil:
    """Return how many of the 2^bits cells along a span there are per unit of length.

    Return 0 where the points coincide, or span less than 2^bits ``tiny``, which makes no difference.
    """
    return ldexp(1.0, bits) / span if span >= ldexp(1.0, bits) * tiny else 0


cdef inline void make_codes(
    const floating* positions, Py_ssize_t step, Py_ssize_t stride,  # from one point, and component, to the next
    Py_ssize_t n_points, const double* low, double cells_per_side,
    int n_components,                                               # a literal where it is called
    uint32_t* codes_out,
) noexcept nogil:
    """Write the codes of points, in a loop that compilers vectorise."""
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
    """Write the codes of points whose positions are a row a point."""
    if n_components == 2:
        make_codes(positions, 2, 1, n_points, low, scale, 2, codes_out)
    elif n_components == 1:
        make_codes(positions, 1, 1, n_points, low, scale, 1, codes_out)
    else:
        make_codes(positions, 3, 1, n_points, low, scale, 3, codes_out)


cdef inline void make_column_codes(const floating* columns, Py_ssize_t stride, Py_ssize_t n_points, const double* low,
                                   double scale, Py_ssize_t n_components, uint32_t* codes_out) noexcept nogil:
    """Write the codes of points whose positions are a row a component."""
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


cdef inline int floor_log2(Py_ssize_t n) noexcept nogil:
    """Return the logarithm to base 2, rounded down."""
    cdef int bits = 0
    while n > 1:
        n >>= 1
        bits += 1
    return bits


cdef inline void sort_keys(uint64_t* keys, uint64_t* scratch, Py_ssize_t n_keys, int top) noexcept nogil:
    """Sort keys by those bits of their codes that are below bit ``top``, stably. The scratch memory holds the keys.

    This is a radix sort of three or four digits, the least significant first: no jump depends on a code.
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
    if n_keys <= INSERTED:
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
    const Points* points,                                  # IN/OUT: their codes and order
    floating* columns,                                     # IN/OUT: their positions
    Py_ssize_t start, Py_ssize_t end,                      # IN: of the points that are sorted
    Py_ssize_t place,                                      # IN: of end - start values of the scratch memory
    const double* low, double cells_per_side,              # IN: of the grid of the new codes
    int top,                                               # IN: the bits from here up are the same in all codes
    floating* row,                                         # OUT: scratch
) noexcept nogil:
    """Give some of the points new codes and sort them by these, in place."""
    cdef Py_ssize_t i, k, n_points = end - start, first = 0, stride = points.stride
    cdef int32_t* order = points.order + start
    cdef uint32_t* codes = points.codes + start
    cdef uint64_t* keys = points.keys + place
    cdef uint64_t* others = points.others + place
    columns += start
    row += place
    while first < n_points:
        make_column_codes(columns + first, stride, min(<Py_ssize_t>CHUNK, n_points - first), low, cells_per_side,
                          points.n_components, codes + first)
        first += CHUNK
    for i in range(n_points):
        others[i] = <uint64_t>codes[i] << 32 | <uint64_t>i
    sort_keys(keys, others, n_points, top)
    for i in range(n_points):
        codes[i] = <uint32_t>(keys[i] >> 32)
        others[i] = <uint64_t>order[i]
    for i in range(n_points):
        order[i] = <int32_t>others[<uint32_t>keys[i]]
    for k in range(points.n_components):
        for i in range(n_points):
            row[i] = columns[k * stride + i]
        for i in range(n_points):
            columns[k * stride + i] = row[<uint32_t>keys[i]]


cdef inline void count_points(
    const floating* positions, Py_ssize_t start, Py_ssize_t end, const double* low, double scale,
    Py_ssize_t n_components, int bits, uint8_t* digits_out, int64_t* histogram_out,
) noexcept nogil:
    """Write the bucket of each point, which is the first bits of its code, and count the points of each bucket."""
    cdef uint32_t[CHUNK] codes
    cdef Py_ssize_t i, n
    for i in range(<Py_ssize_t>1 << bits):
        histogram_out[i] = 0
    while start < end:
        n = min(<Py_ssize_t>CHUNK, end - start)
        make_user_codes(positions + start * n_components, n, low, scale, n_components, codes)
        for i in range(n):
            digits_out[start + i] = <uint8_t>(<uint64_t>codes[i] >> (32 - bits))
        for i in range(n):
            histogram_out[digits_out[start + i]] += 1
        start += n


cdef inline void scatter_points(
    const floating* positions, Py_ssize_t start, Py_ssize_t end, int n_components, const uint8_t* digits,
    int64_t* next_slots,   # IN/OUT: the next free slot of each bucket
    int32_t* order_out, floating* columns_out, Py_ssize_t stride,
) noexcept nogil:
    """Move points to their buckets."""
    cdef Py_ssize_t i, k
    cdef int64_t slot
    cdef int64_t* next_slot
    for i in range(start, end):
        next_slot = next_slots + digits[i]
        slot = next_slot[0]
        next_slot[0] = slot + 1
        order_out[slot] = <int32_t>i
        for k in range(n_components):
            columns_out[k * stride + slot] = positions[i * n_components + k]
