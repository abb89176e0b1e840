"""Barnes-Hut repulsion of t-SNE in one, two or three dimensions: the walk through the tree.

Barnes and Hut (1986) replace far cells of points by their centre of mass; van der Maaten (2014) brought that to
t-SNE. Here a cell also has a *spread*, its mean squared radius, so that the kernel is averaged over a ball instead of
being taken at the centre. As in Dehnen (2002), the points that feel the sources are taken together as well: the tree is
walked from its root, and each cell on the way is a *target*, with a list of the sources that were not settled further
up.

1. A source of radius s is *far* from a target of radius t where s + t <= 0.84 theta L, where L is the length on which
   the kernel is smooth at their distance (kernels.pxd). It is sqrt(distance^2 + dof / 2) up to dof = 1. Even at
   distance 0 it is not 0, so small cells need not be opened however near they are. Above dof = 1, kernels fall so
   steeply in the end that no cell could follow. Sources beyond their reach are far, too.
2. Far sources go into the target's Taylor expansion of the potential, to third order (expansion.pxd). The target hands
   the expansion on to its children.
3. Of the other sources, those larger than the target are opened, which means that their children are judged in their
   place. The others are kept for the target's children.
4. The walk ends at targets of up to ``GROUP`` points. They accept a source as near where s <= theta L at the distance
   from their bounding box, or where s^2 <= UNOPENED (theta L)^2 for the least L. Every point is evaluated against the
   list of these sources and of the points of opened leaves (near_sources.pxd).

Steps 3 and 4 sort sources into lists, a vector at a time (sources.pxd).

No target is tested against a cell of which it is a part, but a group is tested against itself. So every point meets
itself once: with w = 1 and without a force, or within a cell that is small against the kernel. The n self terms are
subtracted in the end. Where the map is so wide that Z is nothing beside n, or dof is not 1, the walk is *careful*: it
adds up in float64 the sources at distance 0 apart from the others, and subtracts the self term of each point there.

With masses, the walk gives the force and the potential of a unit of mass. A point of mass m stands for m rows, and its
self term is min(m, 1): each row leaves out itself.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from common.threads cimport startable
from tsne.expansion cimport TERMS, evaluate_expansion, expand_sources, shift_expansion
from tsne.near_sources cimport KB_VECTORS, bound_group, evaluate_points, evaluate_vectors, list_points
from tsne.nodes cimport CAUTION, GROUP, LEAF
from tsne.sources cimport (
    BLOCK, FAR, LANES, NEAR, Rule, Scratch, Sources, Walk, has_sources, kb_number_lanes, queue_children, queue_outside,
    queue_siblings, set_bounds, sift_block, take_block,
)

cdef extern from *:
    """
    /* The walk is compiled once for each number of components: whatever gets that as a literal must be inlined. */
    #if defined(__GNUC__)
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #define KULLBACK_FETCH(pointer) __builtin_prefetch(pointer, 1)
    #else
    #define KULLBACK_FETCH(pointer)
    #endif
    /* Return a - b; the compiler cannot add the difference to other sums in another order. */
    static inline double kullback_subtract(double a, double b) { volatile double result = a - b; return result; }
    """
    void fetch "KULLBACK_FETCH"(const void* pointer) noexcept nogil
    double subtract "kullback_subtract"(double a, double b) noexcept nogil

NEAR_SIZE = NEAR
FAR_SIZE = FAR
N_TERMS = TERMS

kb_number_lanes()

cdef double LARGER = 1.5  # a source up to so many times as large as its target is left to the target's children


cdef struct Frame:   # of a cell that is still to be visited; its expansion stands at the same place
    int32_t cell
    int32_t parent
    int32_t first    # of the sources that the parent kept
    int32_t last     # their end


# The next two are not inlined: their loops over sources are long enough to gain nothing from a literal number of
# components.


cdef void expand_far(const floating* centre, Sources* far, int n_components, double dof, double* local) noexcept nogil:
    """Add the far sources to the expansion of a target, and empty their list."""
    expand_sources(centre, far, n_components, dof, local)


cdef void evaluate_general(const Walk* walk, Sources* near, const floating* points, Py_ssize_t n_points,
                           int n_components, double* sums) noexcept nogil:
    """Add the forces and potentials of the near sources at any dof."""
    evaluate_points(near, points, walk.stride, n_points, n_components, walk.dof, walk.careful, sums)


cdef inline void evaluate_near(const Walk* walk, Sources* near, const floating* points, Py_ssize_t n_points,
                               int n_components, double* sums) noexcept nogil:
    """Add the forces and potentials of the near sources at every point, and empty their list."""
    if not walk.careful and KB_VECTORS:
        evaluate_vectors(near, points, walk.stride, n_points, n_components, sums)
    else:
        evaluate_general(walk, near, points, n_points, n_components, sums)
    near.n = 0


cdef inline bint sift_sources(const Walk* walk, Scratch* own, const floating* cells, Py_ssize_t target,
                              int n_components, double* local) noexcept nogil:
    """Judge all sources that a target has: expand the far ones in ``local``, and append those that it keeps.

    Return False where there is no room for those that it keeps.
    """
    cdef const floating* centre = cells + target * (n_components + 3)
    cdef floating[3] half
    cdef floating radius = centre[n_components + 2], largest = <floating>LARGER * radius
    cdef Sources block
    cdef Rule rule
    half[0] = half[1] = half[2] = 0
    set_bounds(walk, CAUTION, cells, &rule)
    rule.middle, rule.half, rule.radius, rule.largest, rule.least_bound = centre, half, radius, largest, 0
    own.far.n = 0
    while has_sources(own):
        block = take_block(walk, own, cells, n_components)
        if own.kept.n + BLOCK + LANES > own.kept.stride:
            return False
        own.opened.n = 0
        sift_block(cells, &block, n_components, &rule, &own.far, &own.opened, &own.kept)
        queue_children(walk, own, n_components)
        if own.far.n > (FAR - BLOCK - LANES if has_sources(own) else 0):
            expand_far(centre, &own.far, n_components, walk.dof, local)
    return True


cdef inline bint fill_near(const Walk* walk, Scratch* own, const floating* columns, const floating* cells,
                           const Rule* rule, int n_components) noexcept nogil:
    """Append near sources to their list until it is full, and return True, or until nothing is left to be judged."""
    cdef Py_ssize_t cell, first
    cdef Sources block
    cdef const int32_t* links = walk.links
    cdef const floating* masses = <const floating*>walk.masses
    while True:
        while own.next_leaf < own.leaves.n:
            if own.near.n > NEAR - LEAF:
                return True
            cell = ~own.leaves.names[own.next_leaf]
            first = links[cell * 4 + 2]
            list_points(columns + first, walk.stride, masses + first if masses != NULL else NULL,
                        links[cell * 4 + 3] - first, n_components, &own.near)
            own.next_leaf += 1
        if not has_sources(own):
            return False
        if own.near.n > NEAR - BLOCK - LANES:
            return True
        block = take_block(walk, own, cells, n_components)
        own.opened.n = own.leaves.n = own.next_leaf = 0
        sift_block(cells, &block, n_components, rule, &own.near, &own.opened, &own.leaves)
        queue_children(walk, own, n_components)


cdef void weigh_group(const Walk* walk, const floating* masses, Py_ssize_t n_points, const double* coincident,
                      double* potentials) noexcept nogil:
    """Turn the potential of a unit of mass, at each point of a group, into the sum of w over all rows of the point."""
    cdef Py_ssize_t i
    for i in range(n_points):
        if walk.careful:
            potentials[i] += subtract(coincident[i], masses[i] if masses[i] < 1 else 1)
        potentials[i] *= masses[i]


cdef inline double repel_group(
    const Walk* walk, Scratch* own, const floating* columns, const floating* cells,
    Py_ssize_t target, Py_ssize_t start, Py_ssize_t end,  # the group: some points of a target
    int n_components, const double* local,
    floating* forces_out,
) noexcept nogil:
    """Write the forces on a group of points; return the sum of w over them, self terms included."""
    cdef floating[3] middle
    cdef floating[3] half
    cdef double[GROUP * 5] sums
    cdef double* coincident = sums + (n_components + 1) * GROUP
    cdef const floating* points = columns + start
    cdef Py_ssize_t i, k, n_points = end - start
    cdef double sum_w = 0
    cdef bint more = True
    cdef Rule rule
    for i in range(start, end):  # the forces are anywhere in memory
        fetch(forces_out + walk.order[i] * n_components)
    bound_group(points, walk.stride, n_points, n_components, middle, half)
    set_bounds(walk, 1, cells, &rule)
    rule.middle, rule.half, rule.radius, rule.largest = middle, half, 0, -1
    evaluate_expansion(local, cells + target * (n_components + 3), points, walk.stride, n_points, n_components, sums)
    for i in range(n_points):
        coincident[i] = 0
    own.near.n = own.leaves.n = own.next_leaf = 0
    while more:
        more = fill_near(walk, own, columns, cells, &rule, n_components)
        evaluate_near(walk, &own.near, points, n_points, n_components, sums)
    if walk.masses != NULL:
        weigh_group(walk, <const floating*>walk.masses + start, n_points, coincident, sums + n_components * GROUP)
    elif walk.careful:
        for i in range(n_points):  # in integers, because a compiler may add 1 to small sums before it subtracts it
            sums[n_components * GROUP + i] += <double>(<int64_t>coincident[i] - 1)
    for i in range(n_points):
        for k in range(n_components):
            forces_out[walk.order[start + i] * n_components + k] = <floating>sums[k * GROUP + i]
        sum_w += sums[n_components * GROUP + i]
    return sum_w


cdef double repel_target(const Walk* walk, Scratch* own, const floating* columns, const floating* cells,
                         const Frame* frame, const double* local, floating* forces_out) noexcept nogil:
    """Repel the points of a target by the sources that it keeps and by itself, a group at a time; return the sum of w.

    There is more than one group only where many points coincide.
    """
    cdef Py_ssize_t start = walk.links[frame.cell * 4 + 2], end = walk.links[frame.cell * 4 + 3], next_start
    cdef double sum_w = 0
    while start < end:
        next_start = min(start + GROUP, end)
        own.first = frame.last
        own.last = own.kept.n
        own.queue[0] = frame.cell
        own.head = 0
        own.n_queued = 1
        if walk.n_components == 2:
            sum_w += repel_group(walk, own, columns, cells, frame.cell, start, next_start, 2, local, forces_out)
        elif walk.n_components == 1:
            sum_w += repel_group(walk, own, columns, cells, frame.cell, start, next_start, 1, local, forces_out)
        else:
            sum_w += repel_group(walk, own, columns, cells, frame.cell, start, next_start, 3, local, forces_out)
        start = next_start
    return sum_w


cdef inline Py_ssize_t push_children(const Walk* walk, Scratch* own, const floating* cells, const Frame* frame,
                                     Py_ssize_t n_frames, int n_components, const double* local) noexcept nogil:
    """Put the children of a target on the stack, with the target's expansion; return the number of frames there."""
    cdef Py_ssize_t i, k, child, n_children = walk.links[frame.cell * 4 + 1]
    cdef Frame* frames = <Frame*>own.frames
    cdef double[3] step
    for i in range(n_children):  # the last first, so that points are visited in their order
        child = walk.links[frame.cell * 4] + n_children - 1 - i
        for k in range(n_components):
            step[k] = <double>cells[child * (n_components + 3) + k] - cells[frame.cell * (n_components + 3) + k]
        shift_expansion(local, step, n_components, own.expansions + TERMS * n_frames)
        frames[n_frames].cell = <int32_t>child
        frames[n_frames].parent = frame.cell
        frames[n_frames].first = frame.last
        frames[n_frames].last = <int32_t>own.kept.n
        n_frames += 1
    return n_frames


