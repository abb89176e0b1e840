"""Header-only: the Taylor expansion of the potential of far sources, to third order, about the centre of a target.

It is an array of the potential u, the force f = - grad u / 2 and the first and second derivatives of the force: 1, d,
d^2 and d^3 numbers for d components.
"""

from cython cimport floating

from common.exp_log cimport log_fast
from common.exp cimport exp_negative
from tsne.nodes cimport GROUP
from tsne.sources cimport FAR, LANES, Sources

cdef enum:
    TERMS = 40         # of an expansion in three components: 1 + 3 + 9 + 27


cdef inline void raise_bases(const double* bases, Py_ssize_t n_sources, double dof, double* weights_out) noexcept nogil:
    """Write base^-dof, in loops that are short enough for compilers to vectorise them."""
    cdef Py_ssize_t j
    for j in range(n_sources):
        weights_out[j] = min(bases[j], 1e300)
    for j in range(n_sources):
        weights_out[j] = dof * log_fast(weights_out[j])
    for j in range(n_sources):
        weights_out[j] = min(weights_out[j], 708.0)
    for j in range(n_sources):
        weights_out[j] = exp_negative(weights_out[j])


cdef inline void weigh_squares(const floating* squares, Py_ssize_t n_sources, double dof, floating* inverses_out,
                               floating* weights_out) noexcept nogil:
    """Write p = 1 / (1 + d^2 / dof) and w = p^dof for up to FAR squared distances d^2."""
    cdef Py_ssize_t j
    cdef floating one = 1
    cdef double[FAR] bases
    cdef double[FAR] weights
    if dof == 1:
        for j in range(n_sources):
            inverses_out[j] = one / (one + squares[j])
            weights_out[j] = inverses_out[j]
        return
    for j in range(n_sources):
        bases[j] = 1 + <double>squares[j] / dof
        inverses_out[j] = <floating>(1 / bases[j])
    raise_bases(bases, n_sources, dof, weights)
    for j in range(n_sources):
        weights_out[j] = <floating>weights[j]


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
    Py_ssize_t n_far, int n_components, double dof,
    double* local,           # IN/OUT: u, and the multiple of the unit matrix in the derivative of f
) noexcept nogil:
    """Overwrite the components by x, the way from source to centre, masses by g, spreads by h and the last row by k.

    A source of mass m and spread s adds u = m b^-dof + s (Laplacian of b^-dof), where b = 1 + x^2 / dof. It depends on
    x^2 alone, so f = g x, and the derivatives follow with h = - (2 / dof) dg/db and k = - (2 / dof) dh/db.
    """
    cdef Py_ssize_t j
    cdef int i
    cdef floating* masses = rows + n_components * FAR
    cdef floating* spreads = masses + FAR
    cdef floating* squares = spreads + FAR
    cdef floating* p = squares + FAR
    cdef floating* w = p + FAR
    cdef floating first = <floating>(4 * (dof + 1) - 2 * n_components), second = <floating>(4 * (dof + 1))
    cdef floating c1 = <floating>((dof + 1) / dof), c2 = <floating>((dof + 2) / dof)
    cdef floating c3 = <floating>((dof + 3) / dof), c4 = <floating>((dof + 4) / dof)
    cdef floating m, s, sum_u = 0, sum_f = 0, two = 2, four = 4
    for j in range(n_far):
        squares[j] = 0
    for i in range(n_components):
        for j in range(n_far):
            rows[i * FAR + j] = centre[i] - rows[i * FAR + j]
            squares[j] += rows[i * FAR + j] * rows[i * FAR + j]
    weigh_squares(squares, n_far, dof, p, w)
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
    weigh_sources(centre, <floating*>far.rows, far.n, n_components, dof, local)
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
