"""Header-only: additions to exact sums, whose representation exact_sum.pyx describes."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    typedef unsigned __int128 uint128;
    """
    ctypedef unsigned long long uint128  # Cython's view of it; the C compiler knows its true width

cdef enum:
    DIGIT = 0xFFFFFFFF  # the bits of a chunk that hold its digit


cdef inline uint64_t bits_of(double value) noexcept nogil:
    """Return the bits of a number."""
    cdef uint64_t bits
    memcpy(&bits, &value, sizeof(bits))
    return bits


cdef inline uint64_t mantissa_of(uint64_t bits) noexcept nogil:
    """Return the integer m that has |value| = m 2^(exponent - 1075)."""
    cdef uint64_t fraction = (bits << 12) >> 12
    return fraction if (bits >> 52) & 0x7FF == 0 else fraction | <uint64_t>1 << 52


cdef inline int exponent_of(uint64_t bits) noexcept nogil:
    """Return the exponent that belongs to this mantissa."""
    cdef int exponent = (bits >> 52) & 0x7FF
    return 1 if exponent == 0 else exponent  # subnormal numbers share the smallest exponent


cdef inline bint is_finite(double value) noexcept nogil:
    return (bits_of(value) >> 52) & 0x7FF != 0x7FF


cdef inline void add_value(int64_t* chunks, Py_ssize_t n_chunks, double value) noexcept nogil:
    """Add a finite value, whose 53 bits, shifted by up to 31, span three digits."""
    cdef uint64_t bits = bits_of(value), mantissa = mantissa_of(bits)
    cdef Py_ssize_t place = exponent_of(bits) - 1075 + 16 * n_chunks
    cdef int shift = place & 31
    cdef int64_t sign = 1 - 2 * <int64_t>(bits >> 63)
    chunks += place >> 5
    chunks[0] += sign * <int64_t>((mantissa << shift) & DIGIT)
    chunks[1] += sign * <int64_t>((mantissa >> (32 - shift)) & DIGIT)
    chunks[2] += sign * <int64_t>((mantissa >> 32) >> (32 - shift))


cdef inline void add_product(int64_t* chunks, Py_ssize_t n_chunks, double left, double right) noexcept nogil:
    """Add the exact product of two finite values, whose 106 bits, shifted by up to 31, span five digits."""
    cdef uint64_t a = bits_of(left), b = bits_of(right)
    cdef uint128 mantissa = <uint128>mantissa_of(a) * mantissa_of(b)
    cdef Py_ssize_t place = exponent_of(a) + exponent_of(b) - 2150 + 16 * n_chunks
    cdef int shift = place & 31
    cdef int64_t sign = 1 - 2 * <int64_t>((a ^ b) >> 63)
    chunks += place >> 5
    chunks[0] += sign * <int64_t>((<uint64_t>mantissa << shift) & DIGIT)
    chunks[1] += sign * <int64_t>((<uint64_t>mantissa >> (32 - shift)) & DIGIT)
    chunks[2] += sign * <int64_t>(<uint64_t>(mantissa >> (64 - shift)) & DIGIT)
    chunks[3] += sign * <int64_t>(<uint64_t>(mantissa >> (96 - shift)) & DIGIT)
    chunks[4] += sign * <int64_t>((mantissa >> 96) >> (32 - shift))
