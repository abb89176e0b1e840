/* What one pair (p, q) of elements adds to each measure that has fast terms.

   The formulas take 0 and normal numbers from LEAST to MOST and have no branches, so that loops over them are
   vectorised. As scipy.special.rel_entr has it, p = 0 adds nothing, and p > 0 with q = 0 adds infinity. `zeros` is a
   literal that says whether zeros may occur; without it p and q have to be positive, and the terms are the same to the
   last bit.

   This is C because the formulas work on the bits of numbers (exp_log.h), and because each of them is compiled into
   several loops, for which `zeros` and the measure are chosen at compile time. */

#ifndef KB_REAL
#ifndef KULLBACK_TERMS
#define KULLBACK_TERMS
#include "common/lanes/exp_log.h"
#include "divergence/measures.h"

/* Whether a measure's terms have a logarithm. Such terms are worked in two halves: see kb_begin. */
KB_INLINE int kb_has_halves(int measure) {
    switch (measure) {
    case KB_KL:
    case KB_REVERSE_KL:
    case KB_ENTROPY:
    case KB_ENTROPY_Q:
    case KB_CROSS:
    case KB_JS:
    case KB_MIXTURE: return 1;
    default: return 0;
    }
}

#define KB_FILE "divergence/terms.h"
#include "common/lanes/both_types.h"
#undef KB_FILE
#endif
#else

/* ---- Kullback-Leibler ----------------------------------------------------------------------------- */

/* Let q' = 2^k q be near p, d = p - q' (which is exact) and s = d / (p + q'). Then log(p / q) = k ln 2 + 2 atanh(s)
   and 2 p s = d + s d, so that

       p log(p / q) - p + q = s d + p (k ln 2 + 2 (atanh(s) - s)) + (q - q'),

   where no part cancels another. The first half sets *remainder to s d + (q - q'). */
KB_INLINE void KB(kb_begin_kl)(REAL p, REAL q, REAL *s, REAL *remainder, REAL *k) {
    REAL near = KB(kb_align)(0, q, p, k), d = p - near;
    *s = d / (p + near);
    *remainder = *s * d + (q - near);
}

KB_INLINE REAL KB(kb_end_kl)(int zeros, REAL p, REAL q, REAL s, REAL remainder, REAL k) {
    REAL u = s * s, value = p * KB(kb_fused)(s * u, KB(kb_atanh_tail)(u, 2), k * LN2) + remainder;
    if (!zeros) return value;
    value = q > 0 ? value : (REAL)INFINITY;
    return p > 0 ? value : q;
}

KB_INLINE REAL KB(kb_kl)(int zeros, REAL p, REAL q) {
    REAL s, remainder, k;
    KB(kb_begin_kl)(p, q, &s, &remainder, &k);
    return KB(kb_end_kl)(zeros, p, q, s, remainder, k);
}

/* ---- Jensen-Shannon ------------------------------------------------------------------------------- */

/* Return twice the Jensen-Shannon term of a total a = p + q and v = u^2 <= 1/16 with u = (p - q) / a. That is a ((1 +
   u) log(1 + u) + (1 - u) log(1 - u)) / 2, which is a series in v. */
KB_INLINE REAL KB(kb_js_near)(REAL a, REAL v) {
    REAL v2 = v * v;
#if KB_REAL == 32
    return a
        * (v * ((C(0.4999999985) + v * C(0.08333409053)) + v2 * (C(0.0332736764295) + v * C(0.01934454152))));
#else
    REAL v4 = v2 * v2;
    return a
        * (v * (((0.5 + v * 0.08333333333333230919) + v2 * (0.033333333333766127304 + v * 0.01785714279283077617))
                + v4 * (((0.011111116821797212231 + v * 0.0075754977633346005485)
                         + v2 * (0.005501416309768854819 + v * 0.00406051392514410213295))
                        + v4 * 0.0041273183750059148)));
#endif
}

/* Return the same for any u = |p - q| / a, given the smaller of p and q and |log(p / q)|. As log(1 - u) = log(1 + u) -
   |log(p / q)|, only log(1 + u) has to be found; in float32 a polynomial gives it. */
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

/* The logarithm of a ratio, in two halves. Let u = (p - q) / (p + q), and let q' = 2^k q and s = (p - q') / (p + q')
   be those of KL. Then atanh(u) = log(p / q) / 2 = u + R with R = (atanh(s) - s) + k ln 2 / 2 + (s - u). The first
   half sets *remainder to the last two parts, and the second one returns R. Where k is 0, s is u to the last bit, so
   no part of R cancels another. Where p or q is 0, R is -u, which makes the logarithm 0. Exchanging p with q negates
   all of these to the last bit. */
KB_INLINE void KB(kb_begin_ratio)(int zeros, REAL p, REAL q, REAL *s, REAL *u, REAL *remainder) {
    REAL total = p + q, one = p, other = q, k, near;
    if (zeros) one = p > 0 ? p : q;
    if (zeros) other = q > 0 ? q : p;
    if (zeros) total = total > 0 ? total : C(1);
    near = KB(kb_align)(1, other, one, &k);
    *s = (one - near) / (one + near);
    if (zeros) *s = one > 0 ? *s : 0;
    *u = (p - q) / total;
    *remainder = KB(kb_fused)(k, C(0.5) * LN2, *s - *u);
}

