"""New points in a finished map: each moves on its own, and the map does not.

With p_j the affinities of the new point to its neighbours in the map, w(y) = (1 + |y|^2 / dof)^(-dof) and c the
mean over the points of the map of their own sum of w, a new point y comes to a minimum of

    F(y) = - sum_j p_j log w(y - y_j) + u(y) / c,    u(y) = sum_i w(y - y_i) over the whole map.

That is the loss of t-SNE as a function of one more point, but for terms of the order 1 / n, when its own affinities
are symmetric. u comes from a grid of splines over the map (see repulsion_fft), or from every point of the map.
``kullback.reference.place_points`` states it in NumPy. No point sees another new one: neither the thread count nor
the batch changes a bit.
"""

from cython.parallel cimport prange
from libc.math cimport fmax, fmin, pow
from libc.stdint cimport int32_t, int64_t

from common.exp_log cimport log_fast
from tsne.spline cimport gather_point

cdef enum:
    ORDER = 6    # of the splines
    BLOCK = 16   # points a task
cdef double SUFFICIENT = 1e-4  # share of the decrease that the slope promises: Nocedal and Wright (2006), eq. 3.4
cdef double GROW = 2, SHRINK = 0.5
SPLINE_ORDER = ORDER


cdef struct Map:
    const double* positions     # n_points x n_components
    Py_ssize_t n_points
    int n_components
    const double* potential     # spline coefficients; NULL: sum over all points
    Py_ssize_t row_stride, plane_stride
    double inverse_spacing
    const double* low           # corners of the box that new points stay in; the grid begins at its low one
    const double* high
    double dof
    double inverse_mean         # 1 / c


cdef struct Point:
    const double* affinities
    const int32_t* neighbors
    Py_ssize_t n_neighbors


cdef inline double repel_exactly(const Map* m, const double* y, double* force_out) noexcept nogil:
    """Return u(y); write sum_i w^(1 + 1/dof) (y - y_i)."""
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
        base = 1 + base / m.dof
        weight = 1 / base if m.dof == 1 else pow(base, -m.dof)
        potential += weight
        weight = weight / base
        for k in range(m.n_components):
            force_out[k] += weight * (y[k] - other[k])
    return potential


cdef inline double repel(const Map* m, const double* y, double* force_out) noexcept nogil:
    if m.potential == NULL:
        return repel_exactly(m, y, force_out)
    if m.n_components == 2:
        return gather_point(y, m.low, m.inverse_spacing, ORDER, 2, m.potential, m.row_stride, 0, force_out)
    if m.n_components == 1:
        return gather_point(y, m.low, m.inverse_spacing, ORDER, 1, m.potential, 0, 0, force_out)
    return gather_point(y, m.low, m.inverse_spacing, ORDER, 3, m.potential, m.row_stride, m.plane_stride, force_out)


cdef double evaluate(const Map* m, const Point* point, const double* y, double* slope_out, double* pull_out) noexcept nogil:
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
        loss += point.affinities[j] * log_fast(base)
        pull += weight
        for k in range(m.n_components):
            slope_out[k] += weight * (y[k] - other[k])
    pull_out[0] = pull
    return m.dof * loss + potential * m.inverse_mean


cdef double start_point(const Map* m, const Point* point, double* y, double* best, double* slope) noexcept nogil:
    """Write to y the position of the neighbour where F is least; return F there."""
    cdef Py_ssize_t j
    cdef int k
    cdef double loss, pull, least = 0
    for j in range(point.n_neighbors):
        for k in range(m.n_components):
            y[k] = m.positions[point.neighbors[j] * <Py_ssize_t>m.n_components + k]
        loss = evaluate(m, point, y, slope, &pull)
        if j == 0 or loss < least:
            least = loss
            for k in range(m.n_components):
                best[k] = y[k]
    for k in range(m.n_components):
        y[k] = best[k]
    return least


