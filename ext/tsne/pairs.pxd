"""Header-only: the repulsion of one point by a list of sources at dof = 1, in loops of unit stride."""

from cython cimport floating


cdef inline void add_sources(
    const floating* sources, Py_ssize_t stride, Py_ssize_t n_sources,  # IN: a row a component, then masses and spreads
    const floating* point,                                             # IN: n_components
    int n_components, bint massive,                                    # literals; not massive: sources are points
    double* sums,                                                      # IN/OUT: forces, then the sum of w
) noexcept nogil:
    """Add sum_j f_j and sum_j u_j, where a point adds f = w^2 (y - y_j) and u = w = 1 / (1 + |y - y_j|^2).

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
