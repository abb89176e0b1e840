"""Header-only numerics that kernels share: bit casts, largest values, 16-bit loads.

The C below is what Cython cannot say: bit casts through memcpy (which every compiler folds away)
and the reduction pragma, which lets a maximum vectorise.
"""

cdef extern from *:
    """
    #ifndef KULLBACK_NUMERIC
    #define KULLBACK_NUMERIC
    #include <float.h>
    #include <math.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    static inline int32_t kb_bits_of(float x) { int32_t b; memcpy(&b, &x, 4); return b; }
    static inline float kb_value_of(int32_t b) { float x; memcpy(&x, &b, 4); return x; }

    /* Largest value. Only where NaN may be ignored does the comparison vectorise, hence the attribute;
       a NaN may win or not, and shows elsewhere. The lanes start at the least finite value there, which
       therefore stands for -inf. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define KB_FINITE __attribute__((unused, optimize("finite-math-only")))
    #else
    #define KB_FINITE
    #endif
    #define KB_MAX(NAME, LANES, T, LEAST) \
    KB_FINITE static double LANES(const T *restrict x, ptrdiff_t n) { \
        T best = n > 0 ? x[0] : 0, lanes[64]; \
        ptrdiff_t i = 0; \
        if (n >= 64) { /* 64 side by side: half the time of one vector */ \
            _Pragma("omp simd") for (int k = 0; k < 64; k++) lanes[k] = x[k]; \
            for (i = 64; i + 64 <= n; i += 64) \
                _Pragma("omp simd") for (int k = 0; k < 64; k++) lanes[k] = x[i + k] > lanes[k] ? x[i + k] : lanes[k]; \
            _Pragma("omp simd reduction(max : best)") for (int k = 0; k < 64; k++) best = lanes[k] > best ? lanes[k] : best; \
        } \
        _Pragma("omp simd reduction(max : best)") \
        for (ptrdiff_t j = i; j < n; j++) best = x[j] > best ? x[j] : best; \
        return (double)best; \
    } \
    static inline double NAME(const T *restrict x, ptrdiff_t n) { \
        double best = LANES(x, n); \
        return best <= -LEAST ? -INFINITY : best; \
    }
    KB_MAX(kb_max_f, kb_max_lanes_f, float, FLT_MAX)
    KB_MAX(kb_max_d, kb_max_lanes_d, double, DBL_MAX)

    /* Half to single: the exponent is rebiased by an exact product, which also takes subnormals. */
    static inline float kb_half(uint16_t h) {
        float magnitude = kb_value_of((int32_t)(h & 0x7fffu) << 13) * 0x1p112f;
        int32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000 : 0;
        return kb_value_of(kb_bits_of(magnitude) | special | (int32_t)((uint32_t)(h & 0x8000u) << 16));
    }
    static inline float kb_bfloat(uint16_t h) { return kb_value_of((int32_t)((uint32_t)h << 16)); }
    #endif
    """
    double max_float "kb_max_f"(const float* x, Py_ssize_t n) noexcept nogil
    double max_double "kb_max_d"(const double* x, Py_ssize_t n) noexcept nogil
