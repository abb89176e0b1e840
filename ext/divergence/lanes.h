/* What elements add to each divergence, and sums of it, in plain C that vectorises at every SIMD level.

   Included twice, for float32 (KB_REAL 32) and float64 (KB_REAL 64); names end in _f or _d.

   A sum is kept in KB_LANES parts side by side. Lane k of group j is p[j step + k]: within one row, groups follow each
   other (step = KB_LANES) and the lanes are added in the end; across rows, each lane is a row and step leads to the next
   element. Either way a lane adds its terms one after the other, KB_RUN of them in REAL before they are widened, so a
   row's bits do not depend on its neighbours. (Each loop over lanes stands alone: nested reductions would not vectorise
   without -fassociative-math, which would undo the range reductions.) */

#ifndef KULLBACK_LANES
#define KULLBACK_LANES
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "divergence/measures.h"

#define KB_LANES 16 /* one cache line of float32: 17.0 GB/s where 8 and 32 lanes give 17.0 and 14.2 */
#define KB_RUN 16   /* groups whose terms are added before they are widened: at most 16 roundings of 2^-24 */
#define KB_AHEAD 32 /* groups that are fetched ahead, 2 KiB of float32: 18.9 GB/s instead of 16.3; 16 to 128 are alike */

#define KB_AHEAD_BY(step) ((step) == KB_LANES ? KB_AHEAD * KB_LANES : KB_RUN * (step)) /* rows side by side: the next tile */

#if defined(__GNUC__)
#define KB_INLINE static inline __attribute__((always_inline))
#define KB_STATIC static __attribute__((unused)) /* not every kernel that includes this calls all of it */
#define KB_FETCH(pointer) __builtin_prefetch(pointer)
#else
#define KB_INLINE static inline
#define KB_STATIC static inline
#define KB_FETCH(pointer)
#endif
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define KB_SHUFFLES
#endif
#endif
#if defined(__AVX512F__) /* bytes of a vector, and a vector of doubles from float32 in memory */
#include <immintrin.h>
#define KB_VECTOR 64
#define KB_DOUBLES __m512d
#define KB_WIDENED(x) _mm512_cvtps_pd(_mm256_loadu_ps(x))
#elif defined(__AVX__)
#include <immintrin.h>
#define KB_VECTOR 32
#define KB_DOUBLES __m256d
#define KB_WIDENED(x) _mm256_cvtps_pd(_mm_loadu_ps(x))
#else
#define KB_VECTOR 16
#endif
#define KB_EACH_LANE _Pragma("omp simd") for (int k = 0; k < KB_LANES; k++)

/* What to fetch while a block is worked: the block after it, where it stands (which is elsewhere if blocks are packed), and the
   bytes of a group there. */
typedef struct { const char *x, *y; ptrdiff_t x_step, y_step; } kb_next;

enum { KB_USUAL, KB_UNUSUAL, KB_HAS_ZEROS }; /* what a pass met; but for the first, its sums are of no use */
#define KB_WITH_ZEROS 64 /* blocks that are worked with zeros in mind after one that had some */

enum { KB_NEAR, KB_FAR, KB_MASKED }; /* how far apart logits may be: see kb_logit_pass */
#define KB_NEAR_LIMIT 0.5
#endif /* KULLBACK_LANES */

#if KB_REAL == 32
#define REAL float
#define BITS int32_t
#define UBITS uint32_t
#define KB(name) name##_f
#define SQRT sqrtf
#define FUSED __builtin_fmaf
#define LEAST 0x01800000u                 /* bits of 4 FLT_MIN and of FLT_MAX / 4: what the fast terms take, besides 0 */
#define MOST 0x7e800000u
#define KEY uint32_t                      /* of a value: orders those that kb_note looks for; of LEAST and of what is above all */
#define LEAST_KEY (LEAST - 1)
#define MOST_KEY 0xffffffffu
#define MAGNITUDE 0x7fffffff
#define LN2 (0.693147181f / 8388608)      /* for shifts in units of the last place of the exponent's bits, 2^-23 */
#define LOWEST -1e37f                     /* stands for -inf among logits */
#define EXP_LOWEST -86.0f                 /* exp(x) = 2^-124 is still normal */
#else
#define REAL double
#define BITS int64_t
#define UBITS uint64_t
#define KB(name) name##_d
#define SQRT sqrt
#define FUSED __builtin_fma
#define LEAST 0x0030000000000000ull
#define MOST 0x7fd0000000000000ull
#define KEY int64_t
#define LEAST_KEY ((int64_t)(LEAST + 0x7fffffffffffffffull))
#define MOST_KEY 0x7fffffffffffffffll
#define MAGNITUDE 0x7fffffffffffffffll
#define LN2 0.6931471805599453
#define LOWEST -1e300
#define EXP_LOWEST -707.0
#endif
#define C(number) ((REAL)(number))
#define FEW (KB_VECTOR / (int)sizeof(REAL)) /* lanes of one vector: loops with many sums keep them in registers */
#define EACH_OF_FEW _Pragma("omp simd") for (int k = 0; k < FEW; k++)

/* ---- Elementary functions ---------------------------------------------------------------------- */

static inline BITS KB(kb_bits)(REAL x) { BITS b; memcpy(&b, &x, sizeof b); return b; }
static inline REAL KB(kb_value)(BITS b) { REAL x; memcpy(&x, &b, sizeof x); return x; }

/* a b + c in one rounding where the CPU has it. Compilers fuse such sums by themselves, but of a b + c d either product may be the
   one that is rounded, and loops for values with and without zeros have to agree to the last bit. */
KB_INLINE REAL KB(kb_fused)(REAL a, REAL b, REAL c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return FUSED(a, b, c);
#else
    return a * b + c;
#endif
}

/* Return x 2^k with the integer k that brings x within a factor 3/2 of target, so that target - result is exact
   (Sterbenz), and set *k such that *k LN2 is the logarithm of 2^k. Half a binade is added before
   the exponent of the quotient is cut off, so k is the rounded difference of the two bit patterns. Both normal. */
KB_INLINE REAL KB(kb_align)(REAL x, REAL target, REAL *k) {
#if KB_REAL == 32
    BITS shift = (BITS)(((UBITS)KB(kb_bits)(target) - (UBITS)KB(kb_bits)(x) + 0x00400000u) & 0xff800000u);
    *k = (REAL)shift;
#else /* AVX2 has neither a 64-bit arithmetic shift nor int64 -> double: k, biased by 2048, becomes the low bits of 2^52 */
    BITS shift = (BITS)(((UBITS)KB(kb_bits)(target) - (UBITS)KB(kb_bits)(x) + 0x0008000000000000ull)
                        & 0xfff0000000000000ull);
    UBITS biased = ((UBITS)shift + 0x8000000000000000ull) >> 52;
    *k = KB(kb_value)((BITS)(biased | 0x4330000000000000ull)) - 4503599627372544.0;
#endif
    return KB(kb_value)((BITS)((UBITS)KB(kb_bits)(x) + (UBITS)shift));
}

/* (atanh(s) - s) / s^3 for u = s^2 <= 0.04, times 1 or 2: Chebyshev interpolants, errors 7e-7 and 4e-15, of what is 1.4 % of
   atanh(s). */
