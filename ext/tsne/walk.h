/* The two inner loops of the walk through the tree by whole vectors: what Cython, and a compiler left to itself, cannot
   say. Sources are sorted into lists by permuting the lanes that go to each to the front, where a compiler knows only
   gathers; and points stay in registers while all sources pass by, where it would reduce a vector for every point.

   The permutations take AVX2; elsewhere sources are sorted one by one. The other loop is written in vectors of GCC and
   Clang, for any architecture; where there are none, KB_VECTORS is 0 and Cython's loop is taken. */

#ifndef KULLBACK_WALK
#define KULLBACK_WALK
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define KB_INLINE static inline __attribute__((always_inline))
#else
#define KB_INLINE static inline
#endif

/* Judge the sources in rows (components, masses, spreads, radii) from a box, and append each to one of three lists:
   accepted where (radius + its own)^2 is at most theta^2 (distance^2 + softening) or least; else opened where it is
   larger than most and has children, which its name tells by being 0 or more; else kept, without a copy of its rows
   where kept is NULL. */
#define KB_SIFT(name, floating)                                                                                       \
    KB_INLINE void name(const floating *rows, ptrdiff_t stride, const int32_t *names, ptrdiff_t n_sources, int d,     \
                        const floating *middle, const floating *half, floating radius, floating most,                 \
                        floating squared_theta, floating softening, floating least, floating *accepted,               \
                        ptrdiff_t accepted_stride, ptrdiff_t *n_accepted, int32_t *opened, ptrdiff_t *n_opened,       \
                        floating *kept, ptrdiff_t kept_stride, int32_t *kept_names, ptrdiff_t *n_kept) {              \
        for (ptrdiff_t j = 0; j < n_sources; j++) {                                                                   \
            const floating size = rows[(d + 2) * stride + j], reach = radius + size;                                  \
            floating square = softening;                                                                              \
            for (int k = 0; k < d; k++) {                                                                             \
                floating gap = rows[k * stride + j] - middle[k];                                                      \
                gap = (gap < 0 ? -gap : gap) - half[k];                                                               \
                gap = gap > 0 ? gap : 0;                                                                              \
                square += gap * gap;                                                                                  \
            }                                                                                                         \
            const floating bound = squared_theta * square;                                                            \
            const int near = reach * reach <= (bound > least ? bound : least);                                        \
            const int open = !near & (size > most) & (names[j] >= 0);                                                 \
            for (int k = 0; k < d + 2; k++)                                                                           \
                accepted[k * accepted_stride + *n_accepted] = rows[k * stride + j];                                   \
            *n_accepted += near;                                                                                      \
            opened[*n_opened] = names[j];                                                                             \
            *n_opened += open;                                                                                        \
            for (int k = 0; kept != NULL && k < d + 3; k++)                                                           \
                kept[k * kept_stride + *n_kept] = rows[k * stride + j];                                               \
            kept_names[*n_kept] = names[j];                                                                           \
            *n_kept += !near & !open;                                                                                 \
        }                                                                                                             \
    }

#ifdef __AVX2__
#include <immintrin.h>

/* Of each mask of eight lanes, the numbers of those that are set, a byte each. */
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

KB_INLINE __m256i kb_chosen(unsigned mask) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)&kb_lanes[mask]));
}

KB_INLINE void kb_put(float *out, const float *row, __m256i lanes) {
    _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(_mm256_loadu_ps(row), lanes));
}

