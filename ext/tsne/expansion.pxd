"""Header-only: the Taylor expansion of the potential of far sources, to third order, about the centre of a target.

It is an array of the potential u, the force f = - grad u / 2 and the first and second derivatives of the force: 1, d,
d^2 and d^3 numbers for d components.
"""

from cython cimport floating

from tsne.kernels cimport raise_bases
from tsne.nodes cimport GROUP
from tsne.sources cimport FAR, LANES, Sources

cdef enum:
    TERMS = 40         # of an expansion in three components: 1 + 3 + 9 + 27


cdef inline void pad_sources(const floating* centre, Sources* far, int n_components) noexcept nogil:
    """Fill the last vector with sources without mass, so that no loop over the sources has a remainder."""
    cdef int k
    cdef floating* rows = <floating*>far.rows
    while far.n % LANES != 0:
        for k in range(n_components):
            rows[k * FAR + far.n] = centre[k]
        rows[n_components * FAR + far.n] = 0
        rows[(n_components + 1) * FAR + far.n] = 0
        far.n += 1


cdef inline void weigh_sources(
    const floating* centre,  # IN: of the target
    floating* rows,          # IN/OUT: components, masses and spreads; OUT: three more
    Py_ssize_t n_far, int n_components,
    double* local,           # IN/OUT: u, and the multiple of the unit matrix in the derivative of f
) noexcept nogil:
    """Overwrite the components by x, the way from source to centre, masses by g, spreads by h and the last row by k.

    This is `weigh_sources_general` at dof = 1, in the precision of the positions.
    """
    cdef Py_ssize_t j
    cdef int i
    cdef floating* masses = rows + n_components * FAR
    cdef floating* spreads = masses + FAR
    cdef floating* squares = spreads + FAR
    cdef floating* p = squares + FAR
    cdef floating* w = p + FAR
    cdef floating first = <floating>(8 - 2 * n_components), second = 8
    cdef floating c1 = 2, c2 = 3, c3 = 4, c4 = 5
    cdef floating m, s, sum_u = 0, sum_f = 0, one = 1, two = 2, four = 4
    for j in range(n_far):
        squares[j] = 0
    for i in range(n_components):
        for j in range(n_far):
            rows[i * FAR + j] = centre[i] - rows[i * FAR + j]
            squares[j] += rows[i * FAR + j] * rows[i * FAR + j]
    for j in range(n_far):
        p[j] = one / (one + squares[j])
        w[j] = p[j]
    for j in range(n_far):
        m = masses[j]
        s = spreads[j] * p[j]
        sum_u += w[j] * (m + s * (first - second * p[j]))
        w[j] *= p[j]
        masses[j] = w[j] * (m + s * (c1 * first - c2 * second * p[j]))
        sum_f += masses[j]
        w[j] *= p[j]
        spreads[j] = two * c1 * w[j] * m + two * c2 * w[j] * s * (c1 * first - c3 * second * p[j])
        w[j] *= four * c2 * p[j] * (c1 * m + c3 * s * (c1 * first - c4 * second * p[j]))
    local[0] += sum_u
    for i in range(n_components):
        local[1 + n_components + i * n_components + i] += sum_f


cdef inline void weigh_sources_general(
    const floating* centre, floating* rows, Py_ssize_t n_far, int n_components, double dof, double* local,
) noexcept nogil:
    """Overwrite the components by x, the way from source to centre, masses by g, spreads by h and the last row by k.

    A source of mass m and spread s adds u = m p^dof + s (Laplacian of p^dof), where p = 1 / (1 + x^2 / dof). It depends
    on x^2 alone, so f = g x with g = - du / d(x^2), and the derivatives follow with h = - 2 dg / d(x^2) and
    k = - 2 dh / d(x^2). As in `add_sources_general`, p x^2 takes the place of dof (1 - p).
    """
    cdef Py_ssize_t j
    cdef int i
    cdef floating* masses = rows + n_components * FAR
    cdef floating* spreads = masses + FAR
    cdef floating* third = spreads + 3 * FAR
    cdef double[FAR] squares
    cdef double[FAR] weights
    cdef double c1 = (dof + 1) / dof, c2 = (dof + 2) / dof, c3 = (dof + 3) / dof, twice = 2 * n_components
    cdef double p, w, m, s, bend, g, sum_u = 0, sum_f = 0
    for j in range(n_far):
        squares[j] = 0
    for i in range(n_components):
        for j in range(n_far):
            rows[i * FAR + j] = centre[i] - rows[i * FAR + j]
            squares[j] += <double>rows[i * FAR + j] * rows[i * FAR + j]
    raise_bases(squares, n_far, dof, weights)
    for j in range(n_far):
        p = dof / (dof + squares[j])
        m = masses[j]
        s = spreads[j] * p
        bend = 4 * c1 * p * squares[j] - twice
        w = weights[j]
        sum_u += w * (m + s * bend)
        w *= p
        g = w * (m + c1 * s * (bend - 4 * p))
        masses[j] = <floating>g
        sum_f += g
        w *= 2 * p * c1
        spreads[j] = <floating>(w * (m + c2 * s * (bend - 8 * p)))
        w *= 2 * p * c2
        third[j] = <floating>(w * (m + c3 * s * (bend - 12 * p)))
    local[0] += sum_u
    for i in range(n_components):
        local[1 + n_components + i * n_components + i] += sum_f


