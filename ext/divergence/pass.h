/* One pass over groups of lanes: the sums of one measure's terms, alone or together with the sums of p and q.

   A. kb_step works one group. Terms with a logarithm are worked in two halves; the step does the second halves of its
      group and the first halves of the group a run later, whose numbers stand in the same places.
   B. kb_pass works all groups, a run at a time, and widens the sums of each run to float64.
   C. kb_add_terms and kb_add_terms_alone choose the pass. Each pass is a function of its own, compiled for one
      measure, so that its loops have no branches; passes that can be had from others are not compiled.

   This is C because a pass takes its choices as literals and its loops are vectorised by `omp simd`, which Cython
   cannot say. */

#ifndef KB_REAL
#ifndef KULLBACK_PASS
#define KULLBACK_PASS
#include "divergence/terms.h"
#include "divergence/value_checks.h"

#define KB_WITH_ZEROS 64 /* so many blocks are worked by passes that take zeros, after a block that had some */

/* Groups of lanes of one or two operands, float32 or float64: see lanes.h for the steps. */
typedef struct {
    const void *p, *q;
    ptrdiff_t p_step, q_step; /* elements from group to group */
    ptrdiff_t n_groups;
    int has_q;                /* Without it, q is p. */
} kb_groups;

KB_INLINE kb_groups kb_only_p(kb_groups groups) {
    groups.q = groups.p, groups.q_step = groups.p_step, groups.has_q = 0;
    return groups;
}

KB_INLINE kb_groups kb_only_q(kb_groups groups) {
    groups.p = groups.q, groups.p_step = groups.q_step, groups.has_q = 0;
    return groups;
}

KB_INLINE kb_groups kb_exchanged(kb_groups groups) {
    kb_groups exchanged = groups;
    exchanged.p = groups.q, exchanged.p_step = groups.q_step;
    exchanged.q = groups.p, exchanged.q_step = groups.p_step;
    return exchanged;
}

/* What a pass is compiled for. */
typedef struct {
    int measure;
    int has_q;
    int masses; /* whether p and q are summed and their values checked */
    int exact;  /* whether the masses enter to first order, so that each value is widened */
    int symmetric; /* whether exchanging p with q must change no bit */
    int zeros;  /* whether zeros may occur */
    int run;    /* groups that the first halves of terms are ahead of the second ones, or 0 for terms without halves */
} kb_choices;

KB_INLINE kb_choices kb_choose(int measure, int has_q, int masses, int zeros) {
    const int properties = kb_measures[measure].properties;
    kb_choices choices = {measure, has_q, masses, 0, 0, zeros, kb_has_halves(measure) ? KB_RUN : 0};
    choices.exact = measure == KB_MASS || (properties & KB_EXACT) != 0;
    choices.symmetric = (properties & KB_SYMMETRIC) == KB_SYMMETRIC;
    return choices;
}

#define KB_FILE "divergence/pass.h"
#include "common/lanes/both_types.h"
#undef KB_FILE
#endif
#else

/* Sums of float32 as float64 are kept in vectors that are converted straight from memory, where there is an
   instruction for that. Values that are in a register already would take three operations instead of one. */
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

/* What a pass carries from group to group: what its values are, and the sums of a run. */
typedef struct {
    KB(kb_notes) notes;
    WIDE wide_p[PARTS], wide_q[PARTS];
    REAL sum[KB_LANES], difference[KB_LANES], total[KB_LANES]; /* of p or p + q, of q - p, of terms */
} KB(kb_state);

/* What the first halves of the terms of a run leave for the second ones. */
typedef struct {
    REAL s[KB_RUN * KB_LANES], remainder[KB_RUN * KB_LANES], exponent[KB_RUN * KB_LANES];
} KB(kb_halves);

/* Fetch the values that a later step reads. Rows side by side are one run, so their next tile is fetched by the loop
   that reads from memory. */
KB_INLINE void KB(kb_fetch)(kb_choices choices, const REAL *p, const REAL *q, const kb_groups *groups) {
    p += KB_AHEAD_BY(groups->p_step) + (groups->p_step == KB_LANES ? choices.run * KB_LANES : 0);
    q += KB_AHEAD_BY(groups->q_step) + (groups->q_step == KB_LANES ? choices.run * KB_LANES : 0);
    KB_FETCH(p);
    if (KB_REAL == 64) KB_FETCH(p + KB_LANES / 2);
    if (choices.has_q) KB_FETCH(q);
    if (choices.has_q && KB_REAL == 64) KB_FETCH(q + KB_LANES / 2);
}

