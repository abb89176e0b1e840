/* One pass for the measures that share their logarithms: KL, reverse KL, the entropies of p and q, and Jensen-Shannon.

   With u and R of kb_begin_ratio (terms.h), d = p - q and D = d u, the terms are

       KL = D + 2 p R,    reverse KL = D - 2 q R,    log q = log p - 2 u - 2 R,

   whatever R is, and no part of the first two cancels another. So five sums serve for four measures, in units that are
   multiplied in at the end. (2 q u is d - D, which would cost nothing, but it cancels where q is much smaller than p,
   and with it a small entropy of q.)

   This is C because the loops are vectorised by `omp simd`, over the lanes of one vector at a time, so that all sums
   stay in registers; Cython cannot say that. */

#ifndef KB_REAL
#ifndef KULLBACK_FAMILY
#define KULLBACK_FAMILY
#include "divergence/pass.h"

/* The sums of a family pass: those of the terms and then those of the values. */
enum {
    KB_SQUARES,    /* of D */
    KB_P_R,        /* of p R */
    KB_Q_R,        /* of q R */
    KB_P_LOG_P,    /* of p log p */
    KB_Q_LOG_U,    /* of q (log p - 2 u) */
    KB_MIXED,      /* of twice the Jensen-Shannon term */
    KB_P_MASS,     /* of p */
    KB_Q_MASS,     /* of q */
    KB_DIFFERENCE, /* of q - p */
    KB_N_SUMS,
    KB_N_TERM_SUMS = KB_P_MASS
};

/* Why the entropy of one operand in a lane is to be worked by itself. */
enum {
    KB_FINE,
    KB_PEAK, /* Its largest value is from 1/4 to 4. The logarithm of such a value may be as small as the entropy of its
                row is, and the family's logarithms take on errors of log p. */
    KB_OFF   /* It is q, and p lies far above or below it, on average by 8 nats, or as a whole by e^8. A logarithm of q
                that comes from one of p is rounded as far as both of them are. */
};

#define KB_FILE "divergence/family.h"
#include "common/lanes/both_types.h"
#undef KB_FILE
#endif
#else

/* What a family pass carries from run to run. */
typedef struct {
    KB(kb_notes) notes;
    KB(kb_extreme) largest_p[KB_LANES], largest_q[KB_LANES];
    REAL sums[KB_N_SUMS][KB_LANES];
    double totals[KB_N_SUMS][KB_LANES]; /* the same, widened */
    double infinite[KB_LANES];          /* infinity where p = 0 and q > 0, which reverse KL has to add, else 0 */
} KB(kb_family_state);

/* What the first halves of the terms of a run leave for the second ones: of the ratio p / q, and of log p. */
typedef struct {
    REAL s[KB_RUN * KB_LANES], u[KB_RUN * KB_LANES], remainder[KB_RUN * KB_LANES];
    REAL log_s[KB_RUN * KB_LANES], log_exponent[KB_RUN * KB_LANES];
} KB(kb_family_halves);

/* Note and add the values of a run and work the first halves of its terms, for the vector of lanes that begins with
   `lane`. */
