/* Rows side by side: their transposition, and the KL divergences of KB_LANES rows from their sums.

   This is C because Cython has no vectors that can be shuffled, and cannot say `omp simd`. */

#ifndef KB_REAL
#ifndef KULLBACK_COLUMNS
#define KULLBACK_COLUMNS
#include "common/lanes/exp_log.h"
#define KB_FILE "divergence/columns.h"
#include "common/lanes/both_types.h"
#undef KB_FILE

/* Set `value` to the KL divergences of KB_LANES rows of probabilities from their sums, as divergence/finish.pxd has
   it: total / p less r - log(1 + r) with r = (q - p) / p, by its series. Clear `settled` where that does not hold:
   where sums differ from 1 by more than the tolerances or from each other by 1e-4 of themselves, where the two parts
   cancel, or where the value is near a multiple that finish.pxd looks for; `wide` says whether terms are float64.
   Adding and taking off 1.5 2^52 rounds to an integer. */
KB_STATIC void kb_finish_kl(const double *p, const double *q, const double *total, double unit, double tolerance_p,
                            double tolerance_q, int wide, double *value, int64_t *settled) {
    const double factor = (unit == 1 ? 1.4426950408889634 : unit) * (wide ? 1048576 : 256), error = wide ? 2e-14 : 1e-6;
    KB_EACH_LANE {
        double r = (q[k] - p[k]) / p[k], ratio = total[k] / p[k];
        double excess = r * r * (0.5 - r * (1.0 / 3 - r * (0.25 - r * 0.2)));
        double steps = (ratio - excess) * factor, near = (steps + 6755399441055744.0) - 6755399441055744.0;
        value[k] = (ratio - excess) * unit;
        settled[k] = (fabs(p[k] - 1) <= tolerance_p) & (fabs(q[k] - 1) <= tolerance_q) & (fabs(r) < 1e-4)
            & (excess <= 0.75 * ratio) & (p[k] > 0) & ((near == 0) | !(fabs(steps - near) <= error * steps));
    }
}
#endif
#else

/* Put KB_LANES rows, which are `row` elements apart, side by side: element i of row k goes to out[i * KB_LANES + k].
   Blocks of 4 x 4 elements go through vectors, the last of them over some elements again, as a loop over single
   elements costs twice as much. */
KB_STATIC void KB(kb_transpose)(const REAL *x, ptrdiff_t row, ptrdiff_t n, REAL *restrict out) {
    ptrdiff_t i = 0;
#ifdef KB_SHUFFLES
    /* The two shuffles pair what one instruction can pair: the halves of vectors of 16 bytes, and in float32 those of
       each half of a vector of 32 bytes. SECOND and THIRD say which columns follow the first one. */
    typedef REAL four __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#if KB_REAL == 32
#define KB_FIRST(A, B) __builtin_shufflevector(A, B, 0, 4, 1, 5)
#define KB_SECOND(A, B) __builtin_shufflevector(A, B, 2, 6, 3, 7)
    enum { SECOND = 1, THIRD = 2 };
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
            for (int j = 0; j < 4; j++) KB_FETCH(from + (KB_LANES + j) * row); /* These are rows of the next tile. */
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

#endif
