"""Exact sums of float64 values and of their products, whatever the order.

A sum is a long fixed-point integer, cut into 32-bit digits that are kept in int64 chunks, after the
small superaccumulator of Neal (2015), "Fast exact summation using small and large superaccumulators".
A chunk has 31 bits of head room, so carries wait until ``carry`` is called. A carried sum is in canonical form: its
digits are in [0, 2^32), and only the last chunk has a sign. Equal sums then have equal bits, and merging two sums is
adding integers. Of ``n_chunks`` chunks, chunk k counts units of 2^(32 k - 16 n_chunks). 70 chunks hold every float64
and 2^60 additions; 136 chunks hold every product of two.

This file is compiled without -fassociative-math, although nothing but integers is added in it.
"""

from common.exact cimport DIGIT, add_product, add_value, bits_of, is_finite
from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int64_t

cdef enum:
    # columns of the counts
    FINITE = 0
    ZERO = 1
    INFINITE = 2
    NONFINITE = 3
    # rows of the sums of one statistic; the last three only where there are weights
    SUM_X = 0
    SUM_XX = 1
    SUM_XW = 2
    SUM_W = 3
    SUM_WW = 4
    # counts of pairs
    PAIRS = 0
    A_SMALLER = 1
    B_SMALLER = 2
    INFINITE_A = 3
    INFINITE_B = 4
    NOT_A_NUMBER = 5
    # buckets of values for quantiles
    KEY_PRECISION = 10  # bits of the mantissa that tell buckets apart
    KEY_SHIFT = 52 - KEY_PRECISION  # bits that are dropped
    KEYS_PER_STATISTIC = 1 << (12 + KEY_PRECISION)  # more than there are buckets
    MIDDLE_KEY = KEYS_PER_STATISTIC // 2  # the key of zero, among those of its statistic

PRECISION = KEY_PRECISION


cdef inline int64_t order_key(double value) noexcept nogil:
    """Map a value to an integer of the same order, which is equal for values whose leading bits are equal."""
    cdef int64_t bits = <int64_t>bits_of(value)
    # Shifting the magnitude keeps a bucket's two bounds on one side of zero, and puts -0.0 with 0.0.
    return bits >> KEY_SHIFT if bits >= 0 else -((bits & INT64_MAX) >> KEY_SHIFT)


cdef inline bint accumulate_row(
    double value, double weight, int64_t* sums, Py_ssize_t n_sums, Py_ssize_t n_chunks,
    int64_t* counts, double* extremes, int64_t* key_out,
) noexcept nogil:
    """Add one row to one statistic; return whether it has a rank, and if so its key. Infinite rows are only counted."""
    cdef double weighted = value * weight  # This is rounded once, so it depends on the row alone.
    if not is_finite(value) or not is_finite(weighted):
        counts[INFINITE if value > 0 else NONFINITE] += 1
        key_out[0] = order_key(INFINITY)
        return value > 0
    counts[FINITE] += 1
    if value == 0:
        counts[ZERO] += 1
    if value < extremes[0]:
        extremes[0] = value
    if value > extremes[1]:
        extremes[1] = value
    add_value(sums + SUM_X * n_chunks, n_chunks, weighted)
    add_product(sums + SUM_XX * n_chunks, n_chunks, weighted, weighted)
    if n_sums > SUM_XW:
        add_product(sums + SUM_XW * n_chunks, n_chunks, weighted, weight)
        add_value(sums + SUM_W * n_chunks, n_chunks, weight)
        add_product(sums + SUM_WW * n_chunks, n_chunks, weight, weight)
    key_out[0] = order_key(value)
    return True


def accumulate_rows(
    const double[::1] values,     # IN: measure after measure, one per row; NaN and infinity are only counted
    Py_ssize_t n_measures,
    const double[::1] weights,    # IN: one per row, 0 leaves the row out; or None: all 1
    const int64_t[::1] groups,    # IN: one per row, in range; or None: all 0
    int64_t[:, :, ::1] sums,      # IN/OUT: statistic x (x, xx; with weights also xw, w, ww) x chunk
    int64_t[:, ::1] counts,       # IN/OUT: statistic x (finite, zero, infinite, not a number)
    double[:, ::1] extremes,      # IN/OUT: statistic x (smallest, largest)
    int64_t[::1] keys,            # IN/OUT: buckets, with room for all values after the sizes[1] keys there are; or None
    int64_t[::1] sizes,           # IN/OUT: how many groups and how many keys there are
    Py_ssize_t n_groups,          # how many groups there are from now on
):
    """Add rows to the statistics of their groups, where group g of measure m is statistic g * n_measures + m.

    No Python code runs in between: whoever is interrupted finds either all of the rows, with the sizes that belong to
    them, or none.
    """
    cdef Py_ssize_t i, measure, statistic, n_rows = values.shape[0] // n_measures
    cdef Py_ssize_t n_chunks = sums.shape[2], n_sums = sums.shape[1]
    cdef bint weighted = weights is not None, grouped = groups is not None, keyed = keys is not None
    cdef double weight = 1
    cdef int64_t key, n_keys = sizes[1]
    with nogil:
        for measure in range(n_measures):
            for i in range(n_rows):
                if weighted:
                    weight = weights[i]
                    if weight == 0:
                        continue
                statistic = (groups[i] if grouped else 0) * n_measures + measure
                if accumulate_row(values[measure * n_rows + i], weight, &sums[statistic, 0, 0], n_sums, n_chunks,
                                  &counts[statistic, 0], &extremes[statistic, 0], &key) and keyed:
                    keys[n_keys] = statistic * KEYS_PER_STATISTIC + MIDDLE_KEY + key
                    n_keys += 1
        sizes[0], sizes[1] = n_groups, n_keys