KB_INLINE void KB(kb_begin_family)(int zeros, const kb_groups *run, int lane, KB(kb_family_halves) *halves,
                                   KB(kb_family_state) *state) {
    KB(kb_key) lowest[FEW];
    UBITS highest[FEW];
    KB(kb_extreme) least[FEW], largest_p[FEW], largest_q[FEW];
    REAL sum_p[FEW], sum_q[FEW], difference[FEW];
    EACH_OF_FEW lowest[k] = state->notes.lowest[lane + k], highest[k] = state->notes.highest[lane + k];
    EACH_OF_FEW least[k] = state->notes.least[lane + k];
    EACH_OF_FEW largest_p[k] = state->largest_p[lane + k], largest_q[k] = state->largest_q[lane + k];
    EACH_OF_FEW sum_p[k] = sum_q[k] = difference[k] = 0;
    for (ptrdiff_t j = 0; j < run->n_groups; j++) {
        const REAL *p = (const REAL *)run->p + j * run->p_step + lane;
        const REAL *q = (const REAL *)run->q + j * run->q_step + lane;
        const ptrdiff_t place = j * KB_LANES + lane;
        KB_FETCH(p + KB_AHEAD_BY(run->p_step));
        KB_FETCH(q + KB_AHEAD_BY(run->q_step));
        EACH_OF_FEW {
            REAL a = p[k], b = q[k], positive = zeros && !(a > 0) ? b : a;
            if (zeros) KB(kb_note)(a, &lowest[k], &highest[k]);
            if (zeros) KB(kb_note)(b, &lowest[k], &highest[k]);
            if (!zeros) KB(kb_note_least)(a, &least[k]);
            if (!zeros) KB(kb_note_least)(b, &least[k]);
            KB(kb_note_largest)(a, &largest_p[k]);
            KB(kb_note_largest)(b, &largest_q[k]);
            sum_p[k] += a;
            sum_q[k] += b;
            difference[k] -= a - b;
            KB(kb_begin_ratio)(zeros, a, b, &halves->s[place + k], &halves->u[place + k],
                               &halves->remainder[place + k]);
            halves->log_s[place + k] = KB(kb_begin_log)(positive, &halves->log_exponent[place + k]);
        }
    }
    EACH_OF_FEW state->notes.lowest[lane + k] = lowest[k], state->notes.highest[lane + k] = highest[k];
    EACH_OF_FEW state->notes.least[lane + k] = least[k];
    EACH_OF_FEW state->largest_p[lane + k] = largest_p[k], state->largest_q[lane + k] = largest_q[k];
    EACH_OF_FEW state->sums[KB_P_MASS][lane + k] += sum_p[k];
    EACH_OF_FEW state->sums[KB_Q_MASS][lane + k] += sum_q[k];
    EACH_OF_FEW state->sums[KB_DIFFERENCE][lane + k] += difference[k];
}

/* Work the second halves of the terms of a run and add them, for the same lanes. */
KB_INLINE void KB(kb_end_family)(int zeros, const kb_groups *run, int lane, const KB(kb_family_halves) *halves,
                                 KB(kb_family_state) *state) {
    REAL total[KB_N_TERM_SUMS][FEW], infinite[FEW];
    for (int m = 0; m < KB_N_TERM_SUMS; m++) EACH_OF_FEW total[m][k] = 0;
    EACH_OF_FEW infinite[k] = 0;
    for (ptrdiff_t j = 0; j < run->n_groups; j++) {
        const REAL *p = (const REAL *)run->p + j * run->p_step + lane;
        const REAL *q = (const REAL *)run->q + j * run->q_step + lane;
        const ptrdiff_t place = j * KB_LANES + lane;
        EACH_OF_FEW {
            REAL a = p[k], b = q[k], u = halves->u[place + k], square = (a - b) * u, ratio, log_p, log_q, p_ratio;
            ratio = KB(kb_end_ratio)(halves->s[place + k], halves->remainder[place + k]);
            log_p = KB(kb_end_log)(halves->log_s[place + k], halves->log_exponent[place + k]);
            log_q = KB(kb_fused)(u, C(-2.8853900817779268 * LOG_UNIT), log_p); /* but for 2 R */
            total[KB_SQUARES][k] += square;
            p_ratio = KB(kb_fused)(a, ratio, total[KB_P_R][k]);
            if (zeros) p_ratio = b > 0 || !(a > 0) ? p_ratio : (REAL)INFINITY;
            total[KB_P_R][k] = p_ratio;
            total[KB_Q_R][k] = KB(kb_fused)(b, ratio, total[KB_Q_R][k]);
            if (zeros) infinite[k] += a > 0 || !(b > 0) ? 0 : (REAL)INFINITY;
            total[KB_P_LOG_P][k] = KB(kb_fused)(a, log_p, total[KB_P_LOG_P][k]);
            total[KB_Q_LOG_U][k] = KB(kb_fused)(b, log_q, total[KB_Q_LOG_U][k]);
            total[KB_MIXED][k] = KB(kb_add_js)(zeros, a, b, u, ratio, square, total[KB_MIXED][k]);
        }
    }
    for (int m = 0; m < KB_N_TERM_SUMS; m++) EACH_OF_FEW state->sums[m][lane + k] += total[m][k];
    if (zeros) EACH_OF_FEW state->infinite[lane + k] += (double)infinite[k];
}

