"""The flat tree of Barnes-Hut, cut from points in Z-order.

A cell is a range of points, and the children of a cell stand side by side: a row of ``links`` holds first
child, number of children (0 for a leaf), first point, end point. Points are cut into *groups*, the largest
cells of up to ``GROUP_SIZE`` points.

Codes hold 48 bits or more. Cells that are still crowded at the finest level are quantised anew inside
their own bounding box, so outliers cost no resolution and points of any spread end in cells of few
points, or in cells of coincident points, which their centre of mass represents exactly.

The tree is grown in parallel: cells of many points one after the other, then the subtree under each of
the rest on its own, in cells reserved for it (a subtree of m points has fewer than 2 m cells).
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t

from _tree cimport GROUP, LEAF
from _z_order cimport bits_per_component, cells_per_unit, encode, sort_codes

cdef extern from *:
    """
    static inline int kullback_top_bit(uint64_t x) { return 63 - __builtin_clzll(x); }
    """
    int kullback_top_bit(uint64_t x) noexcept nogil

cdef enum:
    SHARES = 64        # subtrees have at most 1 / SHARES of the points, so that threads find equal work
    TOP = 4096         # cells above the subtrees, at the most
    STACK = 16384      # > (2^3 - 1) siblings x the 2,098 levels between the largest and smallest float64

LEAF_SIZE = LEAF
GROUP_SIZE = GROUP
STACK_SIZE = STACK
TOP_CELLS = TOP


cdef double requantise(
    const floating[:, ::1] positions, uint64_t[:, ::1] codes, int32_t[:, ::1] order, int64_t* histogram,
    Py_ssize_t start, Py_ssize_t end,
) noexcept nogil:
    """Give points that share a code new codes inside their own box; return the side of its finest cell.

    Returns 0 where they coincide.
    """
    cdef double[3] low
    cdef double[3] high
    cdef double span = 0, scale
    cdef Py_ssize_t i, k, n_components = positions.shape[1]
    cdef int bits = bits_per_component(n_components)
    for k in range(n_components):
        low[k] = high[k] = positions[order[0, start], k]
        for i in range(start + 1, end):
            low[k] = min(low[k], <double>positions[order[0, i], k])
            high[k] = max(high[k], <double>positions[order[0, i], k])
        span = max(span, high[k] - low[k])
    scale = cells_per_unit(span, bits)
    if scale == 0:
        return 0
    for i in range(start, end):
        codes[0, i] = encode(&positions[order[0, i], 0], low, scale, n_components, bits)
    sort_codes(&codes[0, start], &order[0, start], &codes[1, start], &order[1, start], end - start,
               0, bits * <int>n_components, histogram, 1)
    return ldexp(span, -bits)


cdef inline Py_ssize_t first_at_least(const uint64_t* codes, Py_ssize_t start, Py_ssize_t end,
                                      uint64_t bound) noexcept nogil:
    cdef Py_ssize_t middle
    while start < end:
        middle = (start + end) >> 1
        if codes[middle] < bound:
            start = middle + 1
        else:
            end = middle
    return start


cdef Py_ssize_t open_cell(
    const floating[:, ::1] positions, uint64_t[:, ::1] codes, int32_t[:, ::1] order, int64_t* histogram,
    int32_t[:, ::1] links_out, double[::1] sides, double[::1] units, Py_ssize_t cell, Py_ssize_t slot,
) noexcept nogil:
    """Set the side of a cell and write its children, if any, from ``slot`` on; return how many."""
    cdef Py_ssize_t start = links_out[cell, 2], end = links_out[cell, 3], child, n_children = 0
    cdef int n_components = <int>positions.shape[1], level
    cdef uint64_t difference = codes[0, start] ^ codes[0, end - 1], width, first
    if difference == 0 and end - start > LEAF:
        units[cell] = requantise(positions, codes, order, histogram, start, end)
        difference = codes[0, start] ^ codes[0, end - 1]
    level = kullback_top_bit(difference) // n_components if difference != 0 else -1
    sides[cell] = ldexp(units[cell], level + 1) if end - start > 1 else 0
    links_out[cell, 0] = <int32_t>slot
    links_out[cell, 1] = 0
    if end - start <= LEAF or sides[cell] == 0:
        return 0
    width = <uint64_t>1 << (level * n_components)
    while start < end:
        first = (codes[0, start] & ~(width - 1)) + width
        child = first_at_least(&codes[0, 0], start + 1, end, first)
        links_out[slot + n_children, 2] = <int32_t>start
        links_out[slot + n_children, 3] = <int32_t>child
        units[slot + n_children] = units[cell]
        n_children += 1
        start = child
    links_out[cell, 1] = <int32_t>n_children
    return n_children


cdef void grow_subtree(
    const floating[:, ::1] positions, uint64_t[:, ::1] codes, int32_t[:, ::1] order, int64_t* histogram,
    int64_t* stack, int32_t[:, ::1] links_out, double[::1] sides, double[::1] units, Py_ssize_t root,
    floating[:, ::1] columns, double reach_factor, floating[:, ::1] cells_out,
    int32_t[:, ::1] groups_out, int32_t* n_groups_out,
) noexcept nogil:
    """Grow and summarise everything under ``root``, and list its groups from its first point on."""
    cdef Py_ssize_t first_point = links_out[root, 2], slot = 2 * first_point, n_stack = 1
    cdef Py_ssize_t cell, k, n_children, start, end, n_groups = 0, grouped = first_point
    stack[0] = root
    while n_stack > 0:
        n_stack -= 1
        cell = stack[n_stack]
        start = links_out[cell, 2]
        end = links_out[cell, 3]
        n_children = open_cell(positions, codes, order, histogram, links_out, sides, units, cell, slot)
        if start >= grouped and (end - start <= GROUP or n_children == 0):
            while grouped < end:  # coincident points may be many: cut them
                groups_out[first_point + n_groups, 0] = <int32_t>grouped
                grouped = min(grouped + GROUP, end)
                groups_out[first_point + n_groups, 1] = <int32_t>grouped
                n_groups += 1
        for k in range(n_children):  # the last first, so that points are met in their order
            stack[n_stack + k] = slot + n_children - 1 - k
        n_stack += n_children
        slot += n_children
    n_groups_out[0] = <int32_t>n_groups
    gather_points(positions, order, first_point, links_out[root, 3], columns)
    for cell in range(slot - 1, 2 * first_point - 1, -1):  # children stand after their parents
        summarise_cell(columns, links_out, sides, cell, reach_factor, cells_out)
    summarise_cell(columns, links_out, sides, root, reach_factor, cells_out)


cdef void gather_points(const floating[:, ::1] positions, const int32_t[:, ::1] order, Py_ssize_t start,
                        Py_ssize_t end, floating[:, ::1] columns_out) noexcept nogil:
    cdef Py_ssize_t i, k
    for i in range(start, end):
        for k in range(positions.shape[1]):
            columns_out[k, i] = positions[order[0, i], k]


cdef void summarise_cell(const floating[:, ::1] columns, const int32_t[:, ::1] links, const double[::1] sides,
                         Py_ssize_t cell, double reach_factor, floating[:, ::1] cells_out) noexcept nogil:
    """Write centre of mass, mass and the squared distance from which a cell is accepted."""
    cdef Py_ssize_t i, k, n_components = columns.shape[0]
    cdef double[3] total
    cdef double mass = links[cell, 3] - links[cell, 2], reach = 0
    for k in range(n_components):
        total[k] = 0
        if links[cell, 1] == 0:
            for i in range(links[cell, 2], links[cell, 3]):
                total[k] += columns[k, i]
        for i in range(links[cell, 0], links[cell, 0] + links[cell, 1]):
            total[k] += <double>cells_out[i, k] * cells_out[i, n_components]
        cells_out[cell, k] = <floating>(total[k] / mass)
    if sides[cell] > 0:
        reach = sides[cell] * reach_factor
    cells_out[cell, n_components] = <floating>mass
    cells_out[cell, n_components + 1] = <floating>(reach * reach)


def build_tree(
    const floating[:, ::1] positions,  # IN
    double finest_side,                # IN: from order_points
    double theta,                      # IN: 0 opens every cell, which makes the sum exact
    uint64_t[:, ::1] codes,            # IN/OUT: row 0 sorted; crowded cells are quantised anew
    int32_t[:, ::1] order,             # IN/OUT: row 0 in Z-order
    int64_t[:, ::1] histogram_out,     # OUT: scratch, n_threads x RADIX
    int64_t[:, ::1] stack_out,         # OUT: scratch, n_threads x STACK_SIZE
    int32_t[:, ::1] roots_out,         # OUT: scratch, 2 x TOP_CELLS: subtrees and their numbers of groups
    double[::1] units_out,             # OUT: scratch, one value a cell
    double[::1] sides_out,             # OUT: a cell's side; 0 for one point or coincident points
    int32_t[:, ::1] links_out,         # OUT: 2 n_points + TOP_CELLS cells; see above
    floating[:, ::1] columns_out,      # OUT: the points in Z-order, a row a component, and LEAF_SIZE columns more
    floating[:, ::1] cells_out,        # OUT: centre of mass, mass, squared distance of acceptance
    int32_t[:, ::1] groups_out,        # OUT: first point and end point
    int n_threads,
):
    """Cut Z-ordered points into cells and groups; return the number of groups. The root is cell 2 n_points."""
    cdef Py_ssize_t n_points = positions.shape[0], root = 2 * n_points, slot = root + 1, cell, subtree
    cdef Py_ssize_t n_children, n_subtrees = 0, n_groups = 0, most_points = max(<Py_ssize_t>GROUP, n_points // SHARES)
    # A large cell with the group inside it must never be accepted: its centre may be a diagonal away.
    cdef double reach_factor = max(1 / theta, 1.001 * sqrt(<double>positions.shape[1]))
    links_out[root, 2] = 0
    links_out[root, 3] = <int32_t>n_points
    units_out[root] = finest_side
    with nogil:
        cell = root
        while cell < slot:  # breadth first, so that children stand after their parents
            n_children = 0
            if links_out[cell, 3] - links_out[cell, 2] > most_points and slot + 8 <= root + TOP:
                n_children = open_cell(positions, codes, order, &histogram_out[0, 0], links_out, sides_out,
                                       units_out, cell, slot)
            if n_children == 0:
                roots_out[0, n_subtrees] = <int32_t>cell
                n_subtrees += 1
            slot += n_children
            cell += 1
    for subtree in prange(n_subtrees, nogil=True, num_threads=n_threads, schedule="dynamic"):
        grow_subtree(positions, codes, order, &histogram_out[threadid(), 0], &stack_out[threadid(), 0],
                     links_out, sides_out, units_out, roots_out[0, subtree], columns_out, reach_factor,
                     cells_out, groups_out, &roots_out[1, subtree])
    with nogil:
        for cell in range(slot - 1, root - 1, -1):
            if links_out[cell, 1] > 0 and links_out[cell, 0] > root:
                summarise_cell(columns_out, links_out, sides_out, cell, reach_factor, cells_out)
        n_groups = gather_groups(links_out, roots_out, n_subtrees, groups_out)
    return n_groups


cdef Py_ssize_t gather_groups(const int32_t[:, ::1] links, int32_t[:, ::1] roots, Py_ssize_t n_subtrees,
                              int32_t[:, ::1] groups_out) noexcept nogil:
    """Move the groups of the subtrees, sorted by their first points, together; return their number.

    The subtrees are few, and nearly sorted: insertion does it.
    """
    cdef Py_ssize_t i, j, start, n_groups = 0
    cdef int32_t root, count
    for i in range(1, n_subtrees):
        root = roots[0, i]
        count = roots[1, i]
        j = i
        while j > 0 and links[roots[0, j - 1], 2] > links[root, 2]:
            roots[0, j] = roots[0, j - 1]
            roots[1, j] = roots[1, j - 1]
            j -= 1
        roots[0, j] = root
        roots[1, j] = count
    for i in range(n_subtrees):
        start = links[roots[0, i], 2]
        for j in range(roots[1, i]):
            groups_out[n_groups, 0] = groups_out[start + j, 0]
            groups_out[n_groups, 1] = groups_out[start + j, 1]
            n_groups += 1
    return n_groups
