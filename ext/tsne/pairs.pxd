"""Header-only: the repulsion of one point by a list of sources, in loops of unit stride."""

from cython cimport floating

from tsne.kernels cimport raise_bases

cdef enum:
    MOST_SOURCES = 2048  # of add_sources_general


cdef inline void add_sources(
    const floating* sources, Py_ssize_t stride, Py_ssize_t n_sources,  # IN: a row a component, then masses and spreads
    const floating* point,                                             # IN: n_components
    int n_components, bint massive,                                    # literals; not massive: sources are points
    double* sums,                                                      # IN/OUT: forces, then the sum of w
) noexcept nogil:
    """Add sum_j f_j and sum_j u_j at dof = 1, where a point adds f = w^2 (y - y_j) and u = w = 1 / (1 + |y - y_j|^2).

    A cell of mass m adds u = m w + s (Laplacian of w) and f = - grad u / 2, where the spread s is half the variance a
    component, times the mass. These are u = (m + s w (8 - 2 d - 8 w)) w and
    f = (m + s w (16 - 4 d - 24 w)) w^2 (y - y_j).
    """
    cdef Py_ssize_t j
    cdef floating one = 1, x = point[0], y = 0, z = 0, dx, dy = 0, dz = 0, squared, w, mass_w
    cdef floating fx = 0, fy = 0, fz = 0, sum_w = 0, mass, spread
    cdef floating first = 8 - 2 * n_components, second = 8, third = 16 - 4 * n_components, fourth = 24
    if n_components > 1:
        y = point[1]
    if n_components > 2:
        z = point[2]
    for j in range(n_sources):
        dx = x - sources[j]
        squared = one + dx * dx
        if n_components > 1:
            dy = y - sources[stride + j]
            squared = squared + dy * dy
        if n_components > 2:
            dz = z - sources[2 * stride + j]
            squared = squared + dz * dz
        w = one / squared
        if massive:
            mass = sources[n_components * stride + j]
            spread = sources[(n_components + 1) * stride + j] * w
            sum_w += w * (mass + spread * (first - second * w))
            mass_w = w * w * (mass + spread * (third - fourth * w))
        else:
            sum_w += w
            mass_w = w * w
        fx += mass_w * dx
        if n_components > 1:
            fy += mass_w * dy
        if n_components > 2:
            fz += mass_w * dz
    sums[0] += fx
    if n_components > 1:
        sums[1] += fy
    if n_components > 2:
        sums[2] += fz
    sums[n_components] += sum_w


cdef inline void add_sources_general(
    const floating* sources, Py_ssize_t stride, Py_ssize_t n_sources,  # IN: as above; at most MOST_SOURCES
    const floating* point, Py_ssize_t point_stride,                    # IN: elements from one component to the next
    int n_components, bint massive, double dof,
    double* sums,                                                      # IN/OUT: forces, sum of u, mass at distance 0
) noexcept nogil:
    """Add to the forces f = sum_j - grad u_j / 2 and to the sum of u_j, where with p = 1 / (1 + x^2 / dof)

        u = p^dof (m + s p (4 (dof + 1) (1 - p) - 2 d)).

    This is the mass times w, and half the spread times the Laplacian of w: the spread s is stored halved. Where a
    source is a point at distance 0, its mass is added to the last of the sums instead. With
    dof (1 - p) = p x^2, no difference of nearly equal numbers is taken, however large dof is.
    """
    cdef Py_ssize_t j, k
    cdef double[MOST_SOURCES] squares
    cdef double[MOST_SOURCES] weights
    cdef double delta, p, mass = 1, spread = 0, bend, moved, sum_w = 0, coincident = 0, force
    cdef double first = (dof + 1) / dof, twice = 2 * n_components
    for j in range(n_sources):
        squares[j] = 0
    for k in range(n_components):
        for j in range(n_sources):
            delta = <double>point[k * point_stride] - sources[k * stride + j]
            squares[j] += delta * delta
    raise_bases(squares, n_sources, dof, weights)
    for j in range(n_sources):
        p = dof / (dof + squares[j])
        bend = 4 * first * p * squares[j]
        if massive:
            mass = sources[n_components * stride + j]
            spread = sources[(n_components + 1) * stride + j] * p
        moved = 0 if squares[j] == 0 and spread == 0 else mass
        coincident += mass - moved
        sum_w += weights[j] * (moved + spread * (bend - twice))
        weights[j] *= p * (mass + spread * first * (bend - 4 * p - twice))
    for k in range(n_components):
        force = 0
        for j in range(n_sources):
            force += weights[j] * (<double>point[k * point_stride] - sources[k * stride + j])
        sums[k] += force
    sums[n_components] += sum_w
    sums[n_components + 1] += coincident