/* Work one group. `second` adds its masses and terms; `first` notes the values of the group a run later and works the
   first halves of their terms. Terms without halves take both in one step, with a run of 0. */
KB_INLINE void KB(kb_step)(kb_choices choices, int first, int second, const kb_groups *groups, ptrdiff_t group,
                           KB(kb_halves) *halves, KB(kb_state) *state) {
    const REAL *p = (const REAL *)groups->p + group * groups->p_step, *later_p = p + choices.run * groups->p_step;
    const REAL *q = (const REAL *)groups->q + group * groups->q_step, *later_q = q + choices.run * groups->q_step;
    const ptrdiff_t place = (group & (KB_RUN - 1)) * KB_LANES;
    REAL *s = halves->s + place, *remainder = halves->remainder + place, *exponent = halves->exponent + place;
    if (choices.masses) KB(kb_fetch)(choices, second ? p : later_p, second ? q : later_q, groups);
    KB_EACH_LANE {
        if (second) {
            REAL a = p[k], b = choices.has_q ? q[k] : 0;
            if (choices.masses && !choices.exact) state->sum[k] += choices.symmetric ? a + b : a;
            if (choices.masses && !choices.exact && choices.has_q) state->difference[k] -= a - b;
            state->total[k] += choices.run
                ? KB(kb_end)(choices.measure, choices.zeros, a, b, s[k], remainder[k], exponent[k])
                : KB(kb_term)(choices.measure, choices.zeros, a, b);
        }
        if (first) {
            REAL a = later_p[k], b = choices.has_q ? later_q[k] : 0;
            if (choices.masses && choices.zeros) {
                KB(kb_note)(a, &state->notes.lowest[k], &state->notes.highest[k]);
                if (choices.has_q) KB(kb_note)(b, &state->notes.lowest[k], &state->notes.highest[k]);
            } else if (choices.masses) {
                KB(kb_note_least)(a, &state->notes.least[k]);
                if (choices.has_q) KB(kb_note_least)(b, &state->notes.least[k]);
            }
            if (choices.run)
                KB(kb_begin)(choices.measure, choices.zeros, a, b, &s[k], &remainder[k], &exponent[k]);
        }
    }
    if (second && choices.masses && choices.exact) EACH_PART state->wide_p[i] += WIDENED(p, i);
    if (second && choices.masses && choices.exact && choices.has_q) EACH_PART state->wide_q[i] += WIDENED(q, i);
}

/* Add the sums of a run to the totals of p, of q and of the terms. */
KB_INLINE void KB(kb_widen)(kb_choices choices, const KB(kb_state) *state, double (*totals)[KB_LANES]) {
    if (choices.masses && choices.exact) KB_EACH_LANE totals[0][k] += ((const double *)state->wide_p)[k];
    if (choices.masses && choices.exact && choices.has_q)
        KB_EACH_LANE totals[1][k] += ((const double *)state->wide_q)[k];
    if (choices.masses && choices.symmetric)
        KB_EACH_LANE totals[0][k] += 0.5 * ((double)state->sum[k] - (double)state->difference[k]);
    else if (choices.masses && !choices.exact)
        KB_EACH_LANE totals[0][k] += (double)state->sum[k];
    if (choices.masses && choices.symmetric)
        KB_EACH_LANE totals[1][k] += 0.5 * ((double)state->sum[k] + (double)state->difference[k]);
    else if (choices.masses && !choices.exact && choices.has_q)
        KB_EACH_LANE totals[1][k] += (double)state->sum[k] + (double)state->difference[k];
    if (choices.measure != KB_MASS) KB_EACH_LANE totals[2][k] += (double)state->total[k];
}

/* Add the terms of one measure to `sums` and, with masses, the sums of p and q to `masses` and to the lanes after it.
   Where the measure depends on the masses to first order (exact), each value is widened. Elsewhere the sums of p, or of
   p + q for symmetric measures, and of q - p are widened, which is exact for near rows and saves a quarter of the time.
   Return what the values were; unless they were usual, nothing is added. */
