"""Header-only: logarithm and exponential that are vectorised at every SIMD level; see lanes/exp_log.h."""

from cython cimport floating

cdef extern from "common/lanes/exp_log.h":
    float log_float "kb_log_f"(float x) noexcept nogil
    double log_double "kb_log_d"(double x) noexcept nogil
    double exp_double "kb_exp_d"(double x) noexcept nogil  # x <= 0; below -707 it counts as -707


cdef inline floating log_fast(floating x) noexcept nogil:
    """Return log(x) of a normal x to about two units in the last place."""
    if floating is float:
        return log_float(x)
    else:
        return log_double(x)
