"""Sums over the support of one pair of huge distributions, exact in each term whatever the order.

Every term is rounded once, so that it depends on its own element alone, and terms are added as long integers
(exact_sum.pyx). Logits a and b enter as e^a = f 2^n with n = rint(a / log 2). Their terms are scaled by f 2^(n mod 32)
and kept in one exact sum for each window n // 32 of exponents. Windows that lie ``n_windows`` or more below the highest
one are dropped whole. Which windows these are depends on the data alone and not on their order.

This file is compiled without -fassociative-math, which would undo the two-step reduction by log 2.
"""

from common.exact cimport add_value, is_finite
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, exp, fabs, ldexp, log, rint
from libc.stdint cimport int64_t

from divergence.terms cimport jensen_shannon_slow, kl_slow

cdef enum:
    # terms of probabilities
    SUM_P = 0
    SUM_Q = 1
    KL = 2
    REVERSE_KL = 3
    P_LOG_P = 4
    Q_LOG_Q = 5
    P_LOG_Q = 6
    JENSEN_SHANNON = 7
    TOTAL_VARIATION = 8
    # terms of logits: the first four belong to the windows of a, the others to those of b
    EXP_A = 0
    A_DIFFERENCE = 1
    A_LOGIT = 2
    A_OTHER = 3
    EXP_B = 4
    B_DIFFERENCE = 5
    B_LOGIT = 6
    N_TERMS_A = 4
    N_TERMS_LOGITS = 7

cdef double LOG2_E = 1.4426950408889634074
# log 2 in two parts. The first ends in 21 zero bits, so that its products with |n| < 2^21 are exact.
cdef double LOG2_HIGH = 6.93147180369123816490e-01
cdef double LOG2_LOW = 1.90821492927058770002e-10
cdef double MOST = 1099511627776.0  # 2^40: logits below -2^40 have probability zero, and those above 2^40 are refused


cdef inline double probability_term(int term, double p, double q) noexcept nogil:
    """Return one term of one pair of probabilities."""
    if term == SUM_P:
        return p
    if term == SUM_Q:
        return q
    if term == KL:
        return kl_slow(p, q)
    if term == REVERSE_KL:
        return kl_slow(q, p)
    if term == P_LOG_P:
        return p * log(p) if p > 0 else 0
    if term == Q_LOG_Q:
        return q * log(q) if q > 0 else 0
    if term == P_LOG_Q:
        return (p * log(q) if q > 0 else INFINITY) if p > 0 else 0
    if term == JENSEN_SHANNON:
        return jensen_shannon_slow(p, q)
    return 0.5 * fabs(p - q)