KB_INLINE int KB(kb_pass)(kb_choices choices, const kb_groups *operands, double *masses, double *sums) {
    const kb_groups groups = *operands;
    double totals[3][KB_LANES];
    KB(kb_halves) halves;
    KB(kb_state) state;
    int found = KB_USUAL;
    KB(kb_clear_notes)(&state.notes);
    KB_EACH_LANE totals[0][k] = totals[1][k] = totals[2][k] = 0;
    for (ptrdiff_t start = -choices.run; start < groups.n_groups; start += KB_RUN) {
        ptrdiff_t group = start, end = start + KB_RUN < groups.n_groups ? start + KB_RUN : groups.n_groups;
        ptrdiff_t end_first = end + choices.run < groups.n_groups ? start + KB_RUN : groups.n_groups - choices.run;
        KB_EACH_LANE state.sum[k] = state.difference[k] = state.total[k] = 0;
        EACH_PART state.wide_p[i] = state.wide_q[i] = (WIDE){0};
        if (start < 0)
            for (; group < end_first; group++) KB(kb_step)(choices, 1, 0, &groups, group, &halves, &state);
        else
            for (; group < end_first; group++) KB(kb_step)(choices, 1, 1, &groups, group, &halves, &state);
        if (choices.run && start >= 0)
            for (; group < end; group++) KB(kb_step)(choices, 0, 1, &groups, group, &halves, &state);
        KB(kb_widen)(choices, &state, totals);
    }
    if (choices.masses) found = KB(kb_found)(choices.zeros, &state.notes, totals[0], totals[1]);
    if (found != KB_USUAL) return found;
    if (choices.masses) KB_EACH_LANE masses[k] += totals[0][k];
    if (choices.masses && choices.has_q) KB_EACH_LANE masses[KB_LANES + k] += totals[1][k];
    if (choices.measure != KB_MASS) KB_EACH_LANE sums[k] += KB(kb_unit)(choices.measure) * totals[2][k];
    return found;
}

/* ---- The passes that are compiled ----------------------------------------------------------------- */

#define KB_PASS_ALONE(NAME, MEASURE) \
    KB_STATIC void KB(NAME)(const kb_groups *groups, double *sums) { \
        KB(kb_pass)(kb_choose(MEASURE, 1, 0, 1), groups, NULL, sums); \
    }
KB_PASS_ALONE(kb_alone_kl, KB_KL)
KB_PASS_ALONE(kb_alone_entropy, KB_ENTROPY)
KB_PASS_ALONE(kb_alone_cross, KB_CROSS)
KB_PASS_ALONE(kb_alone_js, KB_JS)
KB_PASS_ALONE(kb_alone_hellinger, KB_HELLINGER)
KB_PASS_ALONE(kb_alone_variation, KB_VARIATION)
KB_PASS_ALONE(kb_alone_chi2, KB_CHI2)
KB_PASS_ALONE(kb_alone_jeffreys, KB_JEFFREYS)
KB_PASS_ALONE(kb_alone_mixture, KB_MIXTURE)
#undef KB_PASS_ALONE

/* Add the terms of one measure to `sums`, without the masses. Values have to be usual. */
KB_STATIC void KB(kb_add_terms_alone)(int measure, const kb_groups *groups, double *sums) {
    kb_groups other;
    switch (measure) {
    case KB_KL: KB(kb_alone_kl)(groups, sums); break;
    case KB_REVERSE_KL:
        other = kb_exchanged(*groups);
        KB(kb_alone_kl)(&other, sums);
        break;
    case KB_ENTROPY: KB(kb_alone_entropy)(groups, sums); break;
    case KB_ENTROPY_Q:
        other = kb_only_q(*groups);
        KB(kb_alone_entropy)(&other, sums);
        break;
    case KB_CROSS: KB(kb_alone_cross)(groups, sums); break;
    case KB_JS: KB(kb_alone_js)(groups, sums); break;
    case KB_HELLINGER: KB(kb_alone_hellinger)(groups, sums); break;
    case KB_VARIATION: KB(kb_alone_variation)(groups, sums); break;
    case KB_CHI2: KB(kb_alone_chi2)(groups, sums); break;
    case KB_JEFFREYS: KB(kb_alone_jeffreys)(groups, sums); break;
    case KB_MIXTURE: KB(kb_alone_mixture)(groups, sums); break;
    default: break;
    }
}

