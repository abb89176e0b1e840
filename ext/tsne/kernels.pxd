"""Header-only: the kernel of t-SNE at any dof, and the length on which it changes."""

from common.exp cimport exp_negative
from common.exp_log cimport log_fast


cdef inline void log_bases(const double* squares, Py_ssize_t n_values, double dof, double* logs_out) noexcept nogil:
    """Write - log w = dof log(1 + x^2 / dof), in loops that are short enough for compilers to vectorise them.

    Where x^2 / dof is small, the logarithm is its Taylor series, whose remainder is below 2e-16 of it.
    """
    cdef Py_ssize_t j
    cdef double ratio, series, limit = 1.0 / 1024, inverse = 1 / dof
    for j in range(n_values):
        logs_out[j] = log_fast(min(1 + squares[j] * inverse, 1e300))
    for j in range(n_values):
        ratio = squares[j] * inverse
        series = ratio * (1 - ratio * (1.0 / 2 - ratio * (1.0 / 3 - ratio * (1.0 / 4 - ratio * (1.0 / 5)))))
        logs_out[j] = dof * (series if ratio < limit else logs_out[j])


cdef inline void raise_bases(const double* squares, Py_ssize_t n_values, double dof,
                             double* weights_out) noexcept nogil:
    """Write w = (1 + x^2 / dof)^-dof."""
    cdef Py_ssize_t j
    cdef double exponent
    log_bases(squares, n_values, dof, weights_out)
    for j in range(n_values):
        exponent = weights_out[j]
        weights_out[j] = exp_negative(min(exponent, 708.0)) * (1.0 if exponent < 708 else 0.0)


cdef inline double squared_scale(double squared, double dof) noexcept nogil:
    """Return the square of the length over which the kernel changes by a factor, at a squared distance x^2.

    Up to dof = 1 this is about the distance to the kernel's poles, x^2 + dof / 2. Above, derivatives grow with dof
    faster than the poles move away. At x = 0 the second derivative of the force gives dof / (dof + 1). Far away the
    slope of its logarithm, 2 (dof + 1) x / (dof + x^2), gives the length. The formula joins the two, and is
    x^2 + 1 / (x^2 + 2) at dof = 1.
    """
    if dof <= 1:
        return squared + dof / 2
    return 4 * ((dof + squared) / (dof + 1)) ** 2 / (squared + 4 * dof / (dof + 1))


cdef inline double least_scale(double dof) noexcept nogil:
    """Return the least squared scale up to a distance of 3, beyond which kernels without tails have vanished."""
    return min(squared_scale(0, dof), squared_scale(9, dof))
