"""Header-only: what the walk reads, the memory of one thread, and the lists through which sources pass.

A source is a cell or a point that acts on a target. The walk takes sources a block at a time, and a rule sorts each
block into lists (sift.h).
"""

from cython cimport floating
from libc.stdint cimport int32_t

from tsne.kernels cimport least_scale
from tsne.nodes cimport UNOPENED

cdef extern from "tsne/sift.h":
    ctypedef struct Sources "kb_sources":
        void* rows           # of the positions' type: a row for each component, then masses, spreads and radii
        Py_ssize_t stride    # elements from one row to the next
        int32_t* names       # the cell of each source; the complement of its number where it has no children
        Py_ssize_t n

    ctypedef struct Rule "kb_rule":
        const void* middle   # of the box from which sources are judged
        const void* half     # half its sides
        double radius        # of the target
        double largest       # radius of the largest source that is not opened
        double squared_theta
        double softening
        double least_bound
        bint curved
        double dof
        double bend
        double reach

    void kb_number_lanes() noexcept nogil
    void kb_sift_float(const Sources* given, int n_components, const Rule* rule, Sources* accepted, Sources* opened,
                       Sources* kept) noexcept nogil
    void kb_sift_double(const Sources* given, int n_components, const Rule* rule, Sources* accepted, Sources* opened,
                        Sources* kept) noexcept nogil

cdef enum:
    BLOCK = 128        # sources that are judged at a time
    FAR = 512          # places for far sources, which are expanded when these are nearly full
    NEAR = 2048        # places for near sources, which are evaluated when these are nearly full
    LANES = 16         # of the widest vectors, which divide FAR and NEAR


cdef struct Walk:      # what all threads read
    const int32_t* links
    const int32_t* order
    Py_ssize_t stride  # of the columns of positions
    int n_components
    double theta
    double dof
    double reach       # distance at which the kernel has vanished
    bint careful       # whether self terms are left out, and not subtracted in the end
    const void* masses # of the positions' type, in Z-order; NULL: all are 1


cdef struct Scratch:   # the memory of one thread
    int32_t* queue     # cells that are still to be judged
    Py_ssize_t head    # the first of them
    Py_ssize_t n_queued
    Sources kept       # sources that targets keep for their children
    Py_ssize_t first   # of the kept sources that are still to be judged
    Py_ssize_t last    # their end
    Sources fetched    # a block of cells from the queue
    Sources opened     # cells of a block whose children are to be queued
    Sources leaves     # leaves of a block whose points are to be listed
    Py_ssize_t next_leaf
    Sources far        # far sources of a target
    Sources near       # near sources of a group of points
    int32_t* frames
    double* expansions


cdef inline void set_bounds(const Walk* walk, double caution, const floating* cells, Rule* rule_out) noexcept nogil:
    """Write by what sources are judged, in the precision of the positions; ``cells`` only tell the type.

    Sources may be smaller by the root of ``caution``. See ``squared_scale`` in kernels.pxd for the formulas.
    """
    cdef floating squared_theta = <floating>(walk.theta * walk.theta), least = <floating>least_scale(walk.dof)
    rule_out.squared_theta, rule_out.softening = <floating>caution * squared_theta, <floating>(walk.dof / 2)
    rule_out.least_bound = <floating>UNOPENED * squared_theta * least
    rule_out.curved = walk.dof > 1
    if rule_out.curved:
        rule_out.squared_theta *= 4 / ((walk.dof + 1) * (walk.dof + 1))
        rule_out.softening, rule_out.dof, rule_out.bend = 0, walk.dof, 4 * walk.dof / (walk.dof + 1)
        rule_out.reach = walk.reach


cdef inline void sift_block(const floating* cells, const Sources* block, int n_components, const Rule* rule,
                            Sources* accepted, Sources* opened, Sources* kept) noexcept nogil:
    """Append each source of a block to one of three lists; ``cells`` only tell the type."""
    if floating is float:
        kb_sift_float(block, n_components, rule, accepted, opened, kept)
    else:
        kb_sift_double(block, n_components, rule, accepted, opened, kept)


cdef inline void queue_siblings(const Walk* walk, Scratch* own, Py_ssize_t parent, Py_ssize_t child) noexcept nogil:
    """Append all children of a cell but one to the queue."""
    cdef Py_ssize_t i, first = walk.links[parent * 4], n_queued = own.n_queued
    for i in range(first, first + walk.links[parent * 4 + 1]):
        own.queue[n_queued] = <int32_t>i
        n_queued += i != child
    own.n_queued = n_queued


cdef inline void queue_outside(const Walk* walk, Scratch* own, Py_ssize_t subtree) noexcept nogil:
    """Queue the cells that together hold all points outside of a subtree: siblings of its root and of those above."""
    cdef Py_ssize_t i, parent, cell = 0
    cdef const int32_t* links = walk.links
    own.head = own.n_queued = 0
    while cell != subtree:
        parent = cell
        for i in range(links[parent * 4], links[parent * 4] + links[parent * 4 + 1]):
            if links[i * 4 + 2] <= links[subtree * 4 + 2] < links[i * 4 + 3]:
                cell = i
        queue_siblings(walk, own, parent, cell)


cdef inline void queue_children(const Walk* walk, Scratch* own, int n_components) noexcept nogil:
    """Append the children of the opened cells to the queue."""
    cdef Py_ssize_t i, k, cell, n_queued = own.n_queued
    cdef const int32_t* links = walk.links
    for i in range(own.opened.n):
        cell = own.opened.names[i]
        for k in range(1 << n_components):  # a cell may have fewer, and only so many are counted
            own.queue[n_queued + k] = links[cell * 4] + <int32_t>k
        n_queued += links[cell * 4 + 1]
    own.n_queued = n_queued


cdef inline void fetch_cells(const floating* cells, const int32_t* links, const int32_t* queue, Py_ssize_t n_cells,
                             int n_components, Sources* block_out) noexcept nogil:
    """Copy summaries of cells into the rows of a block; a cell without children is named by its complement."""
    cdef Py_ssize_t i, k, cell
    cdef floating* rows = <floating*>block_out.rows
    for i in range(n_cells):
        cell = queue[i]
        for k in range(n_components + 3):
            rows[k * BLOCK + i] = cells[cell * (n_components + 3) + k]
        block_out.names[i] = <int32_t>(cell ^ -<Py_ssize_t>(links[cell * 4 + 1] == 0))
    block_out.n = n_cells


cdef inline bint has_sources(const Scratch* own) noexcept nogil:
    """Return whether any source is still to be judged."""
    return own.first < own.last or own.head < own.n_queued


cdef inline Sources take_block(const Walk* walk, Scratch* own, const floating* cells, int n_components) noexcept nogil:
    """Return the next sources to be judged: kept ones where they are, or then cells of the queue, which are copied."""
    cdef Sources block
    if own.first < own.last:
        block = own.kept
        block.rows = <floating*>own.kept.rows + own.first
        block.names = own.kept.names + own.first
        block.n = min(own.last - own.first, <Py_ssize_t>BLOCK)
        own.first += block.n
        return block
    block = own.fetched
    fetch_cells(cells, walk.links, own.queue + own.head, min(own.n_queued - own.head, <Py_ssize_t>BLOCK), n_components,
                &block)
    own.head += block.n
    return block
