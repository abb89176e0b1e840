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


cdef inline void accumulate_row(
    double value, double weight, int64_t* sums, Py_ssize_t n_sums, Py_ssize_t n_chunks,
    int64_t* counts, double* extremes,
) noexcept nogil:
    """Add one row to one statistic; values that are not finite are counted and left out."""
    cdef double weighted = value * weight  # This is rounded once, so it depends on the row alone.
    if not is_finite(value) or not is_finite(weighted):
        counts[INFINITE if value > 0 else NONFINITE] += 1
        return
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


def accumulate_rows(
    const double[::1] values,    # IN: one per row; NaN and infinity are counted and left out
    const double[::1] weights,   # IN: one per row, 0 leaves the row out; or empty: all 1
    const int64_t[::1] groups,   # IN: one per row, in range; or empty: all 0
    Py_ssize_t n_measures,
    Py_ssize_t measure,          # group g of this measure is statistic g * n_measures + measure
    int64_t[:, :, ::1] sums,     # IN/OUT: statistic x (x, xx; with weights also xw, w, ww) x chunk
    int64_t[:, ::1] counts,      # IN/OUT: statistic x (finite, zero, infinite, not a number)
    double[:, ::1] extremes,     # IN/OUT: statistic x (smallest, largest)
):
    """Add rows to the statistics of their groups."""
    cdef Py_ssize_t i, statistic, n_chunks = sums.shape[2], n_sums = sums.shape[1]
    cdef bint weighted = weights.shape[0] > 0, grouped = groups.shape[0] > 0
    cdef double weight = 1
    with nogil:
        for i in range(values.shape[0]):
            if weighted:
                weight = weights[i]
                if weight == 0:
                    continue
            statistic = (groups[i] if grouped else 0) * n_measures + measure
            accumulate_row(values[i], weight, &sums[statistic, 0, 0], n_sums, n_chunks,
                           &counts[statistic, 0], &extremes[statistic, 0])


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


def order_keys(
    const double[::1] values,  # IN: not NaN
    int shift,                 # how many low bits to drop: 52 minus the bits of precision kept
    int64_t[::1] keys_out,     # OUT
):
    """Map values to integers of the same order, equal for values whose leading bits are equal."""
    cdef Py_ssize_t i
    cdef int64_t bits
    with nogil:
        for i in range(values.shape[0]):
            bits = <int64_t>bits_of(values[i])
            # Shifting the magnitude keeps a bucket's two bounds on one side of zero, and puts -0.0 with 0.0.
            keys_out[i] = bits >> shift if bits >= 0 else -((bits & INT64_MAX) >> shift)
