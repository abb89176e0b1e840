"""Header-only numerics that kernels share: bit-level scaling, 16-bit loads, sums of fixed order.

The C below is what Cython cannot say: bit casts through memcpy (which every compiler folds away)
and the reduction pragma, which lets one sum vectorise without -fassociative-math.
"""

cdef extern from *:
    """
    #ifndef KULLBACK_NUMERIC
    #define KULLBACK_NUMERIC
    #include <math.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    static inline int32_t kb_bits_f(float x) { int32_t b; memcpy(&b, &x, 4); return b; }
    static inline int64_t kb_bits_d(double x) { int64_t b; memcpy(&b, &x, 8); return b; }
    static inline float kb_value_f(int32_t b) { float x; memcpy(&x, &b, 4); return x; }
    static inline double kb_value_d(int64_t b) { double x; memcpy(&x, &b, 8); return x; }

    /* Return x 2^k with the integer k that brings x within a factor 3/2 of target, so that
       target - result is exact (Sterbenz). Half a binade is added before the exponent of the
       quotient is cut off, so k is the rounded difference of the two bit patterns. Both normal. */
    static inline float kb_align_f(float x, float target, float *k) {
        int32_t shift = (int32_t)(((uint32_t)kb_bits_f(target) - (uint32_t)kb_bits_f(x) + 0x00400000u)
                                  & 0xff800000u);
        *k = (float)(shift >> 23);
        return kb_value_f(kb_bits_f(x) + shift);
    }
    /* The same; AVX2 has neither a 64-bit arithmetic shift nor int64 -> double, so k is biased by
       2048 and becomes the low bits of 2^52. */
    static inline double kb_align_d(double x, double target, double *k) {
        uint64_t shift = ((uint64_t)kb_bits_d(target) - (uint64_t)kb_bits_d(x) + 0x0008000000000000ull)
                         & 0xfff0000000000000ull;
        uint64_t biased = (shift + 0x8000000000000000ull) >> 52;
        *k = kb_value_d((int64_t)(biased | 0x4330000000000000ull)) - 4503599627372544.0;
        return kb_value_d((int64_t)((uint64_t)kb_bits_d(x) + shift));
    }

    /* Sum in float64, in lanes whose number the length and the level fix. */
    #define KB_SUM(NAME, T) \
    static inline double NAME(const T *restrict x, ptrdiff_t n) { \
        double total = 0; \
        if (n < 32) { \
            double lane[4] = {0, 0, 0, 0}; \
            ptrdiff_t i = 0; \
            for (; i + 4 <= n; i += 4) for (int k = 0; k < 4; k++) lane[k] += (double)x[i + k]; \
            for (; i < n; i++) lane[0] += (double)x[i]; \
            return (lane[0] + lane[1]) + (lane[2] + lane[3]); \
        } \
        _Pragma("omp simd reduction(+ : total)") \
        for (ptrdiff_t i = 0; i < n; i++) total += (double)x[i]; \
        return total; \
    }
    KB_SUM(kb_sum_f, float)
    KB_SUM(kb_sum_d, double)

    /* The same of float32 terms of one sign: four are added before they are widened, which costs
       each at most two roundings and saves half of the work. */
    static inline double kb_sum_terms_f(const float *restrict x, ptrdiff_t n) {
        ptrdiff_t quarter = n / 4;
        double total = 0;
        if (n < 64) return kb_sum_f(x, n);
        _Pragma("omp simd reduction(+ : total)")
        for (ptrdiff_t i = 0; i < quarter; i++)
            total += (double)((x[i] + x[i + quarter]) + (x[i + 2 * quarter] + x[i + 3 * quarter]));
        return total + kb_sum_f(x + 4 * quarter, n - 4 * quarter);
    }

    /* Sum as above, and set *unusual where any value is outside what the fast terms take: 0 and
       [4 min, max / 4]. As unsigned integers, negative values, -0, infinities and NaN stand above,
       subnormals just above 0, which itself wraps to the top when 1 is taken off. */
    #define KB_MASS(NAME, SUM, T, U, LOW, HIGH) \\
    static inline double NAME(const T *restrict x, ptrdiff_t n, int *unusual) { \\
        double total = 0; \\
        U lowest = LOW, highest = 0; \\
        if (n < 32) { \\
            for (ptrdiff_t i = 0; i < n; i++) { \\
                U b; memcpy(&b, x + i, sizeof b); \\
                total += (double)x[i]; \\
                *unusual |= (b != 0) & ((U)(b - LOW) > (U)(HIGH - LOW)); \\
            } \\
            return total; \\
        } \\
        _Pragma("omp simd reduction(+ : total) reduction(min : lowest) reduction(max : highest)") \\
        for (ptrdiff_t i = 0; i < n; i++) { \\
            U b; memcpy(&b, x + i, sizeof b); \\
            total += (double)x[i]; \\
            highest = highest > b ? highest : b; \\
            b -= 1; \\
            lowest = lowest < b ? lowest : b; \\
        } \\
        *unusual |= (lowest < LOW - 1) | (highest > HIGH); \\
        return total; \\
    }
    KB_MASS(kb_mass_f, kb_sum_f, float, uint32_t, 0x01800000u, 0x7e800000u)
    KB_MASS(kb_mass_d, kb_sum_d, double, uint64_t, 0x0030000000000000ull, 0x7fd0000000000000ull)

    /* Largest value. Only where NaN may be ignored does the comparison vectorise, hence the attribute;
       a NaN may win or not, and shows elsewhere. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define KB_FINITE __attribute__((unused, optimize("finite-math-only")))
    #else
    #define KB_FINITE
    #endif
    #define KB_MAX(NAME, T) \
    KB_FINITE static double NAME(const T *restrict x, ptrdiff_t n) { \
        T best = n > 0 ? x[0] : 0; \
        _Pragma("omp simd reduction(max : best)") \
        for (ptrdiff_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best; \
        return (double)best; \
    }
    KB_MAX(kb_max_f, float)
    KB_MAX(kb_max_d, double)

    /* First place of a value, or n. */
    #define KB_FIND(NAME, T) \
    static inline ptrdiff_t NAME(const T *restrict x, ptrdiff_t n, double value) { \
        for (ptrdiff_t i = 0; i < n; i++) if (x[i] == (T)value) return i; \
        return n; \
    }
    KB_FIND(kb_find_f, float)
    KB_FIND(kb_find_d, double)

    /* Whether every |x| <= limit, which NaN is not. */
    #define KB_WITHIN(NAME, T) \
    static inline int NAME(const T *restrict x, ptrdiff_t n, double limit) { \
        int beyond = 0; \
        _Pragma("omp simd reduction(| : beyond)") \
        for (ptrdiff_t i = 0; i < n; i++) beyond |= !(x[i] <= (T)limit) | !(x[i] >= (T)-limit); \
        return !beyond; \
    }
    KB_WITHIN(kb_within_f, float)
    KB_WITHIN(kb_within_d, double)

    /* Split x = k ln 2 + r, |r| <= ln 2 / 2, and set *power = 2^k. Adding 1.5 * 2^23 (2^52) rounds x / ln 2
       to an integer in the low bits, which become the exponent. ln 2 is split so that k times its
       first part is exact. |k| must stay below 126 (1022). */
    static inline float kb_reduce_f(float x, float *power) {
        float z = x * 1.44269504f + 12582912.0f, k = z - 12582912.0f;
        *power = kb_value_f((int32_t)(((uint32_t)kb_bits_f(z) << 23) + 0x3f800000u));
        return (x - k * 0.693359375f) + k * 2.12194440e-4f;
    }
    static inline double kb_reduce_d(double x, double *power) {
        double z = x * 1.4426950408889634 + 6755399441055744.0, k = z - 6755399441055744.0;
        *power = kb_value_d((int64_t)(((uint64_t)kb_bits_d(z) << 52) + 0x3ff0000000000000ull));
        return (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    }

    /* Half to single: the exponent is rebiased by an exact product, which also takes subnormals. */
    static inline float kb_half(uint16_t h) {
        float magnitude = kb_value_f((int32_t)(h & 0x7fffu) << 13) * 0x1p112f;
        int32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000 : 0;
        return kb_value_f(kb_bits_f(magnitude) | special | (int32_t)((uint32_t)(h & 0x8000u) << 16));
    }
    static inline float kb_bfloat(uint16_t h) { return kb_value_f((int32_t)((uint32_t)h << 16)); }
    #endif
    """
    float align_float "kb_align_f"(float x, float target, float* k) noexcept nogil
    double align_double "kb_align_d"(double x, double target, double* k) noexcept nogil
    double sum_float "kb_sum_f"(const float* x, Py_ssize_t n) noexcept nogil
    double sum_double "kb_sum_d"(const double* x, Py_ssize_t n) noexcept nogil
    double max_float "kb_max_f"(const float* x, Py_ssize_t n) noexcept nogil
    double max_double "kb_max_d"(const double* x, Py_ssize_t n) noexcept nogil
    bint within_float "kb_within_f"(const float* x, Py_ssize_t n, double limit) noexcept nogil
    bint within_double "kb_within_d"(const double* x, Py_ssize_t n, double limit) noexcept nogil
    float reduce_float "kb_reduce_f"(float x, float* power) noexcept nogil
    double reduce_double "kb_reduce_d"(double x, double* power) noexcept nogil
    double sum_terms_float "kb_sum_terms_f"(const float* x, Py_ssize_t n) noexcept nogil
    double mass_float "kb_mass_f"(const float* x, Py_ssize_t n, bint* unusual) noexcept nogil
    double mass_double "kb_mass_d"(const double* x, Py_ssize_t n, bint* unusual) noexcept nogil