KB_INLINE REAL KB(kb_atanh_tail)(REAL u, REAL times) {
#if KB_REAL == 32
    return C(0.33333356868) * times + u * (C(0.19989455054) * times + u * (C(0.14979598367) * times));
#else
    REAL u2 = u * u;
    return ((0.33333333333333465 * times + u * (0.19999999999672825 * times))
            + u2 * (0.14285714416339865 * times + u * (0.11111091590340632 * times)))
        + (u2 * u2) * ((0.09092294301902220 * times + u * (0.07642116328550317 * times)) + u2 * (0.07556840446765599 * times));
#endif
}

/* log(x) of a normal x in units of LN2: x = 2^k m with m from sqrt(1/2) to sqrt(2), log2 m = (2 / ln 2) atanh(s),
   s = (m - 1) / (m + 1). Least errors of s^3 (float64: s^2) times the polynomial: 3.5e-8 of a natural logarithm (2e-7 of one
   near 0) and 7e-17 (2e-16). *k and s are what a sum of logarithms keeps between its two halves. */
#if KB_REAL == 32
#define LOG_UNIT 8388608
#else
#define LOG_UNIT 1
#endif
KB_INLINE REAL KB(kb_begin_log)(REAL x, REAL *k) {
    REAL m;
#if KB_REAL == 32
    BITS shift = (BITS)(((UBITS)KB(kb_bits)(x) - 0x3f3504f3u) & 0xff800000u);
    *k = (REAL)shift;
#else
    BITS shift = (BITS)(((UBITS)KB(kb_bits)(x) - 0x3fe6a09e667f3bcdull) & 0xfff0000000000000ull);
    UBITS biased = ((UBITS)shift + 0x8000000000000000ull) >> 52;
    *k = KB(kb_value)((BITS)(biased | 0x4330000000000000ull)) - 4503599627372544.0;
#endif
    m = KB(kb_value)((BITS)((UBITS)KB(kb_bits)(x) - (UBITS)shift));
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

/* Split x = k ln 2 + r, |r| <= ln 2 / 2, and set *shifted to the bits of 2^k less those of 1. Adding 1.5 * 2^23 (2^52)
   rounds x / ln 2 to an integer in the low bits, which become the exponent; |k| < 126 (1022). In float32 one step
   errs by |k| 2e-9 with fused multiply-add and |x| 6e-8 without, which e^x outweighs; in float64 ln 2 is split so that k
   times its first part is exact. */
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
KB_INLINE REAL KB(kb_scale)(REAL x, BITS shifted) { return KB(kb_value)((BITS)((UBITS)KB(kb_bits)(x) + (UBITS)shifted)); }

/* Polynomials are evaluated in pairs (Estrin), which shortens the chains of operations that wait for each other. */

/* (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2: Chebyshev interpolants, errors 1.3e-7 and 3e-18. */
KB_INLINE REAL KB(kb_exp_tail)(REAL r, REAL r2) {
#if KB_REAL == 32
    return (C(0.5) + r * C(0.16666576666)) + r2 * ((C(0.041666554212) + r * C(0.0083632328837)) + r2 * C(0.0013926250831));
#else
    REAL r4 = r2 * r2;
    return ((0.5 + r * 0.1666666666666667103) + r2 * (0.041666666666666669783 + r * 0.0083333333333260831202))
        + r4 * (((0.0013888888888883711167 + r * 0.00019841269875002278793)
                 + r2 * (0.0000248015873256774619 + r * 2.7557255170000887438e-6))
                + r4 * ((2.7557273478718580474e-7 + r * 2.5105312729622101787e-8) + r2 * 2.09147553258932022e-9));
#endif
}

/* The smaller of values >= 0, whose bits are ordered as they are; and a negative x no lower than a negative bound,
   NaN staying NaN. Comparisons of floating numbers cost two operations for want of an order of NaN, of 32-bit integers one, of
   64-bit ones five. */
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

/* exp(x) for x <= 0, relative errors 2e-7 and 3e-16; what is below EXP_LOWEST counts as that. */
KB_INLINE REAL KB(kb_exp)(REAL x) {
    BITS shifted;
    REAL r = KB(kb_reduce)(KB(kb_no_lower)(x, EXP_LOWEST), &shifted), r2 = r * r;
#if KB_REAL == 32
    r = (C(1) + r) + r2 * ((C(0.49999372139) + r * C(0.16666577026)) + r2 * (C(0.041875644452) + r * C(0.0083631730745)));
#else
    r = C(1) + (r + r2 * KB(kb_exp_tail)(r, r2));
#endif
    return KB(kb_scale)(r, shifted);
}

/* Return exp(-t) - 1 + t >= 0 without cancellation, and exp(-t). */
KB_INLINE REAL KB(kb_excess)(REAL t, REAL *ratio) {
    BITS shifted;
    REAL r = KB(kb_reduce)(-t, &shifted), r2 = r * r, tail = r2 * KB(kb_exp_tail)(r, r2), power = KB(kb_scale)(C(1), shifted);
    *ratio = power * (C(1) + (r + tail));
    return power * tail + ((power - C(1)) + (power * r + t));
}

/* The same for |t| <= 1/2, without a range reduction: Chebyshev interpolants, errors 3e-8 and 3e-18. */
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

/* ---- Terms: 0 and normal numbers from LEAST to MOST, no branches -------------------------------- */

/* Let q' = 2^k q near p, d = p - q' (exact) and s = d / (p + q'). Then log(p / q) = k ln 2 + 2 atanh(s), p 2 s = d + s d,
   and p log(p / q) - p + q = s d + p (k ln 2 + 2 (atanh(s) - s)) + (q - q'), where no part cancels. */
KB_INLINE void KB(kb_begin_kl)(REAL p, REAL q, REAL *s, REAL *rest, REAL *k) {
    REAL near = KB(kb_align)(q, p, k), d = p - near;
    *s = d / (p + near);
    *rest = *s * d + (q - near);
}
KB_INLINE REAL KB(kb_end_kl)(int zeros, REAL p, REAL q, REAL s, REAL rest, REAL k) {
    REAL u = s * s, value = p * KB(kb_fused)(s * u, KB(kb_atanh_tail)(u, 2), k * LN2) + rest;
    if (!zeros) return value;
    value = q > 0 ? value : (REAL)INFINITY;
    return p > 0 ? value : q;
}

/* Twice the Jensen-Shannon term of a total a = p + q and v = ((p - q) / a)^2 <= 1/16:
   a ((1 + u) log(1 + u) + (1 - u) log(1 - u)) / 2, a series in v = u^2. */
KB_INLINE REAL KB(kb_js_near)(REAL a, REAL v) {
    REAL v2 = v * v;
#if KB_REAL == 32
    return a * (v * ((C(0.4999999985) + v * C(0.08333409053)) + v2 * (C(0.0332736764295) + v * C(0.01934454152))));
#else
    REAL v4 = v2 * v2;
    return a * (v * (((0.5 + v * 0.08333333333333230919) + v2 * (0.033333333333766127304 + v * 0.01785714279283077617))
        + v4 * (((0.011111116821797212231 + v * 0.0075754977633346005485)
                 + v2 * (0.005501416309768854819 + v * 0.00406051392514410213295)) + v4 * 0.0041273183750059148)));
#endif
}

/* The same for any u = |p - q| / a, given the smaller of p and q and |log(p / q)|: log(1 - u) = log(1 + u) - |log|. */
KB_INLINE REAL KB(kb_js_of)(REAL a, REAL u, REAL smaller, REAL log_ratio) {
    REAL v = u * u, near = KB(kb_js_near)(a, v), far;
#if KB_REAL == 32
    far = ((C(4.287906784e-5) + u * C(0.99927756636)) + v * (C(-0.49475562879) + u * C(0.31163577757)))
        + (v * v) * ((C(-0.19275227321) + u * C(0.097051590441)) + v * (C(-0.032547775578) + u * C(0.0051950518078)));
#else
    far = KB(kb_log)(1 + u);
#endif
    far = KB(kb_fused)(a, far, -(smaller * log_ratio));
    return v < C(0.0625) ? near : far;
}

/* Of p and q, u = (p - q) / (p + q), s = (p - q') / (p + q') with q' = 2^k q as for KL, and *rest = k ln 2 / 2 + (s - u), so that
   atanh(u) = log(p / q) / 2 = u + R with R = (atanh(s) - s) + rest. Where k is 0, s is u to the last bit and no part cancels.
   Of zeros R = -u, which makes the logarithm 0. */
KB_INLINE void KB(kb_begin_ratio)(int zeros, REAL p, REAL q, REAL *s, REAL *u, REAL *rest) {
    REAL total = p + q, one = p, other = q, k, near;
    if (zeros) one = p > 0 ? p : q;
    if (zeros) other = q > 0 ? q : p;
    if (zeros) total = total > 0 ? total : C(1);
    near = KB(kb_align)(other, one, &k);
    *s = (one - near) / (one + near);
    if (zeros) *s = one > 0 ? *s : 0;
    *u = (p - q) / total;
    *rest = KB(kb_fused)(k, C(0.5) * LN2, *s - *u);
}
KB_INLINE REAL KB(kb_end_ratio)(REAL s, REAL rest) { /* R */
    REAL v = s * s;
    return KB(kb_fused)(s * v, KB(kb_atanh_tail)(v, 1), rest);
}

/* Add to `total` twice the Jensen-Shannon term, which is (p + q) ((1 + u) log(1 + u) + (1 - u) log(1 - u)) / 2, of a `square`
   (p - q) u. In float32 that is (p + q) (w P(w) + u R Q(w)) with w = u^2: Q is 0 at 1, to the last bit, and the second part has the
   singularity that is there. Polynomials of least relative error, 3e-7. */
KB_INLINE REAL KB(kb_add_js)(int zeros, REAL p, REAL q, REAL u, REAL rest, REAL square, REAL total) {
#if KB_REAL == 32
    REAL w = u * u;
    (void)zeros;
    total = KB(kb_fused)(square, C(0.49999984) + w * (C(0.41065016) + w * (C(-0.30323154) + w * (C(0.08914771) + w * C(-0.00341921)))), total);
    return KB(kb_fused)((p - q) * rest, C(-0.98191780) + w * (C(1.5984901) + w * (C(-0.7507948) + w * C(0.1342225))), total);
#else
    REAL size = u < 0 ? -u : u, half = u + rest, smaller = KB(kb_smaller)(p, q), value;
    (void)square;
    half = half < 0 ? -half : half;
    value = KB(kb_js_of)(p + q, size, smaller, half + half);
    if (zeros) value = p + q > 0 ? value : 0;
    return total + value;
#endif
}

KB_INLINE REAL KB(kb_hellinger)(REAL p, REAL q) { /* through the exact p - q */
    REAL roots = SQRT(p) + SQRT(q), d = (p - q) / (roots > 0 ? roots : C(1));
    return C(0.5) * d * d;
}

KB_INLINE REAL KB(kb_variation)(REAL p, REAL q) {
    REAL d = p - q;
    return C(0.5) * (d > 0 ? d : -d);
}

KB_INLINE REAL KB(kb_chi2)(REAL p, REAL q) {
    REAL d = p - q, value = d * (d / q);
    value = q > 0 ? value : (REAL)INFINITY;
    return d != 0 ? value : 0;
}

/* Measures with a logarithm are worked in two halves, whose chains of operations that wait for each other are half as long:
   a CPU holds some three chains of KL at once, so a loop over whole terms waits (see docs/numerics.md). The first half
   leaves up to three numbers, the second takes them. */
KB_INLINE void KB(kb_begin)(int measure, int zeros, REAL p, REAL q, REAL *s, REAL *rest, REAL *k) {
    switch (measure) {
    case KB_KL: KB(kb_begin_kl)(p, q, s, rest, k); break;
    case KB_REVERSE_KL: KB(kb_begin_kl)(q, p, s, rest, k); break;
    case KB_ENTROPY: *s = KB(kb_begin_log)(p, k); break;
    case KB_ENTROPY_Q:
    case KB_CROSS: *s = KB(kb_begin_log)(q, k); break;
    case KB_MIXTURE: *s = KB(kb_begin_log)(C(0.5) * (p + q), k); break;
    case KB_JS: KB(kb_begin_ratio)(zeros, p, q, s, rest, k); break;
    default: break;
    }
}

KB_INLINE double KB(kb_unit)(int measure) { /* of the terms */
    return measure == KB_JS ? 0.5
        : measure == KB_ENTROPY || measure == KB_ENTROPY_Q || measure == KB_CROSS || measure == KB_MIXTURE ? -(0.6931471805599453 / LOG_UNIT)
        : 1.0;
}

KB_INLINE REAL KB(kb_end)(int measure, int zeros, REAL p, REAL q, REAL s, REAL rest, REAL k) {
    REAL weight = measure == KB_ENTROPY_Q ? q : measure == KB_MIXTURE ? C(0.5) * (p + q) : p, value;
    switch (measure) {
    case KB_KL: return KB(kb_end_kl)(zeros, p, q, s, rest, k);
    case KB_REVERSE_KL: return KB(kb_end_kl)(zeros, q, p, s, rest, k);
    case KB_ENTROPY:
    case KB_ENTROPY_Q:
    case KB_MIXTURE:
    case KB_CROSS:
        value = KB(kb_end_log)(s, k); /* finite at 0 */
        if (zeros && measure == KB_CROSS) value = q > 0 || !(p > 0) ? value : -(REAL)INFINITY;
        return weight * value;
    case KB_JS:
        value = KB(kb_end_ratio)(s, k);
        return KB(kb_add_js)(zeros, p, q, rest, value, (p - q) * rest, 0);
    default: return 0;
    }
}

KB_INLINE REAL KB(kb_kl)(int zeros, REAL p, REAL q) {
    REAL s, rest, k;
    KB(kb_begin_kl)(p, q, &s, &rest, &k);
    return KB(kb_end_kl)(zeros, p, q, s, rest, k);
}

KB_INLINE REAL KB(kb_term)(int measure, int zeros, REAL p, REAL q) { /* the others */
    switch (measure) {
    case KB_HELLINGER: return KB(kb_hellinger)(p, q);
    case KB_VARIATION: return KB(kb_variation)(p, q);
    case KB_CHI2: return KB(kb_chi2)(p, q);
    case KB_JEFFREYS: return KB(kb_kl)(zeros, p, q) + KB(kb_kl)(zeros, q, p);
    default: return 0;
    }
}

/* ---- Values that the terms do not take ----------------------------------------------------------- */

/* The least of values, negative ones and -0 below all others, as far as it is less than LEAST. What is too large, infinite or NaN
   shows in the sums. */
#if KB_REAL == 32
#define LOW BITS
#define LOWEST_USUAL ((BITS)LEAST)
KB_INLINE void KB(kb_note_least)(REAL a, LOW *least) {
    BITS bits = KB(kb_bits)(a);
    *least = *least < bits ? *least : bits;
}
KB_INLINE void KB(kb_note_largest)(REAL a, LOW *largest) {
    BITS bits = KB(kb_bits)(a);
    *largest = *largest > bits ? *largest : bits;
}
KB_INLINE double KB(kb_noted)(LOW noted) { return (double)KB(kb_value)(noted); }
#else
#define LOW REAL
#define LOWEST_USUAL KB(kb_value)(LEAST)
KB_INLINE void KB(kb_note_least)(REAL a, LOW *least) { *least = a < *least ? a : *least; }
KB_INLINE void KB(kb_note_largest)(REAL a, LOW *largest) { *largest = a > *largest ? a : *largest; }
KB_INLINE double KB(kb_noted)(LOW noted) { return noted; }
#endif

/* Note whether a value is not 0 or from LEAST to MOST. As unsigned integers, negative values, -0, infinities and NaN stand
   above MOST, subnormals just above 0, which itself wraps to the top when 1 is taken off. Of doubles, whose unsigned
   comparisons are slow, the keys are biased to signed ones, `highest` takes the signs, and sums tell what is too large. */
KB_INLINE void KB(kb_note)(REAL a, KEY *lowest, UBITS *highest) {
    UBITS bits = (UBITS)KB(kb_bits)(a);
#if KB_REAL == 32
    KEY key = bits - 1;
    *highest = *highest > bits ? *highest : bits;
#else
    KEY key = (KEY)(bits + 0x7fffffffffffffffull);
    *highest |= bits;
#endif
    *lowest = *lowest < key ? *lowest : key;
}

KB_INLINE int KB(kb_what)(int zeros, const KEY *lowest, const UBITS *highest, const LOW *least, const double *p_mass,
                       const double *q_mass) {
    double most = KB(kb_value)(MOST);
    int large = 0;
    if (zeros) {
        KEY low = MOST_KEY;
        UBITS high = 0;
        for (int k = 0; k < KB_LANES; k++) low = low < lowest[k] ? low : lowest[k];
#if KB_REAL == 32
        for (int k = 0; k < KB_LANES; k++) high = high > highest[k] ? high : highest[k];
        return low < LEAST_KEY || high > MOST ? KB_UNUSUAL : KB_USUAL;
#else
        for (int k = 0; k < KB_LANES; k++) high |= highest[k];
        if (low < LEAST_KEY || (BITS)high < 0) return KB_UNUSUAL;
#endif
    } else {
        LOW low = least[0];
        for (int k = 1; k < KB_LANES; k++) low = low < least[k] ? low : least[k];
        if (low < LOWEST_USUAL) return KB_HAS_ZEROS;
    }
    for (int k = 0; k < KB_LANES; k++) large |= !(p_mass[k] <= most) | !(q_mass[k] <= most);
    return large ? KB_UNUSUAL : KB_USUAL;
}

/* Sums of values as doubles, in vectors that are converted straight from memory where there is an instruction for it: what is in a
   register takes three operations instead of one. */
#if KB_REAL == 32 && defined(KB_DOUBLES)
#define WIDE KB_DOUBLES
#define PARTS (KB_LANES * 8 / (int)sizeof(KB_DOUBLES))
#define WIDENED(x, i) KB_WIDENED((x) + (i) * (KB_LANES / PARTS))
#else
#define WIDE double
#define PARTS KB_LANES
#define WIDENED(x, i) ((double)(x)[i])
#endif
#define EACH_PART _Pragma("GCC unroll 16") for (int i = 0; i < PARTS; i++)

/* ---- Sums of one measure ------------------------------------------------------------------------- */

/* What a pass keeps from group to group: of what its values are, sums of a run, and the halves of its terms. */
typedef struct {
    KEY lowest[KB_LANES];
    UBITS highest[KB_LANES];
    LOW least[KB_LANES];
    WIDE wide_p[PARTS], wide_q[PARTS];
    REAL sum[KB_LANES], difference[KB_LANES], total[KB_LANES];
} KB(kb_state);

/* One group: `first` notes its values and works the first halves of its terms, `second` adds masses and terms. Where both are done, the
   second is of the group a run before, `ahead` elements of p and q, whose halves stood in the same place. */
KB_INLINE void KB(kb_step)(int measure, int has_q, int masses, int exact, int zeros, int first, int second, const REAL *x,
                           const REAL *y, ptrdiff_t x_ahead, ptrdiff_t y_ahead, ptrdiff_t x_fetch, ptrdiff_t y_fetch, REAL *s,
                           REAL *rest, REAL *shift, KB(kb_state) *state) {
    int halves = measure <= KB_JS || measure == KB_MIXTURE;
    if (masses) { /* rows side by side are one run: their next tile is fetched by the loop that reads memory */
        const REAL *from_x = x + (second ? 0 : x_ahead), *from_y = y + (second ? 0 : y_ahead);
        KB_FETCH(from_x + x_fetch);
        if (KB_REAL == 64) KB_FETCH(from_x + x_fetch + KB_LANES / 2);
        if (has_q) KB_FETCH(from_y + y_fetch);
        if (has_q && KB_REAL == 64) KB_FETCH(from_y + y_fetch + KB_LANES / 2);
    }
    KB_EACH_LANE {
        if (second) {
            REAL a = x[k], b = has_q ? y[k] : 0;
            if (masses && !exact) state->sum[k] += a;
            if (masses && !exact && has_q) state->difference[k] += b - a;
            state->total[k] += halves ? KB(kb_end)(measure, zeros, a, b, s[k], rest[k], shift[k]) : KB(kb_term)(measure, zeros, a, b);
        }
        if (first) {
            REAL a = x[x_ahead + k], b = has_q ? y[y_ahead + k] : 0;
            if (masses && zeros) {
                KB(kb_note)(a, &state->lowest[k], &state->highest[k]);
                if (has_q) KB(kb_note)(b, &state->lowest[k], &state->highest[k]);
            } else if (masses) {
                KB(kb_note_least)(a, &state->least[k]);
                if (has_q) KB(kb_note_least)(b, &state->least[k]);
            }
            if (halves) KB(kb_begin)(measure, zeros, a, b, &s[k], &rest[k], &shift[k]);
        }
    }
    if (second && masses && exact) EACH_PART state->wide_p[i] += WIDENED(x, i);
    if (second && masses && exact && has_q) EACH_PART state->wide_q[i] += WIDENED(y, i);
}

/* Add the terms of one measure to `sums`, and with `masses` the sums of p and q to `mass` and what follows it: where the
   measure depends on them to first order (exact) by widening each value, elsewhere by widening sums of p and of q - p,
   which is exact for near rows and saves a quarter of the time. Return what it met; without `zeros`, values have to be
   positive, and their terms are the same to the last bit. */
KB_INLINE int KB(kb_pass)(int measure, int has_q, int masses, int exact, int zeros, const REAL *p, ptrdiff_t p_step, const REAL *q,
                          ptrdiff_t q_step, ptrdiff_t n_groups, double *mass, double *sums) {
    double whole[3][KB_LANES]; /* of p, of q, of terms */
    REAL s[KB_RUN * KB_LANES], rest[KB_RUN * KB_LANES], shift[KB_RUN * KB_LANES];
    const ptrdiff_t run = measure <= KB_JS || measure == KB_MIXTURE ? KB_RUN : 0; /* how far first halves are ahead of second ones */
    ptrdiff_t p_fetch = KB_AHEAD_BY(p_step) + (p_step == KB_LANES ? run * KB_LANES : 0);
    ptrdiff_t q_fetch = KB_AHEAD_BY(q_step) + (q_step == KB_LANES ? run * KB_LANES : 0);
    int met = KB_USUAL;
    KB(kb_state) state;
    for (int k = 0; k < KB_LANES; k++) state.lowest[k] = MOST_KEY, state.highest[k] = 0, state.least[k] = LOWEST_USUAL;
    KB_EACH_LANE whole[0][k] = whole[1][k] = whole[2][k] = 0;
    for (ptrdiff_t start = -run; start < n_groups; start += KB_RUN) {
        ptrdiff_t n_first = n_groups - start - run, n_second = n_groups - start, j = 0;
        n_first = n_first < 0 ? 0 : n_first < KB_RUN ? n_first : KB_RUN;
        n_second = n_second < KB_RUN ? n_second : KB_RUN;
        KB_EACH_LANE state.sum[k] = state.difference[k] = state.total[k] = 0;
        EACH_PART state.wide_p[i] = state.wide_q[i] = (WIDE){0};
#define KB_STEP(FIRST, SECOND) \
        KB(kb_step)(measure, has_q, masses, exact, zeros, FIRST, SECOND, p + (start + j) * p_step, q + (start + j) * q_step, \
                    run * p_step, run * q_step, p_fetch, q_fetch, s + j * KB_LANES, rest + j * KB_LANES, shift + j * KB_LANES, &state)
        if (start < 0)
            for (; j < n_first; j++) KB_STEP(1, 0);
        else
            for (; j < n_first; j++) KB_STEP(1, 1);
        if (run && start >= 0)
            for (; j < n_second; j++) KB_STEP(0, 1);
#undef KB_STEP
        if (masses && exact) KB_EACH_LANE whole[0][k] += ((const double *)state.wide_p)[k];
        if (masses && exact && has_q) KB_EACH_LANE whole[1][k] += ((const double *)state.wide_q)[k];
        if (masses && !exact) KB_EACH_LANE whole[0][k] += (double)state.sum[k];
        if (masses && !exact && has_q) KB_EACH_LANE whole[1][k] += (double)state.sum[k] + (double)state.difference[k];
        if (measure != KB_MASS) KB_EACH_LANE whole[2][k] += (double)state.total[k];
    }
    if (masses) met = KB(kb_what)(zeros, state.lowest, state.highest, state.least, whole[0], whole[1]);
    if (met != KB_USUAL) return met;
    if (masses) KB_EACH_LANE mass[k] += whole[0][k];
    if (masses && has_q) KB_EACH_LANE mass[KB_LANES + k] += whole[1][k];
    if (measure != KB_MASS) KB_EACH_LANE sums[k] += KB(kb_unit)(measure) * whole[2][k];
    return met;
}

/* One pass with its choices fixed at compile time: without masses, or with them and values checked, in the hope that they are positive
   unless blocks have lately been found to hold zeros. KB_MASS gives the masses alone. */
KB_STATIC int KB(kb_add_terms)(int measure, int has_q, int masses, const REAL *p, ptrdiff_t p_step, const REAL *q,
                            ptrdiff_t q_step, ptrdiff_t n_groups, double *mass, double *sums, int64_t *zeros) {
    int hope = masses && *zeros == 0, met;
#define KB_PASS(MEASURE, HAS_Q, EXACT) \
        met = !masses ? KB(kb_pass)(MEASURE, HAS_Q, 0, EXACT, 1, p, p_step, q, q_step, n_groups, mass, sums) \
            : hope ? KB(kb_pass)(MEASURE, HAS_Q, 1, EXACT, 0, p, p_step, q, q_step, n_groups, mass, sums) \
                   : KB(kb_pass)(MEASURE, HAS_Q, 1, EXACT, 1, p, p_step, q, q_step, n_groups, mass, sums); \
        break;
    for (;; hope = 0, *zeros = KB_WITH_ZEROS) {
        switch (measure) {
        case KB_KL: KB_PASS(KB_KL, 1, 0)
        case KB_REVERSE_KL: KB_PASS(KB_REVERSE_KL, 1, 0)
        case KB_ENTROPY: KB_PASS(KB_ENTROPY, 0, 1)
        case KB_ENTROPY_Q: KB_PASS(KB_ENTROPY_Q, 1, 1)
        case KB_CROSS: KB_PASS(KB_CROSS, 1, 1)
        case KB_JS: KB_PASS(KB_JS, 1, 0)
        case KB_HELLINGER: KB_PASS(KB_HELLINGER, 1, 0)
        case KB_VARIATION: KB_PASS(KB_VARIATION, 1, 0)
        case KB_CHI2: KB_PASS(KB_CHI2, 1, 0)
        case KB_JEFFREYS: KB_PASS(KB_JEFFREYS, 1, 0)
        case KB_MIXTURE: KB_PASS(KB_MIXTURE, 1, 1)
        default:
            if (has_q) { KB_PASS(KB_MASS, 1, 1) }
            KB_PASS(KB_MASS, 0, 1)
        }
        if (met != KB_HAS_ZEROS) break;
    }
    if (masses && !hope) --*zeros;
    return met;
#undef KB_PASS
}

/* ---- Sums of measures that share their logarithms ------------------------------------------------ */

/* Set `sums` to those of the terms of KB_KL, KB_REVERSE_KL, KB_ENTROPY, KB_ENTROPY_Q and KB_JS, `mass` to those of p and q and `most`
   to the largest p and q of each lane, in one pass. With u and R as above, d = p - q and D = d u, the terms are

       KL = D + 2 p R,    reverse KL = D - 2 q R,    log q = log p - 2 u - 2 R,

   whatever R is, and no part of the first two cancels. So five sums serve for four measures, in units that are multiplied in at the end.
   (2 q u is d - D, which costs nothing but cancels where q is much smaller than p, and with it a small entropy of q.) Masses are
   sums in REAL of p, q and q - p, and a log q near 0 takes on the error of log p: see kb_add_family. `mass` becomes the sums of p and q,
   to which entropies answer, and of p and p + (q - p), exact for near rows, to which divergences do. */
KB_INLINE int KB(kb_family_pass)(int zeros, const REAL *p, ptrdiff_t p_step, const REAL *q, ptrdiff_t q_step, ptrdiff_t n_groups,
                             double (*mass)[KB_LANES], double (*sums)[KB_LANES], LOW (*most)[KB_LANES]) {
    enum { SQUARES, P_R, Q_R, P_LOG_P, Q_LOG, MIXED, P_MASS, Q_MASS, DIFFERENCE, N_SUMS };
    KEY lowest[KB_LANES];
    UBITS highest[KB_LANES];
    LOW least[KB_LANES];
    REAL sums_of_runs[N_SUMS][KB_LANES];
    double whole[N_SUMS][KB_LANES], infinite[KB_LANES];
    const double unit = 0.6931471805599453 / LOG_UNIT;
    int met;
    for (int k = 0; k < KB_LANES; k++) lowest[k] = MOST_KEY, highest[k] = 0, least[k] = LOWEST_USUAL, most[0][k] = most[1][k] = 0;
    for (int m = 0; m < N_SUMS; m++) KB_EACH_LANE whole[m][k] = sums_of_runs[m][k] = 0;
    KB_EACH_LANE infinite[k] = 0;
    for (ptrdiff_t start = 0; start < n_groups; start += KB_RUN) {
        ptrdiff_t n = start + KB_RUN < n_groups ? KB_RUN : n_groups - start;
        REAL s[KB_RUN * KB_LANES], gap[KB_RUN * KB_LANES], rest[KB_RUN * KB_LANES], log_p[KB_RUN * KB_LANES], shift[KB_RUN * KB_LANES];
        for (int lane = 0; lane < KB_LANES; lane += FEW) { /* first halves, to the divisions */
            KEY low[FEW];
            UBITS high[FEW];
            LOW little[FEW], much_p[FEW], much_q[FEW];
            REAL sum_p[FEW], sum_q[FEW], difference[FEW];
            EACH_OF_FEW low[k] = lowest[lane + k], high[k] = highest[lane + k], little[k] = least[lane + k];
            EACH_OF_FEW much_p[k] = most[0][lane + k], much_q[k] = most[1][lane + k];
            EACH_OF_FEW sum_p[k] = sum_q[k] = difference[k] = 0;
            for (ptrdiff_t j = 0; j < n; j++) {
                const REAL *x = p + (start + j) * p_step + lane, *y = q + (start + j) * q_step + lane;
                ptrdiff_t place = j * KB_LANES + lane;
                KB_FETCH(x + KB_AHEAD_BY(p_step));
                KB_FETCH(y + KB_AHEAD_BY(q_step));
                EACH_OF_FEW {
                    REAL a = x[k], b = y[k], one = zeros && !(a > 0) ? b : a;
                    if (zeros) KB(kb_note)(a, &low[k], &high[k]);
                    if (zeros) KB(kb_note)(b, &low[k], &high[k]);
                    if (!zeros) KB(kb_note_least)(a, &little[k]);
                    if (!zeros) KB(kb_note_least)(b, &little[k]);
                    KB(kb_note_largest)(a, &much_p[k]);
                    KB(kb_note_largest)(b, &much_q[k]);
                    sum_p[k] += a;
                    sum_q[k] += b;
                    difference[k] -= a - b;
                    KB(kb_begin_ratio)(zeros, a, b, &s[place + k], &gap[place + k], &rest[place + k]);
                    log_p[place + k] = KB(kb_begin_log)(one, &shift[place + k]);
                }
            }
            EACH_OF_FEW lowest[lane + k] = low[k], highest[lane + k] = high[k], least[lane + k] = little[k];
            EACH_OF_FEW most[0][lane + k] = much_p[k], most[1][lane + k] = much_q[k];
            EACH_OF_FEW sums_of_runs[P_MASS][lane + k] += sum_p[k];
            EACH_OF_FEW sums_of_runs[Q_MASS][lane + k] += sum_q[k];
            EACH_OF_FEW sums_of_runs[DIFFERENCE][lane + k] += difference[k];
        }
        for (int lane = 0; lane < KB_LANES; lane += FEW) {
            REAL total[P_MASS][FEW], endless[FEW];
            for (int m = 0; m < P_MASS; m++) EACH_OF_FEW total[m][k] = 0;
            EACH_OF_FEW endless[k] = 0;
            for (ptrdiff_t j = 0; j < n; j++) {
                const REAL *x = p + (start + j) * p_step + lane, *y = q + (start + j) * q_step + lane;
                ptrdiff_t place = j * KB_LANES + lane;
                EACH_OF_FEW {
                    REAL a = x[k], b = y[k], u = gap[place + k], square = (a - b) * u, remainder, log_a, log_b, next;
                    remainder = KB(kb_end_ratio)(s[place + k], rest[place + k]);
                    log_a = KB(kb_end_log)(log_p[place + k], shift[place + k]);
                    log_b = KB(kb_fused)(u, C(-2.8853900817779268 * LOG_UNIT), log_a);
                    total[SQUARES][k] += square;
                    next = KB(kb_fused)(a, remainder, total[P_R][k]);
                    if (zeros) next = b > 0 || !(a > 0) ? next : (REAL)INFINITY;
                    total[P_R][k] = next;
                    total[Q_R][k] = KB(kb_fused)(b, remainder, total[Q_R][k]);
                    if (zeros) endless[k] += a > 0 || !(b > 0) ? 0 : (REAL)INFINITY;
                    total[P_LOG_P][k] = KB(kb_fused)(a, log_a, total[P_LOG_P][k]);
                    total[Q_LOG][k] = KB(kb_fused)(b, log_b, total[Q_LOG][k]);
                    total[MIXED][k] = KB(kb_add_js)(zeros, a, b, u, remainder, square, total[MIXED][k]);
                }
            }
            for (int m = 0; m < P_MASS; m++) EACH_OF_FEW sums_of_runs[m][lane + k] += total[m][k];
            if (zeros) EACH_OF_FEW infinite[lane + k] += (double)endless[k];
        }
        if (start / KB_RUN % 4 == 3 || start + KB_RUN >= n_groups) /* widened once in four runs: four roundings more */
            for (int m = 0; m < N_SUMS; m++) KB_EACH_LANE whole[m][k] += (double)sums_of_runs[m][k], sums_of_runs[m][k] = 0;
    }
    met = KB(kb_what)(zeros, lowest, highest, least, whole[P_MASS], whole[Q_MASS]);
    if (met != KB_USUAL) return met;
    KB_EACH_LANE mass[0][k] = mass[2][k] = whole[P_MASS][k];
    KB_EACH_LANE mass[1][k] = whole[Q_MASS][k];
    KB_EACH_LANE mass[3][k] = whole[P_MASS][k] + whole[DIFFERENCE][k];
    KB_EACH_LANE sums[0][k] = whole[SQUARES][k] + 2 * whole[P_R][k];
    KB_EACH_LANE sums[1][k] = (whole[SQUARES][k] - 2 * whole[Q_R][k]) + infinite[k];
    KB_EACH_LANE sums[2][k] = -unit * whole[P_LOG_P][k];
    KB_EACH_LANE sums[3][k] = 2 * whole[Q_R][k] - unit * whole[Q_LOG][k];
    KB_EACH_LANE sums[4][k] = 0.5 * whole[MIXED][k];
    return met;
}

/* Add what that pass gives to `mass` and to the sums that are not NULL, and raise `largest` to the largest p and q. Lanes with a value from
   1/4 to 4, whose logarithm may be as small as the entropy of the row is, have mass and entropy by themselves. */
KB_STATIC int KB(kb_add_family)(const REAL *p, ptrdiff_t p_step, const REAL *q, ptrdiff_t q_step, ptrdiff_t n_groups,
                             double *mass, double *const *sums, int64_t *zeros, double *largest) {
    double masses[4][KB_LANES], terms[5][KB_LANES];
    LOW most[2][KB_LANES];
    int met = KB_HAS_ZEROS;
    if (*zeros == 0) met = KB(kb_family_pass)(0, p, p_step, q, q_step, n_groups, masses, terms, most);
    if (met == KB_HAS_ZEROS) {
        *zeros = (*zeros > 0 ? *zeros : KB_WITH_ZEROS) - 1;
        met = KB(kb_family_pass)(1, p, p_step, q, q_step, n_groups, masses, terms, most);
    }
    if (met != KB_USUAL) return met;
    for (int i = 0; i < 2; i++) { /* of p, of q */
        double mass_alone[KB_LANES] = {0}, entropy_alone[KB_LANES] = {0}, value[KB_LANES];
        int n_peaks = 0;
        for (int k = 0; k < KB_LANES; k++) {
            value[k] = KB(kb_noted)(most[i][k]);
            largest[i] = value[k] > largest[i] ? value[k] : largest[i];
            n_peaks += value[k] >= 0.25 && value[k] <= 4;
        }
        if (n_peaks > 0)
            KB(kb_add_terms)(KB_ENTROPY, 0, 1, i == 0 ? p : q, i == 0 ? p_step : q_step, p, p_step, n_groups, mass_alone, entropy_alone, zeros);
        for (int k = 0; n_peaks > 0 && k < KB_LANES; k++)
            if (value[k] >= 0.25 && value[k] <= 4) masses[i][k] = mass_alone[k], terms[2 + i][k] = entropy_alone[k];
    }
    for (int m = 0; m < 4; m++) KB_EACH_LANE mass[m * KB_LANES + k] += masses[m][k];
    for (int m = 0; m < 5; m++)
        if (sums[m]) KB_EACH_LANE sums[m][k] += terms[m][k];
    return met;
}

/* Put KB_LANES rows, `row` elements apart, side by side: element i of row k goes to out[i KB_LANES + k]. Blocks of 4 x 4 go
   through vectors, the last of them over some elements again: a loop over single elements costs twice as much. */
KB_STATIC void KB(kb_transpose)(const REAL *x, ptrdiff_t row, ptrdiff_t n, REAL *restrict out) {
    ptrdiff_t i = 0;
#ifdef KB_SHUFFLES
    typedef REAL four __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#if KB_REAL == 32 /* pairs that one instruction takes: the halves of vectors of 16 bytes, in each half of those of 32 */
#define KB_FIRST(A, B) __builtin_shufflevector(A, B, 0, 4, 1, 5)
#define KB_SECOND(A, B) __builtin_shufflevector(A, B, 2, 6, 3, 7)
    enum { SECOND = 1, THIRD = 2 }; /* elements whose columns follow the first */
#else
#define KB_FIRST(A, B) __builtin_shufflevector(A, B, 0, 4, 2, 6)
#define KB_SECOND(A, B) __builtin_shufflevector(A, B, 1, 5, 3, 7)
    enum { SECOND = 2, THIRD = 1 };
#endif
    for (; n >= 4 && i < n; i += 4) {
        i = i + 4 <= n ? i : n - 4;
        for (int k = 0; k < KB_LANES; k += 4) {
            const REAL *from = x + k * row + i;
            REAL *to = out + i * KB_LANES + k;
            four a = *(const four *)from, b = *(const four *)(from + row);
            four c = *(const four *)(from + 2 * row), d = *(const four *)(from + 3 * row);
            for (int j = 0; j < 4; j++) KB_FETCH(from + (KB_LANES + j) * row); /* rows of the next tile */
            four ab = KB_FIRST(a, b), cd = KB_FIRST(c, d);
            *(four *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(four *)(to + SECOND * KB_LANES) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            ab = KB_SECOND(a, b), cd = KB_SECOND(c, d);
            *(four *)(to + THIRD * KB_LANES) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(four *)(to + 3 * KB_LANES) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        }
    }
#undef KB_FIRST
#undef KB_SECOND
#endif
    for (; i < n; i++)
        KB_EACH_LANE out[i * KB_LANES + k] = x[k * row + i];
}

#if KB_REAL == 64
/* KL of KB_LANES rows of probabilities from their sums, as divergence/finish.pxd has it: total / p less r - log(1 + r) with
   r = (q - p) / p, by its series. Clear `settled` where that does not hold: sums off 1 by more than the tolerances or by
   1e-4 of themselves, or cancellation. */
KB_STATIC void kb_finish_kl(const double *p, const double *q, const double *total, double unit, double tolerance_p,
                         double tolerance_q, double *value, int64_t *settled) {
    KB_EACH_LANE {
        double r = (q[k] - p[k]) / p[k], whole = total[k] / p[k], part = r * r * (0.5 - r * (1.0 / 3 - r * (0.25 - r * 0.2)));
        value[k] = (whole - part) * unit;
        settled[k] = (fabs(p[k] - 1) <= tolerance_p) & (fabs(q[k] - 1) <= tolerance_q) & (fabs(r) < 1e-4)
            & (part <= 0.75 * whole) & (p[k] > 0);
    }
}
#endif

/* ---- Sums of logits: see divergence/logits.pxd -------------------------------------------------- */

/* log(cosh(t / 2)) for w = t^2 <= 1/4: a Chebyshev interpolant, error 5e-10. */
KB_INLINE REAL KB(kb_log_cosh)(REAL w) {
    return w * ((C(0.124999999937) + w * C(-0.00520832532746)) + (w * w) * (C(0.000347061535059) + w * C(-2.53140569799e-5)));
}

/* Add e = exp(x - centre), with t = (x - y) - shift, to `sums`: e, e t, e (exp(-t) - 1 + t); for inner > 0 also
   e (x - centre); for inner > 1 e exp(-t) (y - centre + shift) and e (1 - exp(-t) (1 + t)); for inner > 2, in float32 and
   KB_NEAR alone, twice the Jensen-Shannon term of e and e exp(-t), which is e (L + exp(-t) (L - t)) with L = t / 2 - log(cosh(t / 2));
   e log(cosh(t / 2)); and e t^3. inner < 0 is of x alone.
   Return the largest |t|, NaN where any is. The terms hold up to KB_NEAR_LIMIT in the mode KB_NEAR and to 40 in the
   others, of which KB_MASKED also takes -inf on both sides, which adds nothing. */
KB_INLINE double KB(kb_logit_pass)(int inner, int mode, const REAL *x, const REAL *y, ptrdiff_t n_groups, REAL scale, REAL centre,
                                REAL shift, const kb_next *next, double *sums) {
    BITS worst[KB_LANES] = {0}, most = 0;
    for (ptrdiff_t start = 0; start < n_groups; start += KB_RUN) {
        ptrdiff_t end = start + KB_RUN < n_groups ? start + KB_RUN : n_groups;
        REAL mass[KB_LANES], tilt[KB_LANES], forward[KB_LANES], inner_p[KB_LANES], inner_q[KB_LANES], backward[KB_LANES];
        REAL mixed[KB_LANES], cosh[KB_LANES], cubes[KB_LANES];
        KB_EACH_LANE mass[k] = tilt[k] = forward[k] = inner_p[k] = inner_q[k] = backward[k] = mixed[k] = cosh[k] = cubes[k] = 0;
        for (ptrdiff_t j = start * KB_LANES; j < end * KB_LANES; j += KB_LANES) {
            KB_FETCH(next->x + j / KB_LANES * next->x_step);
            if (KB_REAL == 64) KB_FETCH(next->x + j / KB_LANES * next->x_step + 64);
            if (inner >= 0) KB_FETCH(next->y + j / KB_LANES * next->y_step);
            if (inner >= 0 && KB_REAL == 64) KB_FETCH(next->y + j / KB_LANES * next->y_step + 64);
            KB_EACH_LANE {
                REAL a = x[j + k], u = a * scale - centre, e;
                BITS bits = KB(kb_bits)(u) & MAGNITUDE; /* only NaN matters */
                u = KB(kb_no_lower)(u, EXP_LOWEST);
                e = KB(kb_exp)(u);
                mass[k] += e;
                if (inner != 0) inner_p[k] += e * u;
                if (inner < 0) {
                    worst[k] = worst[k] > bits ? worst[k] : bits;
                } else {
                    REAL b = y[j + k], t, ratio, excess, size;
                    if (mode == KB_MASKED) a = a < LOWEST ? LOWEST : a;
                    if (mode == KB_MASKED) b = b < LOWEST ? LOWEST : b;
                    t = (a - b) * scale - shift;
                    excess = mode == KB_NEAR ? KB(kb_excess_near)(t, &ratio) : KB(kb_excess)(t, &ratio);
                    size = t < 0 ? -t : t;
                    bits = KB(kb_bits)(t) & MAGNITUDE;
                    worst[k] = worst[k] > bits ? worst[k] : bits;
                    tilt[k] += e * t;
                    forward[k] += e * excess;
                    if (inner > 1) { /* near: t^2 - excess (1 + t) */
                        REAL near = t * t - excess * (C(1) + t), far = C(1) - ratio * (C(1) + t);
                        backward[k] += e * (mode == KB_NEAR || size < C(0.5) ? near : far);
                        inner_q[k] += (e * ratio) * (u - t);
                    }
                    if (inner > 2) {
                        REAL part = KB(kb_log_cosh)(t * t), lost = t - excess; /* 1 - exp(-t) */
                        cosh[k] += e * part;
                        cubes[k] += (e * t) * (t * t);
                        mixed[k] += e * (C(0.5) * t * lost - part * (C(2) - lost));
                    }
                }
            }
        }
        KB_EACH_LANE sums[k] += (double)mass[k];
        if (inner >= 0) KB_EACH_LANE sums[KB_LANES + k] += (double)tilt[k];
        if (inner >= 0) KB_EACH_LANE sums[2 * KB_LANES + k] += (double)forward[k];
        if (inner != 0) KB_EACH_LANE sums[3 * KB_LANES + k] += (double)inner_p[k];
        if (inner > 1) KB_EACH_LANE sums[4 * KB_LANES + k] += (double)inner_q[k];
        if (inner > 1) KB_EACH_LANE sums[5 * KB_LANES + k] += (double)backward[k];
        if (inner > 2) KB_EACH_LANE sums[6 * KB_LANES + k] += (double)mixed[k];
        if (inner > 2) KB_EACH_LANE sums[7 * KB_LANES + k] += (double)cosh[k];
        if (inner > 2) KB_EACH_LANE sums[8 * KB_LANES + k] += (double)cubes[k];
    }
    for (int k = 0; k < KB_LANES; k++) most = most > worst[k] ? most : worst[k];
    return (double)KB(kb_value)(most);
}

KB_STATIC double KB(kb_add_logits)(int inner, int mode, const REAL *x, const REAL *y, ptrdiff_t n_groups, REAL scale,
                                REAL centre, REAL shift, const kb_next *next, double *sums) {
#define KB_MODES(INNER) \
    if (mode == KB_NEAR) return KB(kb_logit_pass)(INNER, KB_NEAR, x, y, n_groups, scale, centre, shift, next, sums); \
    if (mode == KB_FAR) return KB(kb_logit_pass)(INNER, KB_FAR, x, y, n_groups, scale, centre, shift, next, sums); \
    return KB(kb_logit_pass)(INNER, KB_MASKED, x, y, n_groups, scale, centre, shift, next, sums);
    if (inner < 0) return KB(kb_logit_pass)(-1, KB_FAR, x, y, n_groups, scale, centre, shift, next, sums);
    if (inner == 0) { KB_MODES(0) }
    if (inner == 1) { KB_MODES(1) }
    if (KB_REAL == 32 && inner == 3) return KB(kb_logit_pass)(3, KB_NEAR, x, y, n_groups, scale, centre, shift, next, sums);
    KB_MODES(2)
#undef KB_MODES
}

/* Add e = exp(x - centre) and the Jensen-Shannon terms of e and e exp(-t), t = (x - y) - shift - rest, to `sums`; shift + rest
   is what makes the two sums equal, rest what shift lacks in precision. Return the largest |t| as above. */
KB_INLINE double KB(kb_logit_js_pass)(int mode, const REAL *x, const REAL *y, ptrdiff_t n_groups, REAL scale, REAL centre, REAL shift,
                                REAL rest, double *sums) {
    BITS worst[KB_LANES] = {0}, most = 0;
    for (ptrdiff_t start = 0; start < n_groups; start += KB_RUN) {
        ptrdiff_t end = start + KB_RUN < n_groups ? start + KB_RUN : n_groups;
        REAL mass[KB_LANES], total[KB_LANES];
        KB_EACH_LANE mass[k] = total[k] = 0;
        for (ptrdiff_t j = start * KB_LANES; j < end * KB_LANES; j += KB_LANES)
            KB_EACH_LANE {
                REAL a = x[j + k], b = y[j + k], e = KB(kb_exp)(a * scale - centre), f, t, ratio, excess, size, u;
                BITS bits;
                if (mode == KB_MASKED) a = a < LOWEST ? LOWEST : a;
                if (mode == KB_MASKED) b = b < LOWEST ? LOWEST : b;
                t = ((a - b) * scale - shift) - rest;
                excess = mode == KB_NEAR ? KB(kb_excess_near)(t, &ratio) : KB(kb_excess)(t, &ratio);
                u = (t - excess) / (C(1) + ratio);
                size = t < 0 ? -t : t;
                f = e * ratio;
                bits = KB(kb_bits)(t) & MAGNITUDE;
                worst[k] = worst[k] > bits ? worst[k] : bits;
                mass[k] += e;
                total[k] += mode == KB_NEAR ? KB(kb_js_near)(e + f, u * u)
                                            : KB(kb_js_of)(e + f, u < 0 ? -u : u, KB(kb_smaller)(e, f), size);
            }
        KB_EACH_LANE sums[k] += (double)mass[k];
        KB_EACH_LANE sums[KB_LANES + k] += 0.5 * (double)total[k];
    }
    for (int k = 0; k < KB_LANES; k++) most = most > worst[k] ? most : worst[k];
    return (double)KB(kb_value)(most);
}

KB_STATIC double KB(kb_add_logits_js)(int mode, const REAL *x, const REAL *y, ptrdiff_t n_groups, REAL scale, REAL centre,
                                   REAL shift, REAL rest, double *sums) {
    if (mode == KB_NEAR) return KB(kb_logit_js_pass)(KB_NEAR, x, y, n_groups, scale, centre, shift, rest, sums);
    if (mode == KB_FAR) return KB(kb_logit_js_pass)(KB_FAR, x, y, n_groups, scale, centre, shift, rest, sums);
    return KB(kb_logit_js_pass)(KB_MASKED, x, y, n_groups, scale, centre, shift, rest, sums);
}

#undef REAL
#undef BITS
#undef UBITS
#undef KB
#undef SQRT
#undef FUSED
#undef LEAST
#undef MOST
#undef KEY
#undef LEAST_KEY
#undef MOST_KEY
#undef MAGNITUDE
#undef LOWEST
#undef LOW
#undef LOWEST_USUAL
#undef WIDE
#undef PARTS
#undef WIDENED
#undef EACH_PART
#undef LN2
#undef LOG_UNIT
#undef EXP_LOWEST
#undef C
#undef FEW
#undef EACH_OF_FEW
#undef KB_REAL
