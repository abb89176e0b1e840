"""Count values into bins, many features at once.

A feature has edges e_0 <= e_1 <= ..., and a value v belongs to bin ``sum(e_i <= v)``, as in ``numpy.digitize``: bin 0
lies below all edges, and the last bin lies at and above the last edge. NaN has a bin of its own. Rows are cut into as
many parts as there are threads. Counts are integers, so their sum is the same for any number of threads.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    ROWS = 64       # rows of a block, which stays in the L2 cache while the tiles pass over it
    FEATURES = 32   # features of a tile, whose edges and counts (21 KB at 50 bins) stay in the L1 cache


cdef inline Py_ssize_t bin_of(floating value, const floating* edges, Py_ssize_t half) noexcept nogil:
    """Return how many of the ``2 half - 1`` sorted edges are <= value, without a branch."""
    cdef Py_ssize_t place = 0
    while half:
        place += half & -<Py_ssize_t>(edges[place + half - 1] <= value)  # a branch would be mispredicted half the time
        half >>= 1
    return place


cdef void count_tile(
    const floating[:, ::1] values, const floating[:, ::1] edges, Py_ssize_t n_edges,
    Py_ssize_t first_row, Py_ssize_t end_row, Py_ssize_t first, Py_ssize_t end,
    int64_t[:, ::1] counts_out,
) noexcept nogil:
    """Count the values of some rows and features."""
    cdef Py_ssize_t row, feature, place, half = (edges.shape[1] + 1) >> 1
    cdef floating value
    for row in range(first_row, end_row):
        for feature in range(first, end):
            value = values[row, feature]
            place = bin_of(value, &edges[feature, 0], half)
            place = min(place, n_edges)  # infinity lies above the padding too
            if value != value:
                place = n_edges + 1
            counts_out[feature, place] += 1


cdef void count_part(
    const floating[:, ::1] values, const floating[:, ::1] edges, Py_ssize_t n_edges,
    Py_ssize_t part, Py_ssize_t n_parts, int64_t[:, ::1] counts_out,
) noexcept nogil:
    """Count the values of one part of the rows, a block of rows and a tile of features at a time."""
    cdef Py_ssize_t n_rows = values.shape[0], n_features = values.shape[1], feature
    cdef Py_ssize_t row = part * n_rows // n_parts, end_row = (part + 1) * n_rows // n_parts
    while row < end_row:
        feature = 0
        while feature < n_features:
            count_tile(values, edges, n_edges, row, min(row + ROWS, end_row),
                       feature, min(feature + FEATURES, n_features), counts_out)
            feature += FEATURES
        row += ROWS


def count_bins(
    const floating[:, ::1] values,  # IN: row x feature
    const floating[:, ::1] edges,   # IN: feature x edge, sorted, padded with infinity to a length 2^k - 1
    Py_ssize_t n_edges,             # without the padding
    int64_t[:, :, ::1] counts_out,  # IN/OUT: part x feature x bin (n_edges + 1, then NaN)
    int n_threads,
):
    """Add the values to the counts; the parts add up to the whole."""
    cdef Py_ssize_t part, n_parts = counts_out.shape[0]
    for part in prange(n_parts, nogil=True, num_threads=n_threads, schedule="static"):
        count_part(values, edges, n_edges, part, n_parts, counts_out[part])


# Divergences of the counts. Each is a sum over bins of a term in p and q, which are the shares of a bin.

cdef enum:
    KL = 0
    REVERSE_KL = 1
    JENSEN_SHANNON = 2
    PSI = 3
    TOTAL_VARIATION = 4
    CHI2 = 5
    TASK_ROWS = 512  # rows that a thread takes at a time, as one thread may be slower than another beside other work
    BINS = 64        # bins of a piece, whose shares and logarithms stay in the L1 cache for all measures


cdef inline double logarithm(double value) noexcept nogil:
    """Return log(value) of a normal positive number to about two units, without a branch."""
    cdef uint64_t bits, exponent
    cdef double mantissa, power, s, z, w, odd, even
    memcpy(&bits, &value, sizeof(bits))
    # value = mantissa 2^power with the mantissa in [sqrt(1/2), sqrt(2)). The constant is the difference between the
    # bits of sqrt(1/2) and those of 1.
    exponent = (bits + <uint64_t>2638147582215219LL) >> 52
    bits -= (exponent - 1023) << 52
    memcpy(&mantissa, &bits, sizeof(bits))
    exponent |= <uint64_t>0x433 << 52  # the bits of 2^52 + exponent: every level converts integers so in vectors
    memcpy(&power, &exponent, sizeof(exponent))
    power -= 4503599627371519.0  # 2^52 + 1023
    # log m = 2 s + s R(s^2) with s = (m - 1) / (m + 1), to 2^-58. R is the polynomial of fdlibm's e_log.c (Sun
    # Microsystems 1993), in two halves, as waiting for one long chain would cost more than its operations.
    s = (mantissa - 1) / (mantissa + 1)
    z = s * s
    w = z * z
    odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * (
        1.818357216161805012e-01 + w * 1.479819860511658591e-01)))
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    return power * 0.69314718055994530942 + (2 * s + s * (odd + even))


cdef inline double to_double(int64_t count) noexcept nogil:
    """Convert a count below 2^52 with integer instructions that every level vectorises."""
    cdef uint64_t bits = <uint64_t>count | (<uint64_t>0x433 << 52)
    cdef double value
    memcpy(&value, &bits, sizeof(bits))
    return value - 4503599627370496.0  # 2^52


cdef void to_shares(
    const int64_t* counts, Py_ssize_t n, double smoothing, double scale, double* shares_out
) noexcept nogil:
    """Turn counts into probabilities."""
    cdef Py_ssize_t i
    for i in range(n):
        shares_out[i] = (to_double(counts[i]) + smoothing) * scale


cdef void to_logarithms(
    const double* p, const double* q, Py_ssize_t n, bint middle, double* ratio_out, double* middle_out
) noexcept nogil:
    """Compute log(p / q), which is 0 where a side is 0, and log((s + l) / 2 s), with l in place of an s of 0.

    Of p and q, s is the smaller and l the larger, so that exchanging p with q negates the first logarithm and leaves
    the second one. Quotients are stored first, because the compiler would take a logarithm on each branch of a loop
    that does both.
    """
    cdef Py_ssize_t i
    cdef double smaller, larger
    for i in range(n):  # l / s, or 1 where s = 0, or 0 where both are 0
        smaller, larger = min(p[i], q[i]), max(p[i], q[i])
        middle_out[i] = larger / (smaller if smaller > 0 else (larger if larger > 0 else 1))
    for i in range(n):
        ratio_out[i] = middle_out[i] if max(p[i], q[i]) > 0 else 1
    for i in range(n):
        ratio_out[i] = logarithm(ratio_out[i])
    for i in range(n):
        ratio_out[i] = ratio_out[i] if p[i] > q[i] else -ratio_out[i]
    if middle:
        for i in range(n):  # this is 0 where both are 0; the logarithm below is finite there
            middle_out[i] = 0.5 * middle_out[i] + (0.5 if min(p[i], q[i]) > 0 else 0)
        for i in range(n):
            middle_out[i] = logarithm(middle_out[i])


cdef double sum_terms(
    int measure, const double* p, const double* q, const double* ratio, const double* middle, Py_ssize_t n
) noexcept nogil:
    """Sum the terms of some bins; ``ratio`` and ``middle`` are what ``to_logarithms`` computes."""
    cdef Py_ssize_t i
    cdef double total = 0
    if measure == KL:
        for i in range(n):
            total += p[i] * ratio[i]
    elif measure == REVERSE_KL:
        for i in range(n):
            total -= q[i] * ratio[i]
    elif measure == PSI:  # both directions of KL
        for i in range(n):
            total += fabs(p[i] - q[i]) * fabs(ratio[i])
    elif measure == JENSEN_SHANNON:  # l log(2 l / (s + l)) + s log(2 s / (s + l)), halved
        for i in range(n):
            total += 0.5 * (max(p[i], q[i]) * (fabs(ratio[i]) - middle[i]) - min(p[i], q[i]) * middle[i])
    elif measure == TOTAL_VARIATION:
        for i in range(n):
            total += 0.5 * fabs(p[i] - q[i])
    else:
        for i in range(n):
            total += (p[i] - q[i]) * (p[i] - q[i]) / (q[i] if q[i] > 0 else 1)
    return total


cdef void compare_row(
    const int64_t* p, const int64_t* q, Py_ssize_t n_bins, const int* measures, Py_ssize_t n_measures,
    double smoothing, double* values_out, Py_ssize_t stride, int64_t* n_q_out,
) noexcept nogil:
    """Compute the divergences of one row of counts, ``stride`` apart, and the sum of q."""
    cdef Py_ssize_t i, k, n, start = 0
    cdef int64_t n_p = 0, n_q = 0, only_p = 0, only_q = 0, bits = 0
    cdef double scale_p, scale_q, value
    cdef double[BINS] share_p, share_q, ratio, middle
    cdef bint needs_ratio = False, needs_middle = False
    for i in range(n_bins):
        n_p += p[i]
        n_q += q[i]
        bits |= q[i]
        only_p += (q[i] == 0) & (p[i] != 0)
        only_q += (p[i] == 0) & (q[i] != 0)
    n_q_out[0] = n_q
    for k in range(n_measures):
        values_out[k * stride] = -1 if bits >> 51 else 0
        needs_ratio |= measures[k] < TOTAL_VARIATION
        needs_middle |= measures[k] == JENSEN_SHANNON
    if bits >> 51:
        return
    scale_p, scale_q = 1 / (n_p + n_bins * smoothing), 1 / (n_q + n_bins * smoothing)
    while start < n_bins:
        n = min(BINS, n_bins - start)
        to_shares(p + start, n, smoothing, scale_p, share_p)
        to_shares(q + start, n, smoothing, scale_q, share_q)
        if needs_ratio:
            to_logarithms(share_p, share_q, n, needs_middle, ratio, middle)
        for k in range(n_measures):
            values_out[k * stride] += sum_terms(measures[k], share_p, share_q, ratio, middle, n)
        start += BINS
    for k in range(n_measures):
        value = values_out[k * stride]
        value = value if value > 0 else 0  # no measure here is negative but by rounding
        if smoothing == 0:  # infinities are set here, so that the sums have no branch
            if only_p and (measures[k] == KL or measures[k] == PSI or measures[k] == CHI2):
                value = INFINITY
            if only_q and (measures[k] == REVERSE_KL or measures[k] == PSI):
                value = INFINITY
        if n_p + smoothing == 0 or n_q + smoothing == 0:
            value = NAN
        values_out[k * stride] = value


def compare_counts(
    const int64_t[:, ::1] p,     # IN: reference row x bin; row i of q is held against row i modulo their number
    const int64_t[:, ::1] q,     # IN: row x bin; counts below 2^51
    const int[::1] measures,     # IN: their codes
    double smoothing,            # added to every count of both sides
    double[:, ::1] values_out,   # OUT: measure x row of q; -1 where a count is out of range
    int64_t[::1] totals_out,     # OUT: the sum of each row of q
    int n_threads,
):
    """Compute divergences, in nats, of each row of counts from its reference."""
    cdef Py_ssize_t row
    for row in prange(q.shape[0], nogil=True, num_threads=n_threads, schedule="dynamic", chunksize=TASK_ROWS):
        compare_row(&p[row % p.shape[0], 0], &q[row, 0], q.shape[1], &measures[0], measures.shape[0], smoothing,
                    &values_out[0, row], values_out.shape[1], &totals_out[row])
