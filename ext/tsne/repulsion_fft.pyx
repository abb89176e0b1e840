"""Spreading points onto a grid and gathering forces from it, for FFT-accelerated repulsion.

Linderman et al. (2019) interpolate the kernels of t-SNE on a grid and sum them by FFT, with a charge for every term.
One charge is enough, because the repulsion on a point is the slope of the potential:

    u(y) = sum_j w(y - y_j),    grad u(y_i) = - 2 sum_j w_ij^(1 + 1/dof) (y_i - y_j).

So one convolution with w gives Z = sum_i u(y_i) - n, and the derivative of its interpolant gives the forces, in any
dimension and for any dof. The interpolant is a B-spline of order 4 or 6, which is smooth enough to be differentiated.
``kullback.tsne.fft_repulsion`` divides the transform of the splines out of that of the kernel. Masses are charges.

Points are first sorted into *slots* by bands of grid rows. What spreading and gathering need of a point, its first node
and the distance to it, lies side by side in that order. Bands are filled in two rounds: first the even ones and then
the odd ones. Bands of one round write to different rows, and points keep their order within a band, so the thread count
changes no bit.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from common.bounds cimport BOUND_BLOCK, bound_all
from common.threads cimport startable
from tsne.spline cimport MAX_ORDER, gather_point

cdef enum:
    BAND = 16       # grid rows a band: more than the widest spline, so that bands of one round do not overlap
    BLOCK = 1024    # points that are gathered at a time
BAND_ROWS = BAND
BLOCK_POINTS = BLOCK
BOUND_POINTS = BOUND_BLOCK


cdef extern from *:
    """
    /* The most frequent case, two dimensions and order 4, in vectors of four nodes. It is C because compilers unroll
       loops of four before they vectorise them, and then shuffle more than they calculate (gcc 12: 38 ns for each point
       that is gathered, against 12). */
    #include <stddef.h>
    #define KULLBACK_FOUR(real, four, spline, spread, gather)                                                     \\
        typedef real four __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));       \\
        static inline four spline(const real* coefficients, int n_powers, real t) {                               \\
            const four* rows = (const four*)coefficients;                                                         \\
            four values = rows[n_powers - 1];                                                                     \\
            for (int power = n_powers - 2; power >= 0; power--) values = values * t + rows[power];                \\
            return values;                                                                                        \\
        }                                                                                                         \\
        static inline void spread(const real* distances, const real* coefficients, real* nodes, ptrdiff_t stride) \\
        {                                                                                                         \\
            four y = spline(coefficients, 4, distances[0]), x = spline(coefficients, 4, distances[1]);            \\
            for (int b = 0; b < 4; b++) *(four*)(nodes + b * stride) += y[b] * x;                                 \\
        }                                                                                                         \\
        static inline real gather(real* distances, const real* coefficients, const real* slopes,                  \\
                                  const real* nodes, ptrdiff_t stride, real half) {                               \\
            four y = spline(coefficients, 4, distances[0]), x = spline(coefficients, 4, distances[1]);            \\
            four dy = spline(slopes, 3, distances[0]), dx = spline(slopes, 3, distances[1]);                      \\
            four row = *(const four*)nodes, along = y[0] * row, across = dy[0] * row;                             \\
            for (int b = 1; b < 4; b++) {                                                                         \\
                row = *(const four*)(nodes + b * stride);                                                         \\
                along += y[b] * row;                                                                              \\
                across += dy[b] * row;                                                                            \\
            }                                                                                                     \\
            across *= x;                                                                                          \\
            dx *= along;                                                                                          \\
            along *= x;                                                                                           \\
            distances[0] = half * ((across[0] + across[1]) + (across[2] + across[3]));                            \\
            distances[1] = half * ((dx[0] + dx[1]) + (dx[2] + dx[3]));                                            \\
            return (along[0] + along[1]) + (along[2] + along[3]);                                                 \\
        }
    KULLBACK_FOUR(float, kullback_four_f, kullback_spline_f, kullback_spread_f, kullback_gather_f)
    KULLBACK_FOUR(double, kullback_four_d, kullback_spline_d, kullback_spread_d, kullback_gather_d)
    """
    void spread_four_float "kullback_spread_f"(const float*, const float*, float*, Py_ssize_t) noexcept nogil
    void spread_four_double "kullback_spread_d"(const double*, const double*, double*, Py_ssize_t) noexcept nogil
    float gather_four_float "kullback_gather_f"(float*, const float*, const float*, const float*, Py_ssize_t,
                                                float) noexcept nogil
    double gather_four_double "kullback_gather_d"(double*, const double*, const double*, const double*, Py_ssize_t,
                                                  double) noexcept nogil


def bound_positions(
    const floating[:, ::1] positions,  # IN
    double[:, ::1] bounds_out,         # OUT: a row a block of BOUND_POINTS; row 0: low corner, high corner
    int n_threads,
):
    """Write the bounding box of the points."""
    bound_all(positions, bounds_out, n_threads)


cdef inline void evaluate_spline(
    const floating* coefficients, int order, int n_powers,  # IN: n_powers rows of order; literals where it is called
    floating t,
    floating* values_out,                                   # OUT: one value a node
) noexcept nogil:
    """Write polynomials in t by Horner's rule, for all nodes at a time: one row of coefficients is one vector."""
    cdef int power, node
    for node in range(order):
        values_out[node] = coefficients[(n_powers - 1) * order + node]
    for power in range(n_powers - 2, -1, -1):
        for node in range(order):
            values_out[node] = values_out[node] * t + coefficients[power * order + node]


