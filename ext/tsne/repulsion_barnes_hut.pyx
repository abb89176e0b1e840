"""Barnes-Hut repulsion of t-SNE in one, two or three dimensions: the walk through the tree.

Barnes and Hut (1986) replace far cells of points by their centre of mass; van der Maaten (2014) brought that to
t-SNE. Here a cell also has a *spread*, its mean squared radius: the kernel is averaged over a ball instead of taken
at the centre. And as in Dehnen (2002) the points that feel it are taken together as well: the tree is walked from
its root as *targets*, each with the sources that were not settled further up.

A source of radius s is *far* from a target of radius t where s + t <= 0.84 theta * sqrt(distance^2 + dof / 2): w is smooth
on the scale of sqrt(dof) even at distance 0, so small cells need not be opened however near they are. Far sources go
into the target's Taylor expansion of the potential, to third order, which is handed on to its children. Of the rest,
those larger than the target are opened, the others kept for its children. Targets of up to ``GROUP`` points end
that: they accept a source as near as s <= theta * sqrt(distance^2 + dof / 2), the distance from their bounding box, or
s <= theta * sqrt(UNOPENED * dof / 2), and every point is evaluated against the list of these and of the points of
opened leaves. Both steps sort sources into lists, a vector at a time (walk.h).

No target is ever tested against a cell that it is a part of, but a group against itself. So every point meets itself
once, with w = 1 and no force, or within a cell that is small against the kernel; the n self terms come off at the end.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int32_t

from common.exp_log cimport log_fast
from common.exp cimport exp_negative
from tsne.pairs cimport meet_sources
from tsne.nodes cimport CAUTION, GROUP, LEAF, STACK, UNOPENED

cdef extern from *:
    """
    /* the walk is compiled once for each number of components: all that gets it as a literal must be inlined */
    #if defined(__GNUC__)
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #define KULLBACK_FETCH(pointer) __builtin_prefetch(pointer, 1)
    #else
    #define KULLBACK_FETCH(pointer)
    #endif
    """
    void fetch "KULLBACK_FETCH"(const void* pointer) noexcept nogil

cdef extern from "tsne/walk.h":
    enum: KB_VECTORS
    void kb_number_lanes() noexcept nogil
    void kb_sift_float(
        const float* rows, Py_ssize_t stride, const int32_t* names, Py_ssize_t n_sources, int n_components,
        const float* middle, const float* half, float radius, float most, float squared_theta, float softening,
        float least, float* accepted, Py_ssize_t accepted_stride, Py_ssize_t* n_accepted, int32_t* opened,
        Py_ssize_t* n_opened, float* kept, Py_ssize_t kept_stride, int32_t* kept_names, Py_ssize_t* n_kept
    ) noexcept nogil
    void kb_meet_float_1(const float* sources, Py_ssize_t stride, Py_ssize_t n_sources, const float* points,
                         Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                         ) noexcept nogil
    void kb_meet_float_2(const float* sources, Py_ssize_t stride, Py_ssize_t n_sources, const float* points,
                         Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                         ) noexcept nogil
    void kb_meet_float_3(const float* sources, Py_ssize_t stride, Py_ssize_t n_sources, const float* points,
                         Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                         ) noexcept nogil
    void kb_sift_double(
        const double* rows, Py_ssize_t stride, const int32_t* names, Py_ssize_t n_sources, int n_components,
        const double* middle, const double* half, double radius, double most, double squared_theta, double softening,
        double least, double* accepted, Py_ssize_t accepted_stride, Py_ssize_t* n_accepted, int32_t* opened,
        Py_ssize_t* n_opened, double* kept, Py_ssize_t kept_stride, int32_t* kept_names, Py_ssize_t* n_kept
    ) noexcept nogil
    void kb_meet_double_1(const double* sources, Py_ssize_t stride, Py_ssize_t n_sources, const double* points,
                         Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                         ) noexcept nogil
    void kb_meet_double_2(const double* sources, Py_ssize_t stride, Py_ssize_t n_sources, const double* points,
                         Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                         ) noexcept nogil
    void kb_meet_double_3(const double* sources, Py_ssize_t stride, Py_ssize_t n_sources, const double* points,
                         Py_ssize_t point_stride, Py_ssize_t n_points, double* sums, Py_ssize_t sum_stride
                         ) noexcept nogil

cdef enum:
    LIST = 2048        # near sources before they are evaluated and the list is emptied
    BLOCK = 128        # sources that are judged at a time
    FAR = 512          # far sources before they are expanded and the list is emptied
    LANES = 16         # of the widest vectors, which divide LIST and FAR
    TERMS = 40         # of an expansion: 1 + d + d^2 + d^3

LIST_SIZE = LIST
FAR_SIZE = FAR
N_TERMS = TERMS

kb_number_lanes()

cdef double LARGER = 1.5  # a source up to so many times as large as its target is left to the target's children


cdef void weigh_general(const double* bases, Py_ssize_t n_sources, double dof, double* weights_out) noexcept nogil:
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


cdef void weigh(const floating* squares, Py_ssize_t n_sources, double dof, floating* inverses_out,
                floating* weights_out) noexcept nogil:
    """Write p = 1 / (1 + d^2 / dof) and w = p^dof for up to FAR squared distances."""
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
    weigh_general(bases, n_sources, dof, weights)
    for j in range(n_sources):
        weights_out[j] = <floating>weights[j]


cdef void expand_sources(
    const floating* centre,     # IN: of the target
    floating* far,              # IN: rows of FAR: sources, their masses, spreads; three more are scratch
    Py_ssize_t n_far, int n_components, double dof,
    double* local,              # IN/OUT
) noexcept nogil:
    """Add sources to an expansion: potential u, force f = - grad u / 2 and its first and second derivatives.

    A source of mass m and spread s adds u = m b^-dof + s (Laplacian of b^-dof), b = 1 + x^2 / dof. That depends on x^2
    alone, so f = g x, f' = g I - h x x and f'' = - h (I x + 2 permutations) + k x x x, where h = - (2 / dof) dg/db and
    k = - (2 / dof) dh/db.
    """
    cdef Py_ssize_t j
    cdef int i, k, l, d = n_components
    cdef floating* masses = far + d * FAR
    cdef floating* spreads = masses + FAR
    cdef floating* squares = spreads + FAR
    cdef floating* p = squares + FAR
    cdef floating* w = p + FAR
    cdef floating first = <floating>(4 * (dof + 1) - 2 * d), second = <floating>(4 * (dof + 1))
    cdef floating c1 = <floating>((dof + 1) / dof), c2 = <floating>((dof + 2) / dof)
    cdef floating c3 = <floating>((dof + 3) / dof), c4 = <floating>((dof + 4) / dof)
    cdef floating m, s, total, sum_u = 0, sum_f = 0, two = 2, four = 4
    cdef double* slopes = local + 1 + d
    cdef double* curves = slopes + d * d
    while n_far % LANES != 0:  # massless sources fill the last vector: no loop has a remainder
        for k in range(d):
            far[k * FAR + n_far] = centre[k]
        far[d * FAR + n_far] = 0
        far[(d + 1) * FAR + n_far] = 0
        n_far += 1
    for j in range(n_far):
        squares[j] = 0
    for k in range(d):
        for j in range(n_far):
            far[k * FAR + j] = centre[k] - far[k * FAR + j]
            squares[j] += far[k * FAR + j] * far[k * FAR + j]
    weigh(squares, n_far, dof, p, w)
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
    for i in range(d):
        slopes[i * d + i] += sum_f
        total = 0
        for j in range(n_far):
            total += masses[j] * far[i * FAR + j]
        local[1 + i] += total
        total = 0
        for j in range(n_far):
            total += spreads[j] * far[i * FAR + j]
        for k in range(d):
            curves[(i * d + k) * d + k] -= total
            curves[(k * d + i) * d + k] -= total
            curves[(k * d + k) * d + i] -= total
        for k in range(i, d):
            total = 0
            for j in range(n_far):
                squares[j] = far[i * FAR + j] * far[k * FAR + j]
                total += spreads[j] * squares[j]
            slopes[i * d + k] -= total
            if k > i:
                slopes[k * d + i] -= total
            for l in range(d):
                total = 0
                for j in range(n_far):
                    total += w[j] * squares[j] * far[l * FAR + j]
                curves[(i * d + k) * d + l] += total
                if k > i:
                    curves[(k * d + i) * d + l] += total


cdef inline void shift_expansion(const double* local, const double* step, int d, double* moved_out) noexcept nogil:
    """Move the point that an expansion is about by a step."""
    cdef int i, k, l
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
                moved_out[1 + d + d * d + (i * d + k) * d + l] = second[(i * d + k) * d + l]
            moved_out[1 + d + i * d + k] = first[i * d + k] + bend
            slope += first[i * d + k] * step[k]
            curve += bend * step[k]
        moved_out[1 + i] = local[1 + i] + slope + curve / 2
        value -= step[i] * (2 * local[1 + i] + slope + curve / 3)
    moved_out[0] = value


cdef inline void evaluate_expansion(const double* local, const floating* columns, Py_ssize_t stride,
                                    const floating* centre, int d, Py_ssize_t start, Py_ssize_t end,
                                    double* sums) noexcept nogil:
    """Write forces and potential at points as rows of GROUP, in loops over points, which vectorise."""
    cdef double[3 * GROUP] steps
    cdef double x, y, z, slope, curve, value
    cdef double* potentials = sums + d * GROUP
    cdef const double* first = local + 1 + d
    cdef const double* second = first + d * d
    cdef Py_ssize_t i, n_points = end - start
    cdef int k
    for k in range(d):
        for i in range(n_points):
            steps[k * GROUP + i] = <double>columns[k * stride + start + i] - <double>centre[k]
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
            sums[k * GROUP + i] = local[1 + k] + slope + curve * 0.5
            potentials[i] -= steps[k * GROUP + i] * (2 * local[1 + k] + slope + curve * (1.0 / 3))


cdef inline void bound_group(const floating* columns, Py_ssize_t stride, Py_ssize_t n_points, int n_components,
                             floating* middle, floating* half) noexcept nogil:
    """Write the middle of the bounding box of points and its half sides."""
    cdef floating[LANES] low
    cdef floating[LANES] high
    cdef const floating* column
    cdef Py_ssize_t i, j, k
    for k in range(n_components):
        column = columns + k * stride
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
        middle[k] = low[0] + (high[0] - low[0]) / 2
        half[k] = (high[0] - low[0]) / 2


cdef void meet_general(const floating* sources, Py_ssize_t n_sources, const floating* point,
                       Py_ssize_t n_components, double dof, double* sums) noexcept nogil:
    """Add to the forces f = sum_j - grad u_j / 2 and to the sum of u_j, where with p = 1 / (1 + |y - y_j|^2 / dof)

        u = p^dof (m + s p (4 (dof + 1) (1 - p) - 2 d)),

    the mass times w and half the spread times the Laplacian of w: s is stored halved.
    """
    cdef Py_ssize_t j, k
    cdef double[LIST] bases
    cdef double[LIST] weights
    cdef double delta, sum_w = 0, force, p, mass, spread
    cdef double first = 4 * (dof + 1) - 2 * n_components, second = 4 * (dof + 1)
    for j in range(n_sources):
        bases[j] = 1
    for k in range(n_components):
        for j in range(n_sources):
            delta = <double>point[k] - sources[k * LIST + j]
            bases[j] += delta * delta / dof
    weigh_general(bases, n_sources, dof, weights)
    for j in range(n_sources):
        p = 1 / bases[j]
        mass = sources[n_components * LIST + j]
        spread = sources[(n_components + 1) * LIST + j] * p
        sum_w += weights[j] * (mass + spread * (first - second * p))
        weights[j] *= p * (mass + spread * (first * (dof + 1) - second * (dof + 2) * p) / dof)
    for k in range(n_components):
        force = 0
        for j in range(n_sources):
            force += weights[j] * (<double>point[k] - sources[k * LIST + j])
        sums[k] += force
    sums[n_components] += sum_w


cdef inline void evaluate_sources(floating* sources, Py_ssize_t n_sources, const floating* columns, Py_ssize_t stride,
                                  int n_components, double dof, Py_ssize_t start, Py_ssize_t end, double* sums
                                  ) noexcept nogil:
    cdef Py_ssize_t i
    cdef int k
    cdef floating[3] point
    cdef double[4] result
    if dof == 1 and KB_VECTORS:
        evaluate_vectors(sources, n_sources, columns + start, stride, n_components, end - start, sums)
        return
    while n_sources % LANES != 0:  # massless sources fill the last vector: no loop has a remainder
        for k in range(n_components):
            sources[k * LIST + n_sources] = sources[k * LIST]
        sources[n_components * LIST + n_sources] = 0
        sources[(n_components + 1) * LIST + n_sources] = 0
        n_sources += 1
    for i in range(end - start):
        for k in range(n_components + 1):
            result[k] = 0
        for k in range(n_components):
            point[k] = columns[k * stride + start + i]
        if dof == 1:
            meet_sources(sources, LIST, n_sources, point, n_components, True, result)
        else:
            meet_general(sources, n_sources, point, n_components, dof, result)
        for k in range(n_components + 1):
            sums[k * GROUP + i] += result[k]


cdef inline void evaluate_vectors(floating* sources, Py_ssize_t n_sources, const floating* points, Py_ssize_t stride,
                                  int n_components, Py_ssize_t n_points, double* sums) noexcept nogil:
    """Do so by whole vectors of points, at dof = 1; the factors of the spreads are multiplied out before."""
    cdef floating* spreads = sources + (n_components + 1) * LIST
    cdef floating spread, first = 8 - 2 * n_components, second = 8
    cdef Py_ssize_t i
    for i in range(n_sources):
        spread = spreads[i]
        spreads[i] = first * spread
        spreads[LIST + i] = second * spread
        spreads[2 * LIST + i] = 2 * first * spread
        spreads[3 * LIST + i] = 3 * second * spread
    if floating is float:
        if n_components == 2:
            kb_meet_float_2(sources, LIST, n_sources, points, stride, n_points, sums, GROUP)
        elif n_components == 1:
            kb_meet_float_1(sources, LIST, n_sources, points, stride, n_points, sums, GROUP)
        else:
            kb_meet_float_3(sources, LIST, n_sources, points, stride, n_points, sums, GROUP)
    else:
        if n_components == 2:
            kb_meet_double_2(sources, LIST, n_sources, points, stride, n_points, sums, GROUP)
        elif n_components == 1:
            kb_meet_double_1(sources, LIST, n_sources, points, stride, n_points, sums, GROUP)
        else:
            kb_meet_double_3(sources, LIST, n_sources, points, stride, n_points, sums, GROUP)


cdef inline void fetch_cells(const floating* cells, const int32_t* links, const int32_t* queue, Py_ssize_t n_cells,
                             int n_components, floating* block_out, int32_t* names_out) noexcept nogil:
    """Copy summaries of cells into rows of BLOCK; a cell without children is named by its complement."""
    cdef Py_ssize_t i, k, cell
    for i in range(n_cells):
        cell = queue[i]
        for k in range(n_components + 3):
            block_out[k * BLOCK + i] = cells[cell * (n_components + 3) + k]
        names_out[i] = <int32_t>(cell ^ -<Py_ssize_t>(links[cell * 4 + 1] == 0))


cdef inline Py_ssize_t open_cells(const int32_t* links, const int32_t* opened, Py_ssize_t n_opened, int n_components,
                                  int32_t* queue, Py_ssize_t n_queued) noexcept nogil:
    """Append the children of cells to a queue; return its new length."""
    cdef Py_ssize_t i, k
    for i in range(n_opened):
        for k in range(1 << n_components):  # more than it has, but the count says what stays
            queue[n_queued + k] = links[opened[i] * 4] + <int32_t>k
        n_queued += links[opened[i] * 4 + 1]
    return n_queued


cdef inline Py_ssize_t sift_sources(
    const floating* cells, const int32_t* links, Py_ssize_t target, int n_components, floating squared_theta,
    double dof, int32_t* queue, Py_ssize_t n_queued, floating* kept, int32_t* names, Py_ssize_t most_kept,
    Py_ssize_t first, Py_ssize_t last, floating* far, floating* block, int32_t* block_names,
    double* local,                                           # IN/OUT
) noexcept nogil:
    """Expand the far ones of the sources kept for a target and of those in the queue, and keep what is to be kept.

    Return the end of the kept ones, -1 if they are too many.
    """
    cdef const floating* centre = cells + target * (n_components + 3)
    cdef const floating* rows
    cdef const int32_t* row_names
    cdef floating[3] half
    cdef int32_t[BLOCK + LANES] opened
    cdef floating radius = centre[n_components + 2], most = <floating>LARGER * radius, softening = <floating>(dof / 2)
    cdef Py_ssize_t head = 0, k, n, row_stride, n_far = 0, n_opened, end = last
    for k in range(3):
        half[k] = 0
    while first < last or head < n_queued:
        if first < last:
            n = min(last - first, <Py_ssize_t>BLOCK)
            rows = kept + first
            row_names = names + first
            row_stride = most_kept
            first += n
        else:
            n = min(n_queued - head, <Py_ssize_t>BLOCK)
            fetch_cells(cells, links, queue + head, n, n_components, block, block_names)
            rows = block
            row_names = block_names
            row_stride = BLOCK
            head += n
        if end + BLOCK + LANES > most_kept:
            return -1
        if n_far > FAR - BLOCK - LANES:
            expand_sources(centre, far, n_far, n_components, dof, local)
            n_far = 0
        n_opened = 0
        if floating is float:
            kb_sift_float(rows, row_stride, row_names, n, n_components, centre, half, radius, most, squared_theta,
                          softening, 0, far, FAR, &n_far, opened, &n_opened, kept, most_kept, names, &end)
        else:
            kb_sift_double(rows, row_stride, row_names, n, n_components, centre, half, radius, most, squared_theta,
                           softening, 0, far, FAR, &n_far, opened, &n_opened, kept, most_kept, names, &end)
        n_queued = open_cells(links, opened, n_opened, n_components, queue, n_queued)
    if n_far > 0:
        expand_sources(centre, far, n_far, n_components, dof, local)
    return end


cdef inline double repel_group(
    const floating* columns, Py_ssize_t stride, const floating* cells, const int32_t* links,
    Py_ssize_t target, Py_ssize_t start, Py_ssize_t end, int n_components, floating squared_theta, double dof,
    int32_t* queue, const floating* kept, const int32_t* names, Py_ssize_t most_kept, Py_ssize_t first,
    Py_ssize_t last, floating* block, int32_t* block_names, floating* sources, const double* local,
    const int32_t* order, floating* forces_out,
) noexcept nogil:
    """Write the forces on some points of a target; return the sum of w over them, self terms included."""
    cdef floating[3] middle
    cdef floating[3] half
    cdef double[GROUP * 4] sums
    cdef int32_t[BLOCK + LANES] opened
    cdef int32_t[BLOCK + LANES] leaves
    cdef const floating* rows
    cdef const int32_t* row_names
    cdef floating softening = <floating>(dof / 2), least = <floating>UNOPENED * squared_theta * softening
    cdef Py_ssize_t i, k, n, cell, head = 0, n_queued = 1, n_sources = 0, row_stride, n_opened, n_leaves
    cdef double sum_w = 0
    for i in range(start, end):  # forces go all over the memory
        fetch(forces_out + order[i] * n_components)
    bound_group(columns + start, stride, end - start, n_components, middle, half)
    evaluate_expansion(local, columns, stride, cells + target * (n_components + 3), n_components, start, end, sums)
    queue[0] = <int32_t>target
    while first < last or head < n_queued:
        if first < last:
            n = min(last - first, <Py_ssize_t>BLOCK)
            rows = kept + first
            row_names = names + first
            row_stride = most_kept
            first += n
        else:
            n = min(n_queued - head, <Py_ssize_t>BLOCK)
            fetch_cells(cells, links, queue + head, n, n_components, block, block_names)
            rows = block
            row_names = block_names
            row_stride = BLOCK
            head += n
        if n_sources > LIST - BLOCK - LANES:
            evaluate_sources(sources, n_sources, columns, stride, n_components, dof, start, end, sums)
            n_sources = 0
        n_opened = n_leaves = 0
        if floating is float:
            kb_sift_float(rows, row_stride, row_names, n, n_components, middle, half, 0, -1, squared_theta,
                          softening, least, sources, LIST, &n_sources, opened, &n_opened, NULL, 0, leaves, &n_leaves)
        else:
            kb_sift_double(rows, row_stride, row_names, n, n_components, middle, half, 0, -1, squared_theta,
                           softening, least, sources, LIST, &n_sources, opened, &n_opened, NULL, 0, leaves, &n_leaves)
        n_queued = open_cells(links, opened, n_opened, n_components, queue, n_queued)
        for i in range(n_leaves):
            if n_sources > LIST - LEAF:
                evaluate_sources(sources, n_sources, columns, stride, n_components, dof, start, end, sums)
                n_sources = 0
            cell = ~leaves[i]
            n_sources += list_points(columns, stride, n_components, links[cell * 4 + 2], links[cell * 4 + 3],
                                     sources + n_sources)
    evaluate_sources(sources, n_sources, columns, stride, n_components, dof, start, end, sums)
    for i in range(start, end):
        for k in range(n_components):
            forces_out[order[i] * n_components + k] = <floating>sums[k * GROUP + i - start]
        sum_w += sums[n_components * GROUP + i - start]
    return sum_w


cdef inline Py_ssize_t list_points(const floating* columns, Py_ssize_t stride, int n_components, Py_ssize_t start,
                                   Py_ssize_t end, floating* sources) noexcept nogil:
    """Append the points of a leaf: always LEAF are copied, end - start of them count."""
    cdef Py_ssize_t i, k
    for k in range(n_components):
        for i in range(LEAF):
            sources[k * LIST + i] = columns[k * stride + start + i]
    for i in range(LEAF):
        sources[n_components * LIST + i] = 1
        sources[(n_components + 1) * LIST + i] = 0
    return end - start


cdef inline double walk_targets(
    const floating* columns, Py_ssize_t stride, const floating* cells, const int32_t* links, const int32_t* order,
    Py_ssize_t subtree, int n_components, double theta, double dof,
    int32_t* queue, floating* kept, int32_t* names, Py_ssize_t most_kept, int32_t* frames, double* expansions,
    floating* far, floating* sources, floating* forces_out,
) noexcept nogil:
    """Write the forces on the points of a subtree; return the sum of w over them, or -inf if too many sources are kept.

    Of each cell that is still to be visited, a frame holds cell, parent, first and end of the sources that its parent
    kept; its expansion stands at the same place.
    """
    cdef double[TERMS] local
    cdef double[3] step
    cdef floating[6 * BLOCK] block
    cdef int32_t[BLOCK] block_names
    cdef Py_ssize_t target, parent, first, last, i, j, k, n_frames = 1, n_queued = 0, n_children
    cdef Py_ssize_t start, end, end_kept
    cdef floating squared_theta = <floating>(theta * theta)
    cdef double sum_w = 0
    # sources of the subtree's root: its siblings and those of its parents
    target = 0
    while target != subtree:
        parent = target
        for i in range(links[parent * 4], links[parent * 4] + links[parent * 4 + 1]):
            if links[i * 4 + 2] <= links[subtree * 4 + 2] < links[i * 4 + 3]:
                target = i
        for i in range(links[parent * 4], links[parent * 4] + links[parent * 4 + 1]):
            queue[n_queued] = <int32_t>i
            n_queued += i != target
    frames[0] = <int32_t>subtree
    frames[1] = -1
    frames[2] = frames[3] = 0
    for k in range(TERMS):
        expansions[k] = 0
    while n_frames > 0:
        n_frames -= 1
        target = frames[4 * n_frames]
        parent = frames[4 * n_frames + 1]
        first = frames[4 * n_frames + 2]
        last = frames[4 * n_frames + 3]
        for k in range(1 + n_components * (1 + n_components * (1 + n_components))):
            local[k] = expansions[TERMS * n_frames + k]
        if parent >= 0:
            n_queued = 0
            for i in range(links[parent * 4], links[parent * 4] + links[parent * 4 + 1]):
                queue[n_queued] = <int32_t>i
                n_queued += i != target
        end_kept = sift_sources(cells, links, target, n_components, <floating>CAUTION * squared_theta, dof, queue,
                                n_queued, kept, names, most_kept, first, last, far, block, block_names, local)
        if end_kept < 0:
            return -INFINITY
        start = links[target * 4 + 2]
        end = links[target * 4 + 3]
        n_children = links[target * 4 + 1]
        if end - start > GROUP and n_children > 0:
            for i in range(n_children):  # the last first, so that points are met in their order
                j = links[target * 4] + n_children - 1 - i
                for k in range(n_components):
                    step[k] = <double>cells[j * (n_components + 3) + k] - cells[target * (n_components + 3) + k]
                shift_expansion(local, step, n_components, expansions + TERMS * n_frames)
                frames[4 * n_frames] = <int32_t>j
                frames[4 * n_frames + 1] = <int32_t>target
                frames[4 * n_frames + 2] = <int32_t>last
                frames[4 * n_frames + 3] = <int32_t>end_kept
                n_frames += 1
        else:
            while start < end:  # coincident points may be many: cut them
                sum_w += repel_group(columns, stride, cells, links, target, start, min(start + GROUP, end),
                                     n_components, squared_theta, dof, queue, kept, names, most_kept, last, end_kept,
                                     block, block_names, sources, local, order, forces_out)
                start += GROUP
    return sum_w


def accumulate_repulsion(
    const floating[:, ::1] columns,   # IN: from order_points, with LEAF_SIZE columns more
    const floating[:, ::1] cells,     # IN: from build_tree
    const int32_t[:, ::1] links,      # IN: from build_tree
    const int32_t[::1] roots,         # IN: from build_tree
    const int32_t[::1] order,         # IN: from order_points
    Py_ssize_t n_subtrees,
    double theta,                     # IN: 0 opens every cell, which makes the sum exact
    double dof,
    int32_t[:, ::1] queue_out,        # OUT: scratch, n_threads x as many as there are cells and 8 more
    floating[:, :, ::1] kept_out,     # OUT: scratch, n_threads x (n_components + 3) x as many sources as may be kept
    int32_t[:, ::1] names_out,        # OUT: scratch, n_threads x as many
    int32_t[:, ::1] frames_out,       # OUT: scratch, n_threads x 4 STACK_SIZE
    double[:, ::1] expansions_out,    # OUT: scratch, n_threads x N_TERMS STACK_SIZE
    floating[:, :, ::1] far_out,      # OUT: scratch, n_threads x (n_components + 5) x FAR_SIZE
    floating[:, :, ::1] sources_out,  # OUT: scratch, n_threads x (n_components + 5) x LIST_SIZE
    double[::1] sums_out,             # OUT: scratch, one value a subtree
    floating[:, ::1] forces_out,      # OUT: in the order of the user's points
    int n_threads,
):
    """Write sum_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return the sum of w_ij over i != j.

    Returns -inf where ``kept_out`` was too small.
    """
    cdef Py_ssize_t subtree, n_components = columns.shape[0]
    cdef Py_ssize_t stride = columns.shape[1], most_kept = kept_out.shape[2]
    cdef double sum_w = 0
    cdef int thread
    for subtree in prange(n_subtrees, nogil=True, num_threads=n_threads, schedule="dynamic"):
        thread = threadid()
        if n_components == 2:
            sums_out[subtree] = walk_targets(
                &columns[0, 0], stride, &cells[0, 0], &links[0, 0], &order[0], roots[subtree], 2, theta, dof,
                &queue_out[thread, 0], &kept_out[thread, 0, 0], &names_out[thread, 0], most_kept,
                &frames_out[thread, 0], &expansions_out[thread, 0], &far_out[thread, 0, 0], &sources_out[thread, 0, 0],
                &forces_out[0, 0])
        elif n_components == 1:
            sums_out[subtree] = walk_targets(
                &columns[0, 0], stride, &cells[0, 0], &links[0, 0], &order[0], roots[subtree], 1, theta, dof,
                &queue_out[thread, 0], &kept_out[thread, 0, 0], &names_out[thread, 0], most_kept,
                &frames_out[thread, 0], &expansions_out[thread, 0], &far_out[thread, 0, 0], &sources_out[thread, 0, 0],
                &forces_out[0, 0])
        else:
            sums_out[subtree] = walk_targets(
                &columns[0, 0], stride, &cells[0, 0], &links[0, 0], &order[0], roots[subtree], 3, theta, dof,
                &queue_out[thread, 0], &kept_out[thread, 0, 0], &names_out[thread, 0], most_kept,
                &frames_out[thread, 0], &expansions_out[thread, 0], &far_out[thread, 0, 0], &sources_out[thread, 0, 0],
                &forces_out[0, 0])
    for subtree in range(n_subtrees):
        sum_w += sums_out[subtree]
    return sum_w - forces_out.shape[0]