/* The same for eight sources at a time: up to seven more are read, and written to each list. */
KB_INLINE void kb_sift_float(const float *rows, ptrdiff_t stride, const int32_t *names, ptrdiff_t n_sources, int d,
                             const float *middle, const float *half, float radius, float most, float squared_theta,
                             float softening, float least, float *accepted, ptrdiff_t accepted_stride,
                             ptrdiff_t *n_accepted, int32_t *opened, ptrdiff_t *n_opened, float *kept,
                             ptrdiff_t kept_stride, int32_t *kept_names, ptrdiff_t *n_kept) {
    const __m256 sign = _mm256_set1_ps(-0.0f), zero = _mm256_setzero_ps();
    ptrdiff_t accepted_end = *n_accepted, opened_end = *n_opened, kept_end = *n_kept;
    for (ptrdiff_t j = 0; j < n_sources; j += 8) {
        const __m256 size = _mm256_loadu_ps(rows + (d + 2) * stride + j);
        const __m256 reach = _mm256_add_ps(_mm256_set1_ps(radius), size);
        __m256 square = _mm256_set1_ps(softening);
        for (int k = 0; k < d; k++) {
            __m256 gap = _mm256_sub_ps(_mm256_loadu_ps(rows + k * stride + j), _mm256_set1_ps(middle[k]));
            gap = _mm256_max_ps(_mm256_sub_ps(_mm256_andnot_ps(sign, gap), _mm256_set1_ps(half[k])), zero);
            square = _mm256_add_ps(square, _mm256_mul_ps(gap, gap));
        }
        const __m256 bound = _mm256_max_ps(_mm256_mul_ps(_mm256_set1_ps(squared_theta), square), _mm256_set1_ps(least));
        const unsigned there = n_sources - j < 8 ? (1u << (n_sources - j)) - 1 : 255;
        const unsigned near = there & _mm256_movemask_ps(_mm256_cmp_ps(_mm256_mul_ps(reach, reach), bound, _CMP_LE_OQ));
        const unsigned large = _mm256_movemask_ps(_mm256_cmp_ps(size, _mm256_set1_ps(most), _CMP_GT_OQ));
        const unsigned leaf = _mm256_movemask_ps(_mm256_loadu_ps((const float *)(names + j))); /* their signs */
        const unsigned open = there & ~near & large & ~leaf, keep = there & ~near & ~open;
        __m256i lanes = kb_chosen(near);
        for (int k = 0; k < d + 2; k++)
            kb_put(accepted + k * accepted_stride + accepted_end, rows + k * stride + j, lanes);
        accepted_end += __builtin_popcount(near);
        kb_put((float *)(opened + opened_end), (const float *)(names + j), kb_chosen(open));
        opened_end += __builtin_popcount(open);
        lanes = kb_chosen(keep);
        for (int k = 0; kept != NULL && k < d + 3; k++)
            kb_put(kept + k * kept_stride + kept_end, rows + k * stride + j, lanes);
        kb_put((float *)(kept_names + kept_end), (const float *)(names + j), lanes);
        kept_end += __builtin_popcount(keep);
    }
    *n_accepted = accepted_end;
    *n_opened = opened_end;
    *n_kept = kept_end;
}
#else
KB_SIFT(kb_sift_float, float)

static void kb_number_lanes(void) {}
#endif
KB_SIFT(kb_sift_double, double)

#ifdef __GNUC__
#ifdef __AVX__
#define KB_WIDTH 32
#else
#define KB_WIDTH 16
#endif
typedef float kb_walk_floats __attribute__((vector_size(KB_WIDTH)));
typedef double kb_walk_doubles __attribute__((vector_size(KB_WIDTH)));
/* a compiler that may reassociate adds the 1 of 1 + x^2 + y^2 last, and takes one operation more */
#ifdef __clang__
#define KB_AS_WRITTEN
#else
#define KB_AS_WRITTEN __attribute__((noinline, optimize("no-associative-math")))
#endif

/* Add forces and potentials of sources at dof = 1 to the sums of points: in rows (components, masses m, and the factors
   p, q, 2 p and 3 q of their spreads) sources add, with w = 1 / (1 + |y - y_j|^2),

       u = w (m + w (p - q w)) and f = - grad u / 2 = w^2 (m + w (2 p - 3 q w)) (y - y_j).

   Up to 256 terms are summed in the precision of the positions. */
