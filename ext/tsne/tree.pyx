"""The flat tree of Barnes-Hut, cut from points in Z-order.

A cell is a range of points, and the children of a cell stand side by side: a row of ``links`` holds first
child, number of children (0 for a leaf), first point, end point. Points are cut into *groups*, the largest
cells of up to ``GROUP_SIZE`` points.

Codes hold up to 32 bits. Cells that are still crowded at the finest level are quantised anew inside
their own bounding box, so outliers cost no resolution and points of any spread end in cells of few
points, or in cells of coincident points, which their centre of mass represents exactly. A cell that is so small
against the kernel that no walk opens it is not divided either, be its points up to ``GROUP`` many.

The tree is grown in parallel: cells of many points one after the other, in the first places, then the subtree under
each of the rest on its own. A thread takes places for ``TAKEN`` cells at a time, so that they stand side by side in
memory, however many there are: none is touched, and zeroed by the system, that no cell is written to.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from tsne.nodes cimport GROUP, LEAF, STACK, UNOPENED
from tsne.codes cimport bits_per_component, cells_per_unit, sort_range

cdef extern from *:
    """
    static inline int kullback_top_bit(uint64_t x) { return 63 - __builtin_clzll(x); }
    static inline int64_t kullback_take(int64_t* next, int64_t n) {
        return __atomic_fetch_add(next, n, __ATOMIC_RELAXED);
    }
    """
    int kullback_top_bit(uint64_t x) noexcept nogil
    int64_t kullback_take(int64_t* next, int64_t n) noexcept nogil

cdef enum:
    SHARES = 128       # subtrees have at most 1 / SHARES of the points, so that threads find equal work
    TOP = 4096         # cells above the subtrees, at the most
    TAKEN = 64         # places that a thread takes at a time

LEAF_SIZE = LEAF
STACK_SIZE = STACK
TOP_CELLS = TOP


def most_cells(Py_ssize_t n_points, int n_threads):
    """Return how many places the cells may need: up to 7 of those taken at a time are too few for the next children."""
    return TOP + 2 * n_points * TAKEN // (TAKEN - 7) + (n_threads + 1) * TAKEN


cdef struct Parts:     # of the tree that are not of the positions' type
    uint32_t* codes
    int32_t* order
    uint64_t* keys     # scratch
    uint64_t* others   # scratch
    int32_t* links
    double* sides
    double* units
    Py_ssize_t stride  # of the columns
    int n_components
    int64_t* next      # first place that no thread has taken


cdef double requantise(Parts* parts, floating* columns, floating* row, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Give points that share a code new codes inside their own box; return the side of its finest cell.

    Returns 0 where they coincide.
    """
    cdef double[3] low
    cdef double[3] high
    cdef double span = 0, scale
    cdef Py_ssize_t i, k
    cdef int bits = bits_per_component(parts.n_components)
    for k in range(parts.n_components):
        low[k] = high[k] = columns[k * parts.stride + start]
        for i in range(start + 1, end):
            low[k] = min(low[k], <double>columns[k * parts.stride + i])
            high[k] = max(high[k], <double>columns[k * parts.stride + i])
        span = max(span, high[k] - low[k])
    scale = cells_per_unit(span, bits, 1e-37 if sizeof(floating) == 4 else 1e-300)
    if scale == 0:
        return 0
    sort_range(columns, parts.stride, parts.n_components, parts.order, parts.codes, start, end, low, scale, 32,
               parts.keys + start, parts.others + start, row + start)
    return ldexp(span, -bits)


cdef inline Py_ssize_t first_at_least(const uint32_t* codes, Py_ssize_t start, Py_ssize_t end,
                                      uint64_t bound) noexcept nogil:
    """Return the first place whose code is not below the bound; no jump depends on a code."""
    cdef Py_ssize_t half, n_codes = end - start
    while n_codes > 0:
        half = (n_codes + 1) >> 1
        start += half & -<Py_ssize_t>(codes[start + half - 1] < bound)
        n_codes -= half
    return start


