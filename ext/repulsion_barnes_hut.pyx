"""Barnes-Hut repulsion of t-SNE in one, two or three dimensions: the walk through the tree.

Barnes and Hut (1986) replace far cells of points by their centre of mass; van der Maaten (2014) brought
that to t-SNE. The tree is walked once a group, against the group's bounding box. What the walk accepts
(far cells and near points alike, as position and mass) goes into one list, and every point of the group is
evaluated against that list by plain unit-stride loops.

A cell of side s is accepted where s <= theta * sqrt(distance^2 + dof / 2), the distance from the box to its
centre of mass: w is smooth on the scale of sqrt(dof) even at distance 0, so small cells need not be opened
however near they are. Every point meets itself once, with w = 1 and no force, or within a cell that small;
``sum_q`` takes the n self terms off at the end.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t

from _divergence_terms cimport log_fast
from _exp cimport exp_negative
from _pairs cimport meet_sources
from _tree cimport GROUP, LEAF

cdef enum:
    LIST = 2048        # entries of an interaction list before it is evaluated and emptied
    LANES = 16         # of the widest vectors, which divide LIST
    BATCH = 256        # cells of the walk between two looks at the space left in the list

LIST_SIZE = LIST


cdef void evaluate_point_general(const floating* sources, Py_ssize_t n_sources, const floating* point,
                                 Py_ssize_t n_components, double dof, double* sums) noexcept nogil:
    """Add sum_j m_j w_j^(1 + 1/dof) (y - y_j) and sum_j m_j w_j, w = (1 + |y - y_j|^2 / dof)^-dof."""
    cdef Py_ssize_t j, k
    cdef double[LIST] bases
    cdef double[LIST] weights
    cdef double delta, sum_w = 0, force
    for j in range(n_sources):
        bases[j] = dof
    for k in range(n_components):
        for j in range(n_sources):
            delta = <double>point[k] - sources[k * LIST + j]
            bases[j] += delta * delta
    for j in range(n_sources):
        weights[j] = exp_negative(min(dof * log_fast(min(bases[j] / dof, 1e300)), 708.0))
        sum_w += sources[n_components * LIST + j] * weights[j]
        weights[j] = sources[n_components * LIST + j] * weights[j] * dof / bases[j]
    for k in range(n_components):
        force = 0
        for j in range(n_sources):
            force += weights[j] * (<double>point[k] - sources[k * LIST + j])
        sums[k] += force
    sums[n_components] += sum_w


cdef void evaluate_group(floating* sources, Py_ssize_t n_sources, const floating[:, ::1] columns, double dof,
                         Py_ssize_t start, Py_ssize_t end, double* sums) noexcept nogil:
    cdef Py_ssize_t i, k, n_components = columns.shape[0]
    cdef floating[3] point
    while n_sources % LANES != 0:  # massless sources fill the last vector: no loop has a remainder
        for k in range(n_components):
            sources[k * LIST + n_sources] = sources[k * LIST]
        sources[n_components * LIST + n_sources] = 0
        n_sources += 1
    for i in range(start, end):
        for k in range(n_components):
            point[k] = columns[k, i]
        if dof != 1:
            evaluate_point_general(sources, n_sources, point, n_components, dof, sums)
        elif n_components == 1:
            meet_sources(sources, LIST, n_sources, point, 1, True, sums)
        elif n_components == 2:
            meet_sources(sources, LIST, n_sources, point, 2, True, sums)
        else:
            meet_sources(sources, LIST, n_sources, point, 3, True, sums)
        sums += n_components + 1


cdef double walk_group(
    const floating[:, ::1] columns, const floating[:, ::1] cells, const int32_t[:, ::1] links,
    Py_ssize_t start, Py_ssize_t end, const int32_t* order, double dof,
    int32_t* queue, floating* sources,  # OUT: scratch
    floating[:, ::1] forces_out,
) noexcept nogil:
    """Write the forces on the points of a group; return the sum of w over them, self terms included."""
    cdef floating[3] middle
    cdef floating[3] half
    cdef double[GROUP * 4] sums
    cdef int32_t[BATCH] leaves
    cdef Py_ssize_t i, k, head = 0, tail = 1, n_leaves, n_sources = 0, n_components = columns.shape[0]
    cdef floating low, high
    cdef double sum_w = 0
    for i in range((end - start) * (n_components + 1)):
        sums[i] = 0
    for k in range(n_components):
        low = high = columns[k, start]
        for i in range(start + 1, end):
            low = min(low, columns[k, i])
            high = max(high, columns[k, i])
        middle[k] = low + (high - low) / 2
        half[k] = (high - low) / 2
    queue[0] = <int32_t>(2 * forces_out.shape[0])  # the root
    while head < tail:
        if n_sources > LIST - BATCH:
            evaluate_group(sources, n_sources, columns, dof, start, end, sums)
            n_sources = 0
        i = min(tail, head + BATCH)
        if n_components == 2:
            n_leaves = test_cells(&cells[0, 0], &links[0, 0], middle, half, 2, <floating>(2 * dof), queue, head, i, &tail,
                                  sources, &n_sources, leaves)
        elif n_components == 1:
            n_leaves = test_cells(&cells[0, 0], &links[0, 0], middle, half, 1, <floating>(2 * dof), queue, head, i, &tail,
                                  sources, &n_sources, leaves)
        else:
            n_leaves = test_cells(&cells[0, 0], &links[0, 0], middle, half, 3, <floating>(2 * dof), queue, head, i, &tail,
                                  sources, &n_sources, leaves)
        head = i
        for i in range(n_leaves):
            if n_sources > LIST - LEAF:
                evaluate_group(sources, n_sources, columns, dof, start, end, sums)
                n_sources = 0
            n_sources += list_points(columns, links[leaves[i], 2], links[leaves[i], 3], sources + n_sources)
    evaluate_group(sources, n_sources, columns, dof, start, end, sums)
    for i in range(start, end):
        for k in range(n_components):
            forces_out[order[i], k] = <floating>sums[(i - start) * (n_components + 1) + k]
        sum_w += sums[(i - start) * (n_components + 1) + n_components]
    return sum_w


cdef inline Py_ssize_t test_cells(
    const floating* cells, const int32_t* links, const floating* middle, const floating* half,
    int n_components,                                        # a literal where it is called
    floating softening,                                      # IN: 2 dof, for distances are doubled below
    int32_t* queue, Py_ssize_t head, Py_ssize_t end, Py_ssize_t* tail,
    floating* sources, Py_ssize_t* n_sources, int32_t* leaves_out,
) noexcept nogil:
    """Take cells head to end from the queue: accepted ones are listed, others queue their children.

    Returns how many leaves were not accepted. There is no branch to mispredict: everything is written,
    and the counts say what stays.
    """
    cdef Py_ssize_t i, k, cell, n_leaves = 0, listed = n_sources[0], queued = tail[0]
    cdef const floating* summary
    cdef floating gap, squared_distance
    cdef int accepted, n_children
    for i in range(head, end):
        cell = queue[i]
        summary = cells + cell * (n_components + 2)
        squared_distance = softening
        for k in range(n_components):
            gap = abs(summary[k] - middle[k]) - half[k]
            gap = gap + abs(gap)  # twice max(gap, 0)
            squared_distance += gap * gap
        for k in range(n_components + 1):
            sources[k * LIST + listed] = summary[k]
        accepted = 4 * summary[n_components + 1] <= squared_distance
        listed += accepted
        n_children = links[cell * 4 + 1]
        leaves_out[n_leaves] = <int32_t>cell
        n_leaves += (accepted ^ 1) & (n_children == 0)
        for k in range(1 << n_components):
            queue[queued + k] = links[cell * 4] + <int32_t>k
        queued += n_children & (accepted - 1)
    n_sources[0] = listed
    tail[0] = queued
    return n_leaves


cdef inline Py_ssize_t list_points(const floating[:, ::1] columns, Py_ssize_t start, Py_ssize_t end,
                                   floating* sources) noexcept nogil:
    """Append the points of a leaf: always LEAF are copied, end - start of them count."""
    cdef Py_ssize_t i, k
    for k in range(columns.shape[0]):
        for i in range(LEAF):
            sources[k * LIST + i] = columns[k, start + i]
    for i in range(LEAF):
        sources[columns.shape[0] * LIST + i] = 1
    return end - start


def accumulate_repulsion(
    const floating[:, ::1] columns,   # IN: from build_tree
    const floating[:, ::1] cells,     # IN: from build_tree
    const int32_t[:, ::1] links,      # IN: from build_tree
    const int32_t[:, ::1] groups,     # IN: from build_tree
    const int32_t[:, ::1] order,      # IN: from build_tree
    Py_ssize_t n_groups,
    double dof,
    int32_t[:, ::1] queue_out,        # OUT: scratch, n_threads x as many as there are cells and 8 more
    floating[:, :, ::1] sources_out,  # OUT: scratch, n_threads x (n_components + 1) x LIST_SIZE
    double[::1] sums_out,             # OUT: scratch, one value a group
    floating[:, ::1] forces_out,      # OUT: in the order of the user's points
    int n_threads,
):
    """Write sum_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return the sum of w_ij over i != j."""
    cdef Py_ssize_t group
    cdef double sum_w = 0
    for group in prange(n_groups, nogil=True, num_threads=n_threads, schedule="dynamic", chunksize=8):
        sums_out[group] = walk_group(columns, cells, links, groups[group, 0], groups[group, 1],
                                     &order[0, 0], dof, &queue_out[threadid(), 0], &sources_out[threadid(), 0, 0],
                                     forces_out)
    for group in range(n_groups):
        sum_w += sums_out[group]
    return sum_w - forces_out.shape[0]