cdef void add_probabilities_part(
    const floating[::1] p, const floating[::1] q, const int[::1] terms, Py_ssize_t part, Py_ssize_t n_parts,
    int64_t[:, ::1] sums_out, int64_t[::1] infinite_out,
) noexcept nogil:
    """Add the terms of one part of a chunk."""
    cdef Py_ssize_t i, k, n = p.shape[0]
    cdef double value
    for i in range(part * n // n_parts, (part + 1) * n // n_parts):
        for k in range(terms.shape[0]):
            value = probability_term(terms[k], p[i], q[i])
            if is_finite(value):
                add_value(&sums_out[k, 0], sums_out.shape[1], value)
            else:
                infinite_out[k] += 1


def add_probabilities(
    const floating[::1] p,       # IN: not negative, finite
    const floating[::1] q,       # IN: not negative, finite
    const int[::1] terms,        # IN: which terms
    int64_t[:, :, ::1] sums,     # IN/OUT: part x term x chunk
    int64_t[:, ::1] infinite,    # IN/OUT: part x term: how often it was infinite
    int n_threads,
):
    """Add the terms of one chunk of the support; the parts add up to the whole."""
    cdef Py_ssize_t part, n_parts = sums.shape[0]
    for part in prange(n_parts, nogil=True, num_threads=n_threads, schedule="static"):
        add_probabilities_part(p, q, terms, part, n_parts, sums[part], infinite[part])


cdef inline int64_t exponent_of(double logit) noexcept nogil:
    """Return n of e^logit = f 2^n."""
    return <int64_t>rint(logit * LOG2_E)


def survey_logits(
    const floating[::1] logits,  # IN
    int64_t[::1] survey_out,     # OUT: highest exponent, how many are above -2^40, how many are refused
):
    """Find what decides the windows: the highest exponent; and count NaN, infinity and logits above 2^40."""
    cdef Py_ssize_t i
    cdef double logit, highest = -INFINITY
    cdef int64_t n_counted = 0, n_refused = 0
    with nogil:
        for i in range(logits.shape[0]):
            logit = logits[i]
            n_refused += not logit <= MOST
            n_counted += logit >= -MOST
            if logit > highest:
                highest = logit
        survey_out[0] = exponent_of(highest) if -MOST <= highest <= MOST else 0
        survey_out[1] = n_counted
        survey_out[2] = n_refused


cdef inline double fraction_of(double logit, int64_t exponent) noexcept nogil:
    """Return e^logit 2^-32 (exponent // 32)."""
    cdef double power = <double>exponent
    return ldexp(exp((logit - power * LOG2_HIGH) - power * LOG2_LOW), <int>(exponent & 31))


cdef inline void add_logit(
    double own, double other, const int* wanted, Py_ssize_t n_terms, int64_t* sums, Py_ssize_t n_chunks,
    Py_ssize_t window_stride, int64_t top, Py_ssize_t n_windows, int64_t* infinite,
) noexcept nogil:
    """Add e^own times 1, own - other, own, and, for logits of p, other."""
    cdef int64_t exponent, window
    cdef double fraction, factor, value
    cdef Py_ssize_t k
    if not own >= -MOST:
        return
    exponent = exponent_of(own)
    window = top - (exponent >> 5)
    fraction = fraction_of(own, exponent)
    for k in range(n_terms):
        if not wanted[k]:
            continue
        factor = 1 if k == EXP_A else (own - other if k == A_DIFFERENCE else (own if k == A_LOGIT else other))
        value = fraction * factor
        if not is_finite(value):
            infinite[k] += 1  # here p > 0 and q = 0, which is counted in dropped windows too
        elif window < n_windows:
            add_value(sums + window * window_stride + k * n_chunks, n_chunks, value)


cdef void add_logits_part(
    const floating[::1] a, const floating[::1] b, const int[::1] wanted, int64_t top_a, int64_t top_b,
    Py_ssize_t part, Py_ssize_t n_parts, int64_t[:, :, ::1] sums, int64_t[::1] infinite,
) noexcept nogil:
    """Add the terms of one part of a chunk."""
    cdef Py_ssize_t i, n = a.shape[0], n_chunks = sums.shape[2], stride = N_TERMS_LOGITS * sums.shape[2]
    for i in range(part * n // n_parts, (part + 1) * n // n_parts):
        add_logit(a[i], b[i], &wanted[0], N_TERMS_A, &sums[0, 0, 0], n_chunks, stride, top_a,
                  sums.shape[0], &infinite[0])
        add_logit(b[i], a[i], &wanted[N_TERMS_A], N_TERMS_LOGITS - N_TERMS_A, &sums[0, N_TERMS_A, 0],
                  n_chunks, stride, top_b, sums.shape[0], &infinite[N_TERMS_A])


def add_logits(
    const floating[::1] a,        # IN: surveyed, nothing refused
    const floating[::1] b,        # IN: surveyed, nothing refused
    const int[::1] wanted,        # IN: seven flags, one per term
    long long top_a,              # the window of a's highest exponent so far, these included
    long long top_b,
    int64_t[:, :, :, ::1] sums,   # IN/OUT: part x window (downwards from the top) x term x chunk
    int64_t[:, ::1] infinite,     # IN/OUT: part x term: how often it was infinite
    int n_threads,
):
    """Add the terms of one chunk of the support; the parts add up to the whole."""
    cdef Py_ssize_t part, n_parts = sums.shape[0]
    for part in prange(n_parts, nogil=True, num_threads=n_threads, schedule="static"):
        add_logits_part(a, b, wanted, top_a, top_b, part, n_parts, sums[part], infinite[part])