cdef Py_ssize_t open_cell(Parts* parts, floating* columns, floating* row, floating unopened, Py_ssize_t cell,
                          Py_ssize_t slot, floating* cells_out) noexcept nogil:
    """Set the side of a cell and write its children from ``slot`` on; return how many. Summarise one without any."""
    cdef uint32_t* codes = parts.codes
    cdef int32_t* links = parts.links
    cdef Py_ssize_t start = links[cell * 4 + 2], end = links[cell * 4 + 3], child, n_children = 0
    cdef int n_components = parts.n_components, level
    cdef uint64_t difference = codes[start] ^ codes[end - 1], width, first
    cdef double side
    cdef floating radius
    level = kullback_top_bit(difference) // n_components if difference != 0 else -1
    side = parts.units[cell] * <double>(<uint64_t>1 << (level + 1)) if end - start > 1 else 0
    links[cell * 4] = <int32_t>slot
    links[cell * 4 + 1] = 0
    parts.sides[cell] = side
    if LEAF < end - start <= GROUP and 0.16 * n_components * side * side <= unopened:
        summarise_cell(parts, columns, cell, cells_out)
        radius = cells_out[cell * (n_components + 3) + n_components + 2]
        if radius * radius <= unopened:
            return 0
    if difference == 0 and end - start > LEAF:
        parts.units[cell] = requantise(parts, columns, row, start, end)
        difference = codes[start] ^ codes[end - 1]
        level = kullback_top_bit(difference) // n_components if difference != 0 else -1
        parts.sides[cell] = side = parts.units[cell] * <double>(<uint64_t>1 << (level + 1))
    if end - start <= LEAF or side == 0:
        summarise_cell(parts, columns, cell, cells_out)
        return 0
    width = <uint64_t>1 << (level * n_components)
    while start < end:
        first = (codes[start] & ~(width - 1)) + width
        child = first_at_least(codes, start + 1, end, first)
        links[(slot + n_children) * 4 + 2] = <int32_t>start
        links[(slot + n_children) * 4 + 3] = <int32_t>child
        parts.units[slot + n_children] = parts.units[cell]
        n_children += 1
        start = child
    links[cell * 4 + 1] = <int32_t>n_children
    return n_children


cdef void grow_subtree(Parts* parts, floating* columns, floating* row, int64_t* places, int64_t* stack,
                       floating unopened, Py_ssize_t root, floating* cells_out) noexcept nogil:
    """Grow and summarise everything under ``root``; ``places`` are the first and the end of those the thread has."""
    cdef Py_ssize_t n_stack = 1, cell, slot, k, n_children
    stack[0] = root
    while n_stack > 0:
        n_stack -= 1
        cell = stack[n_stack]
        if cell < 0:  # all under it is summarised
            summarise_cell(parts, columns, ~cell, cells_out)
            continue
        if places[1] - places[0] < 8:
            places[0] = kullback_take(parts.next, TAKEN)
            places[1] = places[0] + TAKEN
        slot = places[0]
        n_children = open_cell(parts, columns, row, unopened, cell, slot, cells_out)
        if n_children > 0:
            stack[n_stack] = ~cell
            n_stack += 1
        for k in range(n_children):  # the last first, so that points are met in their order
            stack[n_stack + k] = slot + n_children - 1 - k
        n_stack += n_children
        places[0] += n_children


cdef inline void summarise_cell(const Parts* parts, const floating* columns, Py_ssize_t cell,
                                floating* cells_out) noexcept nogil:
    """Write centre of mass, mass, spread (half the variance a component, times the mass) and radius.

    The radius is 1.75 or 2 times the root mean squared distance from the centre (the half diagonal of a cube full of
    points is 1.73 times), or 0.8 half diagonals of the cell where that is more: most points may lie close to their
    centre of mass and one far from there.
    """
    if parts.n_components == 2:
        summarise(columns, parts.stride, parts.links, parts.sides[cell], cell, 2, cells_out)
    elif parts.n_components == 1:
        summarise(columns, parts.stride, parts.links, parts.sides[cell], cell, 1, cells_out)
    else:
        summarise(columns, parts.stride, parts.links, parts.sides[cell], cell, 3, cells_out)


