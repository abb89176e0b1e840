"""Header-only: gather elements of any supported dtype and stride into contiguous tiles of float32 or float64.

This is C because it is one loop for each of twelve types, which differ in how an element is loaded, and because Cython
can say neither prefetch nor the vectors that widen 16-bit floats.
"""

from cython cimport floating

cimport common.numeric  # whose C has to come first

cdef extern from *:
    """
    #ifndef KULLBACK_PACK
    #define KULLBACK_PACK
    #if defined(__GNUC__)
    #define KB_SOON(pointer) __builtin_prefetch(pointer)
    #else
    #define KB_SOON(pointer)
    #endif
    /* Gather n elements of each row. One row follows the other where elements are nearer to each other than rows; else
       the loop goes across the rows, so that every cache line is used while it is in cache. A single row is fetched 2
       to 4 KiB, or 256 strides, ahead. Compilers turn the loop for every second element into shuffles. */
    #define KB_GATHER(T, LOAD) { \\
        if (n_rows == 1 && item == (ptrdiff_t)sizeof(T)) { \\
            ptrdiff_t i = 0; \\
            for (; i + 32 <= n; i += 32) { \\
                KB_SOON(data + i * (ptrdiff_t)sizeof(T) + 2048); \\
                for (int k = 0; k < 32; k++) { \\
                    T v; memcpy(&v, data + (i + k) * (ptrdiff_t)sizeof(T), sizeof v); out[i + k] = LOAD; } \\
            } \\
            for (; i < n; i++) { T v; memcpy(&v, data + i * (ptrdiff_t)sizeof(T), sizeof v); out[i] = LOAD; } \\
        } else if (n_rows == 1 && item == 2 * (ptrdiff_t)sizeof(T)) { \\
            for (ptrdiff_t i = 0; i < n; i += 256) { \\
                ptrdiff_t end = i + 256 < n ? i + 256 : n; \\
                for (ptrdiff_t at = i * item; at < end * item; at += 64) KB_SOON(data + at + 4096); \\
                for (ptrdiff_t k = i; k < end; k++) { \\
                    T v; memcpy(&v, data + 2 * k * (ptrdiff_t)sizeof(T), sizeof v); out[k] = LOAD; } \\
            } \\
        } else if (n_rows == 1) { \\
            for (ptrdiff_t i = 0; i < n; i++) { \\
                T v; memcpy(&v, data + i * item, sizeof v); KB_SOON(data + (i + 256) * item); out[i] = LOAD; } \\
        } else if (llabs(item) <= llabs(row)) { \\
            for (ptrdiff_t r = 0; r < n_rows; r++) for (ptrdiff_t i = 0; i < n; i++) { \\
                T v; memcpy(&v, data + r * row + i * item, sizeof v); out[r * n + i] = LOAD; } \\
        } else { \\
            for (ptrdiff_t i = 0; i < n; i++) for (ptrdiff_t r = 0; r < n_rows; r++) { \\
                T v; memcpy(&v, data + r * row + i * item, sizeof v); out[r * n + i] = LOAD; } \\
        } \\
        break; }
    /* Widen 16-bit floats, eight at a time, and return how many were converted. A load that fills both halves of a
       vector and a shuffle within them put the bits of bfloat16 into the upper halves of float32. That takes 0.7 cycles
       of the time stamp a vector; widening and shifting, which compilers make of the plain loop, take 2.0. */
    #if defined(__AVX2__) && defined(__F16C__)
    #include <immintrin.h>
    static inline ptrdiff_t kb_widen(const char *data, int is_half, ptrdiff_t n, float *out) {
        const __m256i places = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,
                                                -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
        ptrdiff_t i = 0;
        for (; i + 32 <= n; i += 32) {
            for (ptrdiff_t k = i; k < i + 32; k += 8) {
                __m128i x = _mm_loadu_si128((const __m128i *)(data + 2 * k));
                __m256i twice = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(x), places);
                _mm256_storeu_ps(out + k, is_half ? _mm256_cvtph_ps(x) : _mm256_castsi256_ps(twice));
            }
        }
        return i;
    }
    #else
    static inline ptrdiff_t kb_widen(const char *data, int is_half, ptrdiff_t n, float *out) { return 0; }
    #endif
    /* Compilers would clone such a function for each stride that is known, which costs seconds and saves nothing. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define KB_ONCE __attribute__((noinline, noclone))
    #else
    #define KB_ONCE
    #endif
    #define KB_PACK(NAME, R) \\
    static KB_ONCE void NAME(const char *restrict data, int kind, ptrdiff_t row, ptrdiff_t item, \\
                     ptrdiff_t n_rows, ptrdiff_t n, R *restrict out) { \\
        if (sizeof(R) == 4 && (kind == 2 || kind == 3) && n_rows == 1 && item == 2) { \\
            ptrdiff_t done = kb_widen(data, kind == 2, n, (float *)out); \\
            data += 2 * done; out += done; n -= done; \\
        } \\
        switch (kind) { \\
        case 0: KB_GATHER(float, (R)v) \\
        case 1: KB_GATHER(double, (R)v) \\
        case 2: KB_GATHER(uint16_t, (R)kb_half(v)) \\
        case 3: KB_GATHER(uint16_t, (R)kb_bfloat(v)) \\
        case 4: KB_GATHER(int8_t, (R)v) \\
        case 5: KB_GATHER(uint8_t, (R)v) \\
        case 6: KB_GATHER(int16_t, (R)v) \\
        case 7: KB_GATHER(uint16_t, (R)v) \\
        case 8: KB_GATHER(int32_t, (R)v) \\
        case 9: KB_GATHER(uint32_t, (R)v) \\
        case 10: KB_GATHER(int64_t, (R)v) \\
        case 11: KB_GATHER(uint64_t, (R)v) \\
        } \\
    }
    #include <stdlib.h>
    KB_PACK(kb_pack_f, float)
    KB_PACK(kb_pack_d, double)
    #endif
    """
    void pack_float "kb_pack_f"(const char* data, int kind, Py_ssize_t row, Py_ssize_t item,
                                Py_ssize_t n_rows, Py_ssize_t n, float* out) noexcept nogil
    void pack_double "kb_pack_d"(const char* data, int kind, Py_ssize_t row, Py_ssize_t item,
                                 Py_ssize_t n_rows, Py_ssize_t n, double* out) noexcept nogil

cdef enum Kind:
    FLOAT32 = 0
    FLOAT64
    FLOAT16
    BFLOAT16
    FIRST_INTEGER  # int8, uint8, int16 and so on to uint64


cdef inline void pack(const char* data, int kind, Py_ssize_t row, Py_ssize_t item, Py_ssize_t n_rows,
                      Py_ssize_t n, floating* out) noexcept nogil:
    """Gather ``n`` elements of each of ``n_rows`` rows; ``row`` and ``item`` are strides in bytes."""
    if floating is float:
        pack_float(data, kind, row, item, n_rows, n, out)
    else:
        pack_double(data, kind, row, item, n_rows, n, out)
