"""Barnes-Hut repulsion of t-SNE in one, two or three dimensions.

Barnes and Hut (1986) replace far cells of points by their centre of mass; van der Maaten (2014)
brought that to t-SNE. Here the tree is a flat list of cells in depth-first order over points sorted
along a Z-order (Morton) curve, each cell with the index of the next cell that is not inside it. The
tree is walked once for a *group* of up to ``GROUP_SIZE`` neighbouring points, against their bounding
box; what the walk accepts (far cells and near points alike, as position and mass) goes into one
list, and every point of the group is evaluated against that list by plain unit-stride loops.

A cell of side s is accepted where s <= theta * (distance from the box to its centre of mass), so no
point of the group sees a cell that the point's own walk would have opened. Every point meets itself
once, with w = 1 and no force; ``sum_q`` takes the n self terms off at the end.

Codes hold ``CODE_BITS`` bits. Cells that are still crowded at the finest level are quantised anew
inside their own bounding box, so outliers cost no resolution and points of any spread end in cells
of few points, or in cells of coincident points, which their centre of mass represents exactly.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport ldexp
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from *:
    """
    static inline int kullback_top_bit(uint64_t x) { return 63 - __builtin_clzll(x); }
    """
    int kullback_top_bit(uint64_t x) noexcept nogil

cdef enum:
    BLOCK = 4096       # points a block of the bounding box
    DIGIT_BITS = 10    # of the radix sort: 1,024 write streams stay within the L1 and TLB reach
    N_DIGITS = 1 << DIGIT_BITS
    LEAF = 8           # measured on 63,000 and 10^6 points: 8 to 16 are equal, 4 and 32 slower
    GROUP = 64
    LIST = 2048        # entries of an interaction list before it is evaluated and emptied
    STACK = 16384      # > (2^3 - 1) siblings x the 2,098 levels between the largest and smallest float64

LEAF_SIZE = LEAF
GROUP_SIZE = GROUP
LIST_SIZE = LIST
RADIX = N_DIGITS
BLOCK_POINTS = BLOCK
STACK_SIZE = STACK


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
    Py_ssize_t n_points, int n_bits,
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
    cdef int shift = 0
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


cdef void bound_points(const floating[:, ::1] positions, Py_ssize_t start, Py_ssize_t end,
                       double* low_out, double* high_out) noexcept nogil:
    cdef Py_ssize_t i, k
    for k in range(positions.shape[1]):
        low_out[k] = high_out[k] = positions[start, k]
    for i in range(start + 1, end):
        for k in range(positions.shape[1]):
            low_out[k] = min(low_out[k], <double>positions[i, k])
            high_out[k] = max(high_out[k], <double>positions[i, k])


cdef void encode_block(const floating[:, ::1] positions, Py_ssize_t block, const double* low, double scale,
                       uint64_t[::1] codes_out, int32_t[::1] order_out) noexcept nogil:
    cdef Py_ssize_t i, n_components = positions.shape[1]
    cdef int bits = bits_per_component(n_components)
    for i in range(block * BLOCK, min((block + 1) * BLOCK, positions.shape[0])):
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
    cdef Py_ssize_t n_blocks = (n_points + BLOCK - 1) // BLOCK
    cdef double span = 0, scale
    cdef int bits = bits_per_component(n_components)
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
        bound_points(positions, block * BLOCK, min((block + 1) * BLOCK, n_points),
                     &bounds_out[block, 0], &bounds_out[block, n_components])
    for k in range(n_components):
        for block in range(1, n_blocks):
            bounds_out[0, k] = min(bounds_out[0, k], bounds_out[block, k])
            bounds_out[0, n_components + k] = max(bounds_out[0, n_components + k],
                                                  bounds_out[block, n_components + k])
        span = max(span, bounds_out[0, n_components + k] - bounds_out[0, k])
    scale = ldexp(1.0, bits) / span if span > 0 else 0
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
        encode_block(positions, block, &bounds_out[0, 0], scale, codes_out[0], order_out[0])
    with nogil:
        sort_codes(&codes_out[0, 0], &order_out[0, 0], &codes_out[1, 0], &order_out[1, 0], n_points,
                   bits * <int>n_components, &histogram_out[0, 0], n_threads)
    return ldexp(span, -bits)


# ---- The tree ------------------------------------------------------------------------------------

cdef double requantise(
    const floating[:, ::1] positions, uint64_t[:, ::1] codes, int32_t[:, ::1] order,
    int64_t[:, ::1] histogram, Py_ssize_t start, Py_ssize_t end,
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
    scale = ldexp(1.0, bits) / span
    if not (span > 0 and scale < 1e300):  # coincident, or apart by less than 1e-292
        return 0
    for i in range(start, end):
        codes[0, i] = encode(&positions[order[0, i], 0], low, scale, n_components, bits)
    sort_codes(&codes[0, start], &order[0, start], &codes[1, start], &order[1, start], end - start,
               bits * <int>n_components, &histogram[0, 0], 1)
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


def build_tree(
    const floating[:, ::1] positions,  # IN
    double finest_side,                # IN: from order_points
    uint64_t[:, ::1] codes,            # IN/OUT: row 0 sorted; crowded cells are quantised anew
    int32_t[:, ::1] order,             # IN/OUT: row 0 in Z-order
    int64_t[:, ::1] histogram_out,     # OUT: scratch
    int64_t[:, ::1] stack_out,         # OUT: scratch, 3 x STACK_SIZE: start, end, ancestor
    double[::1] units_out,             # OUT: scratch, STACK_SIZE
    int32_t[:, ::1] links_out,         # OUT: a cell's next cell outside it, first point, end point
    double[::1] sides_out,             # OUT: a cell's side; 0 for one point or coincident points
    int32_t[:, ::1] groups_out,        # OUT: first point and end point
):
    """Cut Z-ordered points into cells, depth first; return the numbers of cells and of groups."""
    cdef Py_ssize_t n_cells = 0, n_groups = 0
    with nogil:
        build(positions, finest_side, codes, order, histogram_out, stack_out, units_out, links_out,
              sides_out, groups_out, &n_cells, &n_groups)
    return n_cells, n_groups


cdef void build(
    const floating[:, ::1] positions, double finest_side, uint64_t[:, ::1] codes, int32_t[:, ::1] order,
    int64_t[:, ::1] histogram, int64_t[:, ::1] stack, double[::1] units, int32_t[:, ::1] links_out,
    double[::1] sides_out, int32_t[:, ::1] groups_out, Py_ssize_t* n_cells_out, Py_ssize_t* n_groups_out,
) noexcept nogil:
    cdef int64_t* starts = &stack[0, 0]
    cdef int64_t* ends = &stack[1, 0]
    cdef int64_t* ancestors = &stack[2, 0]
    cdef Py_ssize_t start, end, cell, child, n_cells = 0, n_groups = 0, n_ancestors = 0, grouped = 0
    cdef Py_ssize_t n_components = positions.shape[1], n_stack = 1
    cdef uint64_t difference, first, width
    cdef double unit, side
    cdef int level
    starts[0] = 0
    ends[0] = positions.shape[0]
    units[0] = finest_side
    while n_stack > 0:
        n_stack -= 1
        start = starts[n_stack]
        end = ends[n_stack]
        unit = units[n_stack]
        difference = codes[0, start] ^ codes[0, end - 1]
        if difference == 0 and end - start > LEAF:
            unit = requantise(positions, codes, order, histogram, start, end)
            difference = codes[0, start] ^ codes[0, end - 1]
        level = kullback_top_bit(difference) // <int>n_components if difference != 0 else -1
        side = ldexp(unit, level + 1) if end - start > 1 else 0

        cell = n_cells
        n_cells += 1
        while n_ancestors > 0 and links_out[ancestors[n_ancestors - 1], 2] <= start:
            n_ancestors -= 1
            links_out[ancestors[n_ancestors], 0] = <int32_t>cell
        links_out[cell, 0] = <int32_t>n_cells
        links_out[cell, 1] = <int32_t>start
        links_out[cell, 2] = <int32_t>end
        sides_out[cell] = side

        if start >= grouped and (end - start <= GROUP or side == 0):
            while grouped < end:  # coincident points may be many: cut them
                groups_out[n_groups, 0] = <int32_t>grouped
                grouped = min(grouped + GROUP, end)
                groups_out[n_groups, 1] = <int32_t>grouped
                n_groups += 1
        if end - start <= LEAF or side == 0:
            continue

        ancestors[n_ancestors] = cell
        n_ancestors += 1
        # Children in reverse, so that the first is taken from the stack first.
        width = <uint64_t>1 << (level * n_components)
        while end > start:
            first = codes[0, end - 1] & ~(width - 1)
            child = first_at_least(&codes[0, 0], start, end, first)
            starts[n_stack] = child
            ends[n_stack] = end
            units[n_stack] = unit
            n_stack += 1
            end = child
    while n_ancestors > 0:
        n_ancestors -= 1
        links_out[ancestors[n_ancestors], 0] = <int32_t>n_cells
    n_cells_out[0] = n_cells
    n_groups_out[0] = n_groups


cdef inline bint is_leaf(const int32_t[:, ::1] links, Py_ssize_t cell) noexcept nogil:
    return links[cell, 0] == cell + 1


cdef void summarise_leaf(const floating[:, ::1] columns, const int32_t[:, ::1] links, const double[::1] sides,
                         Py_ssize_t cell, double theta, floating[:, ::1] cells_out) noexcept nogil:
    """Write centre of mass, mass and the squared distance from which a cell is accepted."""
    cdef Py_ssize_t i, k, n_components = columns.shape[0]
    cdef double total, reach = sides[cell] / theta if sides[cell] > 0 else 0
    for k in range(n_components):
        total = 0
        for i in range(links[cell, 1], links[cell, 2]):
            total += columns[k, i]
        cells_out[cell, k] = <floating>(total / (links[cell, 2] - links[cell, 1]))
    cells_out[cell, n_components] = links[cell, 2] - links[cell, 1]
    cells_out[cell, n_components + 1] = <floating>(reach * reach)


cdef void summarise_cell(const int32_t[:, ::1] links, const double[::1] sides, Py_ssize_t cell, double theta,
                         Py_ssize_t n_components, floating[:, ::1] cells_out) noexcept nogil:
    cdef Py_ssize_t child, k
    cdef double[3] total
    cdef double mass = links[cell, 2] - links[cell, 1], reach = sides[cell] / theta
    for k in range(n_components):
        total[k] = 0
    child = cell + 1
    while child < links[cell, 0]:
        for k in range(n_components):
            total[k] += <double>cells_out[child, k] * cells_out[child, n_components]
        child = links[child, 0]
    for k in range(n_components):
        cells_out[cell, k] = <floating>(total[k] / mass)
    cells_out[cell, n_components] = <floating>mass
    cells_out[cell, n_components + 1] = <floating>(reach * reach)


def summarise_cells(
    const floating[:, ::1] positions,  # IN
    const int32_t[:, ::1] order,       # IN
    const int32_t[:, ::1] links,       # IN
    const double[::1] sides,           # IN
    Py_ssize_t n_cells,
    double theta,                      # IN: 0 opens every cell, which makes the sum exact
    floating[:, ::1] columns_out,      # OUT: the points in Z-order, a row a component
    floating[:, ::1] cells_out,        # OUT: centre of mass, mass, squared distance of acceptance
    int n_threads,
):
    """Gather points into Z-order and give each cell its centre of mass."""
    cdef Py_ssize_t i, k, cell, n_points = positions.shape[0], n_components = positions.shape[1]
    for i in prange(n_points, nogil=True, num_threads=n_threads, schedule="static"):
        for k in range(n_components):
            columns_out[k, i] = positions[order[0, i], k]
    for cell in prange(n_cells, nogil=True, num_threads=n_threads, schedule="static"):
        if is_leaf(links, cell):
            summarise_leaf(columns_out, links, sides, cell, theta, cells_out)
    with nogil:
        for cell in range(n_cells - 1, -1, -1):  # depth-first order backwards: children before parents
            if not is_leaf(links, cell):
                summarise_cell(links, sides, cell, theta, n_components, cells_out)


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


cdef void evaluate_group(const floating* sources, Py_ssize_t n_sources, const floating[:, ::1] columns,
                         Py_ssize_t start, Py_ssize_t end, double* sums) noexcept nogil:
    cdef Py_ssize_t i, k, n_components = columns.shape[0]
    cdef floating[3] point
    for i in range(start, end):
        for k in range(n_components):
            point[k] = columns[k, i]
        if n_components == 1:
            evaluate_point(sources, n_sources, point, 1, sums)
        elif n_components == 2:
            evaluate_point(sources, n_sources, point, 2, sums)
        else:
            evaluate_point(sources, n_sources, point, 3, sums)
        sums += n_components + 1


cdef double walk_group(
    const floating[:, ::1] columns, const floating[:, ::1] cells, const int32_t[:, ::1] links,
    Py_ssize_t n_cells, Py_ssize_t start, Py_ssize_t end, const int32_t* order,
    floating* sources,  # OUT: scratch
    floating[:, ::1] forces_out,
) noexcept nogil:
    """Write the forces on the points of a group; return the sum of w over them, self terms included."""
    cdef floating[3] low
    cdef floating[3] high
    cdef double[GROUP * 4] sums
    cdef Py_ssize_t i, k, cell = 0, n_sources = 0, n_components = columns.shape[0]
    cdef floating gap, squared_distance, zero = 0
    cdef const floating* summary
    cdef double sum_w = 0
    for i in range((end - start) * (n_components + 1)):
        sums[i] = 0
    for k in range(n_components):
        low[k] = high[k] = columns[k, start]
        for i in range(start + 1, end):
            low[k] = min(low[k], columns[k, i])
            high[k] = max(high[k], columns[k, i])
    while cell < n_cells:
        summary = &cells[cell, 0]
        squared_distance = 0
        for k in range(n_components):
            gap = max(max(low[k] - summary[k], summary[k] - high[k]), zero)
            squared_distance += gap * gap
        if summary[n_components + 1] <= squared_distance and (
            summary[n_components + 1] == 0 or links[cell, 1] > start or links[cell, 2] <= start
        ):
            for k in range(n_components + 1):
                sources[k * LIST + n_sources] = summary[k]
            n_sources += 1
            cell = links[cell, 0]
        else:
            if is_leaf(links, cell):
                for i in range(links[cell, 1], links[cell, 2]):
                    for k in range(n_components):
                        sources[k * LIST + n_sources] = columns[k, i]
                    sources[n_components * LIST + n_sources] = 1
                    n_sources += 1
            cell += 1
        if n_sources > LIST - LEAF:
            evaluate_group(sources, n_sources, columns, start, end, sums)
            n_sources = 0
    evaluate_group(sources, n_sources, columns, start, end, sums)
    for i in range(start, end):
        for k in range(n_components):
            forces_out[order[i], k] = <floating>sums[(i - start) * (n_components + 1) + k]
        sum_w += sums[(i - start) * (n_components + 1) + n_components]
    return sum_w


def accumulate_repulsion(
    const floating[:, ::1] columns,   # IN: from summarise_cells
    const floating[:, ::1] cells,     # IN: from summarise_cells
    const int32_t[:, ::1] links,      # IN: from build_tree
    const int32_t[:, ::1] groups,     # IN: from build_tree
    const int32_t[:, ::1] order,      # IN: from order_points
    Py_ssize_t n_cells,
    Py_ssize_t n_groups,
    floating[:, :, ::1] sources_out,  # OUT: scratch, n_threads x (n_components + 1) x LIST_SIZE
    double[::1] sums_out,             # OUT: scratch, one value a group
    floating[:, ::1] forces_out,      # OUT: in the order of the user's points
    int n_threads,
):
    """Write sum_j w_ij^2 (y_i - y_j) for every point; return the sum of w_ij over i != j."""
    cdef Py_ssize_t group
    cdef double sum_w = 0
    for group in prange(n_groups, nogil=True, num_threads=n_threads, schedule="dynamic", chunksize=8):
        sums_out[group] = walk_group(columns, cells, links, n_cells, groups[group, 0], groups[group, 1],
                                     &order[0, 0], &sources_out[threadid(), 0, 0], forces_out)
    for group in range(n_groups):
        sum_w += sums_out[group]
    return sum_w - columns.shape[1]
