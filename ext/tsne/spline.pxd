"""Header-only: B-splines on a grid, and the slope of a potential that they give."""

from cython cimport floating
from libc.math cimport floor

cdef enum:
    MAX_ORDER = 6


cdef inline Py_ssize_t spline_weights(double position, int order, double* weights, double* slopes) noexcept nogil:
    """Return the first node under the cardinal B-spline of ``order`` centred at ``position``.

    Write the values of the spline at the nodes, and its slopes, by de Boor's recurrence from order 1 up:
    M_n(x) = (x M_{n-1}(x) + (n - x) M_{n-1}(x - 1)) / (n - 1) and M_n'(x) = M_{n-1}(x) - M_{n-1}(x - 1) (Essmann et
    al. 1995, eqs. 4.1 and 4.2). By symmetry the value at node first + j is M_n(j + t), where t in (0, 1] is the
    distance from the left end of the spline to the first node.
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


cdef inline double grid_position(double coordinate, double low, double inverse_spacing, int order) noexcept nogil:
    """Return a coordinate in grid spacings; the splines of the lowest point, at ``low``, begin at node 1."""
    return (coordinate - low) * inverse_spacing + 0.5 * (order + 1)


cdef inline void add_rows(
    const floating* weights, const floating* slopes, int order, int n_components,  # as in gather_point
    const floating* nodes, Py_ssize_t row_stride, Py_ssize_t plane_stride,
    floating* rows_out,
) noexcept nogil:
    """Add up the rows of the grid under a point, weighted by the splines of all components but the last.

    Row 0 is the sum by their values. Row k is the sum with the slope in place of the value in the k-th component.
    """
    cdef const floating* row
    cdef floating outer, outer_a, outer_b
    cdef int a, b, c, k
    for k in range(n_components):
        for c in range(order):
            rows_out[k * MAX_ORDER + c] = 0
    if n_components == 1:
        for c in range(order):
            rows_out[c] = nodes[c]
    elif n_components == 2:
        for b in range(order):
            row = nodes + b * row_stride
            for c in range(order):
                rows_out[c] += weights[b] * row[c]
                rows_out[MAX_ORDER + c] += slopes[b] * row[c]
    else:
        for a in range(order):
            for b in range(order):
                row = nodes + a * plane_stride + b * row_stride
                outer = weights[a] * weights[MAX_ORDER + b]
                outer_a = slopes[a] * weights[MAX_ORDER + b]
                outer_b = weights[a] * slopes[MAX_ORDER + b]
                for c in range(order):
                    rows_out[c] += outer * row[c]
                    rows_out[MAX_ORDER + c] += outer_a * row[c]
                    rows_out[2 * MAX_ORDER + c] += outer_b * row[c]


cdef inline double gather_point(
    const floating* weights, const floating* slopes,  # IN: values and slopes of the splines: MAX_ORDER a component
    int order, int n_components,                      # IN: literals where it is called
    const floating* nodes,                            # IN: the grid, from the first node under the point
    Py_ssize_t row_stride, Py_ssize_t plane_stride,   # IN: of the grid
    floating half,                                    # IN: - 1 / 2, divided by the spacing
    floating* force_out,                              # OUT
) noexcept nogil:
    """Write half the downhill slope of the potential; return the potential.

    Rows are added up before the last component is: one row of the grid is one vector.
    """
    cdef floating[3 * MAX_ORDER] rows
    cdef floating potential = 0, force
    cdef int c, k, last = n_components - 1
    add_rows(weights, slopes, order, n_components, nodes, row_stride, plane_stride, rows)
    for c in range(order):
        potential += weights[last * MAX_ORDER + c] * rows[c]
    for k in range(last):
        force = 0
        for c in range(order):
            force += weights[last * MAX_ORDER + c] * rows[(k + 1) * MAX_ORDER + c]
        force_out[k] = half * force
    force = 0
    for c in range(order):
        force += slopes[last * MAX_ORDER + c] * rows[c]
    force_out[last] = half * force
    return potential
