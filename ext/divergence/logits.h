/* Sums over groups of logits: see divergence/logits.pxd for what they are and what is made of them.

   This is C because the loops work on the bits of numbers (exp_log.h), are vectorised by `omp simd`, and are compiled
   for each mode and set of sums. */

#ifndef KB_REAL
#ifndef KULLBACK_LOGITS
#define KULLBACK_LOGITS
#include "divergence/terms.h"

/* How far apart logits may be, that is how large |t| below may be. */
enum {
    KB_NEAR,  /* up to KB_NEAR_LIMIT */
    KB_FAR,   /* up to 40 */
    KB_MASKED /* up to 40, and -inf on both sides, which adds nothing */
};
#define KB_NEAR_LIMIT 0.5

/* Which sums a pass makes. Each set includes the one before it. */
enum {
    KB_X_ALONE = -1,     /* e and e u with u = (x - centre) scale, of x alone; the next set lacks the latter */
    KB_KL_SUMS = 0,      /* e, e t, e (exp(-t) - 1 + t) */
    KB_P_INNER = 1,      /* e u as well */
    KB_Q_INNER = 2,      /* e exp(-t) (u - t) and e (1 - exp(-t) (1 + t)) as well */
    KB_Q_INNER_AND_JS = 3 /* the Jensen-Shannon sums as well, in float32 and KB_NEAR alone */
};

/* The block that will be worked after this one, to be fetched: where its logits stand (which is elsewhere if blocks
   are packed) and the bytes from group to group there. */
typedef struct {
    const char *x, *y;
    ptrdiff_t x_step, y_step;
} kb_next;

/* A block of logits, float32 or float64. */
typedef struct {
    const void *x, *y;
    ptrdiff_t n_groups;
    double scale;  /* what logits are multiplied by: 1 / temperature */
    double centre; /* the largest x so far */
    double shift;  /* about how far scaled x lies above scaled y */
    const kb_next *next;
} kb_logits;

#define KB_FILE "divergence/logits.h"
#include "common/lanes/both_types.h"
#undef KB_FILE
#endif
#else

/* The numbers of a block in the type of its logits. */
typedef struct {
    REAL scale, centre, shift;
} KB(kb_logit_scale);

/* What a pass carries: the bits of the largest |t| so far, and the sums of a run. */
typedef struct {
    BITS largest[KB_LANES];
    REAL mass[KB_LANES], tilt[KB_LANES], forward[KB_LANES], inner_p[KB_LANES], inner_q[KB_LANES], backward[KB_LANES];
    REAL mixed[KB_LANES], log_cosh[KB_LANES], cubes[KB_LANES];
} KB(kb_logit_state);

/* Return the largest |t| of all lanes, which is NaN where any is: the bits of NaN stand above those of all numbers. */
KB_INLINE double KB(kb_largest_of_lanes)(const BITS *lanes) {
    BITS largest = 0;
    for (int k = 0; k < KB_LANES; k++) largest = largest > lanes[k] ? largest : lanes[k];
    return (double)KB(kb_value)(largest);
}

/* Return log(cosh(t / 2)) for w = t^2 <= 1/4, by a Chebyshev interpolant with an error of 5e-10. */
KB_INLINE REAL KB(kb_log_cosh)(REAL w) {
    return w
        * ((C(0.124999999937) + w * C(-0.00520832532746))
           + (w * w) * (C(0.000347061535059) + w * C(-2.53140569799e-5)));
}

/* Return t = (x - y) scale - shift, which is 0 where both are masked. */
KB_INLINE REAL KB(kb_log_ratio)(int mode, REAL x, REAL y, REAL scale, REAL shift) {
    if (mode != KB_MASKED) return (x - y) * scale - shift;
    REAL a = x < LOWEST ? LOWEST : x, b = y < LOWEST ? LOWEST : y, t = (a - b) * scale - shift;
    return a == LOWEST && b == LOWEST ? C(0) : t;
}

KB_INLINE void KB(kb_fetch_next)(const kb_next *next, int has_y, ptrdiff_t group) {
    KB_FETCH(next->x + group * next->x_step);
    if (KB_REAL == 64) KB_FETCH(next->x + group * next->x_step + 64);
    if (has_y) KB_FETCH(next->y + group * next->y_step);
    if (has_y && KB_REAL == 64) KB_FETCH(next->y + group * next->y_step + 64);
}

/* Add what a pair of logits in lane k gives, with u = (x - centre) scale and e = exp(u). `lost` is 1 - exp(-t), that is
   t - excess. Where |t| is small, 1 - exp(-t) (1 + t) is worked as t^2 - excess (1 + t). The Jensen-Shannon term of e
   and e exp(-t), doubled, is e (L + exp(-t) (L - t)) with L = t / 2 - log(cosh(t / 2)). */
