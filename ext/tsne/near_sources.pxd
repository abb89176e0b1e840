"""Header-only: the list of near sources of a group of points, which are evaluated one by one at every point."""

from cython cimport floating

from tsne.nodes cimport GROUP, LEAF
from tsne.pairs cimport add_sources, add_sources_general
from tsne.sources cimport LANES, NEAR, Sources

cdef extern from "tsne/near_sources.h":
    enum: KB_VECTORS
    void kb_add_sources_float_1(const float* sources, Py_ssize_t stride, Py_ssize_t n_sources, const float* points,
                                Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                                ) noexcept nogil
    void kb_add_sources_float_2(const float* sources, Py_ssize_t stride, Py_ssize_t n_sources, const float* points,
                                Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                                ) noexcept nogil
    void kb_add_sources_float_3(const float* sources, Py_ssize_t stride, Py_ssize_t n_sources, const float* points,
                                Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                                ) noexcept nogil
    void kb_add_sources_double_1(const double* sources, Py_ssize_t stride, Py_ssize_t n_sources, const double* points,
                                 Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                                 ) noexcept nogil
    void kb_add_sources_double_2(const double* sources, Py_ssize_t stride, Py_ssize_t n_sources, const double* points,
                                 Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                                 ) noexcept nogil
    void kb_add_sources_double_3(const double* sources, Py_ssize_t stride, Py_ssize_t n_sources, const double* points,
                                 Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                                 ) noexcept nogil


cdef inline void bound_group(const floating* points, Py_ssize_t stride, Py_ssize_t n_points, int n_components,
                             floating* middle_out, floating* half_out) noexcept nogil:
    """Write the middle of the bounding box of points, which are a row a component, and half its sides."""
    cdef floating[LANES] low
    cdef floating[LANES] high
    cdef const floating* column
    cdef Py_ssize_t i, j, k
    for k in range(n_components):
        column = points + k * stride
        for j in range(LANES):
            low[j] = high[j] = column[min(j, n_points - 1)]
        i = LANES
        while i < n_points:  # the last vector overlaps the one before
            for j in range(LANES):
                low[j] = min(low[j], column[min(i, n_points - LANES) + j])
                high[j] = max(high[j], column[min(i, n_points - LANES) + j])
            i += LANES
        for j in range(1, LANES):
            low[0] = min(low[0], low[j])
            high[0] = max(high[0], high[j])
        middle_out[k] = low[0] + (high[0] - low[0]) / 2
        half_out[k] = (high[0] - low[0]) / 2


cdef inline void list_points(const floating* points, Py_ssize_t stride, const floating* masses, Py_ssize_t n_points,
                             int n_components, Sources* near) noexcept nogil:
    """Append the points of a leaf as sources: LEAF of them are copied always, and n_points of them are counted.

    Without masses, which may be NULL, each has a mass of 1.
    """
    cdef Py_ssize_t i, k
    cdef floating* rows = <floating*>near.rows + near.n
    for k in range(n_components):
        for i in range(LEAF):
            rows[k * NEAR + i] = points[k * stride + i]
    for i in range(LEAF):
        rows[n_components * NEAR + i] = 1
        rows[(n_components + 1) * NEAR + i] = 0
    if masses != NULL:
        for i in range(LEAF):
            rows[n_components * NEAR + i] = masses[i]
    near.n += n_points


cdef inline void evaluate_vectors(
    Sources* near,                                                   # IN: their spreads are overwritten
    const floating* points, Py_ssize_t stride, Py_ssize_t n_points,  # IN: a row a component
    int n_components,
    double* sums,                                                    # IN/OUT: rows of GROUP: forces, potentials
) noexcept nogil:
    """Add the forces and potentials of the listed sources at dof = 1, by whole vectors of points.

    Four multiples of the spreads replace them first.
    """
    cdef Py_ssize_t i, n_sources = near.n
    cdef floating* sources = <floating*>near.rows
    cdef floating* spreads = sources + (n_components + 1) * NEAR
    cdef floating spread, first = 8 - 2 * n_components, second = 8
    for i in range(n_sources):
        spread = spreads[i]
        spreads[i] = first * spread
        spreads[NEAR + i] = second * spread
        spreads[2 * NEAR + i] = 2 * first * spread
        spreads[3 * NEAR + i] = 3 * second * spread
    if floating is float:
        if n_components == 2:
            kb_add_sources_float_2(sources, NEAR, n_sources, points, stride, n_points, sums, GROUP)
        elif n_components == 1:
            kb_add_sources_float_1(sources, NEAR, n_sources, points, stride, n_points, sums, GROUP)
        else:
            kb_add_sources_float_3(sources, NEAR, n_sources, points, stride, n_points, sums, GROUP)
    else:
        if n_components == 2:
            kb_add_sources_double_2(sources, NEAR, n_sources, points, stride, n_points, sums, GROUP)
        elif n_components == 1:
            kb_add_sources_double_1(sources, NEAR, n_sources, points, stride, n_points, sums, GROUP)
        else:
            kb_add_sources_double_3(sources, NEAR, n_sources, points, stride, n_points, sums, GROUP)


cdef inline void evaluate_points(
    Sources* near,                                                   # IN: sources are appended to fill a vector
    const floating* points, Py_ssize_t stride, Py_ssize_t n_points,  # IN: a row a component
    int n_components, double dof,
    bint careful,                                                    # IN: as in Walk
    double* sums,                                                    # IN/OUT: rows of GROUP, as in repel_group
) noexcept nogil:
    """Add the forces and potentials of the listed sources at any dof, by whole vectors of sources."""
    cdef Py_ssize_t i
    cdef int k
    cdef floating* sources = <floating*>near.rows
    cdef floating[3] point
    cdef double[5] result
    while near.n % LANES != 0:  # sources without mass fill the last vector: no loop has a remainder
        for k in range(n_components):
            sources[k * NEAR + near.n] = sources[k * NEAR]
        sources[n_components * NEAR + near.n] = 0
        sources[(n_components + 1) * NEAR + near.n] = 0
        near.n += 1
    for i in range(n_points):
        for k in range(n_components + 2):
            result[k] = 0
        for k in range(n_components):
            point[k] = points[k * stride + i]
        if careful:
            add_sources_general(sources, NEAR, near.n, point, 1, n_components, True, dof, result)
        else:
            add_sources(sources, NEAR, near.n, point, n_components, True, result)
        for k in range(n_components + 2):
            sums[k * GROUP + i] += result[k]
