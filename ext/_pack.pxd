"""Header-only: gather any supported dtype and stride into contiguous float32 or float64 tiles."""

from cython cimport floating

cimport _numeric  # its C comes first

cdef extern from *:
    """
    #ifndef KULLBACK_PACK
    #define KULLBACK_PACK
    #if defined(__GNUC__)
    #define KB_SOON(pointer) __builtin_prefetch(pointer)
    #else
    #define KB_SOON(pointer)
    #endif
    /* One row after the other where elements are nearer than rows; else across the rows, so that
       every cache line is used while it is there. One row is fetched 2 KiB, or 256 strides, ahead. */
    #define KB_GATHER(T, LOAD) { \\
        if (n_rows == 1 && item == (ptrdiff_t)sizeof(T)) { \\
            ptrdiff_t i = 0; \\
            for (; i + 32 <= n; i += 32) { \\
                KB_SOON(data + i * (ptrdiff_t)sizeof(T) + 2048); \\
                for (int k = 0; k < 32; k++) { \\
                    T v; memcpy(&v, data + (i + k) * (ptrdiff_t)sizeof(T), sizeof v); out[i + k] = LOAD; } \\
            } \\
            for (; i < n; i++) { T v; memcpy(&v, data + i * (ptrdiff_t)sizeof(T), sizeof v); out[i] = LOAD; } \\
        } else if (n_rows == 1) { \\
            for (ptrdiff_t i = 0; i < n; i++) { \\
                T v; memcpy(&v, data + i * item, sizeof v); KB_SOON(data + (i + 256) * item); out[i] = LOAD; } \\
        } else if (labs(item) <= labs(row)) { \\
            for (ptrdiff_t r = 0; r < n_rows; r++) for (ptrdiff_t i = 0; i < n; i++) { \\
                T v; memcpy(&v, data + r * row + i * item, sizeof v); out[r * n + i] = LOAD; } \\
        } else { \\
            for (ptrdiff_t i = 0; i < n; i++) for (ptrdiff_t r = 0; r < n_rows; r++) { \\
                T v; memcpy(&v, data + r * row + i * item, sizeof v); out[r * n + i] = LOAD; } \\
        } \\
        break; }
    #define KB_PACK(NAME, R) \\
    static void NAME(const char *restrict data, int kind, ptrdiff_t row, ptrdiff_t item, \\
                     ptrdiff_t n_rows, ptrdiff_t n, R *restrict out) { \\
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
    FIRST_INTEGER


cdef inline void pack(const char* data, int kind, Py_ssize_t row, Py_ssize_t item, Py_ssize_t n_rows,
                      Py_ssize_t n, floating* out) noexcept nogil:
    if floating is float:
        pack_float(data, kind, row, item, n_rows, n, out)
    else:
        pack_double(data, kind, row, item, n_rows, n, out)