KB_INLINE void KB(kb_add_pair)(int inner, int mode, REAL t, REAL e, REAL u, int k, KB(kb_logit_state) *state) {
    REAL ratio, excess = mode == KB_NEAR ? KB(kb_excess_near)(t, &ratio) : KB(kb_excess)(t, &ratio);
    REAL size = t < 0 ? -t : t;
    BITS bits = KB(kb_bits)(t) & MAGNITUDE;
    state->largest[k] = state->largest[k] > bits ? state->largest[k] : bits;
    state->tilt[k] += e * t;
    state->forward[k] += e * excess;
    if (inner >= KB_Q_INNER) {
        REAL near = t * t - excess * (C(1) + t), far = C(1) - ratio * (C(1) + t);
        state->backward[k] += e * (mode == KB_NEAR || size < C(0.5) ? near : far);
        state->inner_q[k] += (e * ratio) * (u - t);
    }
    if (inner >= KB_Q_INNER_AND_JS) {
        REAL part = KB(kb_log_cosh)(t * t), lost = t - excess;
        state->log_cosh[k] += e * part;
        state->cubes[k] += (e * t) * (t * t);
        state->mixed[k] += e * (C(0.5) * t * lost - part * (C(2) - lost));
    }
}

/* Add one group. */
KB_INLINE void KB(kb_add_logit_group)(int inner, int mode, const REAL *x, const REAL *y, KB(kb_logit_scale) by,
                                      KB(kb_logit_state) *state) {
    KB_EACH_LANE {
        REAL a = x[k], u = (a - by.centre) * by.scale, e;
        BITS bits = KB(kb_bits)(u) & MAGNITUDE;
        u = KB(kb_no_lower)(u, EXP_LOWEST);
        e = KB(kb_exp)(u);
        state->mass[k] += e;
        if (inner != KB_KL_SUMS) state->inner_p[k] += e * u;
        if (inner == KB_X_ALONE) { /* Here only NaN matters. */
            state->largest[k] = state->largest[k] > bits ? state->largest[k] : bits;
        } else {
            REAL t = KB(kb_log_ratio)(mode, a, y[k], by.scale, by.shift);
            KB(kb_add_pair)(inner, mode, t, e, u, k, state);
        }
    }
}

/* Add the sums of a run to `sums`, whose order is that of logits.pxd. */
KB_INLINE void KB(kb_widen_logits)(int inner, const KB(kb_logit_state) *state, double *sums) {
    KB_EACH_LANE sums[k] += (double)state->mass[k];
    if (inner >= KB_KL_SUMS) KB_EACH_LANE sums[KB_LANES + k] += (double)state->tilt[k];
    if (inner >= KB_KL_SUMS) KB_EACH_LANE sums[2 * KB_LANES + k] += (double)state->forward[k];
    if (inner != KB_KL_SUMS) KB_EACH_LANE sums[3 * KB_LANES + k] += (double)state->inner_p[k];
    if (inner >= KB_Q_INNER) KB_EACH_LANE sums[4 * KB_LANES + k] += (double)state->inner_q[k];
    if (inner >= KB_Q_INNER) KB_EACH_LANE sums[5 * KB_LANES + k] += (double)state->backward[k];
    if (inner >= KB_Q_INNER_AND_JS) KB_EACH_LANE sums[6 * KB_LANES + k] += (double)state->mixed[k];
    if (inner >= KB_Q_INNER_AND_JS) KB_EACH_LANE sums[7 * KB_LANES + k] += (double)state->log_cosh[k];
    if (inner >= KB_Q_INNER_AND_JS) KB_EACH_LANE sums[8 * KB_LANES + k] += (double)state->cubes[k];
}

/* Add to `sums` what all pairs of logits give, with e = exp(u), u = (x - centre) scale and
   t = (x - y) scale - shift. Return the largest |t|, or NaN where any is NaN. */
KB_INLINE double KB(kb_logit_pass)(int inner, int mode, const kb_logits *block, double *sums) {
    const REAL *x = (const REAL *)block->x, *y = (const REAL *)block->y;
    const KB(kb_logit_scale) by = {(REAL)block->scale, (REAL)block->centre, (REAL)block->shift};
    const kb_next next = *block->next;
    const ptrdiff_t n_groups = block->n_groups;
    KB(kb_logit_state) state;
    KB_EACH_LANE state.largest[k] = 0;
    for (ptrdiff_t start = 0; start < n_groups; start += KB_RUN) {
        ptrdiff_t end = start + KB_RUN < n_groups ? start + KB_RUN : n_groups;
        KB_EACH_LANE state.mass[k] = state.tilt[k] = state.forward[k] = state.inner_p[k] = state.inner_q[k] = 0;
        KB_EACH_LANE state.backward[k] = state.mixed[k] = state.log_cosh[k] = state.cubes[k] = 0;
        for (ptrdiff_t group = start; group < end; group++) {
            KB(kb_fetch_next)(&next, inner >= KB_KL_SUMS, group);
            KB(kb_add_logit_group)(inner, mode, x + group * KB_LANES, y + group * KB_LANES, by, &state);
        }
        KB(kb_widen_logits)(inner, &state, sums);
    }
    return KB(kb_largest_of_lanes)(state.largest);
}

