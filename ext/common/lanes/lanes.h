/* Lanes: how kernels keep a sum in parts that lie side by side and are worked at once by vector instructions.

   A sum is kept in KB_LANES parts. Lane k of group j is the element p[j * step + k]. There are two ways to use lanes:
   - within one row, groups follow each other (step = KB_LANES), and the lanes are added in the end;
   - across rows, each lane is a row, and step leads from one element of the rows to the next.
   Either way a lane adds its terms one after the other: KB_RUN of them in the terms' own type before their sum is
   widened to float64. The bits of a row therefore do not depend on its neighbours.

   This is C because Cython cannot say `omp simd`, prefetch or always_inline. Each loop over lanes stands alone, as
   nested reductions would be vectorised only under -fassociative-math, which would undo the range reductions of
   exp_log.h. */

#ifndef KULLBACK_LANES
#define KULLBACK_LANES
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One cache line of float32: 17.0 GB/s were measured, where 8 and 32 lanes gave 17.0 and 14.2. */
#define KB_LANES 16
/* Groups whose terms are added before they are widened, which costs at most 16 roundings of 2^-24. */
#define KB_RUN 16
/* Groups that are fetched ahead, 2 KiB of float32: 18.9 GB/s instead of 16.3; any number from 16 to 128 does. */
#define KB_AHEAD 32
/* Elements to fetch ahead. Where rows lie side by side, a run is all of a tile, so the next tile is fetched. */
#define KB_AHEAD_BY(step) ((step) == KB_LANES ? KB_AHEAD * KB_LANES : KB_RUN * (step))

#if defined(__GNUC__)
#define KB_INLINE static inline __attribute__((always_inline))
#define KB_STATIC static __attribute__((unused, noinline)) /* No kernel calls everything that it includes. */
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

/* KB_VECTOR is the bytes of a vector. KB_DOUBLES is a vector of float64 that one instruction makes of float32 in
   memory; where there is no such instruction, it is undefined. */
#if defined(__AVX512F__)
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

#endif /* KULLBACK_LANES */
