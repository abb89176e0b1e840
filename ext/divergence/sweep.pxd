"""Header-only: the first sweep over rows, which turns each piece of a row into a state of sums.

Neither threads nor neighbouring rows touch the arithmetic of a row: each block adds its terms in lanes, and the pieces
are merged in order.
"""

from cython cimport floating
from libc.math cimport INFINITY, log1p
from libc.string cimport memset

from divergence.blocks cimport add_block, clear_lanes, fold_lanes, max_of, note_best, pack_block, tile_of
from divergence.columns cimport add_columns
from divergence.job cimport BEST_P, CENTRE, FARTHEST, Job, MAX_GROUP, MODE, PIECE, Region, SHIFT, STATE, TERMS, row_data
from divergence.logits cimport EXCESS, MASS_P, Next, SWEPT, add_logits, merge_logits
from divergence.passes cimport LANES, STEP
from divergence.terms cimport gather


cdef inline void clear_state(const Job* job, double* state) noexcept nogil:
    """Set a state to that of a row without elements."""
    cdef int m
    for m in range(max(TERMS + job.n_measures, <int>SWEPT + 1)):
        state[m] = 0
    if job.logits:
        state[CENTRE] = -INFINITY
        state[SHIFT] = state[MODE] = state[FARTHEST] = 0
    if job.top1:
        state[BEST_P] = state[BEST_P + 2] = -INFINITY
        state[BEST_P + 1] = state[BEST_P + 3] = 0


# ---- Which side comes first -------------------------------------------------------------------------


cdef inline bint comes_later(const Job* job, Py_ssize_t row, const Region* region) noexcept nogil:
    """Whether p and q change places, because the first logit in which they differ is larger in p.

    A sweep over logits leans on p. Where all measures are symmetric it leans on the same side whichever is p, so that
    exchanging p with q changes no bit.
    """
    cdef Py_ssize_t i, start = 0, n = min(<Py_ssize_t>LANES, job.n)
    while job.exchange and start < job.n:
        pack_block(job, &job.p, row, 1, start, n, region.wide_p)
        pack_block(job, &job.q, row, 1, start, n, region.wide_q)
        for i in range(n):
            if region.wide_p[i] != region.wide_q[i]:
                return region.wide_p[i] > region.wide_q[i]
        start += n
        n = min(job.block, job.n - start)
    return False


cdef inline Job exchange_sides(const Job* job) noexcept nogil:
    """Return the same job with p and q exchanged."""
    cdef Job other = job[0]
    other.p, other.q = job.q, job.p
    return other


# ---- Rows whose lanes are parts of them ------------------------------------------------------------


cdef inline Next next_block(const Job* job, Py_ssize_t row, Py_ssize_t start) noexcept nogil:
    """Return where the block of a row that begins with element ``start`` stands, so that it is fetched in time."""
    cdef Next next
    next.x = row_data(&job.p, job.n_inner, row) + start * job.p.item
    next.y = row_data(&job.q, job.n_inner, row) + start * job.q.item
    next.x_step, next.y_step = LANES * job.p.item, LANES * job.q.item
    return next


cdef inline void find_shift(const Job* job, Py_ssize_t row, const Region* region, double* state,
                            floating* kind) noexcept nogil:
    """Guess how far p's logits lie above q's: by the difference of the log-sum-exps of the row's first block.

    ``kind`` is NULL; its type says in which precision terms are worked, here and below.
    """
    cdef Py_ssize_t n = min(job.block, job.n)
    cdef double largest_p, largest_q, rough, exact
    cdef const floating* p
    cdef const floating* q
    cdef Job plain
    cdef Next next
    if not job.has_q:
        return
    p = tile_of(&job.p, job, row, 1, 0, n, <floating*>region.p)
    q = tile_of(&job.q, job, row, 1, 0, n, <floating*>region.q)
    largest_p, largest_q = max_of(p, n), max_of(q, n)
    if not (-INFINITY < largest_p < INFINITY and -INFINITY < largest_q < INFINITY):
        return
    state[SHIFT] = <floating>((largest_p - largest_q) * job.inverse_temperature)
    plain = job[0]
    plain.top1, plain.js, plain.n_inner_sums = False, False, 0
    next = next_block(job, row, 0)
    add_logits(&plain, p, q, n, 0, &next, region, state)
    rough = state[SHIFT]
    exact = rough - log1p(state[EXCESS] / state[MASS_P])
    clear_state(job, state)
    state[SHIFT] = <floating>exact if -INFINITY < exact < INFINITY else rough


cdef inline void note_largest(const Job* job, const floating* p, const floating* q, Py_ssize_t n, Py_ssize_t start,
                              const Region* region, double* state) noexcept nogil:
    """Note where the largest values of a block stand, if they are the largest of the row so far."""
    cdef const double* largest = region.memory.largest  # negative where the block's pass has not found them
    note_best(p, n, start, largest[0] if largest[0] >= 0 else max_of(p, n), state + BEST_P)
    note_best(q, n, start, largest[1] if largest[1] >= 0 else max_of(q, n), state + BEST_P + 2)