cdef inline void add_derivatives(floating* rows, Py_ssize_t n_far, int n_components, double* local) noexcept nogil:
    """Add f = g x, f' = g I - h x x and f'' = - h (I x + 2 permutations) + k x x x, but for g I, which is there."""
    cdef Py_ssize_t j
    cdef int i, k, l, d = n_components
    cdef floating* g = rows + d * FAR
    cdef floating* h = g + FAR
    cdef floating* products = h + FAR
    cdef floating* third = products + 2 * FAR
    cdef floating total
    cdef double* slopes = local + 1 + d
    cdef double* curves = slopes + d * d
    for i in range(d):
        total = 0
        for j in range(n_far):
            total += g[j] * rows[i * FAR + j]
        local[1 + i] += total
        total = 0
        for j in range(n_far):
            total += h[j] * rows[i * FAR + j]
        for k in range(d):
            curves[(i * d + k) * d + k] -= total
            curves[(k * d + i) * d + k] -= total
            curves[(k * d + k) * d + i] -= total
        for k in range(i, d):
            total = 0
            for j in range(n_far):
                products[j] = rows[i * FAR + j] * rows[k * FAR + j]
                total += h[j] * products[j]
            slopes[i * d + k] -= total
            if k > i:
                slopes[k * d + i] -= total
            for l in range(d):
                total = 0
                for j in range(n_far):
                    total += third[j] * products[j] * rows[l * FAR + j]
                curves[(i * d + k) * d + l] += total
                if k > i:
                    curves[(k * d + i) * d + l] += total


cdef inline void expand_sources(const floating* centre, Sources* far, int n_components, double dof,
                                double* local) noexcept nogil:
    """Add the far sources to the expansion of a target, and empty their list."""
    pad_sources(centre, far, n_components)
    if dof == 1:
        weigh_sources(centre, <floating*>far.rows, far.n, n_components, local)
    else:
        weigh_sources_general(centre, <floating*>far.rows, far.n, n_components, dof, local)
    add_derivatives(<floating*>far.rows, far.n, n_components, local)
    far.n = 0


cdef inline void shift_expansion(const double* local, const double* step, int n_components,
                                 double* shifted_out) noexcept nogil:
    """Write the same expansion about a point that is a step away."""
    cdef int i, k, l, d = n_components
    cdef double slope, curve, value = local[0], bend
    cdef const double* first = local + 1 + d
    cdef const double* second = first + d * d
    for i in range(d):
        slope = 0
        curve = 0
        for k in range(d):
            bend = 0
            for l in range(d):
                bend += second[(i * d + k) * d + l] * step[l]
                shifted_out[1 + d + d * d + (i * d + k) * d + l] = second[(i * d + k) * d + l]
            shifted_out[1 + d + i * d + k] = first[i * d + k] + bend
            slope += first[i * d + k] * step[k]
            curve += bend * step[k]
        shifted_out[1 + i] = local[1 + i] + slope + curve / 2
        value -= step[i] * (2 * local[1 + i] + slope + curve / 3)
    shifted_out[0] = value


cdef inline void evaluate_expansion(
    const double* local, const floating* centre,               # IN
    const floating* points, Py_ssize_t stride, Py_ssize_t n_points,  # IN: a row a component
    int n_components,
    double* sums_out,                                          # OUT: rows of GROUP: forces, potentials
) noexcept nogil:
    """Write forces and potentials at points, in loops over the points, which vectorise."""
    cdef double[3 * GROUP] steps
    cdef double x, y, z, slope, curve
    cdef double* potentials = sums_out + n_components * GROUP
    cdef const double* first = local + 1 + n_components
    cdef const double* second = first + n_components * n_components
    cdef Py_ssize_t i
    cdef int k, d = n_components
    for k in range(d):
        for i in range(n_points):
            steps[k * GROUP + i] = <double>points[k * stride + i] - <double>centre[k]
    for i in range(n_points):
        potentials[i] = local[0]
    for k in range(d):
        for i in range(n_points):
            x = steps[i]
            slope = first[k * d] * x
            curve = second[k * d * d] * x * x
            if d > 1:
                y = steps[GROUP + i]
                slope += first[k * d + 1] * y
                curve += (2 * second[k * d * d + 1] * x + second[k * d * d + d + 1] * y) * y
            if d > 2:
                z = steps[2 * GROUP + i]
                slope += first[k * d + 2] * z
                curve += (2 * second[k * d * d + 2] * x + 2 * second[k * d * d + d + 2] * y
                          + second[k * d * d + 2 * d + 2] * z) * z
            sums_out[k * GROUP + i] = local[1 + k] + slope + curve * 0.5
            potentials[i] -= steps[k * GROUP + i] * (2 * local[1 + k] + slope + curve * (1.0 / 3))