/* Set `state` to the sums of all groups; sums are widened once in four runs, which costs four roundings more. Return
   what the values were. */
KB_INLINE int KB(kb_family_pass)(int zeros, const kb_groups *operands, KB(kb_family_state) *state) {
    const kb_groups groups = *operands;
    KB(kb_family_halves) halves;
    KB(kb_clear_notes)(&state->notes);
    for (int k = 0; k < KB_LANES; k++) state->largest_p[k] = state->largest_q[k] = 0;
    for (int m = 0; m < KB_N_SUMS; m++) KB_EACH_LANE state->totals[m][k] = state->sums[m][k] = 0;
    KB_EACH_LANE state->infinite[k] = 0;
    for (ptrdiff_t start = 0; start < groups.n_groups; start += KB_RUN) {
        kb_groups run = groups;
        run.p = (const REAL *)groups.p + start * groups.p_step;
        run.q = (const REAL *)groups.q + start * groups.q_step;
        run.n_groups = start + KB_RUN < groups.n_groups ? KB_RUN : groups.n_groups - start;
        for (int lane = 0; lane < KB_LANES; lane += FEW) KB(kb_begin_family)(zeros, &run, lane, &halves, state);
        for (int lane = 0; lane < KB_LANES; lane += FEW) KB(kb_end_family)(zeros, &run, lane, &halves, state);
        if (start / KB_RUN % 4 == 3 || start + KB_RUN >= groups.n_groups)
            for (int m = 0; m < KB_N_SUMS; m++)
                KB_EACH_LANE state->totals[m][k] += (double)state->sums[m][k], state->sums[m][k] = 0;
    }
    return KB(kb_found)(zeros, &state->notes, state->totals[KB_P_MASS], state->totals[KB_Q_MASS]);
}

KB_STATIC int KB(kb_family_positive)(const kb_groups *groups, KB(kb_family_state) *state) {
    return KB(kb_family_pass)(0, groups, state);
}

KB_STATIC int KB(kb_family_zeros)(const kb_groups *groups, KB(kb_family_state) *state) {
    return KB(kb_family_pass)(1, groups, state);
}

/* Set `masses` and the sums of each measure of the family from those of a pass. The masses are first the sums of p and
   q, on which entropies depend, and then those on which divergences depend: the mean of both less and plus half the sum
   of q - p, which is exact for near rows. */
KB_STATIC void KB(kb_family_sums)(const KB(kb_family_state) *state, double (*masses)[KB_LANES],
                                  double (*sums)[KB_LANES]) {
    const double unit = 0.6931471805599453 / LOG_UNIT;
    const double(*totals)[KB_LANES] = state->totals;
    KB_EACH_LANE masses[0][k] = totals[KB_P_MASS][k];
    KB_EACH_LANE masses[1][k] = totals[KB_Q_MASS][k];
    KB_EACH_LANE masses[2][k] = 0.5 * (totals[KB_P_MASS][k] + totals[KB_Q_MASS][k] - totals[KB_DIFFERENCE][k]);
    KB_EACH_LANE masses[3][k] = 0.5 * (totals[KB_P_MASS][k] + totals[KB_Q_MASS][k] + totals[KB_DIFFERENCE][k]);
    KB_EACH_LANE sums[0][k] = totals[KB_SQUARES][k] + 2 * totals[KB_P_R][k];
    KB_EACH_LANE sums[1][k] = (totals[KB_SQUARES][k] - 2 * totals[KB_Q_R][k]) + state->infinite[k];
    KB_EACH_LANE sums[2][k] = -unit * totals[KB_P_LOG_P][k];
    KB_EACH_LANE sums[3][k] = 2 * totals[KB_Q_R][k] - unit * totals[KB_Q_LOG_U][k];
    KB_EACH_LANE sums[4][k] = 0.5 * totals[KB_MIXED][k];
}

