"""Header-only: from the sums of a row to its value, with the row's normalisation worked in exactly."""

from libc.math cimport INFINITY, NAN, fabs, isfinite, log, log1p

from _divergence_terms cimport CROSS, ENTROPY, ENTROPY_Q, KL, REVERSE_KL

cdef enum Mode:
    PLAIN = 0   # sums as they are: generalised measures
    DIVIDE = 1  # rows divided by their sums
    CHECK = 2   # the same, and sums far from one are an error


cdef inline double log_mass(double x) noexcept nogil:
    """Return log(x), by its series where x is 1 to rounding, as most sums are."""
    cdef double e = x - 1
    if fabs(e) < 1e-4:  # next term: e^5 / 5 < 2e-21
        return e * (1 - e * (0.5 - e * (1.0 / 3 - e * 0.25)))
    return log(x)


cdef inline double excess(double r) noexcept nogil:
    """Return r - log(1 + r) >= 0."""
    if fabs(r) < 1e-4:  # next term: r^6 / 6, relative to r^2 / 2 below 4e-17
        return r * r * (0.5 - r * (1.0 / 3 - r * (0.25 - r * 0.2)))
    return r - log1p(r)


cdef inline double finish_kl(double total, double sum_p, double sum_q, bint* settled) noexcept nogil:
    """Divide both rows by their sums: KL = total / sum p - (r - log(1 + r)), r = (sum q - sum p) / sum p.

    Both terms are non-negative and exact for equal sums; where they cancel, the row is swept again.
    """
    cdef double first = total / sum_p, second = excess((sum_q - sum_p) / sum_p)
    if sum_q == 0 and sum_p > 0:
        return INFINITY
    if total == INFINITY and isfinite(sum_p) and isfinite(sum_q):
        return INFINITY
    if second > 0.25 * first:
        settled[0] = False
    return first - second if not first < second else 0.0


cdef inline double finish_entropy(double total, double sum_p, bint* settled) noexcept nogil:
    """H = total / sum p + log(sum p); of counts, the two cancel."""
    cdef double mass = log_mass(sum_p), value = total / sum_p + mass
    if fabs(mass) > 4 * fabs(value):
        settled[0] = False
    return value if not value < 0 else 0.0


cdef inline double finish_measure(int measure, double total, double sum_p, double sum_q, int mode,
                                  double unit, bint* settled) noexcept nogil:
    """Return one measure of a row in the asked unit; clear ``settled`` where a second sweep must decide."""
    cdef double value = total
    if mode != PLAIN:
        if not (sum_p > 0 and isfinite(sum_p)):
            return NAN
        if measure == KL:
            value = finish_kl(total, sum_p, sum_q, settled)
        elif measure == REVERSE_KL:
            value = finish_kl(total, sum_q, sum_p, settled)
        elif measure == ENTROPY:
            value = finish_entropy(total, sum_p, settled)
        elif measure == ENTROPY_Q:
            value = finish_entropy(total, sum_q, settled)
        elif measure == CROSS:
            value = total / sum_p + log_mass(sum_q) if total < INFINITY else total
    return value * unit