cdef inline double walk_targets(const Walk* walk, Scratch* own, const floating* columns, const floating* cells,
                                Py_ssize_t subtree, int n_components, floating* forces_out) noexcept nogil:
    """Write the forces on the points of a subtree; return the sum of w over them.

    Return -inf if there is no room for the sources that targets keep.
    """
    cdef const int32_t* links = walk.links
    cdef double[TERMS] local
    cdef Frame* frames = <Frame*>own.frames
    cdef Frame frame
    cdef Py_ssize_t k, n_frames = 1
    cdef double sum_w = 0
    queue_outside(walk, own, subtree)
    frames[0].cell = <int32_t>subtree
    frames[0].parent = -1
    frames[0].first = frames[0].last = 0
    for k in range(TERMS):
        own.expansions[k] = 0
    while n_frames > 0:
        n_frames -= 1
        frame = frames[n_frames]
        for k in range(1 + n_components * (1 + n_components * (1 + n_components))):
            local[k] = own.expansions[TERMS * n_frames + k]
        own.head = 0
        if frame.parent >= 0:
            own.n_queued = 0
            queue_siblings(walk, own, frame.parent, frame.cell)
        own.first = frame.first
        own.last = own.kept.n = frame.last
        if not sift_sources(walk, own, cells, frame.cell, n_components, local):
            return -INFINITY
        if links[frame.cell * 4 + 3] - links[frame.cell * 4 + 2] > GROUP and links[frame.cell * 4 + 1] > 0:
            n_frames = push_children(walk, own, cells, &frame, n_frames, n_components, local)
        else:
            sum_w += repel_target(walk, own, columns, cells, &frame, local, forces_out)
    return sum_w


