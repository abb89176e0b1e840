"""The flat tree of Barnes-Hut, cut from points in Z-order.

A cell is a range of points, and the children of a cell stand side by side (nodes.pxd). Cells of up to ``LEAF`` points
are not divided.

Codes hold up to 32 bits. A cell that is still crowded at the finest level is quantised anew inside its own bounding
box. So outliers cost no resolution, and points of any spread end in cells of few points or in cells of coincident
points, which their centre of mass represents exactly. A cell of up to ``GROUP`` points that is so small against the
kernel that no walk opens it is not divided either.

The tree is grown in parallel. First the cells of many points are divided one after the other, in the first places of
the arrays; then the subtree under each remaining cell is grown on its own. A thread takes places for ``TAKEN`` cells at
a time, so that cells stand close together in memory however many places there are. A page to which no cell is written
is never touched, so the system need not provide it.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from common.threads cimport startable
from tsne.codes cimport Points, bits_per_component, cells_per_unit, sort_range
from tsne.kernels cimport least_scale
from tsne.nodes cimport GROUP, LEAF, STACK, UNOPENED

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
    TOP = 4096         # places for cells above the subtrees
    TAKEN = 64         # places that a thread takes at a time

LEAF_SIZE = LEAF
STACK_SIZE = STACK
TOP_CELLS = TOP


def most_cells(Py_ssize_t n_points, int n_threads):
    """Return how many places the cells may need.

    Of the places taken at a time, up to 7 are left over because they are too few for the next children.
    """
    return TOP + 2 * n_points * TAKEN // (TAKEN - 7) + (n_threads + 1) * TAKEN


cdef struct Tree:        # but for the arrays of the positions' type
    Points points
    int32_t* links
    double* sides
    double* units
    double unopened      # squared radius of the largest cell that every target accepts
    int64_t* next_place  # first place that no thread has taken
    const void* masses   # of the positions' type, in the order of the user's points; NULL: all are 1


cdef double requantise(const Points* points, floating* columns, floating* row, Py_ssize_t start,
                       Py_ssize_t end) noexcept nogil:
    """Give points that share a code new codes inside their own box; return the side of its finest cell.

    Return 0 where the points coincide.
    """
    cdef double[3] low
    cdef double[3] high
    cdef double span = 0, scale
    cdef Py_ssize_t i, k
    cdef int bits = bits_per_component(points.n_components)
    for k in range(points.n_components):
        low[k] = high[k] = columns[k * points.stride + start]
        for i in range(start + 1, end):
            low[k] = min(low[k], <double>columns[k * points.stride + i])
            high[k] = max(high[k], <double>columns[k * points.stride + i])
        span = max(span, high[k] - low[k])
    scale = cells_per_unit(span, bits, 1e-37 if sizeof(floating) == 4 else 1e-300)
    if scale == 0:
        return 0
    sort_range(points, columns, start, end, start, low, scale, 32, row)
    return ldexp(span, -bits)


cdef inline Py_ssize_t first_at_least(const uint32_t* codes, Py_ssize_t start, Py_ssize_t end,
                                      uint64_t bound) noexcept nogil:
    """Return the first place from ``start`` whose code is not below the bound; no jump depends on a code."""
    cdef Py_ssize_t half, n_codes = end - start
    while n_codes > 0:
        half = (n_codes + 1) >> 1
        start += half & -<Py_ssize_t>(codes[start + half - 1] < bound)
        n_codes -= half
    return start


cdef inline int common_level(const uint32_t* codes, Py_ssize_t start, Py_ssize_t end, int n_components) noexcept nogil:
    """Return the level of the highest bit in which the codes of sorted points differ, -1 where they are equal."""
    cdef uint64_t difference = codes[start] ^ codes[end - 1]
    return kullback_top_bit(difference) // n_components if difference != 0 else -1


cdef inline Py_ssize_t write_children(Tree* tree, Py_ssize_t cell, Py_ssize_t slot, int level) noexcept nogil:
    """Cut the points of a cell where their codes differ at a level; return the number of children from ``slot`` on."""
    cdef const uint32_t* codes = tree.points.codes
    cdef int32_t* links = tree.links
    cdef Py_ssize_t start = links[cell * 4 + 2], end = links[cell * 4 + 3], child, n_children = 0
    cdef uint64_t first, width = <uint64_t>1 << (level * tree.points.n_components)
    while start < end:
        first = (codes[start] & ~(width - 1)) + width
        child = first_at_least(codes, start + 1, end, first)
        links[(slot + n_children) * 4 + 2] = <int32_t>start
        links[(slot + n_children) * 4 + 3] = <int32_t>child
        tree.units[slot + n_children] = tree.units[cell]
        n_children += 1
        start = child
    links[cell * 4 + 1] = <int32_t>n_children
    return n_children


cdef Py_ssize_t open_cell(Tree* tree, floating* columns, floating* row, Py_ssize_t cell, Py_ssize_t slot,
                          floating* cells_out) noexcept nogil:
    """Set the side of a cell and write its children from ``slot`` on; return how many they are.

    A cell that is not divided is summarised.
    """
    cdef Py_ssize_t start = tree.links[cell * 4 + 2], end = tree.links[cell * 4 + 3]
    cdef int n_components = tree.points.n_components, level = common_level(tree.points.codes, start, end, n_components)
    cdef double side = tree.units[cell] * <double>(<uint64_t>1 << (level + 1)) if end - start > 1 else 0
    cdef floating radius, unopened = <floating>tree.unopened
    tree.links[cell * 4] = <int32_t>slot
    tree.links[cell * 4 + 1] = 0
    tree.sides[cell] = side
    if LEAF < end - start <= GROUP and 0.16 * n_components * side * side <= unopened:
        summarise_cell(tree, columns, cell, cells_out)
        radius = cells_out[cell * (n_components + 3) + n_components + 2]
        if radius * radius <= unopened:
            return 0
    if level < 0 and end - start > LEAF:
        tree.units[cell] = requantise(&tree.points, columns, row, start, end)
        level = common_level(tree.points.codes, start, end, n_components)
        tree.sides[cell] = side = tree.units[cell] * <double>(<uint64_t>1 << (level + 1))
    if end - start <= LEAF or side == 0:
        summarise_cell(tree, columns, cell, cells_out)
        return 0
    return write_children(tree, cell, slot, level)


cdef void grow_subtree(
    Tree* tree, floating* columns, floating* row,
    int64_t* places,        # IN/OUT: the first and the end of the places that the thread has
    int64_t* stack,         # OUT: scratch
    Py_ssize_t root, floating* cells_out,
) noexcept nogil:
    """Grow and summarise everything under ``root``."""
    cdef Py_ssize_t n_stack = 1, cell, slot, k, n_children
    stack[0] = root
    while n_stack > 0:
        n_stack -= 1
        cell = stack[n_stack]
        if cell < 0:  # everything under it is summarised
            summarise_cell(tree, columns, ~cell, cells_out)
            continue
        if places[1] - places[0] < 8:
            places[0] = kullback_take(tree.next_place, TAKEN)
            places[1] = places[0] + TAKEN
        slot = places[0]
        n_children = open_cell(tree, columns, row, cell, slot, cells_out)
        if n_children > 0:
            stack[n_stack] = ~cell
            n_stack += 1
        for k in range(n_children):  # the last first, so that points are visited in their order
            stack[n_stack + k] = slot + n_children - 1 - k
        n_stack += n_children
        places[0] += n_children


cdef Py_ssize_t grow_top(Tree* tree, floating* columns, floating* row, int32_t[::1] roots_out, Py_ssize_t* n_cells_out,
                         floating* cells_out) noexcept nogil:
    """Divide the cells of many points, breadth first, so that children stand after their parents.

    Write the cells that are left as roots of subtrees, and return how many they are.
    """
    cdef const int32_t* links = tree.links
    cdef Py_ssize_t cell = 0, n_cells = 1, n_children, n_roots = 0
    cdef Py_ssize_t most_points = max(<Py_ssize_t>GROUP, links[3] // SHARES)
    while cell < n_cells:
        n_children = 0
        if links[cell * 4 + 3] - links[cell * 4 + 2] > most_points and n_cells + 8 <= TOP:
            n_children = open_cell(tree, columns, row, cell, n_cells, cells_out)
        if n_children == 0:
            roots_out[n_roots] = <int32_t>cell
            n_roots += 1
        n_cells += n_children
        cell += 1
    n_cells_out[0] = n_cells
    return n_roots


cdef inline void summarise_cell(const Tree* tree, const floating* columns, Py_ssize_t cell,
                                floating* cells_out) noexcept nogil:
    """Write centre of mass, mass, spread and radius of a cell; the spread is half the variance a component, times mass.

    The radius is 1.75 times the root mean squared distance from the centre in two dimensions, else 2 times (the half
    diagonal of a cube full of points is 1.73 times it), or 0.8 half diagonals of the cell where that is more: most
    points may lie close to their centre of mass and one far from there.
    """
    if tree.masses != NULL:
        summarise_masses(tree, columns, cell, cells_out)
    elif tree.points.n_components == 2:
        summarise(tree, columns, cell, 2, cells_out)
    elif tree.points.n_components == 1:
        summarise(tree, columns, cell, 1, cells_out)
    else:
        summarise(tree, columns, cell, 3, cells_out)


cdef inline double sum_points(const floating* columns, Py_ssize_t stride, Py_ssize_t start, Py_ssize_t end,
                              int n_components, double* total_out) noexcept nogil:
    """Write the sum of the differences of points from the first one; return the sum of the squared distances."""
    cdef Py_ssize_t i, j, k
    cdef double low, delta, squares = 0
    for k in range(n_components):
        total_out[k] = 0
        low = columns[k * stride + start]
        i = start
        while i < end:  # always LEAF points, which vectorises
            for j in range(LEAF):
                delta = <double>columns[k * stride + i + j] - low if i + j < end else 0
                total_out[k] += delta
                squares += delta * delta
            i += LEAF
    return squares


cdef inline double sum_children(const floating* cells, Py_ssize_t start, Py_ssize_t end, int n_components,
                                double* total_out) noexcept nogil:
    """Do the same for the mass in child cells, from the centre of the first one; spreads are added to the squares."""
    cdef Py_ssize_t i, k
    cdef const floating* part
    cdef const floating* first = cells + start * (n_components + 3)
    cdef double weight, delta, squares = 0
    for k in range(n_components):
        total_out[k] = 0
    for i in range(start, end):
        part = cells + i * (n_components + 3)
        weight = part[n_components]
        for k in range(n_components):
            delta = <double>part[k] - first[k]
            total_out[k] += weight * delta
            squares += weight * delta * delta
        squares += 2 * n_components * <double>part[n_components + 1]
    return squares


cdef inline void summarise(const Tree* tree, const floating* columns, Py_ssize_t cell, int n_components,
                           floating* cells_out) noexcept nogil:
    """Summarise a cell; distances are from one of its points or children, so that their squares do not cancel."""
    cdef const int32_t* links = tree.links + cell * 4
    cdef double mass = links[3] - links[2], squares
    cdef double[3] total
    cdef Py_ssize_t k
    cdef floating* out = cells_out + cell * (n_components + 3)
    if links[1] == 0:
        squares = sum_points(columns, tree.points.stride, links[2], links[3], n_components, total)
        for k in range(n_components):
            out[k] = <floating>(columns[k * tree.points.stride + links[2]] + total[k] / mass)
    else:
        squares = sum_children(cells_out, links[0], links[0] + links[1], n_components, total)
        for k in range(n_components):
            out[k] = <floating>(cells_out[links[0] * (n_components + 3) + k] + total[k] / mass)
    finish_summary(tree, cell, n_components, mass, squares, total, out)


cdef inline void finish_summary(const Tree* tree, Py_ssize_t cell, int n_components, double mass, double squares,
                                const double* total, floating* out) noexcept nogil:
    """Write mass, spread and radius from sums over the points of a cell, whose centre of mass is written already."""
    cdef Py_ssize_t k
    cdef double largest = 1e37 if sizeof(floating) == 4 else 1e300
    for k in range(n_components):
        squares -= total[k] * total[k] / mass
    if tree.sides[cell] == 0:  # coincident points have no spread, not even that of rounding
        squares = 0
    squares = max(squares, 0)
    if not squares < largest:  # it overflows, and so does every distance to there
        squares = largest
    out[n_components] = <floating>mass
    out[n_components + 1] = <floating>(squares / (2 * n_components))
    out[n_components + 2] = <floating>max((1.75 if n_components == 2 else 2.0) * sqrt(squares / mass),
                                          0.4 * sqrt(<double>n_components) * tree.sides[cell])


cdef double sum_masses(const Tree* tree, const floating* columns, Py_ssize_t start, Py_ssize_t end,
                       double* total_out, double* mass_out) noexcept nogil:
    """Write the sum of the masses of points, and do as `sum_points` with differences and squares times masses."""
    cdef const floating* masses = <const floating*>tree.masses
    cdef Py_ssize_t i, k, stride = tree.points.stride
    cdef double mass, delta, squares = 0
    mass_out[0] = 0
    for k in range(tree.points.n_components):
        total_out[k] = 0
    for i in range(start, end):
        mass = masses[tree.points.order[i]]
        mass_out[0] += mass
        for k in range(tree.points.n_components):
            delta = <double>columns[k * stride + i] - columns[k * stride + start]
            total_out[k] += mass * delta
            squares += mass * delta * delta
    return squares


cdef void summarise_masses(const Tree* tree, const floating* columns, Py_ssize_t cell,
                           floating* cells_out) noexcept nogil:
    """Summarise a cell of points with masses, or of such cells."""
    cdef const int32_t* links = tree.links + cell * 4
    cdef int k, n_components = tree.points.n_components
    cdef Py_ssize_t i
    cdef double mass = 0, squares
    cdef double[3] total
    cdef floating* out = cells_out + cell * (n_components + 3)
    if links[1] == 0:
        squares = sum_masses(tree, columns, links[2], links[3], total, &mass)
        for k in range(n_components):
            out[k] = <floating>(columns[k * tree.points.stride + links[2]] + total[k] / mass)
    else:
        squares = sum_children(cells_out, links[0], links[0] + links[1], n_components, total)
        for i in range(links[0], links[0] + links[1]):
            mass += cells_out[i * (n_components + 3) + n_components]
        for k in range(n_components):
            out[k] = <floating>(cells_out[links[0] * (n_components + 3) + k] + total[k] / mass)
    finish_summary(tree, cell, n_components, mass, squares, total, out)


def build_tree(
    points,                            # IN/OUT: a ZOrder; codes and order change where cells are quantised anew
    floating[:, ::1] columns,          # IN/OUT: the positions of the points, a row a component
    const floating[::1] masses,        # IN: in the order of the user's points; empty: all are 1
    double theta, double dof,          # IN: of the walk
    int64_t[:, ::1] stack_out,         # OUT: scratch, n_threads x (2 STACK_SIZE + 2)
    tree,                              # OUT: see kullback.tsne.barnes_hut.Tree
    int n_threads,
):
    """Cut points in Z-order into cells; return the number of subtrees. The root is cell 0."""
    cdef uint32_t[::1] codes = points.codes
    cdef int32_t[::1] order = points.order, roots = tree.roots
    cdef uint64_t[:, ::1] keys = points.keys
    cdef floating[::1] row = points.row
    cdef int32_t[:, ::1] links = tree.links
    cdef double[::1] sides = tree.sides, units = tree.units
    cdef floating[:, ::1] cells = tree.cells
    cdef Py_ssize_t cell, subtree, n_subtrees, n_top = 0
    # in the arithmetic of the walk, which has to agree
    cdef floating squared_theta = <floating>(theta * theta), least = <floating>least_scale(dof)
    cdef Tree grown
    cdef int64_t[16] next_place  # only the middle one is used: no variable of other threads shares its cache line
    grown.points.codes, grown.points.order = &codes[0], &order[0]
    grown.points.keys, grown.points.others = &keys[0, 0], &keys[1, 0]
    grown.points.stride, grown.points.n_components = columns.shape[1], <int>columns.shape[0]
    grown.links, grown.sides, grown.units = &links[0, 0], &sides[0], &units[0]
    grown.unopened = <floating>UNOPENED * squared_theta * least
    grown.next_place = &next_place[8]
    grown.next_place[0] = TOP
    grown.masses = &masses[0] if masses.shape[0] else NULL
    links[0, 2], links[0, 3] = 0, <int32_t>order.shape[0]
    units[0] = points.finest_side
    stack_out[:, :2] = 0
    with nogil:
        n_subtrees = grow_top(&grown, &columns[0, 0], &row[0], roots, &n_top, &cells[0, 0])
    for subtree in prange(n_subtrees, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        grow_subtree(&grown, &columns[0, 0], &row[0], &stack_out[threadid(), 0], &stack_out[threadid(), 2],
                     roots[subtree], &cells[0, 0])
    with nogil:
        for cell in range(n_top - 1, -1, -1):
            if links[cell, 1] > 0 and links[cell, 0] < TOP:
                summarise_cell(&grown, &columns[0, 0], cell, &cells[0, 0])
    return n_subtrees