cdef double descend_point(
    const Map* m, const Point* point, double tolerance, int max_iter, double* y, double* slope, double* scratch,
) noexcept nogil:
    """Move y downhill, in the box; return F where it ends, with half the gradient there in ``slope``.

    A step of ``stride`` 1 goes to the least point of the attraction's quadratic majorant (log is concave in the
    squared distance), so strides are a pure number at every scale of the map.
    """
    cdef int i, k
    cdef double* trial = scratch
    cdef double* trial_slope = scratch + m.n_components
    cdef double pull, trial_pull, trial_loss, promised, squared, stride = 1
    cdef double loss = evaluate(m, point, y, slope, &pull)
    for i in range(max_iter):
        promised = 0
        squared = 0
        for k in range(m.n_components):
            trial[k] = fmin(fmax(y[k] - stride * slope[k] / pull, m.low[k]), m.high[k])
            promised += 2 * slope[k] * (y[k] - trial[k])
            squared += (y[k] - trial[k]) * (y[k] - trial[k])
        if squared <= tolerance * tolerance:
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
            slope[k] = trial_slope[k]
    return loss


cdef void place_block(
    const Map* m, const double[::1] affinities, const int32_t[::1] neighbors, const int64_t[::1] row_starts,
    Py_ssize_t block, bint start, double tolerance, int max_iter, double[:, ::1] positions, double[:, ::1] slopes_out,
    double[:, ::1] scratch, double[::1] losses_out,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Point point
    for i in range(block * BLOCK, min((block + 1) * BLOCK, positions.shape[0])):
        point.affinities = &affinities[row_starts[i]]
        point.neighbors = &neighbors[row_starts[i]]
        point.n_neighbors = row_starts[i + 1] - row_starts[i]
        if start:
            start_point(m, &point, &positions[i, 0], &scratch[i, 0], &slopes_out[i, 0])
        losses_out[i] = descend_point(
            m, &point, tolerance, max_iter, &positions[i, 0], &slopes_out[i, 0], &scratch[i, 0]
        )


def place_points(
    const double[::1] affinities,          # IN: p_j, row after row, each row sums to 1
    const int32_t[::1] neighbors,          # IN: points of the map
    const int64_t[::1] row_starts,         # IN: n_new + 1; no row is empty
    const double[:, ::1] map_positions,    # IN
    const double[:, :, ::1] potential,     # IN: coefficients of splines of order SPLINE_ORDER; empty: none
    double spacing,                        # IN: of the grid, whose lowest corner is that of the box
    const double[:, ::1] box,              # IN: low corner, high corner
    double dof,
    double mean_sum,                       # IN: c
    double tolerance,                      # IN: the shortest step
    int max_iter,                          # IN: evaluations a point; 0 leaves the points where they start
    bint start,                            # IN: begin at the best of the neighbours, else at positions_out
    double[:, ::1] positions_out,          # OUT, IN without ``start``
    double[:, ::1] slopes_out,             # OUT: half the gradient
    double[:, ::1] scratch,                # OUT: n_new x 2 n_components
    double[::1] losses_out,                # OUT: F
    int n_threads,
):
    """Place every new point."""
    cdef Py_ssize_t block, n_blocks = (positions_out.shape[0] + BLOCK - 1) // BLOCK
    cdef Map m
    m.positions = &map_positions[0, 0]
    m.n_points = map_positions.shape[0]
    m.n_components = <int>map_positions.shape[1]
    m.potential = &potential[0, 0, 0] if potential.shape[2] else NULL
    m.row_stride = potential.shape[2]
    m.plane_stride = potential.shape[1] * potential.shape[2]
    m.inverse_spacing = 1 / spacing
    m.low = &box[0, 0]
    m.high = &box[1, 0]
    m.dof = dof
    m.inverse_mean = 1 / mean_sum
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="dynamic"):
        place_block(&m, affinities, neighbors, row_starts, block, start, tolerance, max_iter, positions_out, slopes_out,
                    scratch, losses_out)