def accumulate_pairs(
    const double[::1] a,          # IN: one per row; NaN and infinity are counted and left out
    const double[::1] b,          # IN
    const int64_t[::1] clusters,  # IN: one per row, in range; or None: no clusters
    int64_t[:, :, ::1] sums,      # IN/OUT: (a - b, a, b) x (x, xx) x chunk
    int64_t[::1] counts,          # IN/OUT: finite, a smaller, b smaller, a infinite, b infinite, not a number
    int64_t[:, ::1] cluster_sums,  # IN/OUT: cluster x chunk: sums of a - b
    int64_t[::1] cluster_rows,    # IN/OUT: cluster: its finite rows
    int64_t[::1] sizes,           # IN/OUT: how many clusters there are
    Py_ssize_t n_clusters,        # how many clusters there are from now on
):
    """Add pairs of values to their sums; as with ``accumulate_rows``, an interrupt finds all of them or none."""
    cdef Py_ssize_t i, k, n_chunks = sums.shape[2], n_cluster_chunks = cluster_sums.shape[1]
    cdef bint clustered = clusters is not None
    cdef double[3] values
    with nogil:
        for i in range(a.shape[0]):
            values[0], values[1], values[2] = a[i] - b[i], a[i], b[i]
            if a[i] != a[i] or b[i] != b[i]:
                counts[NOT_A_NUMBER] += 1
            elif not is_finite(a[i]) or not is_finite(b[i]):
                counts[INFINITE_A] += not is_finite(a[i])
                counts[INFINITE_B] += not is_finite(b[i])
            elif not is_finite(values[0]):  # by overflow
                counts[NOT_A_NUMBER] += 1
            else:
                counts[PAIRS] += 1
                counts[A_SMALLER] += a[i] < b[i]
                counts[B_SMALLER] += b[i] < a[i]
                for k in range(3):
                    add_value(&sums[k, SUM_X, 0], n_chunks, values[k])
                    add_product(&sums[k, SUM_XX, 0], n_chunks, values[k], values[k])
                if clustered:
                    add_value(&cluster_sums[clusters[i], 0], n_cluster_chunks, values[0])
                    cluster_rows[clusters[i]] += 1
        sizes[0] = n_clusters


def add_values(
    const double[::1] values,   # IN: finite
    const int64_t[::1] groups,  # IN: one per value, in range; or empty: all 0
    int64_t[:, ::1] sums,       # IN/OUT: group x chunk
):
    """Add each value to the sum of its group."""
    cdef Py_ssize_t i, n_chunks = sums.shape[1]
    cdef bint grouped = groups.shape[0] > 0
    with nogil:
        for i in range(values.shape[0]):
            add_value(&sums[groups[i] if grouped else 0, 0], n_chunks, values[i])


def add_products(
    const double[::1] left,     # IN: finite
    const double[::1] right,    # IN: finite
    const int64_t[::1] groups,  # IN: one per value, in range; or empty: all 0
    int64_t[:, ::1] sums,       # IN/OUT: group x chunk
):
    """Add each exact product to the sum of its group."""
    cdef Py_ssize_t i, n_chunks = sums.shape[1]
    cdef bint grouped = groups.shape[0] > 0
    with nogil:
        for i in range(left.shape[0]):
            add_product(&sums[groups[i] if grouped else 0, 0], n_chunks, left[i], right[i])


def carry(int64_t[:, ::1] sums):  # IN/OUT: sum x chunk
    """Bring every sum into canonical form: digits in [0, 2^32), the last chunk signed."""
    cdef Py_ssize_t i, k, n_chunks = sums.shape[1]
    cdef int64_t value, over
    with nogil:
        for i in range(sums.shape[0]):
            over = 0
            for k in range(n_chunks - 1):
                value = sums[i, k] + over
                sums[i, k] = value & DIGIT
                over = value >> 32  # an arithmetic shift, which rounds towards minus infinity
            sums[i, n_chunks - 1] += over
