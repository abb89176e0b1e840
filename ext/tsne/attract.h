/* The attraction of one row of P in two dimensions and float32, by whole vectors.

   This is C because it cannot be said in Cython: a compiler makes slow gather instructions, or scalar copies, of
   positions that are looked up by index. Here each pair (x, y) is one load of 8 bytes, and pairs are loaded in such an
   order that two shuffles within the halves of a vector give x and y in the order of P. It is written in the vectors of
   GCC and Clang, for any architecture. Other compilers take Cython's loop. */

#ifndef KULLBACK_ATTRACT
#define KULLBACK_ATTRACT
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define KB_ATTRACT_VECTORS 1
#endif
#endif

#ifdef KB_ATTRACT_VECTORS
#ifdef __AVX__
#define KB_NEIGHBORS 8
#else
#define KB_NEIGHBORS 4
#endif
typedef float kb_floats __attribute__((vector_size(4 * KB_NEIGHBORS)));
typedef double kb_pairs __attribute__((vector_size(4 * KB_NEIGHBORS))); /* of two floats each, never used as doubles */

/* Return the position of point j as one value of 8 bytes. */
static inline double kb_pair(const float *positions, int32_t j) {
    double pair;
    memcpy(&pair, positions + 2 * (ptrdiff_t)j, sizeof pair);
    return pair;
}

/* Add p (y_i - y_j) / (dof + |y_i - y_j|^2) for KB_NEIGHBORS neighbours j. */
static inline void kb_attract_vector(const float *p, const int32_t *j, const float *positions, float x, float y,
                                     float dof, kb_floats *fx, kb_floats *fy) {
#define KB_PAIR(k) kb_pair(positions, j[k])
#if KB_NEIGHBORS == 8
    kb_pairs first = {KB_PAIR(0), KB_PAIR(1), KB_PAIR(4), KB_PAIR(5)};
    kb_pairs second = {KB_PAIR(2), KB_PAIR(3), KB_PAIR(6), KB_PAIR(7)};
    kb_floats xs = __builtin_shufflevector((kb_floats)first, (kb_floats)second, 0, 2, 8, 10, 4, 6, 12, 14);
    kb_floats ys = __builtin_shufflevector((kb_floats)first, (kb_floats)second, 1, 3, 9, 11, 5, 7, 13, 15);
#else
    kb_pairs first = {KB_PAIR(0), KB_PAIR(1)}, second = {KB_PAIR(2), KB_PAIR(3)};
    kb_floats xs = __builtin_shufflevector((kb_floats)first, (kb_floats)second, 0, 2, 4, 6);
    kb_floats ys = __builtin_shufflevector((kb_floats)first, (kb_floats)second, 1, 3, 5, 7);
#endif
#undef KB_PAIR
    kb_floats weight, dx = x - xs, dy = y - ys;
    memcpy(&weight, p, sizeof weight);
    weight /= dof + dx * dx + dy * dy;
    *fx += weight * dx;
    *fy += weight * dy;
}
#endif

/* Write the force on point `row`; return 0 where the compiler has no such vectors. */
static inline int kb_attract_row(const float *values, const int32_t *columns, ptrdiff_t n_values,
                                 const float *positions, ptrdiff_t row, float dof, float *force_out) {
#ifdef KB_ATTRACT_VECTORS
    const float x = positions[2 * row], y = positions[2 * row + 1];
    kb_floats fx[2] = {{0}, {0}}, fy[2] = {{0}, {0}}; /* two sums, so that additions need not wait for each other */
    ptrdiff_t k = 0;
    for (; k + 2 * KB_NEIGHBORS <= n_values; k += 2 * KB_NEIGHBORS) {
        kb_attract_vector(values + k, columns + k, positions, x, y, dof, &fx[0], &fy[0]);
        kb_attract_vector(values + k + KB_NEIGHBORS, columns + k + KB_NEIGHBORS, positions, x, y, dof, &fx[1], &fy[1]);
    }
    for (; k < n_values; k += KB_NEIGHBORS) {
        if (k + KB_NEIGHBORS <= n_values) {
            kb_attract_vector(values + k, columns + k, positions, x, y, dof, &fx[0], &fy[0]);
        } else { /* the last vector is filled up with one of its neighbours, of weight 0 */
            float p[KB_NEIGHBORS] = {0};
            int32_t j[KB_NEIGHBORS];
            for (int lane = 0; lane < KB_NEIGHBORS; lane++) {
                j[lane] = columns[k + lane < n_values ? k + lane : k];
                p[lane] = k + lane < n_values ? values[k + lane] : 0;
            }
            kb_attract_vector(p, j, positions, x, y, dof, &fx[1], &fy[1]);
        }
    }
    fx[0] += fx[1];
    fy[0] += fy[1];
    force_out[0] = force_out[1] = 0;
    for (int lane = 0; lane < KB_NEIGHBORS; lane++) {
        force_out[0] += fx[0][lane] * dof;
        force_out[1] += fy[0][lane] * dof;
    }
    return 1;
#else
    return 0;
#endif
}
#endif /* KULLBACK_ATTRACT */