#define KB_MEET(name, floating, vector, d)                                                                            \
    KB_AS_WRITTEN static void name(const floating *sources, ptrdiff_t stride, ptrdiff_t n_sources,                    \
                                   const floating *points, ptrdiff_t point_stride, ptrdiff_t n_points, double *sums,  \
                                   ptrdiff_t sum_stride) {                                                            \
        enum { LANES = sizeof(vector) / sizeof(floating) };                                                           \
        const floating *masses = sources + d * stride, *first = masses + stride, *second = first + stride;            \
        const floating *third = second + stride, *fourth = third + stride;                                            \
        for (ptrdiff_t start = 0; start < n_points; start += LANES) {                                                 \
            const ptrdiff_t n = n_points - start < LANES ? n_points - start : LANES;                                  \
            vector y0 = {0}, y1 = {0}, y2 = {0};                                                                      \
            for (int i = 0; i < LANES; i++) {                                                                         \
                const ptrdiff_t point = start + (i < n ? i : 0);                                                      \
                y0[i] = points[point];                                                                                \
                y1[i] = d > 1 ? points[point_stride + point] : 0;                                                     \
                y2[i] = d > 2 ? points[2 * point_stride + point] : 0;                                                 \
            }                                                                                                         \
            for (ptrdiff_t begin = 0; begin < n_sources; begin += 256) {                                              \
                const ptrdiff_t end = begin + 256 < n_sources ? begin + 256 : n_sources;                              \
                vector u = {0}, f0 = {0}, f1 = {0}, f2 = {0};                                                         \
                for (ptrdiff_t j = begin; j < end; j++) {                                                             \
                    const vector x0 = y0 - sources[j];                                                                \
                    const vector x1 = d > 1 ? y1 - sources[stride + j] : y1;                                          \
                    const vector x2 = d > 2 ? y2 - sources[2 * stride + j] : y2;                                      \
                    vector square = 1 + x0 * x0;                                                                      \
                    if (d > 1)                                                                                        \
                        square += x1 * x1;                                                                            \
                    if (d > 2)                                                                                        \
                        square += x2 * x2;                                                                            \
                    const vector w = 1 / square;                                                                      \
                    const vector g = (w * w) * (masses[j] + w * (third[j] - fourth[j] * w));                          \
                    u += w * (masses[j] + w * (first[j] - second[j] * w));                                            \
                    f0 += g * x0;                                                                                     \
                    if (d > 1)                                                                                        \
                        f1 += g * x1;                                                                                 \
                    if (d > 2)                                                                                        \
                        f2 += g * x2;                                                                                 \
                }                                                                                                     \
                for (ptrdiff_t i = 0; i < n; i++) {                                                                   \
                    sums[start + i] += f0[i];                                                                         \
                    if (d > 1)                                                                                        \
                        sums[sum_stride + start + i] += f1[i];                                                        \
                    if (d > 2)                                                                                        \
                        sums[2 * sum_stride + start + i] += f2[i];                                                    \
                    sums[d * sum_stride + start + i] += u[i];                                                         \
                }                                                                                                     \
            }                                                                                                         \
        }                                                                                                             \
    }
KB_MEET(kb_meet_float_1, float, kb_walk_floats, 1)
KB_MEET(kb_meet_float_2, float, kb_walk_floats, 2)
KB_MEET(kb_meet_float_3, float, kb_walk_floats, 3)
KB_MEET(kb_meet_double_1, double, kb_walk_doubles, 1)
KB_MEET(kb_meet_double_2, double, kb_walk_doubles, 2)
KB_MEET(kb_meet_double_3, double, kb_walk_doubles, 3)
#define KB_VECTORS 1
#else
#define KB_VECTORS 0
#define KB_MEET(name, floating)                                                                                       \
    static void name(const floating *sources, ptrdiff_t stride, ptrdiff_t n_sources, const floating *points,          \
                     ptrdiff_t point_stride, ptrdiff_t n_points, double *sums, ptrdiff_t sum_stride) {}
KB_MEET(kb_meet_float_1, float)
KB_MEET(kb_meet_float_2, float)
KB_MEET(kb_meet_float_3, float)
KB_MEET(kb_meet_double_1, double)
KB_MEET(kb_meet_double_2, double)
KB_MEET(kb_meet_double_3, double)
#endif
#endif
