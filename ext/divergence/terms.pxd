"""Header-only: what one pair of probabilities adds to each measure.

The fast forms, in lanes.h, take 0 and normal numbers and hold no branch, so loops over them vectorise; the slow forms
below take anything, through libm. Both follow scipy.special.rel_entr at zeros: p = 0 adds nothing,
p > 0 with q = 0 adds infinity.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, exp, expm1, fabs, log, log1p, pow, sqrt
from libc.stdint cimport int64_t

cdef enum:
    LANES = 16  # parts of a sum, side by side
    STEP = 16   # elements of rows side by side that are added before they are widened

cdef extern from *:
    """
    #define KB_REAL 32
    #include "divergence/lanes.h"
    #define KB_REAL 64
    #include "divergence/lanes.h"
    _Static_assert(KB_LANES == 16, "the number that Cython knows is that of lanes.h");
    """
    enum:
        KL "KB_KL"
        REVERSE_KL "KB_REVERSE_KL"
        ENTROPY "KB_ENTROPY"
        ENTROPY_Q "KB_ENTROPY_Q"
        CROSS "KB_CROSS"
        JENSEN_SHANNON "KB_JS"
        JENSEN_SHANNON_ROOT "KB_JS_ROOT"
        HELLINGER "KB_HELLINGER"
        AFFINITY "KB_AFFINITY"
        TOTAL_VARIATION "KB_VARIATION"
        CHI2 "KB_CHI2"
        JEFFREYS "KB_JEFFREYS"
        RENYI "KB_RENYI"
        ALPHA "KB_ALPHA"
        RENYI_ENTROPY "KB_RENYI_ENTROPY"
        TSALLIS_ENTROPY "KB_TSALLIS"
        PERPLEXITY "KB_PERPLEXITY"
        SUPPORT "KB_SUPPORT"
        MAX_RATIO "KB_MAX_RATIO"
        MIN_ENTROPY "KB_MIN_ENTROPY"
        POWER "KB_POWER"
        MIXTURE "KB_MIXTURE"
        TOP1 "KB_TOP1"
        MASS "KB_MASS"
    void transpose_float "kb_transpose_f"(const float* x, Py_ssize_t row, Py_ssize_t n, float* out) noexcept nogil
    void transpose_double "kb_transpose_d"(const double* x, Py_ssize_t row, Py_ssize_t n, double* out) noexcept nogil
    void finish_kl_lanes "kb_finish_kl"(const double* p, const double* q, const double* total, double unit,
        double tolerance_p, double tolerance_q, double* value, int64_t* settled) noexcept nogil
    ctypedef struct Next "kb_next":
        const char* x
        const char* y
        Py_ssize_t x_step, y_step
    enum:
        NEAR "KB_NEAR"
        MASKED "KB_MASKED"
    const double NEAR_LIMIT "KB_NEAR_LIMIT"
    float log_float "kb_log_f"(float x) noexcept nogil
    double log_double "kb_log_d"(double x) noexcept nogil
    double exp_double "kb_exp_d"(double x) noexcept nogil
    bint add_terms_float "kb_add_terms_f"(int measure, bint has_q, bint masses, const float* p, Py_ssize_t p_step,
        const float* q, Py_ssize_t q_step, Py_ssize_t n_groups, double* mass, double* sums, int64_t* zeros) noexcept nogil
    bint add_terms_double "kb_add_terms_d"(int measure, bint has_q, bint masses, const double* p, Py_ssize_t p_step,
        const double* q, Py_ssize_t q_step, Py_ssize_t n_groups, double* mass, double* sums, int64_t* zeros) noexcept nogil
    bint add_family_float "kb_add_family_f"(const float* p, Py_ssize_t p_step, const float* q, Py_ssize_t q_step,
        Py_ssize_t n_groups, double* mass, double** sums, int64_t* zeros, double* largest) noexcept nogil
    bint add_family_double "kb_add_family_d"(const double* p, Py_ssize_t p_step, const double* q, Py_ssize_t q_step,
        Py_ssize_t n_groups, double* mass, double** sums, int64_t* zeros, double* largest) noexcept nogil
    double add_logits_float "kb_add_logits_f"(int inner, int mode, const float* x, const float* y, Py_ssize_t n_groups, float scale,
        float centre, float shift, const Next* next, double* sums) noexcept nogil
    double add_logits_double "kb_add_logits_d"(int inner, int mode, const double* x, const double* y, Py_ssize_t n_groups,
        double scale, double centre, double shift, const Next* next, double* sums) noexcept nogil
    double add_logits_js_float "kb_add_logits_js_f"(int mode, const float* x, const float* y, Py_ssize_t n_groups, float scale,
        float centre, float shift, float rest, double* sums) noexcept nogil
    double add_logits_js_double "kb_add_logits_js_d"(int mode, const double* x, const double* y, Py_ssize_t n_groups, double scale,
        double centre, double shift, double rest, double* sums) noexcept nogil


cdef inline floating log_fast(floating x) noexcept nogil:
    """Return log(x) of a normal x to about 2 ulp."""
    if floating is float:
        return log_float(x)
    else:
        return log_double(x)


cdef inline int formula_of(int measure) noexcept nogil:
    """Return the measure whose terms this one has."""
    if measure == JENSEN_SHANNON_ROOT:
        return JENSEN_SHANNON
    return ENTROPY if measure == PERPLEXITY else measure


cdef inline bint has_fast_terms(int measure) noexcept nogil:
    """Whether lanes.h has the terms; powers and the rest are rare enough for libm."""
    measure = formula_of(measure)
    return measure <= HELLINGER or measure == TOTAL_VARIATION or measure == CHI2 or measure == JEFFREYS or measure == MIXTURE


cdef inline int family_place(int measure) noexcept nogil:
    """Return the place among the measures that can share their logarithms, or -1."""
    measure = formula_of(measure)
    if measure == JENSEN_SHANNON:
        return 4
    return measure if measure <= ENTROPY_Q else -1


cdef inline bint has_q_terms(int measure) noexcept nogil:
    return formula_of(measure) != ENTROPY


cdef inline bint needs_exact_masses(int measure) noexcept nogil:
    """Whether the sums of p and q enter to first order."""
    measure = formula_of(measure)
    return not has_fast_terms(measure) or ENTROPY <= measure <= CROSS or measure == MIXTURE


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
    elif measure == POWER:
        return power_term(p, q, alpha) + alpha * p + (1 - alpha) * q if p == 0 or q == 0 \
            else exp(alpha * log(p) + (1 - alpha) * log(q))
    elif measure == MIXTURE:
        return cross_slow(0.5 * (p + q), 0.5 * (p + q))
    return 0


cdef inline bint takes_largest(int measure) noexcept nogil:
    return measure == MAX_RATIO or measure == MIN_ENTROPY


cdef inline double gather(int measure, double before, double value) noexcept nogil:
    """Add the terms of a block to a row's sum, or take the larger."""
    if takes_largest(measure):
        return value if value > before or value != value else before
    return before + value
