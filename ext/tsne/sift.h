/* Sorting the sources of the Barnes-Hut walk into three lists, by whole vectors.

   This is C because it cannot be said in Cython: the lanes of a vector that go to one list are moved to its front by a
   permutation and stored together, while a compiler makes gathers or scalar stores of the plain loop. The permutations
   need AVX2. Elsewhere, and in float64, the plain loop below takes the sources one by one. */

#ifndef KULLBACK_SIFT
#define KULLBACK_SIFT
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define KB_INLINE static inline __attribute__((always_inline))
#else
#define KB_INLINE static inline
#endif

/* A list of sources, which are cells or points. */
typedef struct {
    void *rows;       /* in the positions' type: a row for each component, then masses, spreads and radii */
    ptrdiff_t stride; /* elements from one row to the next */
    int32_t *names;   /* the cell of each source; the complement of its number where it has no children */
    ptrdiff_t n;
} kb_sources;

/* The box from which sources are judged, and the bounds by which they are judged. The numbers are in the precision of
   the positions, which double holds exactly. */
typedef struct {
    const void *middle;   /* of the box, in the positions' type */
    const void *half;     /* half its sides */
    double radius;        /* of the target */
    double largest;       /* radius of the largest source that is not opened */
    double squared_theta; /* a source is accepted where (radius + its own)^2 is at most */
    double softening;     /*     squared_theta * (distance^2 + softening) */
    double least_bound;   /* or at most this */
    int curved;           /* whether the kernel is shorter than that of dof = 1; softening is 0, and the bound is */
    double dof;           /*     squared_theta * (distance^2 + dof)^2 / (distance^2 + bend) */
    double bend;          /* where squared_theta has a factor of 4 / (dof + 1)^2 */
    double reach;         /* or (REACH (distance - reach))^2, because at this distance the kernel has vanished */
} kb_rule;

/* A source may have points at 2.5 times its radius, which must be beyond the kernel's reach. */
#define KB_REACH 0.4

/* Return the bound on the squared radius of a source where the kernel is short. */
#define KB_CURVED(name, floating)                                                                                     \
    KB_INLINE floating name(floating square, const kb_rule *rule) {                                                   \
        const floating sum = square + (floating)rule->dof, beyond = KB_REACH * (sqrt(square) - rule->reach);          \
        const floating bound = (floating)rule->squared_theta * sum * (sum / (square + (floating)rule->bend));         \
        return beyond > 0 && beyond * beyond > bound ? beyond * beyond : bound;                                       \
    }
KB_CURVED(kb_curved_float, float)
KB_CURVED(kb_curved_double, double)

/* Append each of the given sources to one of three lists: to `accepted` where the rule accepts it; else to `opened`
   where it is larger than `largest` and has children; else to `kept`. `accepted` takes the rows without the radii,
   `opened` takes names, and `kept` takes names and, unless its own rows are NULL, all rows. */
#define KB_SIFT(name, floating, bend_bound)                                                                           \
    KB_INLINE void name(const kb_sources *given, int d, const kb_rule *rule, kb_sources *accepted,                    \
                        kb_sources *opened, kb_sources *kept) {                                                       \
        const floating *rows = given->rows, *middle = rule->middle, *half = rule->half;                               \
        const int32_t *names = given->names;                                                                          \
        const ptrdiff_t stride = given->stride;                                                                       \
        const floating radius = rule->radius, largest = rule->largest, least_bound = rule->least_bound;               \
        const floating squared_theta = rule->squared_theta, softening = rule->softening;                              \
        floating *accepted_rows = accepted->rows, *kept_rows = kept->rows;                                            \
        ptrdiff_t accepted_end = accepted->n, opened_end = opened->n, kept_end = kept->n;                             \
        for (ptrdiff_t j = 0; j < given->n; j++) {                                                                    \
            const floating own = rows[(d + 2) * stride + j], reach = radius + own;                                    \
            floating square = softening;                                                                              \
            for (int k = 0; k < d; k++) {                                                                             \
                floating gap = rows[k * stride + j] - middle[k];                                                      \
                gap = (gap < 0 ? -gap : gap) - half[k];                                                               \
                gap = gap > 0 ? gap : 0;                                                                              \
                square += gap * gap;                                                                                  \
            }                                                                                                         \
            const floating bound = rule->curved ? bend_bound(square, rule) : squared_theta * square;                  \
            const int accept = reach * reach <= (bound > least_bound ? bound : least_bound);                          \
            const int open = !accept & (own > largest) & (names[j] >= 0);                                             \
            for (int k = 0; k < d + 2; k++)                                                                           \
                accepted_rows[k * accepted->stride + accepted_end] = rows[k * stride + j];                            \
            accepted_end += accept;                                                                                   \
            opened->names[opened_end] = names[j];                                                                     \
            opened_end += open;                                                                                       \
            for (int k = 0; kept_rows != NULL && k < d + 3; k++)                                                      \
                kept_rows[k * kept->stride + kept_end] = rows[k * stride + j];                                        \
            kept->names[kept_end] = names[j];                                                                         \
            kept_end += !accept & !open;                                                                              \
        }                                                                                                             \
        accepted->n = accepted_end;                                                                                   \
        opened->n = opened_end;                                                                                       \
        kept->n = kept_end;                                                                                           \
    }

#ifdef __AVX2__
#include <immintrin.h>

/* For each mask of eight lanes: the numbers of the lanes that are set, a byte each. */
static uint64_t kb_lanes[256];

