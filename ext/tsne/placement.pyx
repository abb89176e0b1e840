"""New points in a finished map: each moves on its own, and the map does not move.

Let p_j be the affinities of the new point to its neighbours in the map, w(y) = (1 + |y|^2 / dof)^(-dof), and c the mean
over the points of the map of their own sum of w. A new point y comes to a minimum of

    F(y) = - sum_j p_j log w(y - y_j) + u(y) / c,    u(y) = sum_i w(y - y_i) over the whole map.

That is the loss of t-SNE as a function of one more point, but for terms of the order 1 / n, when its own affinities
are symmetric. The potential u comes from a grid of splines over the map (repulsion_fft.pyx), or from every point of the
map. Points of the map may have masses; then u is the sum of m_i w(y - y_i), and c the mean over all rows that the
points stand for. ``kullback.reference.place_points`` is the same in NumPy. New points do not act on each other: neither
the thread count nor the batch changes a bit.
"""

from cython.parallel cimport prange
from libc.math cimport exp, fmax, fmin, log1p
from libc.stdint cimport int32_t, int64_t

from common.exp_log cimport log_fast
from common.threads cimport startable
from tsne.spline cimport MAX_ORDER, gather_point, grid_position, spline_weights

cdef enum:
    ORDER = 6    # of the splines
    BLOCK = 16   # points a task
cdef double SUFFICIENT = 1e-4  # of the decrease that the slope promises: Nocedal and Wright (2006), eq. 3.4
cdef double GROW = 2, SHRINK = 0.5  # factors on the stride after a step that is taken, and after one that is not
SPLINE_ORDER = ORDER


cdef struct Map:              # see kullback.tsne.placement._Field
    const double* positions     # n_points x n_components
    const double* masses        # NULL: all are 1
    Py_ssize_t n_points
    int n_components
    const double* potential     # spline coefficients; NULL: sum over all points
    Py_ssize_t row_stride, plane_stride
    double inverse_spacing
    const double* low           # corners of the box in which new points stay; the grid begins at the low one
    const double* high
    double dof
    double inverse_mean         # 1 / c
    double tolerance            # the shortest step


cdef struct Point:            # a new point: its affinities to some points of the map
    const double* affinities
    const int32_t* neighbors
    Py_ssize_t n_neighbors


cdef inline double repel_exactly(const Map* m, const double* y, double* force_out) noexcept nogil:
    """Return u(y) = sum_i m_i w(y - y_i); write sum_i m_i w^(1 + 1/dof) (y - y_i)."""
    cdef Py_ssize_t i
    cdef int k
    cdef double base, weight, delta, potential = 0
    cdef const double* other
    for k in range(m.n_components):
        force_out[k] = 0
    for i in range(m.n_points):
        other = m.positions + i * m.n_components
        base = 0
        for k in range(m.n_components):
            delta = y[k] - other[k]
            base += delta * delta
        weight = 1 / (1 + base) if m.dof == 1 else exp(-m.dof * log1p(base / m.dof))
        base = 1 + base / m.dof
        if m.masses != NULL:
            weight *= m.masses[i]
        potential += weight
        weight = weight / base
        for k in range(m.n_components):
            force_out[k] += weight * (y[k] - other[k])
    return potential


cdef inline double repel_by_grid(const Map* m, const double* y, int n_components, double* force_out) noexcept nogil:
    """Return u(y) and write the same force, half the downhill slope of u, by the splines of the grid."""
    cdef double[3 * MAX_ORDER] weights
    cdef double[3 * MAX_ORDER] slopes
    cdef double position
    cdef Py_ssize_t first, node = 0
    cdef int k
    for k in range(n_components):
        position = grid_position(y[k], m.low[k], m.inverse_spacing, ORDER)
        first = spline_weights(position, ORDER, weights + k * MAX_ORDER, slopes + k * MAX_ORDER)
        node += first * (1 if k == n_components - 1 else m.row_stride if k == n_components - 2 else m.plane_stride)
    return gather_point(weights, slopes, ORDER, n_components, m.potential + node, m.row_stride, m.plane_stride,
                        -0.5 * m.inverse_spacing, force_out)


