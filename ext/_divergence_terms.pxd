"""Header-only: what one pair of probabilities adds to each measure, as scalar formulas.

The fast forms take 0 and normal numbers and hold no branch, so loops over them vectorise; the slow
forms take anything, through libm. (A literal would turn float32 into float64: hence the casts.) Both follow scipy.special.rel_entr at zeros: p = 0 adds nothing,
p > 0 with q = 0 adds infinity.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, exp, expm1, fabs, log, log1p, pow, sqrt, sqrtf

from _numeric cimport align_double, align_float, reduce_double, reduce_float

cdef enum Measure:
    KL = 0        # p log(p / q) - p + q: never negative, and the plain KL where both sum to one
    REVERSE_KL    # the same with p and q exchanged
    ENTROPY       # -p log p
    ENTROPY_Q     # -q log q
    CROSS         # -p log q
    JENSEN_SHANNON       # (p log(p / m) + q log(q / m)) / 2, m = (p + q) / 2
    JENSEN_SHANNON_ROOT  # the same; the row's value is its square root
    HELLINGER     # (sqrt p - sqrt q)^2 / 2; the row's value is the square root
    AFFINITY      # sqrt(p q), the Bhattacharyya coefficient
    TOTAL_VARIATION  # |p - q| / 2
    CHI2          # (p - q)^2 / q
    JEFFREYS      # (p - q) log(p / q)
    RENYI         # p^alpha q^(1 - alpha) - alpha p - (1 - alpha) q
    ALPHA         # the same
    RENYI_ENTROPY    # p^alpha
    TSALLIS_ENTROPY  # the same
    PERPLEXITY    # -p log p; the row's value is its exponential
    SUPPORT       # q where p > 0: the Renyi divergence of order 0
    MAX_RATIO     # p / q, of which the row takes the largest: the Renyi divergence of order infinity
    MIN_ENTROPY   # p, of which the row takes the largest
    MIXTURE       # -m log m, m = (p + q) / 2
    TOP1          # whether the largest p and the largest q stand at one place
    MASS          # nothing: the row's value is sum p, or the log-sum-exp of logits

cdef extern from *:
    """
    #define KB_LN2 0.6931471805599453
    """
    const double LN2 "KB_LN2"


cdef inline floating align(floating x, floating target, floating* k) noexcept nogil:
    if floating is float:
        return align_float(x, target, k)
    else:
        return align_double(x, target, k)


cdef inline floating atanh_tail(floating u) noexcept nogil:
    """Return (atanh(s) - s) / s**3 for u = s**2 <= 0.04: Chebyshev interpolants, errors 7e-7 and 4e-17."""
    if floating is float:
        return <float>0.33333356868 + u * (<float>0.19989455054 + u * <float>0.14979598367)
    else:
        return (0.33333333333333332089 + u * (0.20000000000003970521 + u * (0.14285714283637967299
                + u * (0.11111111524175794031 + u * (0.090908688131514685838 + u * (0.076944339028068583136
                + u * (0.066048541210297316261 + u * 0.068045151314293492617)))))))


cdef inline floating log_fast(floating x) noexcept nogil:
    """Return log(x) of a normal x to about 2 ulp: x = 2^-k m with m near 1, log m = 2 atanh((m-1)/(m+1))."""
    cdef floating k, m, s, u
    m = align(x, <floating>1, &k)
    s = (m - <floating>1) / (m + <floating>1)
    u = s * s
    s = s + s
    return (s + s * u * atanh_tail(u)) - k * <floating>LN2


cdef inline floating kl_fast(floating p, floating q) noexcept nogil:
    """Return p log(p / q) - p + q without cancellation.

    With q' = 2^k q near p, d = p - q' (exact) and s = d / (p + q'), log(p / q) = k ln 2 + 2 atanh(s)
    and p 2 s = d + s d, so that the value is s d + p (k ln 2 + 2 (atanh(s) - s)) + (q - q').
    """
    cdef floating k, scaled, d, s, u, value
    scaled = align(q, p, &k)
    d = p - scaled
    s = d / (p + scaled)
    u = s * s
    value = s * d + p * (k * <floating>LN2 + (s + s) * u * atanh_tail(u)) + (q - scaled)
    value = value if q > 0 else <floating>INFINITY
    return value if p > 0 else q


cdef inline floating entropy_fast(floating p) noexcept nogil:
    cdef floating value = -p * log_fast(p)
    return value if p > 0 else 0


cdef inline floating cross_fast(floating p, floating q) noexcept nogil:
    cdef floating value = -p * log_fast(q)
    value = value if q > 0 else <floating>INFINITY
    return value if p > 0 else 0


cdef inline floating reduce(floating x, floating* power) noexcept nogil:
    if floating is float:
        return reduce_float(x, power)
    else:
        return reduce_double(x, power)


cdef inline floating exp_tail(floating r) noexcept nogil:
    """Return (exp(r) - 1 - r) / r**2 for |r| <= ln 2 / 2: Chebyshev interpolants, errors 1.3e-7 and 3e-18."""
    if floating is float:
        return (<floating>0.5 + r * (<floating>0.16666576666 + r * (<floating>0.041666554212
                + r * (<floating>0.0083632328837 + r * <floating>0.0013926250831))))
    else:
        return (0.5 + r * (0.1666666666666667103 + r * (0.041666666666666669783 + r * (0.0083333333333260831202
                + r * (0.0013888888888883711167 + r * (0.00019841269875002278793 + r * (0.0000248015873256774619
                + r * (2.7557255170000887438e-6 + r * (2.7557273478718580474e-7 + r * (2.5105312729622101787e-8
                + r * 2.09147553258932022e-9))))))))))


cdef inline floating exp_fast(floating x) noexcept nogil:
    """Return exp(x) for x <= 0, and 0 where that is below 2^-125 (2^-1021)."""
    cdef floating lowest = -86 if floating is float else -707
    cdef floating power, r = reduce(x if x > lowest else lowest, &power)
    cdef floating value = power * (<floating>1 + (r + r * r * exp_tail(r)))
    return value if x > lowest else 0


cdef inline floating jensen_shannon_fast(floating p, floating q) noexcept nogil:
    """With s = (p - q) / (p + q): m ((1 + s) log(1 + s) + (1 - s) log(1 - s)) / 2, a series in s^2 <= 1/16."""
    cdef floating total = p + q, s = (p - q) / total, u = s * s, near, far, half = <floating>0.5
    cdef floating m = half * total
    if floating is float:
        near = (<floating>0.999999997 + u * (<floating>0.16666818106 + u * (<floating>0.066547352859
                + u * <floating>0.03868908304)))
    else:
        near = (1 + u * (0.16666666666666461838 + u * (0.066666666667532254608 + u * (0.03571428557366615524
                + u * (0.022222233643594424462 + u * (0.015150995526669201097 + u * (0.011002832619537709638
                + u * (0.0081210278502882042659 + u * 0.0082546367500118296043))))))))
    near = half * m * u * near
    far = half * ((p * log_fast(p / m) if p > 0 else 0) + (q * log_fast(q / m) if q > 0 else 0))
    near = near if u < <floating>0.0625 else far
    return near if total > 0 else 0


cdef inline floating root_difference_fast(floating p, floating q) noexcept nogil:
    """Return (sqrt p - sqrt q)^2 / 2 through the exact p - q."""
    cdef floating roots = root(p) + root(q)
    cdef floating d = (p - q) / (roots if roots > 0 else <floating>1)
    return <floating>0.5 * d * d


cdef inline floating root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef inline floating variation_fast(floating p, floating q) noexcept nogil:
    cdef floating d = p - q
    return <floating>0.5 * (d if d > 0 else -d)


cdef inline floating chi2_fast(floating p, floating q) noexcept nogil:
    cdef floating d = p - q
    cdef floating value = d * (d / q)
    value = value if q > 0 else <floating>INFINITY
    return value if d != 0 else 0


cdef inline floating jeffreys_fast(floating p, floating q) noexcept nogil:
    return kl_fast(p, q) + kl_fast(q, p)


cdef inline double kl_slow(double p, double q) noexcept nogil:
    if p < 0 or q < 0 or p != p or q != q:
        return NAN
    if p == 0:
        return q
    if q == 0 or (p == INFINITY and q < INFINITY):
        return INFINITY
    cdef double difference = p - q
    if fabs(difference) < 0.5 * q:
        return p * log1p(difference / q) - difference
    return p * (log(p) - log(q)) - p + q


cdef inline double cross_slow(double p, double q) noexcept nogil:
    if p < 0 or q < 0 or p != p or q != q:
        return NAN
    return 0 if p == 0 else (-p * log(q) if q > 0 else INFINITY)


cdef inline double mass_slow(double p) noexcept nogil:
    return p if p >= 0 else NAN


cdef inline double power_term(double p, double q, double alpha) noexcept nogil:
    """Return p^alpha q^(1 - alpha) - alpha p - (1 - alpha) q = q (expm1(alpha t) - alpha expm1(t)), t = log(p / q).

    A zero makes the power 0 or infinite by the sign of its exponent, 0 where both are 0: van Erven
    and Harremoes (2014), section II.
    """
    cdef double t
    if p == 0 or q == 0:
        if p == q:
            return 0
        if (p == 0 and alpha < 0) or (q == 0 and alpha > 1):
            return INFINITY
        return -alpha * p - (1 - alpha) * q
    if fabs(p - q) < 0.5 * q:
        t = log1p((p - q) / q)
        return q * expm1(alpha * t) - alpha * (p - q)
    return exp(alpha * log(p) + (1 - alpha) * log(q)) - alpha * p - (1 - alpha) * q


cdef inline double jensen_shannon_slow(double p, double q) noexcept nogil:
    cdef double m = 0.5 * p + 0.5 * q
    return 0.5 * (kl_slow(p, m) + kl_slow(q, m))


cdef inline double term_slow(int measure, double p, double q, double alpha) noexcept nogil:
    cdef double d
    if not (p >= 0 and q >= 0):
        return NAN
    if measure == KL:
        return kl_slow(p, q)
    elif measure == REVERSE_KL:
        return kl_slow(q, p)
    elif measure == ENTROPY or measure == PERPLEXITY:
        return cross_slow(p, p)
    elif measure == ENTROPY_Q:
        return cross_slow(q, q)
    elif measure == CROSS:
        return cross_slow(p, q)
    elif measure == JENSEN_SHANNON or measure == JENSEN_SHANNON_ROOT:
        return jensen_shannon_slow(p, q)
    elif measure == HELLINGER:
        d = sqrt(p) - sqrt(q)
        return 0.5 * d * d
    elif measure == AFFINITY:
        return sqrt(p) * sqrt(q)
    elif measure == TOTAL_VARIATION:
        return 0.5 * fabs(p - q)
    elif measure == CHI2:
        return 0 if p == q else ((p - q) * ((p - q) / q) if q > 0 else INFINITY)
    elif measure == JEFFREYS:
        return kl_slow(p, q) + kl_slow(q, p)
    elif measure == RENYI or measure == ALPHA:
        return power_term(p, q, alpha)
    elif measure == RENYI_ENTROPY or measure == TSALLIS_ENTROPY:
        return pow(p, alpha) if p > 0 else 0
    elif measure == SUPPORT:
        return q if p > 0 else 0
    elif measure == MAX_RATIO:
        return 0 if p == 0 else (p / q if q > 0 else INFINITY)
    elif measure == MIN_ENTROPY:
        return p
    elif measure == MIXTURE:
        return cross_slow(0.5 * (p + q), 0.5 * (p + q))
    return 0


cdef inline double gather(int measure, double before, double value) noexcept nogil:
    """Add the terms of a block to a row's sum, or take the larger."""
    if measure == MAX_RATIO or measure == MIN_ENTROPY:
        return value if value > before or value != value else before
    return before + value


cdef inline void map_terms(int measure, const floating* p, const floating* q, Py_ssize_t n, double alpha,
                           floating* out) noexcept nogil:
    """Write the terms of one block; one plain loop a measure, so that each vectorises."""
    cdef Py_ssize_t i
    if measure == KL:
        for i in range(n):
            out[i] = kl_fast(p[i], q[i])
    elif measure == REVERSE_KL:
        for i in range(n):
            out[i] = kl_fast(q[i], p[i])
    elif measure == ENTROPY or measure == PERPLEXITY:
        for i in range(n):
            out[i] = entropy_fast(p[i])
    elif measure == ENTROPY_Q:
        for i in range(n):
            out[i] = entropy_fast(q[i])
    elif measure == CROSS:
        for i in range(n):
            out[i] = cross_fast(p[i], q[i])
    elif measure == JENSEN_SHANNON or measure == JENSEN_SHANNON_ROOT:
        for i in range(n):
            out[i] = jensen_shannon_fast(p[i], q[i])
    elif measure == HELLINGER:
        for i in range(n):
            out[i] = root_difference_fast(p[i], q[i])
    elif measure == TOTAL_VARIATION:
        for i in range(n):
            out[i] = variation_fast(p[i], q[i])
    elif measure == CHI2:
        for i in range(n):
            out[i] = chi2_fast(p[i], q[i])
    elif measure == MIXTURE:
        for i in range(n):
            out[i] = entropy_fast(<floating>0.5 * (p[i] + q[i]))
    elif measure == JEFFREYS:
        for i in range(n):
            out[i] = jeffreys_fast(p[i], q[i])
    else:  # powers and the rest: rare enough for libm
        for i in range(n):
            out[i] = <floating>term_slow(measure, p[i], q[i], alpha)