static void kb_number_lanes(void) {
    for (int mask = 0; mask < 256; mask++) {
        int n = 0;
        kb_lanes[mask] = 0;
        for (int lane = 0; lane < 8; lane++)
            if (mask >> lane & 1)
                kb_lanes[mask] |= (uint64_t)lane << 8 * n++;
    }
}

/* Return the permutation that moves the lanes of a mask to the front. */
KB_INLINE __m256i kb_chosen(unsigned mask) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)&kb_lanes[mask]));
}

/* Store eight numbers of a row in the order of a permutation. */
KB_INLINE void kb_put(float *out, const float *row, __m256i lanes) {
    _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(_mm256_loadu_ps(row), lanes));
}

/* Return the bounds on eight squared radii where the kernel is short, as in KB_CURVED. */
KB_INLINE __m256 kb_curved_bounds(__m256 square, const kb_rule *rule) {
    const __m256 sum = _mm256_add_ps(square, _mm256_set1_ps((float)rule->dof));
    const __m256 quotient = _mm256_div_ps(sum, _mm256_add_ps(square, _mm256_set1_ps((float)rule->bend)));
    const __m256 bound = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps((float)rule->squared_theta), sum), quotient);
    const __m256 gap = _mm256_sub_ps(_mm256_sqrt_ps(square), _mm256_set1_ps((float)rule->reach));
    const __m256 beyond = _mm256_mul_ps(_mm256_set1_ps((float)KB_REACH), _mm256_max_ps(gap, _mm256_setzero_ps()));
    return _mm256_max_ps(bound, _mm256_mul_ps(beyond, beyond));
}

/* Return the mask of those of eight sources that the rule accepts. */
KB_INLINE unsigned kb_accepted(const float *rows, ptrdiff_t stride, int d, const kb_rule *rule) {
    const __m256 sign = _mm256_set1_ps(-0.0f), zero = _mm256_setzero_ps();
    const float *middle = rule->middle, *half = rule->half;
    const __m256 theta = _mm256_set1_ps((float)rule->squared_theta), least = _mm256_set1_ps((float)rule->least_bound);
    const __m256 reach = _mm256_add_ps(_mm256_set1_ps((float)rule->radius), _mm256_loadu_ps(rows + (d + 2) * stride));
    __m256 square = _mm256_set1_ps((float)rule->softening);
    for (int k = 0; k < d; k++) {
        __m256 gap = _mm256_sub_ps(_mm256_loadu_ps(rows + k * stride), _mm256_set1_ps(middle[k]));
        gap = _mm256_max_ps(_mm256_sub_ps(_mm256_andnot_ps(sign, gap), _mm256_set1_ps(half[k])), zero);
        square = _mm256_add_ps(square, _mm256_mul_ps(gap, gap));
    }
    __m256 bound = _mm256_mul_ps(theta, square);
    if (rule->curved)
        bound = kb_curved_bounds(square, rule);
    bound = _mm256_max_ps(bound, least);
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_mul_ps(reach, reach), bound, _CMP_LE_OQ));
}

/* The same for eight sources at a time: up to seven more than there are are read, and written to each list. */
KB_INLINE void kb_sift_float(const kb_sources *given, int d, const kb_rule *rule, kb_sources *accepted,
                             kb_sources *opened, kb_sources *kept) {
    const float *rows = given->rows;
    float *accepted_rows = accepted->rows, *kept_rows = kept->rows;
    ptrdiff_t accepted_end = accepted->n, opened_end = opened->n, kept_end = kept->n;
    for (ptrdiff_t j = 0; j < given->n; j += 8) {
        const float *names = (const float *)(given->names + j);
        const unsigned present = given->n - j < 8 ? (1u << (given->n - j)) - 1 : 255;
        const unsigned accept = present & kb_accepted(rows + j, given->stride, d, rule);
        const __m256 own = _mm256_loadu_ps(rows + (d + 2) * given->stride + j);
        const __m256 largest = _mm256_set1_ps((float)rule->largest);
        const unsigned large = _mm256_movemask_ps(_mm256_cmp_ps(own, largest, _CMP_GT_OQ));
        const unsigned childless = _mm256_movemask_ps(_mm256_loadu_ps(names)); /* the signs of the names */
        const unsigned open = present & ~accept & large & ~childless, keep = present & ~accept & ~open;
        __m256i lanes = kb_chosen(accept);
        for (int k = 0; k < d + 2; k++)
            kb_put(accepted_rows + k * accepted->stride + accepted_end, rows + k * given->stride + j, lanes);
        accepted_end += __builtin_popcount(accept);
        kb_put((float *)(opened->names + opened_end), names, kb_chosen(open));
        opened_end += __builtin_popcount(open);
        lanes = kb_chosen(keep);
        for (int k = 0; kept_rows != NULL && k < d + 3; k++)
            kb_put(kept_rows + k * kept->stride + kept_end, rows + k * given->stride + j, lanes);
        kb_put((float *)(kept->names + kept_end), names, lanes);
        kept_end += __builtin_popcount(keep);
    }
    accepted->n = accepted_end;
    opened->n = opened_end;
    kept->n = kept_end;
}
#else
KB_SIFT(kb_sift_float, float, kb_curved_float)

static void kb_number_lanes(void) {}
#endif
KB_SIFT(kb_sift_double, double, kb_curved_double)
#endif /* KULLBACK_SIFT */