/* Set `reasons` to the lanes that have a peak, and raise *largest to the largest value. Return how many there are. */
KB_STATIC int KB(kb_find_peaks)(const KB(kb_extreme) *largest_values, int *reasons, double *largest) {
    int n_peaks = 0;
    for (int k = 0; k < KB_LANES; k++) {
        double value = KB(kb_extreme_value)(largest_values[k]);
        *largest = value > *largest ? value : *largest;
        reasons[k] = value >= 0.25 && value <= 4 ? KB_PEAK : KB_FINE;
        n_peaks += reasons[k];
    }
    return n_peaks;
}

/* Add to `reasons` the lanes of q that are far and have no peak. Return how many there are. */
KB_STATIC int KB(kb_find_far)(const KB(kb_family_state) *state, int *reasons) {
    int n_far = 0;
    for (int k = 0; k < KB_LANES; k++) {
        double p = state->totals[KB_P_MASS][k], q = state->totals[KB_Q_MASS][k], ratio = state->totals[KB_Q_R][k];
        int far = q > 0 && (p > 2981 * q || q > 2981 * p || ratio > 4 * q || ratio < -4 * q);
        if (reasons[k] || !far) continue;
        reasons[k] = KB_OFF;
        n_far++;
    }
    return n_far;
}

/* Work the entropy of one operand once more by itself in the lanes that have a reason, and the mass where that is a
   peak. (Elsewhere symmetric measures need a mass that is summed alike for p and q.) */
KB_STATIC void KB(kb_mend_entropy)(const kb_groups *operand, const int *reasons, double *masses, double *entropies,
                                   int64_t *zeros) {
    double masses_alone[KB_LANES] = {0}, entropies_alone[KB_LANES] = {0};
    KB(kb_add_terms)(KB_ENTROPY, operand, masses_alone, entropies_alone, zeros);
    KB_EACH_LANE {
        masses[k] = reasons[k] == KB_PEAK ? masses_alone[k] : masses[k];
        entropies[k] = reasons[k] ? entropies_alone[k] : entropies[k];
    }
}

/* Add to `masses` both kinds of masses and to those `sums` that are not NULL the sums of the family's measures, and
   raise `largest` to the largest p and q. Return what the values were; unless they were usual, nothing is added. */
KB_STATIC int KB(kb_add_family)(const kb_groups *groups, double *masses, double *const *sums, int64_t *zeros,
                                double *largest) {
    KB(kb_family_state) state;
    double family_masses[4][KB_LANES], family_sums[KB_FAMILY_SIZE][KB_LANES];
    kb_groups p = kb_only_p(*groups), q = kb_only_q(*groups);
    int found = KB_HAS_ZEROS, reasons[KB_LANES];
    if (*zeros == 0) found = KB(kb_family_positive)(groups, &state);
    if (found == KB_HAS_ZEROS) {
        *zeros = (*zeros > 0 ? *zeros : KB_WITH_ZEROS) - 1;
        found = KB(kb_family_zeros)(groups, &state);
    }
    if (found != KB_USUAL) return found;
    KB(kb_family_sums)(&state, family_masses, family_sums);
    if (KB(kb_find_peaks)(state.largest_p, reasons, &largest[0]) > 0)
        KB(kb_mend_entropy)(&p, reasons, family_masses[0], family_sums[2], zeros);
    if (KB(kb_find_peaks)(state.largest_q, reasons, &largest[1]) + KB(kb_find_far)(&state, reasons) > 0)
        KB(kb_mend_entropy)(&q, reasons, family_masses[1], family_sums[3], zeros);
    for (int m = 0; m < 4; m++) KB_EACH_LANE masses[m * KB_LANES + k] += family_masses[m][k];
    for (int m = 0; m < KB_FAMILY_SIZE; m++)
        if (sums[m]) KB_EACH_LANE sums[m][k] += family_sums[m][k];
    return found;
}

#endif