#define KB_PASS_WITH_MASSES(NAME, MEASURE, HAS_Q) \
    KB_STATIC int KB(NAME##_positive)(const kb_groups *groups, double *masses, double *sums) { \
        return KB(kb_pass)(kb_choose(MEASURE, HAS_Q, 1, 0), groups, masses, sums); \
    } \
    KB_STATIC int KB(NAME##_zeros)(const kb_groups *groups, double *masses, double *sums) { \
        return KB(kb_pass)(kb_choose(MEASURE, HAS_Q, 1, 1), groups, masses, sums); \
    } \
    KB_INLINE int KB(NAME)(int zeros, const kb_groups *groups, double *masses, double *sums) { \
        return zeros ? KB(NAME##_zeros)(groups, masses, sums) : KB(NAME##_positive)(groups, masses, sums); \
    }
KB_PASS_WITH_MASSES(kb_masses_kl, KB_KL, 1)
KB_PASS_WITH_MASSES(kb_masses_reverse_kl, KB_REVERSE_KL, 1)
KB_PASS_WITH_MASSES(kb_masses_entropy, KB_ENTROPY, 0)
KB_PASS_WITH_MASSES(kb_masses_cross, KB_CROSS, 1)
KB_PASS_WITH_MASSES(kb_masses_js, KB_JS, 1)
KB_PASS_WITH_MASSES(kb_masses_hellinger, KB_HELLINGER, 1)
KB_PASS_WITH_MASSES(kb_masses_variation, KB_VARIATION, 1)
KB_PASS_WITH_MASSES(kb_masses_chi2, KB_CHI2, 1)
KB_PASS_WITH_MASSES(kb_masses_jeffreys, KB_JEFFREYS, 1)
KB_PASS_WITH_MASSES(kb_masses_p, KB_MASS, 0)
KB_PASS_WITH_MASSES(kb_masses_p_q, KB_MASS, 1)
#undef KB_PASS_WITH_MASSES

KB_STATIC int KB(kb_run_pass)(int measure, int zeros, const kb_groups *groups, double *masses, double *sums) {
    switch (measure) {
    case KB_KL: return KB(kb_masses_kl)(zeros, groups, masses, sums);
    case KB_REVERSE_KL: return KB(kb_masses_reverse_kl)(zeros, groups, masses, sums);
    case KB_ENTROPY: return KB(kb_masses_entropy)(zeros, groups, masses, sums);
    case KB_CROSS: return KB(kb_masses_cross)(zeros, groups, masses, sums);
    case KB_JS: return KB(kb_masses_js)(zeros, groups, masses, sums);
    case KB_HELLINGER: return KB(kb_masses_hellinger)(zeros, groups, masses, sums);
    case KB_VARIATION: return KB(kb_masses_variation)(zeros, groups, masses, sums);
    case KB_CHI2: return KB(kb_masses_chi2)(zeros, groups, masses, sums);
    case KB_JEFFREYS: return KB(kb_masses_jeffreys)(zeros, groups, masses, sums);
    default:
        return groups->has_q ? KB(kb_masses_p_q)(zeros, groups, masses, sums)
                             : KB(kb_masses_p)(zeros, groups, masses, sums);
    }
}

/* Add the terms of one measure to `sums` and the sums of p and q to `masses` and to the lanes after it; KB_MASS has no
   terms. Values are expected to be positive, unless one of the latest blocks had zeros: *zeros counts the blocks that
   are still worked by a pass that takes them. Return what the values were; unless usual, the sums are of no use. */
KB_STATIC int KB(kb_add_terms)(int measure, const kb_groups *groups, double *masses, double *sums, int64_t *zeros) {
    int found = KB_HAS_ZEROS;
    if (measure == KB_ENTROPY_Q) { /* The entropy of q as if it was p, and the mass of p. */
        const kb_groups p = kb_only_p(*groups), q = kb_only_q(*groups);
        found = KB(kb_add_terms)(KB_ENTROPY, &q, masses + KB_LANES, sums, zeros);
        return found == KB_USUAL ? KB(kb_add_terms)(KB_MASS, &p, masses, sums, zeros) : found;
    }
    if (*zeros == 0) found = KB(kb_run_pass)(measure, 0, groups, masses, sums);
    if (found == KB_HAS_ZEROS) {
        *zeros = (*zeros > 0 ? *zeros : KB_WITH_ZEROS) - 1;
        found = KB(kb_run_pass)(measure, 1, groups, masses, sums);
    }
    if (found == KB_USUAL && measure == KB_MIXTURE) KB(kb_add_terms_alone)(measure, groups, sums);
    return found;
}

#undef WIDE
#undef PARTS
#undef WIDENED
#undef EACH_PART

#endif
