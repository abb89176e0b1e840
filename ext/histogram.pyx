"""Count values into bins, many features at once.

Feature f has edges e_0 <= e_1 <= ... and value v belongs to bin ``sum(e_i <= v)``: bin 0 lies below all
edges, the last one at and above the last edge (``numpy.digitize``). NaN has a bin of its own. Rows are
cut into as many parts as there are threads; counts are integers, so their sum is the same for any number.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    ROWS = 64       # rows of a block, which stays in the L2 cache while the tiles pass over it
    FEATURES = 128  # features of a tile, whose edges and counts stay in the L1 and L2 caches


cdef inline Py_ssize_t bin_of(floating value, const floating* edges, Py_ssize_t half) noexcept nogil:
    """Return how many of the ``2 half - 1`` sorted edges are <= value; without a branch."""
    cdef Py_ssize_t place = 0
    while half:
        if edges[place + half - 1] <= value:
            place += half
        half >>= 1
    return place


cdef void count_tile(
    const floating[:, ::1] values, const floating[:, ::1] edges, Py_ssize_t n_edges,
    Py_ssize_t first_row, Py_ssize_t end_row, Py_ssize_t first, Py_ssize_t end,
    int64_t[:, ::1] counts_out,
) noexcept nogil:
    cdef Py_ssize_t row, feature, place, half = (edges.shape[1] + 1) >> 1
    cdef floating value
    for row in range(first_row, end_row):
        for feature in range(first, end):
            value = values[row, feature]
            place = bin_of(value, &edges[feature, 0], half)
            place = min(place, n_edges)  # infinity passes the padding too
            if value != value:
                place = n_edges + 1
            counts_out[feature, place] += 1


cdef void count_part(
    const floating[:, ::1] values, const floating[:, ::1] edges, Py_ssize_t n_edges,
    Py_ssize_t part, Py_ssize_t n_parts, int64_t[:, ::1] counts_out,
) noexcept nogil:
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


# Divergences of the counts. Each is a sum over bins of a term in p and q, which are probabilities.

cdef enum:
    KL = 0
    REVERSE_KL = 1
    JENSEN_SHANNON = 2
    PSI = 3
    TOTAL_VARIATION = 4
    CHI2 = 5


cdef inline double logarithm(double value) noexcept nogil:
    """Return log(value) of a normal positive number to about two units, without a branch."""
    cdef uint64_t bits, exponent
    cdef double mantissa, power, s, z
    memcpy(&bits, &value, sizeof(bits))
    # value = mantissa 2^power, mantissa in [sqrt(1/2), sqrt(2)): the constant is
    # what lies between the bits of sqrt(1/2) and those of 1
    exponent = (bits + <uint64_t>2638147582215219LL) >> 52
    bits -= (exponent - 1023) << 52
    memcpy(&mantissa, &bits, sizeof(bits))
    exponent |= <uint64_t>0x433 << 52  # 2^52 + exponent: an integer to float64 that every level vectorises
    memcpy(&power, &exponent, sizeof(exponent))
    power -= 4503599627371519.0  # 2^52 + 1023
    # log m = 2 atanh(s), s = (m - 1) / (m + 1); s^2 < 0.0295, so s^23 ends below 2^-56 of the sum
    s = (mantissa - 1) / (mantissa + 1)
    z = s * s
    z = z * (1 / 3. + z * (1 / 5. + z * (1 / 7. + z * (1 / 9. + z * (1 / 11. + z * (1 / 13. + z * (
        1 / 15. + z * (1 / 17. + z * (1 / 19. + z * (1 / 21.))))))))))
    return power * 0.69314718055994530942 + 2 * (s + s * z)


cdef inline double to_double(int64_t count) noexcept nogil:
    """Convert a count below 2^52 with integer instructions that every level vectorises."""
    cdef uint64_t bits = <uint64_t>count | (<uint64_t>0x433 << 52)
    cdef double value
    memcpy(&value, &bits, sizeof(bits))
    return value - 4503599627370496.0  # 2^52


cdef inline double xlogy(double x, double numerator, double denominator) noexcept nogil:
    """Return x log(numerator / denominator); 0 where x = 0, anything finite where the ratio is not."""
    cdef double safe_numerator = numerator if numerator > 0 else 1
    cdef double safe_denominator = denominator if denominator > 0 else 1
    return x * logarithm(safe_numerator / safe_denominator)


cdef struct Pair:  # two rows of counts, with what turns them into probabilities
    const int64_t* p
    const int64_t* q
    Py_ssize_t n_bins
    double smoothing
    double scale_p
    double scale_q


cdef inline double p_of(const Pair* pair, Py_ssize_t i) noexcept nogil:
    return (to_double(pair.p[i]) + pair.smoothing) * pair.scale_p


cdef inline double q_of(const Pair* pair, Py_ssize_t i) noexcept nogil:
    return (to_double(pair.q[i]) + pair.smoothing) * pair.scale_q


cdef inline double difference(double p, double q) noexcept nogil:
    """Return p - q, exactly 0 for equal counts: a fused multiply-add would not subtract what it rounds."""
    return (p / q - 1) * q if q > 0 else p


cdef double sum_kl(Pair pair) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(pair.n_bins):
        total += xlogy(p_of(&pair, i), p_of(&pair, i), q_of(&pair, i))
    return total


cdef double sum_psi(Pair pair) noexcept nogil:
    """Both directions of KL share one logarithm, and one ratio with p - q = (p / q - 1) q."""
    cdef Py_ssize_t i
    cdef double total = 0, p, q, ratio
    for i in range(pair.n_bins):
        p = p_of(&pair, i)
        q = q_of(&pair, i)
        ratio = (p if p > 0 else 1) / (q if q > 0 else 1)
        total += (ratio - 1) * q * logarithm(ratio)
    return total


cdef double sum_jensen_shannon(Pair pair) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0, p, q
    for i in range(pair.n_bins):
        p = p_of(&pair, i)
        q = q_of(&pair, i)
        total += 0.5 * (xlogy(p, 2 * p, p + q) + xlogy(q, 2 * q, p + q))
    return total


cdef double sum_total_variation(Pair pair) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(pair.n_bins):
        total += 0.5 * fabs(difference(p_of(&pair, i), q_of(&pair, i)))
    return total


cdef double sum_chi2(Pair pair) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0, p, q
    for i in range(pair.n_bins):
        p = p_of(&pair, i)
        q = q_of(&pair, i)
        total += difference(p, q) * difference(p, q) / (q if q > 0 else 1)
    return total


cdef double divergence(
    int measure, const int64_t* p, const int64_t* q, Py_ssize_t n_bins, double smoothing, int64_t* n_q_out
) noexcept nogil:
    """Return the divergence, or -1 where a count of q is negative or 2^51 or more."""
    cdef Py_ssize_t i
    cdef int64_t n_p = 0, n_q = 0, only_p = 0, only_q = 0, bits = 0
    cdef double total
    cdef Pair pair
    for i in range(n_bins):
        n_p += p[i]
        n_q += q[i]
        bits |= q[i]
        only_p += (q[i] == 0) & (p[i] != 0)
        only_q += (p[i] == 0) & (q[i] != 0)
    n_q_out[0] = n_q
    if bits >> 51:
        return -1
    if n_p + smoothing == 0 or n_q + smoothing == 0:
        return NAN
    if smoothing == 0:  # infinities are decided here, so that the sums have no branch
        if only_p and (measure == KL or measure == PSI or measure == CHI2):
            return INFINITY
        if only_q and (measure == REVERSE_KL or measure == PSI):
            return INFINITY
    pair = Pair(p, q, n_bins, smoothing, 1 / (n_p + n_bins * smoothing), 1 / (n_q + n_bins * smoothing))
    if measure == KL:
        total = sum_kl(pair)
    elif measure == REVERSE_KL:
        total = sum_kl(Pair(q, p, n_bins, smoothing, pair.scale_q, pair.scale_p))
    elif measure == JENSEN_SHANNON:
        total = sum_jensen_shannon(pair)
    elif measure == PSI:
        total = sum_psi(pair)
    elif measure == TOTAL_VARIATION:
        total = sum_total_variation(pair)
    else:
        total = sum_chi2(pair)
    return total if total > 0 else 0  # below 0 by rounding alone: no measure here is negative


def compare_counts(
    const int64_t[:, ::1] p,  # IN: reference row x bin; row i of q is held against row i modulo their number
    const int64_t[:, ::1] q,  # IN: row x bin; counts below 2^52
    int measure,
    double smoothing,         # added to every count of both sides
    double[::1] values_out,   # OUT: one per row of q; -1 where a count is out of range
    int64_t[::1] totals_out,  # OUT: the sum of each row of q
    int n_threads,
):
    """Compute one divergence, in nats, of each row of counts from its reference."""
    cdef Py_ssize_t row
    for row in prange(q.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        values_out[row] = divergence(measure, &p[row % p.shape[0], 0], &q[row, 0], q.shape[1], smoothing,
                                     &totals_out[row])
