/* Logarithm and exponential of float32 and float64, without branches, for loops over lanes.

   This is C because the functions work on the bits of numbers and have other constants for each type, and because
   libm's functions are not vectorised at every SIMD level. Polynomials are evaluated in pairs (Estrin), which shortens
   the chains of operations that wait for each other. */

#ifndef KB_REAL
#ifndef KULLBACK_EXP_LOG
#define KULLBACK_EXP_LOG
#include "common/lanes/lanes.h"
#define KB_FILE "common/lanes/exp_log.h"
#include "common/lanes/both_types.h"
#undef KB_FILE
#endif
#else

static inline BITS KB(kb_bits)(REAL x) {
    BITS b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline REAL KB(kb_value)(BITS b) {
    REAL x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* Return a b + c, with one rounding where the CPU can do that. Compilers fuse such sums by themselves, but of a b + c
   d they may round either product, and loops for values with and without zeros have to agree to the last bit. */
KB_INLINE REAL KB(kb_fused)(REAL a, REAL b, REAL c) {
#if !defined(__FMA__) && !defined(__ARM_FEATURE_FMA)
    return a * b + c;
#elif KB_REAL == 32
    return __builtin_fmaf(a, b, c);
#else
    return __builtin_fma(a, b, c);
#endif
}

/* Return k as a number, where `shift` is k in the bits of the exponent; k LN2 is the logarithm of 2^k. In float32 the
   exponent's own bits are converted, and the units are those of the last place. AVX2 has neither a 64-bit arithmetic
   shift nor a conversion from int64 to double, so in float64 k, biased by 2048, becomes the low bits of 2^52. */
KB_INLINE REAL KB(kb_exponent)(BITS shift) {
#if KB_REAL == 32
    return (REAL)shift;
#else
    UBITS biased = ((UBITS)shift + 0x8000000000000000ull) >> 52;
    return KB(kb_value)((BITS)(biased | 0x4330000000000000ull)) - 4503599627372544.0;
#endif
}

/* Return x 2^k with the integer k that brings x within a factor 3/2 of `target`, and set *k such that *k LN2 is the
   logarithm of 2^k. The difference from `target` is then exact (Sterbenz). Half a binade is added before the exponent
   of the quotient is cut off, so k is the rounded difference of the two bit patterns. Both have to be normal. A
   difference of k and a half is rounded up, or, where the literal `antisymmetric` asks for it, away from 0, so that
   exchanging x with `target` negates k. */
KB_INLINE REAL KB(kb_align)(int antisymmetric, REAL x, REAL target, REAL *k) {
#if KB_REAL == 32
    const UBITS half = 0x00400000u, exponent = 0xff800000u;
#else
    const UBITS half = 0x0008000000000000ull, exponent = 0xfff0000000000000ull;
#endif
    UBITS difference = (UBITS)KB(kb_bits)(target) - (UBITS)KB(kb_bits)(x);
    BITS shift = (BITS)((difference + half - (antisymmetric ? difference >> (KB_REAL - 1) : 0)) & exponent);
    *k = KB(kb_exponent)(shift);
    return KB(kb_value)((BITS)((UBITS)KB(kb_bits)(x) + (UBITS)shift));
}

/* Return (atanh(s) - s) / s^3 for u = s^2 <= 0.04, times 1 or 2. The polynomials are Chebyshev interpolants with
   errors of 7e-7 and 4e-15 of what is 1.4 % of atanh(s). */
KB_INLINE REAL KB(kb_atanh_tail)(REAL u, REAL times) {
#if KB_REAL == 32
    return C(0.33333356868) * times + u * (C(0.19989455054) * times + u * (C(0.14979598367) * times));
#else
    REAL u2 = u * u;
    return ((0.33333333333333465 * times + u * (0.19999999999672825 * times))
            + u2 * (0.14285714416339865 * times + u * (0.11111091590340632 * times)))
        + (u2 * u2) * ((0.09092294301902220 * times + u * (0.07642116328550317 * times))
                       + u2 * (0.07556840446765599 * times));
#endif
}

/* The logarithm of a normal x comes in two halves, between which a sum of logarithms keeps *k and s. Let x = 2^k m
   with m from sqrt(1/2) to sqrt(2). Then log2(m) = (2 / ln 2) atanh(s) with s = (m - 1) / (m + 1). The second half
   returns the logarithm in units of LN2. Its polynomials are those of least error of s^3 (float64: s^2) times the
   polynomial: 3.5e-8 of a natural logarithm (2e-7 of one near 0) and 7e-17 (2e-16). */
KB_INLINE REAL KB(kb_begin_log)(REAL x, REAL *k) {
#if KB_REAL == 32
    const UBITS half_root = 0x3f3504f3u, exponent = 0xff800000u; /* the bits of sqrt(1/2) */
#else
    const UBITS half_root = 0x3fe6a09e667f3bcdull, exponent = 0xfff0000000000000ull;
#endif
    BITS shift = (BITS)(((UBITS)KB(kb_bits)(x) - half_root) & exponent);
    REAL m = KB(kb_value)((BITS)((UBITS)KB(kb_bits)(x) - (UBITS)shift));
    *k = KB(kb_exponent)(shift);
    return (m - C(1)) / (m + C(1));
}

KB_INLINE REAL KB(kb_end_log)(REAL s, REAL k) {
    REAL u = s * s, value;
#if KB_REAL == 32
    value = C(0.9616063485 * LOG_UNIT) + u * C(0.5956268483 * LOG_UNIT);
#else
    REAL u2 = u * u;
    value = (0.96179669392484023 + u * 0.57707801710446294)
        + u2 * ((0.4121984188673251 + u * 0.32061542496931135) + u2 * (0.26147063379299468 + u * 0.2426386751059493));
#endif
    return s * (C(2.8853900817779268 * LOG_UNIT) + u * value) + k;
}

KB_INLINE REAL KB(kb_log)(REAL x) {
    REAL k, s = KB(kb_begin_log)(x, &k);
    return KB(kb_end_log)(s, k) * LN2;
}

/* Split x = k ln 2 + r with |r| <= ln 2 / 2, return r and set *shifted to the bits of 2^k less those of 1. Adding
   1.5 2^23 (float64: 1.5 2^52) rounds x / ln 2 to an integer in the low bits, which become the exponent; |k| < 126
   (1022). In float32 one step errs by |k| 2e-9 with fused multiply-add and by |x| 6e-8 without, which e^x outweighs. In
   float64 ln 2 is split so that k times its first part is exact. */
KB_INLINE REAL KB(kb_reduce)(REAL x, BITS *shifted) {
#if KB_REAL == 32
    REAL z = x * 1.44269504f + 12582912.0f, k = z - 12582912.0f;
    *shifted = (BITS)((UBITS)KB(kb_bits)(z) << 23);
    return x - k * 0.693147181f;
#else
    REAL z = x * 1.4426950408889634 + 6755399441055744.0, k = z - 6755399441055744.0;
    *shifted = (BITS)((UBITS)KB(kb_bits)(z) << 52);
    return (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
#endif
}

/* Return x 2^k by adding to the exponent. */
KB_INLINE REAL KB(kb_scale)(REAL x, BITS shifted) {
    return KB(kb_value)((BITS)((UBITS)KB(kb_bits)(x) + (UBITS)shifted));
}

/* Return (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2, by Chebyshev interpolants with errors of 1.3e-7 and 3e-18. */
KB_INLINE REAL KB(kb_exp_tail)(REAL r, REAL r2) {
#if KB_REAL == 32
    return (C(0.5) + r * C(0.16666576666))
        + r2 * ((C(0.041666554212) + r * C(0.0083632328837)) + r2 * C(0.0013926250831));
#else
    REAL r4 = r2 * r2;
    return ((0.5 + r * 0.1666666666666667103) + r2 * (0.041666666666666669783 + r * 0.0083333333333260831202))
        + r4 * (((0.0013888888888883711167 + r * 0.00019841269875002278793)
                 + r2 * (0.0000248015873256774619 + r * 2.7557255170000887438e-6))
                + r4 * ((2.7557273478718580474e-7 + r * 2.5105312729622101787e-8) + r2 * 2.09147553258932022e-9));
#endif
}

/* kb_smaller returns the smaller of two values >= 0. kb_no_lower returns x, or `bound` where x is lower; both are
   negative, and NaN stays NaN. The bits of values >= 0 are ordered as the values are. As NaN has no order, comparing
   floating-point numbers costs two operations; comparing 32-bit integers costs one, and comparing 64-bit ones five. */
#if KB_REAL == 32
KB_INLINE REAL KB(kb_smaller)(REAL a, REAL b) {
    UBITS x = (UBITS)KB(kb_bits)(a), y = (UBITS)KB(kb_bits)(b);
    return KB(kb_value)((BITS)(x < y ? x : y));
}
KB_INLINE REAL KB(kb_no_lower)(REAL x, REAL bound) { return KB(kb_smaller)(x, bound); }
#else
KB_INLINE REAL KB(kb_smaller)(REAL a, REAL b) { return a < b ? a : b; }
KB_INLINE REAL KB(kb_no_lower)(REAL x, REAL bound) { return x < bound ? bound : x; }
#endif

/* Return exp(x) for x <= 0, with relative errors of 2e-7 and 3e-16. An x below EXP_LOWEST counts as EXP_LOWEST. */
KB_INLINE REAL KB(kb_exp)(REAL x) {
    BITS shifted;
    REAL r = KB(kb_reduce)(KB(kb_no_lower)(x, EXP_LOWEST), &shifted), r2 = r * r;
#if KB_REAL == 32
    r = (C(1) + r)
        + r2 * ((C(0.49999372139) + r * C(0.16666577026)) + r2 * (C(0.041875644452) + r * C(0.0083631730745)));
#else
    r = C(1) + (r + r2 * KB(kb_exp_tail)(r, r2));
#endif
    return KB(kb_scale)(r, shifted);
}

/* Return exp(-t) - 1 + t >= 0 without cancellation, and set *ratio to exp(-t). */
KB_INLINE REAL KB(kb_excess)(REAL t, REAL *ratio) {
    BITS shifted;
    REAL r = KB(kb_reduce)(-t, &shifted), r2 = r * r, tail = r2 * KB(kb_exp_tail)(r, r2);
    REAL power = KB(kb_scale)(C(1), shifted);
    *ratio = power * (C(1) + (r + tail));
    return power * tail + ((power - C(1)) + (power * r + t));
}

/* Return the same for |t| <= 1/2 without a range reduction, by Chebyshev interpolants with errors of 3e-8 and 3e-18. */
KB_INLINE REAL KB(kb_excess_near)(REAL t, REAL *ratio) {
    REAL t2 = t * t, value;
#if KB_REAL == 32
    value = (C(0.500000012161) - t * C(0.166666668017)) + t2 * ((C(0.04166579123) - t * C(0.00833323613352))
        + t2 * (C(0.00139821860463) - t * C(0.000199448744416)));
#else
    REAL t4 = t2 * t2;
    value = ((0.5 - t * 0.16666666666666666658) + t2 * (0.04166666666666706171 - t * 0.0083333333333333596599))
        + t4 * (((0.0013888888888704548969 - t * 0.00019841269841146991866)
                 + t2 * (0.000024801587616145412717 - t * 2.7557319433620242821e-6))
                + t4 * ((2.7557076636642723479e-7 - t * 2.5051946709721621128e-8)
                        + t2 * (2.0962955815976075739e-9 - t * 1.6116496514371546473e-10)));
#endif
    value *= t2;
    *ratio = C(1) + (value - t);
    return value;
}

#endif
