"""Header-only: B-splines on a grid, and the slope of a potential that is given by them."""

from cython cimport floating
from libc.math cimport floor

cdef enum:
    MAX_ORDER = 6


cdef inline Py_ssize_t spline_weights(double position, int order, double* weights, double* slopes) noexcept nogil:
    """Return the first node under the cardinal B-spline of ``order`` centred at ``position``, and its values.

    De Boor's recurrence, from order 1 up: M_n(x) = (x M_{n-1}(x) + (n - x) M_{n-1}(x - 1)) / (n - 1), and
    M_n'(x) = M_{n-1}(x) - M_{n-1}(x - 1) (Essmann et al. 1995, eqs. 4.1 and 4.2). By symmetry node first + j
    sees M_n(j + t), t in (0, 1] the distance from the spline's left end to the first node.
    """
    cdef double first = floor(position - 0.5 * order) + 1
    cdef double t = first - (position - 0.5 * order)
    cdef int n, j
    weights[0] = 1
    for n in range(2, order + 1):
        if n == order:
            slopes[0] = -weights[0]
            for j in range(1, order - 1):
                slopes[j] = weights[j - 1] - weights[j]
            slopes[order - 1] = weights[order - 2]
        weights[n - 1] = (1 - t) * weights[n - 2] / (n - 1)
        for j in range(n - 2, 0, -1):
            weights[j] = ((j + t) * weights[j] + (n - j - t) * weights[j - 1]) / (n - 1)
        weights[0] = t * weights[0] / (n - 1)
    return <Py_ssize_t>first


cdef inline double grid_position(floating coordinate, double low, double inverse_spacing, int order) noexcept nogil:
    """Return a coordinate in grid spacings; the splines of the lowest point, at ``low``, begin at node 1."""
    return (coordinate - low) * inverse_spacing + 0.5 * (order + 1)


cdef inline double gather_point(
    const floating* point, const double* low, double inverse_spacing, int order, int n_components,  # literals
    const floating* grid, Py_ssize_t row_stride, Py_ssize_t plane_stride, floating* force_out,
) noexcept nogil:
    """Write half the downhill slope of the potential; return the potential."""
    cdef double[3][MAX_ORDER] weights
    cdef double[3][MAX_ORDER] slopes
    cdef Py_ssize_t[3] first
    cdef double along, slope, potential = 0, plane = 0, plane_y = 0, plane_z = 0, fx = 0, fy = 0, fz = 0
    cdef double half = -0.5 * inverse_spacing
    cdef int k, a, b, c
    cdef const floating* row
    for k in range(n_components):
        first[k] = spline_weights(grid_position(point[k], low[k], inverse_spacing, order), order, weights[k], slopes[k])
    if n_components == 1:
        row = grid + first[0]
        for c in range(order):
            potential += weights[0][c] * row[c]
            fx += slopes[0][c] * row[c]
        force_out[0] = <floating>(half * fx)
    elif n_components == 2:
        for b in range(order):
            row = grid + (first[0] + b) * row_stride + first[1]
            along = 0
            slope = 0
            for c in range(order):
                along = along + weights[1][c] * row[c]
                slope = slope + slopes[1][c] * row[c]
            potential += weights[0][b] * along
            fx += slopes[0][b] * along
            fy += weights[0][b] * slope
        force_out[0] = <floating>(half * fx)
        force_out[1] = <floating>(half * fy)
    else:
        for a in range(order):
            plane = 0
            plane_y = 0
            plane_z = 0
            for b in range(order):
                row = grid + (first[0] + a) * plane_stride + (first[1] + b) * row_stride + first[2]
                along = 0
                slope = 0
                for c in range(order):
                    along = along + weights[2][c] * row[c]
                    slope = slope + slopes[2][c] * row[c]
                plane = plane + weights[1][b] * along
                plane_y = plane_y + slopes[1][b] * along
                plane_z = plane_z + weights[1][b] * slope
            potential += weights[0][a] * plane
            fx += slopes[0][a] * plane
            fy += weights[0][a] * plane_y
            fz += weights[0][a] * plane_z
        force_out[0] = <floating>(half * fx)
        force_out[1] = <floating>(half * fy)
        force_out[2] = <floating>(half * fz)
    return potential