cdef inline double repel(const Map* m, const double* y, double* force_out) noexcept nogil:
    """Do so by the grid where there is one, with the number of components as a literal, else by all points."""
    if m.potential == NULL:
        return repel_exactly(m, y, force_out)
    if m.n_components == 2:
        return repel_by_grid(m, y, 2, force_out)
    if m.n_components == 1:
        return repel_by_grid(m, y, 1, force_out)
    return repel_by_grid(m, y, 3, force_out)


cdef double evaluate(const Map* m, const Point* point, const double* y, double* slope_out,
                     double* pull_out) noexcept nogil:
    """Return F(y); write half its gradient, and the sum of the weights with which neighbours attract."""
    cdef Py_ssize_t j
    cdef int k
    cdef double squared, delta, base, weight, pull = 0, loss = 0
    cdef const double* other
    cdef double potential = repel(m, y, slope_out)
    for k in range(m.n_components):
        slope_out[k] *= -m.inverse_mean
    for j in range(point.n_neighbors):
        other = m.positions + point.neighbors[j] * <Py_ssize_t>m.n_components
        squared = 0
        for k in range(m.n_components):
            delta = y[k] - other[k]
            squared += delta * delta
        base = 1 + squared / m.dof
        weight = point.affinities[j] / base
        loss += point.affinities[j] * (log_fast(base) if m.dof == 1 else log1p(squared / m.dof))
        pull += weight
        for k in range(m.n_components):
            slope_out[k] += weight * (y[k] - other[k])
    pull_out[0] = pull
    return m.dof * loss + potential * m.inverse_mean


cdef void start_point(const Map* m, const Point* point, double* scratch, double* y_out) noexcept nogil:
    """Write the position of the neighbour where F is least."""
    cdef Py_ssize_t j
    cdef int k
    cdef double loss, pull, least = 0
    cdef double* trial = scratch
    cdef double* slope = scratch + m.n_components
    for j in range(point.n_neighbors):
        for k in range(m.n_components):
            trial[k] = m.positions[point.neighbors[j] * <Py_ssize_t>m.n_components + k]
        loss = evaluate(m, point, trial, slope, &pull)
        if j == 0 or loss < least:
            least = loss
            for k in range(m.n_components):
                y_out[k] = trial[k]


cdef double descend_point(
    const Map* m, const Point* point, int max_iter, double* scratch,
    double* y,          # IN/OUT
    double* slope_out,  # OUT: half the gradient at the end
) noexcept nogil:
    """Move y downhill, in the box; return F where it ends.

    A step of ``stride`` 1 goes to the minimum of a quadratic that bounds the attraction's loss from above, which exists
    because the logarithm is concave in the squared distance. So strides are pure numbers at every scale of the map.
    """
    cdef int i, k
    cdef double* trial = scratch
    cdef double* trial_slope = scratch + m.n_components
    cdef double pull, trial_pull, trial_loss, promised, squared, stride = 1
    cdef double loss = evaluate(m, point, y, slope_out, &pull)
    for i in range(max_iter):
        promised = 0
        squared = 0
        for k in range(m.n_components):
            trial[k] = fmin(fmax(y[k] - stride * slope_out[k] / pull, m.low[k]), m.high[k])
            promised += 2 * slope_out[k] * (y[k] - trial[k])
            squared += (y[k] - trial[k]) * (y[k] - trial[k])
        if squared <= m.tolerance * m.tolerance:
            break
        trial_loss = evaluate(m, point, trial, trial_slope, &trial_pull)
        if not trial_loss <= loss - SUFFICIENT * promised:
            stride *= SHRINK
            continue
        loss = trial_loss
        pull = trial_pull
        stride *= GROW
        for k in range(m.n_components):
            y[k] = trial[k]
            slope_out[k] = trial_slope[k]
    return loss