cdef double repel_subtree(const Walk* walk, Scratch own, const floating* columns, const floating* cells,
                          Py_ssize_t subtree, floating* forces_out) noexcept nogil:
    """Walk with the number of components as a literal, and with the lists of a block on the stack."""
    cdef floating[6 * BLOCK] rows
    cdef int32_t[BLOCK] names
    cdef int32_t[BLOCK + LANES] opened
    cdef int32_t[BLOCK + LANES] leaves
    own.fetched.rows, own.fetched.stride, own.fetched.names = rows, BLOCK, names
    own.opened.rows, own.opened.names = NULL, opened
    own.leaves.rows, own.leaves.names = NULL, leaves
    if walk.n_components == 2:
        return walk_targets(walk, &own, columns, cells, subtree, 2, forces_out)
    if walk.n_components == 1:
        return walk_targets(walk, &own, columns, cells, subtree, 1, forces_out)
    return walk_targets(walk, &own, columns, cells, subtree, 3, forces_out)


cdef Scratch scratch_of(int thread, int32_t[:, ::1] queue, floating[:, :, ::1] kept, int32_t[:, ::1] names,
                        int32_t[:, ::1] frames, double[:, ::1] expansions, floating[:, :, ::1] far,
                        floating[:, :, ::1] near) noexcept nogil:
    """Return the memory of one thread."""
    cdef Scratch own
    own.queue, own.frames, own.expansions = &queue[thread, 0], &frames[thread, 0], &expansions[thread, 0]
    own.kept.rows, own.kept.stride, own.kept.names = &kept[thread, 0, 0], kept.shape[2], &names[thread, 0]
    own.far.rows, own.far.stride = &far[thread, 0, 0], FAR
    own.near.rows, own.near.stride = &near[thread, 0, 0], NEAR
    return own


