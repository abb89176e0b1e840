/* Adding near sources to points at dof = 1, by whole vectors of points.

   This is C because it cannot be said in Cython: a vector of points stays in registers while all sources pass by, where
   a compiler would load the sources as vectors and reduce a vector for every point. It is written in the vectors of GCC
   and Clang, for any architecture. Where there are none, KB_VECTORS is 0 and Cython's loop is taken. */

#ifndef KULLBACK_NEAR_SOURCES
#define KULLBACK_NEAR_SOURCES
#include <stddef.h>

#ifdef __GNUC__
#ifdef __AVX__
#define KB_WIDTH 32
#else
#define KB_WIDTH 16
#endif
typedef float kb_point_floats __attribute__((vector_size(KB_WIDTH)));
typedef double kb_point_doubles __attribute__((vector_size(KB_WIDTH)));
/* A compiler that may reassociate adds the 1 of 1 + x^2 + y^2 last, and takes one operation more. */
#ifdef __clang__
#define KB_AS_WRITTEN
#else
#define KB_AS_WRITTEN __attribute__((noinline, optimize("no-associative-math")))
#endif

/* Add the forces and potentials of sources to the sums of points. The rows of `sources` are the components, the masses
   m, and four multiples of the spread: p, q, 2 p and 3 q. With w = 1 / (1 + |y - y_j|^2), a source adds

       u = w (m + w (p - q w)) and f = - grad u / 2 = w^2 (m + w (2 p - 3 q w)) (y - y_j).

   Up to 256 terms are summed in the precision of the positions, and these sums in float64. */
#define KB_ADD_SOURCES(name, floating, vector, d)                                                                     \
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
KB_ADD_SOURCES(kb_add_sources_float_1, float, kb_point_floats, 1)
KB_ADD_SOURCES(kb_add_sources_float_2, float, kb_point_floats, 2)
KB_ADD_SOURCES(kb_add_sources_float_3, float, kb_point_floats, 3)
KB_ADD_SOURCES(kb_add_sources_double_1, double, kb_point_doubles, 1)
KB_ADD_SOURCES(kb_add_sources_double_2, double, kb_point_doubles, 2)
KB_ADD_SOURCES(kb_add_sources_double_3, double, kb_point_doubles, 3)
#define KB_VECTORS 1
#else
#define KB_VECTORS 0
#define KB_ADD_SOURCES(name, floating)                                                                                \
    static void name(const floating *sources, ptrdiff_t stride, ptrdiff_t n_sources, const floating *points,          \
                     ptrdiff_t point_stride, ptrdiff_t n_points, double *sums, ptrdiff_t sum_stride) {}
KB_ADD_SOURCES(kb_add_sources_float_1, float)
KB_ADD_SOURCES(kb_add_sources_float_2, float)
KB_ADD_SOURCES(kb_add_sources_float_3, float)
KB_ADD_SOURCES(kb_add_sources_double_1, double)
KB_ADD_SOURCES(kb_add_sources_double_2, double)
KB_ADD_SOURCES(kb_add_sources_double_3, double)
#endif
#endif /* KULLBACK_NEAR_SOURCES */