cdef Map read_field(field):
    """Return the pointers of a field, whose arrays the caller keeps alive."""
    cdef const double[:, ::1] positions = field.positions, box = field.box
    cdef const double[::1] masses = field.masses
    cdef const double[:, :, ::1] potential = field.potential
    cdef Map m
    m.positions = &positions[0, 0]
    m.masses = &masses[0] if masses.shape[0] else NULL
    m.n_points = positions.shape[0]
    m.n_components = <int>positions.shape[1]
    m.potential = &potential[0, 0, 0] if potential.shape[2] else NULL
    m.row_stride = potential.shape[2]
    m.plane_stride = potential.shape[1] * potential.shape[2]
    m.inverse_spacing = 1 / <double>field.spacing
    m.low = &box[0, 0]
    m.high = &box[1, 0]
    m.dof = field.dof
    m.inverse_mean = 1 / <double>field.mean_sum
    m.tolerance = field.tolerance
    return m


cdef inline Point new_point(const double[::1] affinities, const int32_t[::1] neighbors, const int64_t[::1] row_starts,
                            Py_ssize_t i) noexcept nogil:
    """Return what attracts new point i."""
    cdef Point point
    point.affinities = &affinities[row_starts[i]]
    point.neighbors = &neighbors[row_starts[i]]
    point.n_neighbors = row_starts[i + 1] - row_starts[i]
    return point


cdef void start_block(
    const Map* m, const double[::1] affinities, const int32_t[::1] neighbors, const int64_t[::1] row_starts,
    Py_ssize_t block, double[:, ::1] scratch, double[:, ::1] positions_out,
) noexcept nogil:
    """Put the points of one block at the best of their neighbours."""
    cdef Py_ssize_t i
    cdef Point point
    for i in range(block * BLOCK, min((block + 1) * BLOCK, positions_out.shape[0])):
        point = new_point(affinities, neighbors, row_starts, i)
        start_point(m, &point, &scratch[i, 0], &positions_out[i, 0])


def start_points(
    const double[::1] affinities,          # IN: p_j, row after row, each row sums to 1
    const int32_t[::1] neighbors,          # IN: points of the map
    const int64_t[::1] row_starts,         # IN: n_new + 1; no row is empty
    field,                                 # IN: see kullback.tsne.placement._Field
    double[:, ::1] scratch,                # OUT: n_new x 2 n_components
    double[:, ::1] positions_out,          # OUT
    int n_threads,
):
    """Put every new point where that neighbour is where its loss is least."""
    cdef Py_ssize_t block, n_blocks = (positions_out.shape[0] + BLOCK - 1) // BLOCK
    cdef Map m = read_field(field)
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        start_block(&m, affinities, neighbors, row_starts, block, scratch, positions_out)


cdef void place_block(
    const Map* m, const double[::1] affinities, const int32_t[::1] neighbors, const int64_t[::1] row_starts,
    Py_ssize_t block, int max_iter, double[:, ::1] scratch, double[:, ::1] positions, double[:, ::1] slopes_out,
    double[::1] losses_out,
) noexcept nogil:
    """Move the points of one block downhill."""
    cdef Py_ssize_t i
    cdef Point point
    for i in range(block * BLOCK, min((block + 1) * BLOCK, positions.shape[0])):
        point = new_point(affinities, neighbors, row_starts, i)
        losses_out[i] = descend_point(m, &point, max_iter, &scratch[i, 0], &positions[i, 0], &slopes_out[i, 0])


def place_points(
    const double[::1] affinities,          # IN: p_j, row after row, each row sums to 1
    const int32_t[::1] neighbors,          # IN: points of the map
    const int64_t[::1] row_starts,         # IN: n_new + 1; no row is empty
    field,                                 # IN: see kullback.tsne.placement._Field
    int max_iter,                          # IN: evaluations a point; 0 leaves the points where they are
    double[:, ::1] scratch,                # OUT: n_new x 2 n_components
    double[:, ::1] positions,              # IN/OUT
    double[:, ::1] slopes_out,             # OUT: half the gradient
    double[::1] losses_out,                # OUT: F
    int n_threads,
):
    """Move every new point downhill from where it is to a minimum of its loss."""
    cdef Py_ssize_t block, n_blocks = (positions.shape[0] + BLOCK - 1) // BLOCK
    cdef Map m = read_field(field)
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        place_block(&m, affinities, neighbors, row_starts, block, max_iter, scratch, positions, slopes_out, losses_out)