cdef inline void add_logits_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t end,
                                  const Region* region, double* states, floating* kind) noexcept nogil:
    """Set ``states`` to the sums of logits from element ``start`` to ``end`` of consecutive rows."""
    cdef Py_ssize_t r, n
    cdef const floating* p
    cdef const floating* q
    cdef Next next
    cdef Job[2] sides
    cdef bint[MAX_GROUP] later
    sides[0], sides[1] = job[0], exchange_sides(job)
    for r in range(n_rows):
        clear_state(job, states + r * STATE)
        later[r] = comes_later(job, row + r, region)
        find_shift(&sides[later[r]], row + r, region, states + r * STATE, kind)
    while start < end:
        n = min(job.block, end - start)
        p = tile_of(&job.p, job, row, n_rows, start, n, <floating*>region.p)
        q = p
        if job.has_q:
            q = tile_of(&job.q, job, row, n_rows, start, n, <floating*>region.q)
        for r in range(n_rows):
            next = next_block(&sides[later[r]], row + r, start + n)
            add_logits(job, (q if later[r] else p) + r * n, (p if later[r] else q) + r * n, n, start, &next, region,
                       states + r * STATE)
        start += n


cdef inline void add_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece, const Region* region,
                           double* states, floating* kind) noexcept nogil:
    """Set ``states`` to the sums of one piece of consecutive rows."""
    cdef Py_ssize_t r, n, start = piece * PIECE
    cdef Py_ssize_t end = min(start + PIECE, job.n)
    cdef const floating* p
    cdef const floating* q
    # The lanes of one row are added block by block and folded at the end. Where rows share a tile, each is one block.
    cdef double* totals = region.totals if n_rows == 1 and not job.logits else NULL
    if job.logits:
        add_logits_piece(job, row, n_rows, start, end, region, states, kind)
        return
    if totals != NULL:
        clear_lanes(job, totals)
    for r in range(n_rows):
        clear_state(job, states + r * STATE)
    while start < end:
        n = min(job.block, end - start)
        p = tile_of(&job.p, job, row, n_rows, start, n, <floating*>region.p)
        q = p
        if job.has_q:
            q = tile_of(&job.q, job, row, n_rows, start, n, <floating*>region.q)
        for r in range(n_rows):
            add_block(job, p + r * n, q + r * n, n, region, totals, states + r * STATE)
            if job.top1:
                note_largest(job, p + r * n, q + r * n, n, start, region, states + r * STATE)
        start += n
    if totals != NULL:
        fold_lanes(job, totals, states)


# ---- Columns: each lane is a row -------------------------------------------------------------------


cdef inline Py_ssize_t column_sums(const Job* job) noexcept nogil:
    """Return how many doubles the sums of LANES columns are."""
    return (TERMS + job.n_measures) * LANES


cdef inline void add_column_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece,
                                  const Region* region, double* states, floating* kind) noexcept nogil:
    """Set ``region.columns`` to the sums of one piece of consecutive rows, a lane for each row.

    STEP elements of LANES rows are added at a time, and then the same elements of the next LANES rows. Places of the
    largest values go into ``states``.
    """
    cdef Py_ssize_t r, n, first, start = piece * PIECE
    cdef Py_ssize_t end = min(start + PIECE, job.n), n_slices = (n_rows + LANES - 1) // LANES
    if start == end:
        memset(region.columns, 0, n_slices * column_sums(job) * sizeof(double))
    if job.top1:
        for r in range(n_rows):
            clear_state(job, states + r * STATE)
    while start < end:
        n = min(<Py_ssize_t>STEP, end - start)
        for r in range(n_slices):
            first = r * LANES
            add_columns(job, row + first, min(<Py_ssize_t>LANES, n_rows - first), start, n, region,
                        region.columns + r * column_sums(job), states + first * STATE, kind)
        start += n


cdef inline void unpack_column(const Job* job, const Region* region, Py_ssize_t r, double* state) noexcept nogil:
    """Set a row's state from the lane that holds it."""
    cdef const double* lanes = region.columns + r // LANES * column_sums(job) + r % LANES
    cdef Py_ssize_t m
    for m in range(TERMS + job.n_measures):
        state[m] = lanes[m * LANES]


# ---- Pieces of either kind -------------------------------------------------------------------------


cdef inline void sweep_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece, const Region* region,
                             double* states) noexcept nogil:
    """Set ``states`` to the sums of one piece of consecutive rows; columns of one piece stay in ``region.columns``."""
    cdef Py_ssize_t r
    if not job.columns:
        if job.wide:
            add_piece[double](job, row, n_rows, piece, region, states, NULL)
        else:
            add_piece[float](job, row, n_rows, piece, region, states, NULL)
        return
    if job.wide:
        add_column_piece[double](job, row, n_rows, piece, region, states, NULL)
    else:
        add_column_piece[float](job, row, n_rows, piece, region, states, NULL)
    if job.n > PIECE:
        for r in range(n_rows):
            unpack_column(job, region, r, states + r * STATE)


cdef inline void merge_states(const Job* job, double* state, double* other) noexcept nogil:
    """Add the sums of a later piece of the same row to its state."""
    cdef int m
    for m in range(2):
        if job.top1 and other[BEST_P + 2 * m] > state[BEST_P + 2 * m]:
            state[BEST_P + 2 * m] = other[BEST_P + 2 * m]
            state[BEST_P + 2 * m + 1] = other[BEST_P + 2 * m + 1]
    if job.logits:
        merge_logits(job, state, other)
        return
    for m in range(TERMS):
        state[m] += other[m]
    for m in range(job.n_measures):
        state[TERMS + m] = gather(job.measures[m], state[TERMS + m], other[TERMS + m])
