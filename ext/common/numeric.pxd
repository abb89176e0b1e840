"""Header-only numerics that kernels share: bit casts, largest values, 16-bit floats.

The C below is what Cython cannot say: bit casts through memcpy, which every compiler folds away, and the reduction
pragma, which lets a maximum be vectorised.
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

    /* The largest value. The comparison is vectorised only where NaN may be ignored, hence the attribute; a NaN may
       win or not, and shows elsewhere. Under the attribute, infinities are not to be relied on either, so the least
       finite value stands for -inf. 64 values side by side take half the time of one vector. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define KB_FINITE __attribute__((unused, optimize("finite-math-only")))
    #else
    #define KB_FINITE
    #endif
    #define KB_LARGER(a, b) ((a) > (b) ? (a) : (b))
    #define KB_MAX(NAME, LANES, T, LEAST) \
    KB_FINITE static double LANES(const T *restrict x, ptrdiff_t n) { \
        T best = n > 0 ? x[0] : 0, lanes[64]; \
        ptrdiff_t i = 0; \
        if (n >= 64) { \
            _Pragma("omp simd") for (int k = 0; k < 64; k++) lanes[k] = x[k]; \
            for (i = 64; i + 64 <= n; i += 64) \
                _Pragma("omp simd") for (int k = 0; k < 64; k++) lanes[k] = KB_LARGER(x[i + k], lanes[k]); \
            _Pragma("omp simd reduction(max : best)") for (int k = 0; k < 64; k++) best = KB_LARGER(lanes[k], best); \
        } \
        _Pragma("omp simd reduction(max : best)") \
        for (ptrdiff_t j = i; j < n; j++) best = KB_LARGER(x[j], best); \
        return (double)best; \
    } \
    static inline double NAME(const T *restrict x, ptrdiff_t n) { \
        double best = LANES(x, n); \
        return best <= -LEAST ? -INFINITY : best; \
    }
    KB_MAX(kb_max_f, kb_max_lanes_f, float, FLT_MAX)
    KB_MAX(kb_max_d, kb_max_lanes_d, double, DBL_MAX)

    /* float16 to float32. An exact product rebiases the exponent, also that of subnormal numbers. */
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