cdef inline Py_ssize_t first_node(floating coordinate, double low, double inverse_spacing) noexcept nogil:
    """Return the first node under a spline of even order; it is node 1 for the lowest point."""
    return <Py_ssize_t>((coordinate - low) * inverse_spacing + 0.5) + 1


cdef inline void place_point(
    const floating* point, int n_components,  # a literal where it is called
    const double* low, double inverse_spacing, const Py_ssize_t* strides,
    int32_t* node_out, floating* distances_out,
) noexcept nogil:
    """Write the first node of a point, and in each component the distance, in (0, 1], from its spline's left end."""
    cdef Py_ssize_t first, node = 0
    cdef int k
    for k in range(n_components):
        first = first_node(point[k], low[k], inverse_spacing)
        distances_out[k] = <floating>(first - ((point[k] - low[k]) * inverse_spacing + 0.5))
        node += first * strides[k]
    node_out[0] = <int32_t>node


cdef void count_bands(const floating[:, ::1] positions, double low, double inverse_spacing,
                      Py_ssize_t start, Py_ssize_t end, Py_ssize_t n_bands, int64_t* counts_out) noexcept nogil:
    """Count the points of each band."""
    cdef Py_ssize_t i
    for i in range(n_bands):
        counts_out[i] = 0
    for i in range(start, end):
        counts_out[first_node(positions[i, 0], low, inverse_spacing) // BAND] += 1


cdef void place_points(
    const floating[:, ::1] positions, const double* low, double inverse_spacing, const Py_ssize_t* strides,
    Py_ssize_t start, Py_ssize_t end, int64_t* next_slots,
    int32_t[::1] slots_out, int32_t[::1] nodes_out, floating[:, ::1] distances_out,
) noexcept nogil:
    """Give points the next free slots of their bands, and place them on the grid."""
    cdef Py_ssize_t i, band, slot
    for i in range(start, end):
        band = first_node(positions[i, 0], low[0], inverse_spacing) // BAND
        slot = next_slots[band]
        next_slots[band] = slot + 1
        slots_out[i] = <int32_t>slot
        if positions.shape[1] == 2:
            place_point(&positions[i, 0], 2, low, inverse_spacing, strides, &nodes_out[slot], &distances_out[slot, 0])
        elif positions.shape[1] == 1:
            place_point(&positions[i, 0], 1, low, inverse_spacing, strides, &nodes_out[slot], &distances_out[slot, 0])
        else:
            place_point(&positions[i, 0], 3, low, inverse_spacing, strides, &nodes_out[slot], &distances_out[slot, 0])


def sort_points(
    const floating[:, ::1] positions,  # IN
    const double[::1] low,             # IN: the smallest value of each component
    double spacing,                    # IN: of the grid
    const Py_ssize_t[::1] strides,     # IN: nodes from one node to the next in each component
    int64_t[:, ::1] counts_out,        # OUT: scratch, a row a thread, a column a band
    int64_t[::1] band_starts_out,      # OUT: one more than there are bands
    int32_t[::1] slots_out,            # OUT: the slot of each point: by band, in their order within it
    int32_t[::1] nodes_out,            # OUT: the first node of the point of each slot
    floating[:, ::1] distances_out,    # OUT: its distances to it, as in place_point
    int n_threads,
):
    """Sort points by the band of grid rows in which their splines begin, and place them on the grid."""
    cdef Py_ssize_t chunk, band, count, seen = 0, n_bands = counts_out.shape[1], n_points = positions.shape[0]
    cdef Py_ssize_t share = (n_points + n_threads - 1) // n_threads
    cdef double inverse_spacing = 1 / spacing
    for chunk in prange(n_threads, nogil=True, num_threads=startable(n_threads), schedule="static"):
        count_bands(positions, low[0], inverse_spacing, chunk * share, min((chunk + 1) * share, n_points), n_bands,
                    &counts_out[chunk, 0])
    for band in range(n_bands):
        band_starts_out[band] = seen
        for chunk in range(n_threads):
            count = counts_out[chunk, band]
            counts_out[chunk, band] = seen
            seen += count
    band_starts_out[n_bands] = seen
    for chunk in prange(n_threads, nogil=True, num_threads=startable(n_threads), schedule="static"):
        place_points(positions, &low[0], inverse_spacing, &strides[0], chunk * share,
                     min((chunk + 1) * share, n_points), &counts_out[chunk, 0], slots_out, nodes_out, distances_out)


cdef inline void spread_point(
    const floating* distances, const floating* spline, int order, int n_components,  # literals where it is called
    floating* nodes, Py_ssize_t row_stride, Py_ssize_t plane_stride,
) noexcept nogil:
    """Add the products of the splines of all components to the nodes under a point."""
    cdef floating[3][MAX_ORDER] weights
    cdef floating outer
    cdef int k, a, b, c
    cdef floating* row
    for k in range(n_components):
        evaluate_spline(spline, order, order, distances[k], weights[k])
    if n_components == 1:
        for c in range(order):
            nodes[c] += weights[0][c]
    elif n_components == 2:
        for b in range(order):
            row = nodes + b * row_stride
            for c in range(order):
                row[c] += weights[0][b] * weights[1][c]
    else:
        for a in range(order):
            for b in range(order):
                row = nodes + a * plane_stride + b * row_stride
                outer = weights[0][a] * weights[1][b]
                for c in range(order):
                    row[c] += outer * weights[2][c]


cdef void spread_band(
    const int32_t* nodes, const floating[:, ::1] distances, const floating[:, ::1] spline,
    Py_ssize_t start, Py_ssize_t end, floating[:, :, ::1] grid,
) noexcept nogil:
    """Spread the points of one band, with order and number of components as literals."""
    cdef Py_ssize_t i, n_components = distances.shape[1], order = spline.shape[1]
    cdef Py_ssize_t row_stride = grid.shape[2], plane_stride = grid.shape[1] * grid.shape[2]
    cdef const floating* coefficients = &spline[0, 0]
    cdef floating* first = &grid[0, 0, 0]
    for i in range(start, end):
        if n_components == 2 and order == 4:
            if floating is float:
                spread_four_float(&distances[i, 0], coefficients, first + nodes[i], row_stride)
            else:
                spread_four_double(&distances[i, 0], coefficients, first + nodes[i], row_stride)
        elif n_components == 2:
            spread_point(&distances[i, 0], coefficients, 6, 2, first + nodes[i], row_stride, 0)
        elif n_components == 1 and order == 4:
            spread_point(&distances[i, 0], coefficients, 4, 1, first + nodes[i], 0, 0)
        elif n_components == 1:
            spread_point(&distances[i, 0], coefficients, 6, 1, first + nodes[i], 0, 0)
        elif order == 4:
            spread_point(&distances[i, 0], coefficients, 4, 3, first + nodes[i], row_stride, plane_stride)
        else:
            spread_point(&distances[i, 0], coefficients, 6, 3, first + nodes[i], row_stride, plane_stride)


def spread_charges(
    const int64_t[::1] band_starts,      # IN: from sort_points
    const int32_t[::1] nodes,            # IN: from sort_points
    const floating[:, ::1] distances,    # IN: from sort_points
    const floating[:, ::1] spline,       # IN: coefficients of the spline's pieces, a row a power, a column a node
    floating[:, :, ::1] grid_out,        # IN/OUT: 1 x 1 x 2n, 1 x n x 2n or n x n x 2n; zero in the second half
    int n_threads,
):
    """Give every point a charge of 1, spread over the grid by a B-spline in each component."""
    cdef Py_ssize_t band, n_bands = band_starts.shape[0] - 1, row, n_rows = grid_out.shape[0] * grid_out.shape[1]
    cdef floating* charges = &grid_out[0, 0, 0]
    for row in prange(n_rows, nogil=True, num_threads=startable(n_threads), schedule="static"):
        memset(charges + row * grid_out.shape[2], 0, grid_out.shape[2] // 2 * sizeof(floating))
    for band in prange(0, n_bands, 2, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        spread_band(&nodes[0], distances, spline, band_starts[band], band_starts[band + 1], grid_out)
    for band in prange(1, n_bands, 2, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        spread_band(&nodes[0], distances, spline, band_starts[band], band_starts[band + 1], grid_out)


cdef inline void spread_masses_band(
    const int32_t* nodes, const floating[:, ::1] distances, const floating[::1] masses, const floating* spline,
    int order,                                                        # a literal where it is called
    Py_ssize_t start, Py_ssize_t end, floating[:, :, ::1] grid,
) noexcept nogil:
    """Spread the points of one band, in any number of components: those that there are not have one node each."""
    cdef floating[3][MAX_ORDER] weights
    cdef int k, a, b, c, n_components = <int>distances.shape[1]
    cdef int n_planes = order if n_components > 2 else 1, n_rows = order if n_components > 1 else 1
    cdef Py_ssize_t i, row_stride = grid.shape[2], plane_stride = grid.shape[1] * grid.shape[2]
    cdef floating outer
    cdef floating* row
    weights[0][0] = weights[1][0] = 1
    for i in range(start, end):
        for k in range(n_components):
            evaluate_spline(spline, order, order, distances[i, k], weights[3 - n_components + k])
        for a in range(n_planes):
            for b in range(n_rows):
                row = &grid[0, 0, 0] + nodes[i] + a * plane_stride + b * row_stride
                outer = masses[i] * weights[0][a] * weights[1][b]
                for c in range(order):
                    row[c] += outer * weights[2][c]


cdef void spread_masses_any(
    const int32_t* nodes, const floating[:, ::1] distances, const floating[::1] masses, const floating[:, ::1] spline,
    Py_ssize_t start, Py_ssize_t end, floating[:, :, ::1] grid,
) noexcept nogil:
    """Do so with the order as a literal."""
    if spline.shape[1] == 4:
        spread_masses_band(nodes, distances, masses, &spline[0, 0], 4, start, end, grid)
    else:
        spread_masses_band(nodes, distances, masses, &spline[0, 0], 6, start, end, grid)


def spread_masses(
    const int64_t[::1] band_starts,      # IN: from sort_points
    const int32_t[::1] nodes,            # IN: from sort_points
    const floating[:, ::1] distances,    # IN: from sort_points
    const floating[::1] masses,          # IN: by slot
    const floating[:, ::1] spline,       # IN: as in spread_charges
    floating[:, :, ::1] grid_out,        # IN/OUT: as in spread_charges
    int n_threads,
):
    """Give every point its mass as its charge: `spread_charges` with masses."""
    cdef Py_ssize_t band, n_bands = band_starts.shape[0] - 1, row, n_rows = grid_out.shape[0] * grid_out.shape[1]
    cdef floating* charges = &grid_out[0, 0, 0]
    for row in prange(n_rows, nogil=True, num_threads=startable(n_threads), schedule="static"):
        memset(charges + row * grid_out.shape[2], 0, grid_out.shape[2] // 2 * sizeof(floating))
    for band in prange(0, n_bands, 2, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        spread_masses_any(&nodes[0], distances, masses, spline, band_starts[band], band_starts[band + 1], grid_out)
    for band in prange(1, n_bands, 2, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        spread_masses_any(&nodes[0], distances, masses, spline, band_starts[band], band_starts[band + 1], grid_out)


cdef inline double gather_slot(
    floating* distances,                                                            # IN/OUT: the force replaces them
    const floating* spline, const floating* slope, int order, int n_components,     # IN: the last two are literals
    const floating* nodes, Py_ssize_t row_stride, Py_ssize_t plane_stride, floating half,  # IN: as in gather_point
) noexcept nogil:
    """Write half the downhill slope of the potential over the distances of a point; return the potential."""
    cdef floating[3 * MAX_ORDER] weights
    cdef floating[3 * MAX_ORDER] slopes
    cdef int k
    for k in range(n_components):
        evaluate_spline(spline, order, order, distances[k], weights + k * MAX_ORDER)
        evaluate_spline(slope, order, order - 1, distances[k], slopes + k * MAX_ORDER)
    return gather_point(weights, slopes, order, n_components, nodes, row_stride, plane_stride, half, distances)


cdef double gather_block(
    const int32_t* nodes, floating[:, ::1] distances,
    const floating* spline, const floating* slope, int order, floating half,
    Py_ssize_t start, Py_ssize_t end, const floating[:, :, ::1] grid,
) noexcept nogil:
    """Gather the forces of some slots, with order and number of components as literals; return the potential's sum."""
    cdef Py_ssize_t i, n_components = distances.shape[1]
    cdef Py_ssize_t row_stride = grid.shape[2], plane_stride = grid.shape[1] * grid.shape[2]
    cdef const floating* first = &grid[0, 0, 0]
    cdef double total = 0
    for i in range(start, end):
        if n_components == 2 and order == 4:
            if floating is float:
                total += gather_four_float(&distances[i, 0], spline, slope, first + nodes[i], row_stride, half)
            else:
                total += gather_four_double(&distances[i, 0], spline, slope, first + nodes[i], row_stride, half)
        elif n_components == 2:
            total += gather_slot(&distances[i, 0], spline, slope, 6, 2, first + nodes[i], row_stride, 0, half)
        elif n_components == 1 and order == 4:
            total += gather_slot(&distances[i, 0], spline, slope, 4, 1, first + nodes[i], 0, 0, half)
        elif n_components == 1:
            total += gather_slot(&distances[i, 0], spline, slope, 6, 1, first + nodes[i], 0, 0, half)
        elif order == 4:
            total += gather_slot(&distances[i, 0], spline, slope, 4, 3, first + nodes[i], row_stride, plane_stride,
                                  half)
        else:
            total += gather_slot(&distances[i, 0], spline, slope, 6, 3, first + nodes[i], row_stride, plane_stride,
                                  half)
    return total


def gather_forces(
    const int32_t[::1] slots,            # IN: from sort_points
    const int32_t[::1] nodes,            # IN: from sort_points
    floating[:, ::1] distances,          # IN/OUT: from sort_points; the forces, by slot
    const floating[:, ::1] spline,       # IN: as in spread_charges
    const floating[:, ::1] slope,        # IN: coefficients of the spline's derivative
    double spacing,                      # IN: of the grid
    const floating[:, :, ::1] potential, # IN: coefficients of the splines
    double[::1] sums_out,                # OUT: scratch, one value a block of BLOCK_POINTS
    floating[:, ::1] forces_out,         # OUT
    int n_threads,
):
    """Write minus half the slope of the potential at every point; return the sum of the potential minus n."""
    cdef Py_ssize_t block, i, k, n_points = slots.shape[0], n_blocks = (n_points + BLOCK - 1) // BLOCK
    cdef floating half = <floating>(-0.5 / spacing)
    cdef double total = 0
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="static"):
        sums_out[block] = gather_block(&nodes[0], distances, &spline[0, 0], &slope[0, 0], spline.shape[1],
                                       half, block * BLOCK, min((block + 1) * BLOCK, n_points), potential)
    # Reading in the points' order goes through every band from start to end. Writing by slot would touch each cache
    # line of the forces once for each band.
    for i in prange(n_points, nogil=True, num_threads=startable(n_threads), schedule="static"):
        for k in range(distances.shape[1]):
            forces_out[i, k] = distances[slots[i], k]
    for block in range(n_blocks):
        total += sums_out[block]
    return total - n_points
