"""Barnes-Hut repulsion of t-SNE in one, two or three dimensions.

Barnes and Hut (1986) replace far cells of points by their centre of mass; van der Maaten (2014)
brought that to t-SNE. Here the tree is flat: points are sorted along a Z-order (Morton) curve, a cell
is a range of them, and the children of a cell stand side by side. Points are cut into *groups*, the
largest cells of up to ``GROUP_SIZE`` points, and the tree is walked once a group, against the group's
bounding box. What the walk accepts (far cells and near points alike, as position and mass) goes into
one list, and every point of the group is evaluated against that list by plain unit-stride loops.

A cell of side s is accepted where s <= theta * (distance from the box to its centre of mass), so no
point of the group sees a cell that the point's own walk would have opened. Every point meets itself
once, with w = 1 and no force; ``sum_q`` takes the n self terms off at the end.

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

from _bounds cimport BOUND_BLOCK, bound_all
from _divergence_terms cimport log_fast
from _exp cimport exp_negative

cdef extern from *:
    """
    static inline int kullback_top_bit(uint64_t x) { return 63 - __builtin_clzll(x); }
    """
    int kullback_top_bit(uint64_t x) noexcept nogil

cdef enum:
    DIGIT_BITS = 10    # of the radix sort: 1,024 write streams stay within the L1 and TLB reach
    N_DIGITS = 1 << DIGIT_BITS
    LEAF = 8           # measured on 63,000 and 10^6 points: 8 to 16 are equal, 4 and 32 slower
    GROUP = 64
    LIST = 2048        # entries of an interaction list before it is evaluated and emptied
    LANES = 16         # of the widest vectors, which divide LIST
    BATCH = 256        # cells of the walk between two looks at the space left in the list
    SHARES = 64        # subtrees have at most 1 / SHARES of the points, so that threads find equal work
    TOP = 4096         # cells above the subtrees, at the most
    SORTED_BITS = 30   # leading bits that are radix-sorted; equal ones are put right by insertion
    STACK = 16384      # > (2^3 - 1) siblings x the 2,098 levels between the largest and smallest float64

LEAF_SIZE = LEAF
GROUP_SIZE = GROUP
LIST_SIZE = LIST
RADIX = N_DIGITS
BLOCK_POINTS = BOUND_BLOCK
STACK_SIZE = STACK
TOP_CELLS = TOP


# ---- Z-order -------------------------------------------------------------------------------------

cdef inline int bits_per_component(Py_ssize_t n_components) noexcept nogil:
    """24 bits a component hold every bit of a float32 in two dimensions; three have room for 20."""
    return 48 if n_components == 1 else 24 if n_components == 2 else 20


cdef inline uint64_t spread_by_two(uint64_t x) noexcept nogil:
    """Put one zero bit between the low 32 bits of x."""
    x = (x | (x << 16)) & 0x0000FFFF0000FFFFULL
    x = (x | (x << 8)) & 0x00FF00FF00FF00FFULL
    x = (x | (x << 4)) & 0x0F0F0F0F0F0F0F0FULL
    x = (x | (x << 2)) & 0x3333333333333333ULL
    return (x | (x << 1)) & 0x5555555555555555ULL


cdef inline uint64_t spread_by_three(uint64_t x) noexcept nogil:
    """Put two zero bits between the low 21 bits of x."""
    x = (x | (x << 32)) & 0x001F00000000FFFFULL
    x = (x | (x << 16)) & 0x001F0000FF0000FFULL
    x = (x | (x << 8)) & 0x100F00F00F00F00FULL
    x = (x | (x << 4)) & 0x10C30C30C30C30C3ULL
    return (x | (x << 2)) & 0x1249249249249249ULL


cdef inline uint64_t quantise(double offset, double scale, int bits) noexcept nogil:
    """Return the cell of a coordinate; whatever is not a number goes to cell 0."""
    cdef double cell = offset * scale
    cdef double last = ldexp(1.0, bits) - 1
    if not cell > 0:
        return 0
    return <uint64_t>(cell if cell < last else last)


cdef inline double cells_per_unit(double span, int bits) noexcept nogil:
    """Return 0 where points coincide, or are apart by so little (1e-285) that it makes no difference."""
    return ldexp(1.0, bits) / span if span >= ldexp(1.0, bits) * 1e-300 else 0


cdef inline uint64_t encode(const floating* position, const double* low, double scale,
                            Py_ssize_t n_components, int bits) noexcept nogil:
    cdef uint64_t x = quantise(position[0] - low[0], scale, bits)
    if n_components == 1:
        return x
    cdef uint64_t y = quantise(position[1] - low[1], scale, bits)
    if n_components == 2:
        return spread_by_two(x) | (spread_by_two(y) << 1)
    cdef uint64_t z = quantise(position[2] - low[2], scale, bits)
    return spread_by_three(x) | (spread_by_three(y) << 1) | (spread_by_three(z) << 2)


cdef void sort_codes(
    uint64_t* codes, int32_t* order,                  # IN/OUT
    uint64_t* codes_scratch, int32_t* order_scratch,  # OUT: scratch
    Py_ssize_t n_points, int shift, int n_bits,       # IN: sort by bits shift to n_bits
    int64_t* histogram,                               # OUT: scratch, n_threads x N_DIGITS
    int n_threads,
) noexcept nogil:
    """Sort by code, stably, least significant digit first; the outcome does not depend on n_threads."""
    cdef Py_ssize_t chunk, i, digit, seen, count, share = (n_points + n_threads - 1) // n_threads
    cdef uint64_t* keys = codes
    cdef uint64_t* keys_out = codes_scratch
    cdef int32_t* values = order
    cdef int32_t* values_out = order_scratch
    cdef uint64_t* keys_swap
    cdef int32_t* values_swap
    cdef bint constant
    while shift < n_bits:
        for chunk in prange(n_threads, num_threads=n_threads, schedule="static"):
            count_digits(keys, chunk * share, min((chunk + 1) * share, n_points), shift,
                         histogram + chunk * N_DIGITS)
        seen = 0
        constant = False
        for digit in range(N_DIGITS):
            i = seen
            for chunk in range(n_threads):
                count = histogram[chunk * N_DIGITS + digit]
                histogram[chunk * N_DIGITS + digit] = seen
                seen += count
            constant |= seen - i == n_points
        if not constant:
            for chunk in prange(n_threads, num_threads=n_threads, schedule="static"):
                scatter_digits(keys, values, keys_out, values_out, chunk * share,
                               min((chunk + 1) * share, n_points), shift, histogram + chunk * N_DIGITS)
            keys_swap = keys
            keys = keys_out
            keys_out = keys_swap
            values_swap = values
            values = values_out
            values_out = values_swap
        shift += DIGIT_BITS
    if keys != codes:
        for i in range(n_points):
            codes[i] = keys[i]
            order[i] = values[i]


cdef void count_digits(const uint64_t* keys, Py_ssize_t start, Py_ssize_t end, int shift,
                       int64_t* histogram) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(N_DIGITS):
        histogram[i] = 0
    for i in range(start, end):
        histogram[(keys[i] >> shift) & (N_DIGITS - 1)] += 1


cdef void scatter_digits(const uint64_t* keys, const int32_t* values, uint64_t* keys_out,
                         int32_t* values_out, Py_ssize_t start, Py_ssize_t end, int shift,
                         int64_t* histogram) noexcept nogil:
    cdef Py_ssize_t i, digit, slot
    for i in range(start, end):
        digit = (keys[i] >> shift) & (N_DIGITS - 1)
        slot = histogram[digit]
        histogram[digit] = slot + 1
        keys_out[slot] = keys[i]
        values_out[slot] = values[i]


cdef void encode_block(const floating[:, ::1] positions, Py_ssize_t block, const double* low, double scale,
                       uint64_t[::1] codes_out, int32_t[::1] order_out) noexcept nogil:
    cdef Py_ssize_t i, n_components = positions.shape[1]
    cdef int bits = bits_per_component(n_components)
    for i in range(block * BOUND_BLOCK, min((block + 1) * BOUND_BLOCK, positions.shape[0])):
        codes_out[i] = encode(&positions[i, 0], low, scale, n_components, bits)
        order_out[i] = <int32_t>i


def order_points(
    const floating[:, ::1] positions,  # IN
    uint64_t[:, ::1] codes_out,        # OUT: row 0 the sorted codes, row 1 scratch
    int32_t[:, ::1] order_out,         # OUT: row 0 the points in Z-order, row 1 scratch
    int64_t[:, ::1] histogram_out,     # OUT: scratch, n_threads x RADIX
    double[:, ::1] bounds_out,         # OUT: scratch, a row of low and high corners a block
    int n_threads,
):
    """Sort points along a Z-order curve; return the side of the finest cell."""
    cdef Py_ssize_t block, k, n_points = positions.shape[0], n_components = positions.shape[1]
    cdef Py_ssize_t n_blocks = (n_points + BOUND_BLOCK - 1) // BOUND_BLOCK
    cdef double span = 0, scale
    cdef int bits = bits_per_component(n_components), n_bits = bits * <int>n_components
    with nogil:
        bound_all(positions, bounds_out, n_threads)
    for k in range(n_components):
        span = max(span, bounds_out[0, n_components + k] - bounds_out[0, k])
    scale = cells_per_unit(span, bits)
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
        encode_block(positions, block, &bounds_out[0, 0], scale, codes_out[0], order_out[0])
    with nogil:
        sort_codes(&codes_out[0, 0], &order_out[0, 0], &codes_out[1, 0], &order_out[1, 0], n_points,
                   max(0, n_bits - SORTED_BITS), n_bits, &histogram_out[0, 0], n_threads)
        settle_ties(&codes_out[0, 0], &order_out[0, 0], &codes_out[1, 0], &order_out[1, 0], n_points, n_bits,
                    &histogram_out[0, 0])
    return ldexp(span, -bits)


cdef void settle_ties(uint64_t* codes, int32_t* order, uint64_t* codes_scratch, int32_t* order_scratch,
                      Py_ssize_t n_points, int n_bits, int64_t* histogram) noexcept nogil:
    """Sort runs of codes that agree in their leading SORTED_BITS: short ones by insertion."""
    cdef int shift = max(0, n_bits - SORTED_BITS)
    cdef Py_ssize_t start = 0, end, i, j
    cdef uint64_t code
    cdef int32_t point
    while start < n_points:
        end = start + 1
        while end < n_points and codes[end] >> shift == codes[start] >> shift:
            end += 1
        if end - start > 64:
            sort_codes(codes + start, order + start, codes_scratch + start, order_scratch + start, end - start,
                       0, shift, histogram, 1)
        else:
            for i in range(start + 1, end):
                code = codes[i]
                point = order[i]
                j = i
                while j > start and codes[j - 1] > code:
                    codes[j] = codes[j - 1]
                    order[j] = order[j - 1]
                    j -= 1
                codes[j] = code
                order[j] = point
        start = end


# ---- The tree ------------------------------------------------------------------------------------
#
# A cell is a row of ``links``: first child, number of children (0 for a leaf), first point, end point.

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
    # A cell with the group inside it must never be accepted: its centre may be a diagonal away.
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


# ---- The walk ------------------------------------------------------------------------------------

cdef inline void evaluate_point(
    const floating* sources, Py_ssize_t n_sources,  # IN: rows of LIST: components, then masses
    const floating* point,                          # IN: n_components
    int n_components,                               # a literal where it is called
    double* sums,                                   # IN/OUT: forces, then the sum of w
) noexcept nogil:
    """Add sum_j m_j w_j^2 (y - y_j) and sum_j m_j w_j, w = 1 / (1 + |y - y_j|^2)."""
    cdef Py_ssize_t j
    cdef floating x = point[0], y = 0, z = 0, dx, dy = 0, dz = 0, squared, w, mass_w, one = 1
    cdef floating fx = 0, fy = 0, fz = 0, sum_w = 0
    if n_components > 1:
        y = point[1]
    if n_components > 2:
        z = point[2]
    for j in range(n_sources):
        dx = x - sources[j]
        squared = one + dx * dx
        if n_components > 1:
            dy = y - sources[LIST + j]
            squared = squared + dy * dy
        if n_components > 2:
            dz = z - sources[2 * LIST + j]
            squared = squared + dz * dz
        w = one / squared
        mass_w = sources[n_components * LIST + j] * w
        sum_w += mass_w
        mass_w = mass_w * w
        fx += mass_w * dx
        if n_components > 1:
            fy += mass_w * dy
        if n_components > 2:
            fz += mass_w * dz
    sums[0] += fx
    if n_components > 1:
        sums[1] += fy
    if n_components > 2:
        sums[2] += fz
    sums[n_components] += sum_w


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
            evaluate_point(sources, n_sources, point, 1, sums)
        elif n_components == 2:
            evaluate_point(sources, n_sources, point, 2, sums)
        else:
            evaluate_point(sources, n_sources, point, 3, sums)
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
            n_leaves = test_cells(&cells[0, 0], &links[0, 0], middle, half, 2, queue, head, i, &tail,
                                  sources, &n_sources, leaves)
        elif n_components == 1:
            n_leaves = test_cells(&cells[0, 0], &links[0, 0], middle, half, 1, queue, head, i, &tail,
                                  sources, &n_sources, leaves)
        else:
            n_leaves = test_cells(&cells[0, 0], &links[0, 0], middle, half, 3, queue, head, i, &tail,
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
        squared_distance = 0
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
