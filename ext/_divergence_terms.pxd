"""Header-only: what one pair of probabilities adds to each measure, as scalar formulas.

The fast forms take 0 and normal numbers and hold no branch, so loops over them vectorise; the slow
forms take anything, through libm. (A literal would turn float32 into float64: hence the casts.) Both follow scipy.special.rel_entr at zeros: p = 0 adds nothing,
p > 0 with q = 0 adds infinity.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, fabs, log, log1p, sqrt

from _numeric cimport align_double, align_float

cdef enum Measure:
    KL = 0        # p log(p / q) - p + q: never negative, and the plain KL where both sum to one
    REVERSE_KL    # the same with p and q exchanged
    ENTROPY       # -p log p
    ENTROPY_Q     # -q log q
    CROSS         # -p log q
    N_MEASURES

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


cdef inline double term_slow(int measure, double p, double q) noexcept nogil:
    if measure == KL:
        return kl_slow(p, q)
    elif measure == REVERSE_KL:
        return kl_slow(q, p)
    elif measure == ENTROPY:
        return cross_slow(p, p)
    elif measure == ENTROPY_Q:
        return cross_slow(q, q)
    return cross_slow(p, q)


cdef inline void map_terms(int measure, const floating* p, const floating* q, Py_ssize_t n,
                           floating* out) noexcept nogil:
    """Write the fast terms of one block; one plain loop a measure, so that each vectorises."""
    cdef Py_ssize_t i
    if measure == KL:
        for i in range(n):
            out[i] = kl_fast(p[i], q[i])
    elif measure == REVERSE_KL:
        for i in range(n):
            out[i] = kl_fast(q[i], p[i])
    elif measure == ENTROPY:
        for i in range(n):
            out[i] = entropy_fast(p[i])
    elif measure == ENTROPY_Q:
        for i in range(n):
            out[i] = entropy_fast(q[i])
    elif measure == CROSS:
        for i in range(n):
            out[i] = cross_fast(p[i], q[i])
