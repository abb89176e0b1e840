"""The flat tree of Barnes-Hut, cut from points in Z-order.

A cell is a range of points, and the children of a cell stand side by side: a row of ``links`` holds first
child, number of children (0 for a leaf), first point, end point. Points are cut into *groups*, the largest
cells of up to ``GROUP_SIZE`` points.

Codes hold up to 32 bits. Cells that are still crowded at the finest level are quantised anew inside
their own bounding box, so outliers cost no resolution and points of any spread end in cells of few
points, or in cells of coincident points, which their centre of mass represents exactly.

The tree is grown in parallel: cells of many points one after the other, then the subtree under each of
the rest on its own, in cells reserved for it (a subtree of m points has fewer than 2 m cells).
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t

from _tree cimport GROUP, LEAF, STACK
from _z_order cimport bits_per_component, cells_per_unit, sort_points

cdef extern from *:
    """
    static inline int kullback_top_bit(uint64_t x) { return 63 - __builtin_clzll(x); }
    """
    int kullback_top_bit(uint64_t x) noexcept nogil

cdef enum:
    SHARES = 128       # subtrees have at most 1 / SHARES of the points, so that threads find equal work
    TOP = 4096         # cells above the subtrees, at the most

LEAF_SIZE = LEAF
STACK_SIZE = STACK
TOP_CELLS = TOP


cdef double requantise(
    const floating[:, ::1] positions, uint64_t[:, ::1] keys, int32_t[::1] order, floating[:, ::1] columns,
    int64_t* histogram, Py_ssize_t start, Py_ssize_t end,
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
        low[k] = high[k] = positions[order[start], k]
        for i in range(start + 1, end):
            low[k] = min(low[k], <double>positions[order[i], k])
            high[k] = max(high[k], <double>positions[order[i], k])
        span = max(span, high[k] - low[k])
    scale = cells_per_unit(span, bits)
    if scale == 0:
        return 0
    sort_points(&positions[0, 0], n_components, low, scale, &keys[0, 0], &keys[1, 0], &order[0], &columns[0, 0],
                columns.shape[1], start, end, histogram, 1)
    return ldexp(span, -bits)


cdef inline Py_ssize_t first_at_least(const uint64_t* keys, Py_ssize_t start, Py_ssize_t end,
                                      uint64_t bound) noexcept nogil:
    """Return the first place whose code is not below the bound; no jump depends on a code."""
    cdef Py_ssize_t half, n_keys = end - start
    while n_keys > 0:
        half = (n_keys + 1) >> 1
        start += half & -<Py_ssize_t>(keys[start + half - 1] >> 32 < bound)
        n_keys -= half
    return start


cdef Py_ssize_t open_cell(
    const floating[:, ::1] positions, uint64_t[:, ::1] keys, int32_t[::1] order, floating[:, ::1] columns,
    int64_t* histogram, int32_t[:, ::1] links_out, double[::1] sides, double[::1] units, Py_ssize_t cell,
    Py_ssize_t slot,
) noexcept nogil:
    """Set the side of a cell and write its children, if any, from ``slot`` on; return how many."""
    cdef Py_ssize_t start = links_out[cell, 2], end = links_out[cell, 3], child, n_children = 0
    cdef int n_components = <int>positions.shape[1], level
    cdef uint64_t difference = (keys[0, start] ^ keys[0, end - 1]) >> 32, width, first
    if difference == 0 and end - start > LEAF:
        units[cell] = requantise(positions, keys, order, columns, histogram, start, end)
        difference = (keys[0, start] ^ keys[0, end - 1]) >> 32
    level = kullback_top_bit(difference) // n_components if difference != 0 else -1
    sides[cell] = units[cell] * <double>(<uint64_t>1 << (level + 1)) if end - start > 1 else 0
    links_out[cell, 0] = <int32_t>slot
    links_out[cell, 1] = 0
    if end - start <= LEAF or sides[cell] == 0:
        return 0
    width = <uint64_t>1 << (level * n_components)
    while start < end:
        first = (keys[0, start] >> 32 & ~(width - 1)) + width
        child = first_at_least(&keys[0, 0], start + 1, end, first)
        links_out[slot + n_children, 2] = <int32_t>start
        links_out[slot + n_children, 3] = <int32_t>child
        units[slot + n_children] = units[cell]
        n_children += 1
        start = child
    links_out[cell, 1] = <int32_t>n_children
    return n_children


cdef void grow_subtree(
    const floating[:, ::1] positions, uint64_t[:, ::1] keys, int32_t[::1] order, floating[:, ::1] columns,
    int64_t* histogram, int64_t* stack, int32_t[:, ::1] links_out, double[::1] sides, double[::1] units,
    Py_ssize_t root, floating[:, ::1] cells_out,
) noexcept nogil:
    """Grow and summarise everything under ``root``."""
    cdef Py_ssize_t first_point = links_out[root, 2], slot = 2 * first_point, n_stack = 1, cell, k, n_children
    stack[0] = root
    while n_stack > 0:
        n_stack -= 1
        cell = stack[n_stack]
        n_children = open_cell(positions, keys, order, columns, histogram, links_out, sides, units, cell, slot)
        for k in range(n_children):  # the last first, so that points are met in their order
            stack[n_stack + k] = slot + n_children - 1 - k
        n_stack += n_children
        slot += n_children
    for cell in range(slot - 1, 2 * first_point - 1, -1):  # children stand after their parents
        summarise_cell(columns, links_out, sides, cell, cells_out)
    summarise_cell(columns, links_out, sides, root, cells_out)


cdef void summarise_cell(const floating[:, ::1] columns, const int32_t[:, ::1] links, const double[::1] sides,
                         Py_ssize_t cell, floating[:, ::1] cells_out) noexcept nogil:
    """Write centre of mass, mass, spread (half the variance a component, times the mass) and radius.

    The radius is 1.75 or 2 times the root mean squared distance from the centre (the half diagonal of a cube full of
    points is 1.73 times), or 0.8 half diagonals of the cell where that is more: most points may lie close to their
    centre of mass and one far from there.
    """
    if columns.shape[0] == 2:
        summarise(&columns[0, 0], columns.shape[1], &links[0, 0], sides[cell], cell, 2, &cells_out[0, 0])
    elif columns.shape[0] == 1:
        summarise(&columns[0, 0], columns.shape[1], &links[0, 0], sides[cell], cell, 1, &cells_out[0, 0])
    else:
        summarise(&columns[0, 0], columns.shape[1], &links[0, 0], sides[cell], cell, 3, &cells_out[0, 0])


cdef inline void summarise(const floating* columns, Py_ssize_t stride, const int32_t* links, double side,
                           Py_ssize_t cell, int n_components, floating* cells_out) noexcept nogil:
    cdef Py_ssize_t i, k, first, end
    cdef double[3] total
    cdef double mass = links[cell * 4 + 3] - links[cell * 4 + 2], squares = 0, delta, weight
    cdef const floating* part
    cdef floating* out = cells_out + cell * (n_components + 3)
    for k in range(n_components):
        total[k] = 0
    # all distances are from one of the points or centres: their squares do not cancel
    if links[cell * 4 + 1] == 0:
        first = links[cell * 4 + 2]
        end = links[cell * 4 + 3]
        for k in range(n_components):
            for i in range(first, end):
                delta = <double>columns[k * stride + i] - columns[k * stride + first]
                total[k] += delta
                squares += delta * delta
            out[k] = <floating>(columns[k * stride + first] + total[k] / mass)
    else:
        first = links[cell * 4]
        end = first + links[cell * 4 + 1]
        for i in range(first, end):
            part = cells_out + i * (n_components + 3)
            weight = part[n_components]
            for k in range(n_components):
                delta = <double>part[k] - cells_out[first * (n_components + 3) + k]
                total[k] += weight * delta
                squares += weight * delta * delta
            squares += 2 * n_components * <double>part[n_components + 1]
        for k in range(n_components):
            out[k] = <floating>(cells_out[first * (n_components + 3) + k] + total[k] / mass)
    for k in range(n_components):
        squares -= total[k] * total[k] / mass
    if side == 0:  # coincident points have no spread, not even that of rounding
        squares = 0
    squares = max(squares, 0)
    if not squares < (1e37 if sizeof(floating) == 4 else 1e300):  # it overflows, and so does every distance to there
        squares = 1e37 if sizeof(floating) == 4 else 1e300
    out[n_components] = <floating>mass
    out[n_components + 1] = <floating>(squares / (2 * n_components))
    out[n_components + 2] = <floating>max((1.75 if n_components == 2 else 2.0) * sqrt(squares / mass), 0.4 * sqrt(<double>n_components) * side)


def build_tree(
    const floating[:, ::1] positions,  # IN
    double finest_side,                # IN: from order_points
    uint64_t[:, ::1] keys,             # IN/OUT: row 0 sorted; crowded cells are quantised anew
    int32_t[::1] order,                # IN/OUT: the points in Z-order
    floating[:, ::1] columns,          # IN/OUT: their positions, a row a component
    int64_t[:, ::1] histogram_out,     # OUT: scratch, n_threads x RADIX
    int64_t[:, ::1] stack_out,         # OUT: scratch, n_threads x STACK_SIZE
    int32_t[::1] roots_out,         # OUT: scratch, TOP_CELLS: the subtrees
    double[::1] units_out,             # OUT: scratch, one value a cell
    double[::1] sides_out,             # OUT: a cell's side; 0 for one point or coincident points
    int32_t[:, ::1] links_out,         # OUT: 2 n_points + TOP_CELLS cells; see above
    floating[:, ::1] cells_out,        # OUT: centre of mass, mass, spread, radius
    int n_threads,
):
    """Cut Z-ordered points into cells; return the number of subtrees. The root is cell 2 n_points."""
    cdef Py_ssize_t n_points = positions.shape[0], root = 2 * n_points, slot = root + 1, cell, subtree
    cdef Py_ssize_t n_children, n_subtrees = 0, most_points = max(<Py_ssize_t>GROUP, n_points // SHARES)
    links_out[root, 2] = 0
    links_out[root, 3] = <int32_t>n_points
    units_out[root] = finest_side
    with nogil:
        cell = root
        while cell < slot:  # breadth first, so that children stand after their parents
            n_children = 0
            if links_out[cell, 3] - links_out[cell, 2] > most_points and slot + 8 <= root + TOP:
                n_children = open_cell(positions, keys, order, columns, &histogram_out[0, 0], links_out, sides_out,
                                       units_out, cell, slot)
            if n_children == 0:
                roots_out[n_subtrees] = <int32_t>cell
                n_subtrees += 1
            slot += n_children
            cell += 1
    for subtree in prange(n_subtrees, nogil=True, num_threads=n_threads, schedule="dynamic"):
        grow_subtree(positions, keys, order, columns, &histogram_out[threadid(), 0], &stack_out[threadid(), 0],
                     links_out, sides_out, units_out, roots_out[subtree], cells_out)
    with nogil:
        for cell in range(slot - 1, root - 1, -1):
            if links_out[cell, 1] > 0 and links_out[cell, 0] > root:
                summarise_cell(columns, links_out, sides_out, cell, cells_out)
    return n_subtrees