def accumulate_repulsion(
    const floating[:, ::1] columns,   # IN: positions from order_points, with LEAF_SIZE columns more
    const int32_t[::1] order,         # IN: from order_points
    tree,                             # IN: from build_tree
    Py_ssize_t n_subtrees,            # IN: from build_tree
    const floating[::1] masses,       # IN: in Z-order, with LEAF_SIZE more; empty: all are 1
    criterion,                        # IN: see kullback.tsne.barnes_hut.Criterion
    scratch,                          # OUT: see kullback.tsne.barnes_hut.WalkScratch
    floating[:, ::1] forces_out,      # OUT: in the order of the user's points
    int n_threads,
):
    """Write sum_j m_j w_ij^(1 + 1/dof) (y_i - y_j) for every point; return Z, the sum of w over all pairs of rows.

    Returns -inf where ``scratch.kept`` is too small.
    """
    cdef const floating[:, ::1] cells = tree.cells
    cdef const int32_t[:, ::1] links = tree.links
    cdef const int32_t[::1] roots = tree.roots
    cdef int32_t[:, ::1] queue = scratch.queue, names = scratch.names, frames = scratch.frames
    cdef floating[:, :, ::1] kept = scratch.kept, far = scratch.far, near = scratch.near
    cdef double[:, ::1] expansions = scratch.expansions
    cdef double[::1] sums = scratch.sums
    cdef Py_ssize_t subtree
    cdef double sum_w = 0
    cdef Walk walk
    walk.links, walk.order, walk.stride = &links[0, 0], &order[0], columns.shape[1]
    walk.n_components, walk.theta, walk.dof = <int>columns.shape[0], criterion.theta, criterion.dof
    walk.reach, walk.careful = criterion.reach, criterion.careful
    walk.masses = &masses[0] if masses.shape[0] else NULL
    for subtree in prange(n_subtrees, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        sums[subtree] = repel_subtree(&walk, scratch_of(threadid(), queue, kept, names, frames, expansions, far, near),
                                      &columns[0, 0], &cells[0, 0], roots[subtree], &forces_out[0, 0])
    for subtree in range(n_subtrees):
        sum_w += sums[subtree]
    return sum_w if walk.careful else sum_w - <double>criterion.self_terms