cdef inline void summarise(const floating* columns, Py_ssize_t stride, const int32_t* links, double side,
                           Py_ssize_t cell, int n_components, floating* cells_out) noexcept nogil:
    cdef Py_ssize_t i, j, k, first, end
    cdef double[3] total
    cdef double low
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
            low = columns[k * stride + first]
            i = first
            while i < end:  # always LEAF points, which vectorises
                for j in range(LEAF):
                    delta = <double>columns[k * stride + i + j] - low if i + j < end else 0
                    total[k] += delta
                    squares += delta * delta
                i += LEAF
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
    out[n_components + 2] = <floating>max((1.75 if n_components == 2 else 2.0) * sqrt(squares / mass),
                                          0.4 * sqrt(<double>n_components) * side)


def build_tree(
    double finest_side,                # IN: from order_points
    double theta, double dof,          # IN: of the walk
    uint32_t[::1] codes,               # IN/OUT: from order_points; crowded cells are quantised anew
    int32_t[::1] order,                # IN/OUT: the points in Z-order
    floating[:, ::1] columns,          # IN/OUT: their positions, a row a component
    uint64_t[:, ::1] keys_out,         # OUT: scratch, 2 x n_points
    floating[::1] row_out,             # OUT: scratch, n_points
    int64_t[:, ::1] stack_out,         # OUT: scratch, n_threads x (2 STACK_SIZE + 2)
    int32_t[::1] roots_out,            # OUT: scratch, TOP_CELLS: the subtrees
    double[::1] units_out,             # OUT: scratch, one value a cell
    double[::1] sides_out,             # OUT: a cell's side; 0 for one point or coincident points
    int32_t[:, ::1] links_out,         # OUT: most_cells; see above
    floating[:, ::1] cells_out,        # OUT: centre of mass, mass, spread, radius
    int n_threads,
):
    """Cut Z-ordered points into cells; return the number of subtrees. The root is cell 0."""
    cdef Py_ssize_t n_points = order.shape[0], slot = 1, cell, subtree
    cdef Py_ssize_t n_children, n_subtrees = 0, most_points = max(<Py_ssize_t>GROUP, n_points // SHARES)
    # the radius, squared, of a cell that every target accepts: in the arithmetic of the walk, which has to agree
    cdef floating squared_theta = <floating>(theta * theta), softening = <floating>(dof / 2)
    cdef floating unopened = <floating>UNOPENED * squared_theta * softening
    cdef Parts parts
    cdef int64_t[16] next_place  # in the middle, as threads that write it would take its whole line from the others
    parts.codes, parts.order, parts.links = &codes[0], &order[0], &links_out[0, 0]
    parts.keys, parts.others = &keys_out[0, 0], &keys_out[1, 0]
    parts.sides, parts.units = &sides_out[0], &units_out[0]
    parts.stride, parts.n_components = columns.shape[1], <int>columns.shape[0]
    parts.next = &next_place[8]
    parts.next[0] = TOP
    links_out[0, 2] = 0
    links_out[0, 3] = <int32_t>n_points
    units_out[0] = finest_side
    stack_out[:, :2] = 0
    with nogil:
        cell = 0
        while cell < slot:  # breadth first, so that children stand after their parents
            n_children = 0
            if links_out[cell, 3] - links_out[cell, 2] > most_points and slot + 8 <= TOP:
                n_children = open_cell(&parts, &columns[0, 0], &row_out[0], unopened, cell, slot, &cells_out[0, 0])
            if n_children == 0:
                roots_out[n_subtrees] = <int32_t>cell
                n_subtrees += 1
            slot += n_children
            cell += 1
    for subtree in prange(n_subtrees, nogil=True, num_threads=n_threads, schedule="dynamic"):
        grow_subtree(&parts, &columns[0, 0], &row_out[0], &stack_out[threadid(), 0], &stack_out[threadid(), 2],
                     unopened, roots_out[subtree], &cells_out[0, 0])
    with nogil:
        for cell in range(slot - 1, -1, -1):
            if links_out[cell, 1] > 0 and links_out[cell, 0] < TOP:
                summarise_cell(&parts, &columns[0, 0], cell, &cells_out[0, 0])
    return n_subtrees