#define KB_LOGIT_PASSES(INNER) \
    if (mode == KB_NEAR) return KB(kb_logit_pass)(INNER, KB_NEAR, block, sums); \
    if (mode == KB_FAR) return KB(kb_logit_pass)(INNER, KB_FAR, block, sums); \
    return KB(kb_logit_pass)(INNER, KB_MASKED, block, sums);

KB_STATIC double KB(kb_add_logits)(int inner, int mode, const kb_logits *block, double *sums) {
    if (inner == KB_X_ALONE) return KB(kb_logit_pass)(KB_X_ALONE, KB_FAR, block, sums);
    if (inner == KB_KL_SUMS) { KB_LOGIT_PASSES(KB_KL_SUMS) }
    if (inner == KB_P_INNER) { KB_LOGIT_PASSES(KB_P_INNER) }
#if KB_REAL == 32
    if (inner == KB_Q_INNER_AND_JS) return KB(kb_logit_pass)(KB_Q_INNER_AND_JS, KB_NEAR, block, sums);
#endif
    KB_LOGIT_PASSES(KB_Q_INNER)
}

#undef KB_LOGIT_PASSES

/* ---- Jensen-Shannon in a sweep of its own --------------------------------------------------------- */

/* Return twice the Jensen-Shannon term of e and e exp(-t). */
KB_INLINE REAL KB(kb_logit_js_term)(int mode, REAL e, REAL t) {
    REAL ratio, excess = mode == KB_NEAR ? KB(kb_excess_near)(t, &ratio) : KB(kb_excess)(t, &ratio);
    REAL u = (t - excess) / (C(1) + ratio), size = t < 0 ? -t : t, f = e * ratio;
    return mode == KB_NEAR ? KB(kb_js_near)(e + f, u * u)
                           : KB(kb_js_of)(e + f, u < 0 ? -u : u, KB(kb_smaller)(e, f), size);
}

/* Add e = exp((x - centre) scale) and the Jensen-Shannon terms of e and e exp(-t) to `sums`, with t as above. The
   shift makes the sums of e and e exp(-t) equal. What it loses when it is rounded to the type of the logits is taken
   off t as well. Return the largest |t|, or NaN where any is NaN. */
KB_INLINE double KB(kb_logit_js_pass)(int mode, const kb_logits *block, double *sums) {
    const REAL *x = (const REAL *)block->x, *y = (const REAL *)block->y;
    const REAL scale = (REAL)block->scale, centre = (REAL)block->centre, shift = (REAL)block->shift;
    const REAL correction = (REAL)(block->shift - shift);
    const ptrdiff_t n_groups = block->n_groups;
    BITS largest[KB_LANES] = {0};
    for (ptrdiff_t start = 0; start < n_groups; start += KB_RUN) {
        ptrdiff_t end = start + KB_RUN < n_groups ? start + KB_RUN : n_groups;
        REAL mass[KB_LANES], total[KB_LANES];
        KB_EACH_LANE mass[k] = total[k] = 0;
        for (ptrdiff_t j = start * KB_LANES; j < end * KB_LANES; j += KB_LANES)
            KB_EACH_LANE {
                REAL e = KB(kb_exp)((x[j + k] - centre) * scale);
                REAL t = KB(kb_log_ratio)(mode, x[j + k], y[j + k], scale, shift) - correction;
                BITS bits = KB(kb_bits)(t) & MAGNITUDE;
                largest[k] = largest[k] > bits ? largest[k] : bits;
                mass[k] += e;
                total[k] += KB(kb_logit_js_term)(mode, e, t);
            }
        KB_EACH_LANE sums[k] += (double)mass[k];
        KB_EACH_LANE sums[KB_LANES + k] += 0.5 * (double)total[k];
    }
    return KB(kb_largest_of_lanes)(largest);
}

KB_STATIC double KB(kb_add_logits_js)(int mode, const kb_logits *block, double *sums) {
    if (mode == KB_NEAR) return KB(kb_logit_js_pass)(KB_NEAR, block, sums);
    if (mode == KB_FAR) return KB(kb_logit_js_pass)(KB_FAR, block, sums);
    return KB(kb_logit_js_pass)(KB_MASKED, block, sums);
}

#endif