KB_INLINE REAL KB(kb_end_ratio)(REAL s, REAL remainder) {
    REAL v = s * s;
    return KB(kb_fused)(s * v, KB(kb_atanh_tail)(v, 1), remainder);
}

/* Add twice the Jensen-Shannon term to `total`, given u and R as above and square = (p - q) u. The term is (p + q) ((1
   + u) log(1 + u) + (1 - u) log(1 - u)) / 2. In float32 it is worked as (p + q) (w P(w) + u R Q(w)) with w = u^2. Q is
   0 at 1 to the last bit, and the second part has the singularity that is there. P and Q are polynomials of least
   relative error, 3e-7. */
KB_INLINE REAL KB(kb_add_js)(int zeros, REAL p, REAL q, REAL u, REAL ratio, REAL square, REAL total) {
#if KB_REAL == 32
    REAL w = u * u;
    REAL first = C(0.49999984) + w * (C(0.41065016) + w * (C(-0.30323154) + w * (C(0.08914771) + w * C(-0.00341921))));
    REAL second = C(-0.98191780) + w * (C(1.5984901) + w * (C(-0.7507948) + w * C(0.1342225)));
    (void)zeros;
    total = KB(kb_fused)(square, first, total);
    return KB(kb_fused)((p - q) * ratio, second, total);
#else
    REAL size = u < 0 ? -u : u, half = u + ratio, smaller = KB(kb_smaller)(p, q), value;
    (void)square;
    half = half < 0 ? -half : half;
    value = KB(kb_js_of)(p + q, size, smaller, half + half);
    if (zeros) value = p + q > 0 ? value : 0;
    return total + value;
#endif
}

/* ---- Measures without a logarithm ----------------------------------------------------------------- */

/* The difference of the roots is worked out from p - q, which is exact for near values. */
KB_INLINE REAL KB(kb_hellinger)(REAL p, REAL q) {
#if KB_REAL == 32
    REAL roots = sqrtf(p) + sqrtf(q);
#else
    REAL roots = sqrt(p) + sqrt(q);
#endif
    REAL d = (p - q) / (roots > 0 ? roots : C(1));
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

/* ---- Terms by the measure's number ---------------------------------------------------------------- */

/* Terms with a logarithm are worked in two halves, whose chains of operations that wait for each other are half as
   long. A CPU holds some three chains of KL at once, so a loop over whole terms would wait (see docs/numerics.md). The
   first half leaves up to three numbers, which the second one takes; what they are differs from measure to measure. */
KB_INLINE void KB(kb_begin)(int measure, int zeros, REAL p, REAL q, REAL *s, REAL *remainder, REAL *k) {
    switch (measure) {
    case KB_KL: KB(kb_begin_kl)(p, q, s, remainder, k); break;
    case KB_REVERSE_KL: KB(kb_begin_kl)(q, p, s, remainder, k); break;
    case KB_ENTROPY: *s = KB(kb_begin_log)(p, k); break;
    case KB_ENTROPY_Q:
    case KB_CROSS: *s = KB(kb_begin_log)(q, k); break;
    case KB_MIXTURE: *s = KB(kb_begin_log)(C(0.5) * (p + q), k); break;
    case KB_JS: KB(kb_begin_ratio)(zeros, p, q, s, remainder, k); break; /* These two are u and the remainder. */
    default: break;
    }
}

KB_INLINE REAL KB(kb_end)(int measure, int zeros, REAL p, REAL q, REAL s, REAL remainder, REAL k) {
    REAL weight = measure == KB_ENTROPY_Q ? q : measure == KB_MIXTURE ? C(0.5) * (p + q) : p, value;
    switch (measure) {
    case KB_KL: return KB(kb_end_kl)(zeros, p, q, s, remainder, k);
    case KB_REVERSE_KL: return KB(kb_end_kl)(zeros, q, p, s, remainder, k);
    case KB_ENTROPY:
    case KB_ENTROPY_Q:
    case KB_MIXTURE:
    case KB_CROSS:
        value = KB(kb_end_log)(s, k); /* This is finite at 0. */
        if (zeros && measure == KB_CROSS) value = q > 0 || !(p > 0) ? value : -(REAL)INFINITY;
        return weight * value;
    case KB_JS:
        value = KB(kb_end_ratio)(s, k);
        return KB(kb_add_js)(zeros, p, q, remainder, value, (p - q) * remainder, 0);
    default: return 0;
    }
}

/* Return the whole term of a measure that is not worked in halves. */
KB_INLINE REAL KB(kb_term)(int measure, int zeros, REAL p, REAL q) {
    switch (measure) {
    case KB_HELLINGER: return KB(kb_hellinger)(p, q);
    case KB_VARIATION: return KB(kb_variation)(p, q);
    case KB_CHI2: return KB(kb_chi2)(p, q);
    case KB_JEFFREYS: return KB(kb_kl)(zeros, p, q) + KB(kb_kl)(zeros, q, p);
    default: return 0;
    }
}

/* Return what a sum of these terms has to be multiplied by to be the measure's sum. */
KB_INLINE double KB(kb_unit)(int measure) {
    switch (measure) {
    case KB_JS: return 0.5;
    case KB_ENTROPY:
    case KB_ENTROPY_Q:
    case KB_CROSS:
    case KB_MIXTURE: return -(0.6931471805599453 / LOG_UNIT);
    default: return 1.0;
    }
}

#endif
