"""Header-only: what a pair of probabilities adds to the measures of an order alpha, for every finite order.

Let t = log(p / q). The divergences of Amari and of Renyi both follow from the sum A of

    (p^alpha q^(1 - alpha) - alpha p - (1 - alpha) q) / (alpha (alpha - 1)) >= 0,

which is 0 for p = q only and tends to the terms of the KL divergences as alpha tends to 1 and to 0. The entropies of
Tsallis and of Renyi both follow from the sum T of (p - p^alpha) / (alpha - 1). Neither term divides a difference that
cancels. Where these sums leave the range of float64, or where little is left of the 1 that they are taken from, the
logarithms of the powers decide: see orders.pxd.
"""

from libc.math cimport INFINITY, copysign, exp, expm1, fabs, log, log1p

cdef enum:
    SERIES_TERMS = 10  # of near_square; the next one is below 1e-17 of the first
    LEAST_LOG = -700   # float64 may have few digits for the exponential of what is below
    NO_WEIGHT = -745   # and has none for that of what is below this

cdef extern from *:
    """
    static const double kullback_inverse_factorials[] = { /* of 2, 3, ... */
        1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800,
        1.0 / 39916800};
    """
    const double[SERIES_TERMS] INVERSE_FACTORIALS "kullback_inverse_factorials"


cdef inline double log_ratio(double p, double q) noexcept nogil:
    """Return log(p / q) of positive numbers, to rounding also where they are near or their quotient overflows."""
    cdef double ratio
    if fabs(p - q) < 0.5 * q:
        return log1p((p - q) / q)
    ratio = p / q
    return log(ratio) if 1e-300 < ratio < 1e300 else log(p) - log(q)


cdef inline double near_square(double x, double y) noexcept nogil:
    """Return the divided difference of exp at 0, x and y, for |x| and |y| of at most 0.1.

    It is the sum over n of h_n(x, y) / (n + 2)!, where h_n = x h_(n - 1) + y^n is the complete homogeneous polynomial.
    """
    cdef double total = INVERSE_FACTORIALS[0], polynomial = 1, power = 1
    cdef int n
    for n in range(1, SERIES_TERMS):
        power *= y
        polynomial = x * polynomial + power
        total += polynomial * INVERSE_FACTORIALS[n]
    return total


cdef inline double power_excess(double p, double step, double factor) noexcept nogil:
    """Return p (exp(step) - 1) / factor, where step is the product of ``factor`` and a logarithm."""
    if fabs(step) > 700:  # exp(step) alone may overflow
        return copysign(exp(log(p) + step - log(fabs(factor))), factor) - p / factor
    return p * expm1(step) / factor


cdef inline double power_excess_of_log(double log_p, double step, double factor) noexcept nogil:
    """Return power_excess of a p that is known by its logarithm."""
    cdef double p = exp(log_p)
    if log_p < LEAST_LOG or fabs(step) > 700:  # float64 has few digits for p, or exp(step) alone may overflow
        return copysign(exp(log_p + step - log(fabs(factor))), factor) - p / factor
    return p * expm1(step) / factor


cdef inline double near_amari_term(double q, double t, double order) noexcept nogil:
    """Return amari_term for small t = log(p / q): q t^2 times the divided difference of exp at 0, t and alpha t."""
    return q * t * t * near_square(t, order * t)


cdef inline double amari_term(double p, double q, double alpha) noexcept nogil:
    """Return (p^alpha q^(1 - alpha) - alpha p - (1 - alpha) q) / (alpha (alpha - 1)) for any order but 0 and 1.

    Exchanging p with q and alpha with 1 - alpha changes nothing, so the order is taken to be 1/2 or more. With
    c = alpha - 1, p (exp(c t) - 1) / c - (p - q) is alpha times the term, unless t and c t are small. A zero makes the
    power 0 or infinite by the sign of its exponent: van Erven and Harremoes (2014), section II.
    """
    cdef double order = alpha, rest = 1 - alpha, t, step
    if order < 0.5 or (order == 0.5 and p < q):
        p, q, order, rest = q, p, rest, order
    if p == q:
        return 0
    if p == 0:
        return q / order
    if q == 0:
        return p / rest if rest > 0 else INFINITY
    t = log_ratio(p, q)
    step = -rest * t
    if fabs(t) <= 0.05 and fabs(step) <= 0.05:
        return near_amari_term(q, t, order)
    if fabs(step) < 1e-17:
        return (p * t - (p - q)) / order
    return (power_excess(p, step, -rest) - (p - q)) / order


cdef inline double amari_term_of_logs(double log_p, double log_q, double t, double alpha) noexcept nogil:
    """Return the same from log p, log q and t, which is their difference, but more accurate than that.

    A p that is too small for float64 has no weight in the orders from 1 on, as in log_power_of_logs.
    """
    cdef double order = alpha, rest = 1 - alpha, step
    if order < 0.5:
        log_p, log_q, t, order, rest = log_q, log_p, -t, rest, order
    if log_p == -INFINITY or (log_p < -743 and rest <= 0):
        return exp(log_q) / order
    if log_q == -INFINITY:
        return exp(log_p) / rest if rest > 0 else INFINITY
    step = -rest * t
    if fabs(t) <= 0.05 and fabs(step) <= 0.05:
        return near_amari_term(exp(log_q), t, order)
    if fabs(step) < 1e-17:
        return (exp(log_p) * (t - 1) + exp(log_q)) / order
    return (power_excess_of_log(log_p, step, -rest) - (exp(log_p) - exp(log_q))) / order


cdef inline double tsallis_term(double p, double alpha) noexcept nogil:
    """Return (p - p^alpha) / (alpha - 1) for any order but 1."""
    return 0 if p == 0 else power_excess(p, (alpha - 1) * log(p), 1 - alpha)


cdef inline double tsallis_term_of_log(double log_p, double alpha) noexcept nogil:
    """Return the same from log p. A p that is too small for float64 has no weight."""
    return 0 if log_p < NO_WEIGHT else power_excess_of_log(log_p, (alpha - 1) * log_p, 1 - alpha)


cdef inline double log_power(double p, double q, double alpha) noexcept nogil:
    """Return log(p^alpha q^(1 - alpha)) for alpha > 0, or log(p / q) for an infinite order."""
    if p == 0:
        return -INFINITY
    if q == 0:
        return INFINITY if alpha >= 1 else -INFINITY
    if alpha == INFINITY:
        return log_ratio(p, q)
    if alpha < 1:
        return alpha * log(p) + (1 - alpha) * log(q)
    return log(p) + (alpha - 1) * log_ratio(p, q)


cdef inline double log_power_of_logs(double log_p, double log_q, double alpha) noexcept nogil:
    """Return the same for any order from the logarithms of p and q, which may be -inf.

    A p that is too small for float64 has no weight, so that it adds nothing where q is smaller or masked.
    """
    if alpha < 0:
        log_p, log_q, alpha = log_q, log_p, 1 - alpha
    if log_p == -INFINITY or (log_p < -743 and alpha >= 1):
        return -INFINITY
    if log_q == -INFINITY:
        return INFINITY if alpha >= 1 else -INFINITY
    if alpha == INFINITY:
        return log_p - log_q
    if alpha < 1:
        return alpha * log_p + (1 - alpha) * log_q
    return log_p + (alpha - 1) * (log_p - log_q)
