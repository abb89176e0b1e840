"""Header-only: exp of numbers that are not positive, in float64.

This is C because it works on the bits of numbers; compilers vectorise it at every SIMD level.
"""

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Return exp(-t) for t in [0, 708], with a relative error below 1e-13; callers have to clamp a larger t.
       exp(-t) = 2^n exp(r), where n is the integer nearest to -t / log 2 and |r| <= log(2) / 2. Rounding log 2 changes
       r by |n| 2.3e-17, which is at most 2.4e-14. The polynomial is the Taylor series to r^12, whose remainder is below
       1.8e-16. n is an int32, which every level converts in vectors. */
    static inline double kullback_exp_negative(double t) {
        int32_t n = (int32_t)(-1.4426950408889634 * t - 0.5);
        double r = -0.6931471805599453 * n - t;
        double p = 1.0 / 479001600;
        p = p * r + 1.0 / 39916800;
        p = p * r + 1.0 / 3628800;
        p = p * r + 1.0 / 362880;
        p = p * r + 1.0 / 40320;
        p = p * r + 1.0 / 5040;
        p = p * r + 1.0 / 720;
        p = p * r + 1.0 / 120;
        p = p * r + 1.0 / 24;
        p = p * r + 1.0 / 6;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        int64_t bits = ((int64_t)n + 1023) << 52;
        double power;
        memcpy(&power, &bits, sizeof power);
        return p * power;
    }
    """
    double exp_negative "kullback_exp_negative"(double t) noexcept nogil
