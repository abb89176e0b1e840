"""Header-only: sums of element terms over columns, which are LANES rows side by side: each lane is a row."""

from cython cimport floating

from common.pack cimport pack
from divergence.blocks cimport add_lanes, add_slow, add_smoothing, clear_lanes, gather_lanes, is_native
from divergence.job cimport BEST_P, Job, Memory, Operand, PIECE, Region, STATE, TERMS, row_data
from divergence.passes cimport Groups, LANES, groups_of, is_usual, transpose_double, transpose_float


cdef inline const floating* columns_of(const Operand* x, const Job* job, Py_ssize_t row, Py_ssize_t n_rows,
                                       Py_ssize_t start, Py_ssize_t n, floating* out, Py_ssize_t* step) noexcept nogil:
    """Return LANES rows side by side and set ``step`` to the step from element to element.

    The rows are the caller's own memory where they lie side by side there, else a packed copy in ``out``.
    """
    cdef const char* data = row_data(x, job.n_inner, row) + start * x.item
    cdef Py_ssize_t i, r
    if is_native(x, job, data, sizeof(floating)) and n_rows == LANES and x.row == <Py_ssize_t>sizeof(floating) \
            and x.item % <Py_ssize_t>sizeof(floating) == 0:
        step[0] = x.item // <Py_ssize_t>sizeof(floating)
        return <const floating*>data
    step[0] = LANES
    if is_native(x, job, data, sizeof(floating)) and n_rows == LANES and x.item == <Py_ssize_t>sizeof(floating) \
            and x.row % <Py_ssize_t>sizeof(floating) == 0:
        if floating is float:
            transpose_float(<const float*>data, x.row // <Py_ssize_t>sizeof(float), n, out)
        else:
            transpose_double(<const double*>data, x.row // <Py_ssize_t>sizeof(double), n, out)
        return out
    pack(data, x.kind, x.item, x.row, n, n_rows, out)
    add_smoothing(job, out, n_rows * n)
    if n_rows < LANES:  # spread the rows from the end, and put zeros in the lanes that have no row
        for i in range(n - 1, -1, -1):
            for r in range(n_rows - 1, -1, -1):
                out[i * LANES + r] = out[i * n_rows + r]
            for r in range(n_rows, LANES):
                out[i * LANES + r] = 0
    return out


cdef inline void add_unusual_columns(const Job* job, const Groups* groups, const Region* region, double* lanes,
                                     floating* kind) noexcept nogil:
    """Set ``lanes`` to the sums of elements of LANES rows, some of which have unusual values.

    Rows with unusual values, or with usual ones whose sum is not, are worked by the slow terms, and the others by the
    fast ones as ever.
    """
    cdef const floating* p = <const floating*>groups.p
    cdef const floating* q = <const floating*>groups.q
    cdef Py_ssize_t p_step = groups.p_step, q_step = groups.q_step, n = groups.n_groups
    cdef floating* clean_p = <floating*>region.wide_p
    cdef floating* clean_q = <floating*>region.wide_q
    cdef Groups clean
    cdef bint[LANES] usual
    cdef double[STATE] state
    cdef double wide_p, wide_q
    cdef Memory memory
    memory.zeros, memory.largest[0], memory.largest[1] = 1, -1, -1
    cdef Py_ssize_t i, r
    cdef int m, sweep
    for r in range(LANES):
        usual[r] = True
        for i in range(n):
            usual[r] &= is_usual(p[i * p_step + r]) and is_usual(q[i * q_step + r])
    for sweep in range(2):
        for i in range(n):
            for r in range(LANES):
                clean_p[i * LANES + r] = abs(p[i * p_step + r]) if usual[r] else 0  # abs makes 0 of -0
                clean_q[i * LANES + r] = abs(q[i * q_step + r]) if usual[r] else 0
        clear_lanes(job, lanes)
        clean = groups_of(<const floating*>clean_p, LANES, <const floating*>clean_q, LANES, n, job.has_q)
        if not add_lanes(job, &clean, lanes, &memory, <floating*>NULL):
            break
        for r in range(LANES):
            wide_p = wide_q = 0
            for i in range(n):
                wide_p += clean_p[i * LANES + r]
                wide_q += clean_q[i * LANES + r]
            usual[r] &= is_usual(<floating>(1.00001 * wide_p)) and is_usual(<floating>(1.00001 * wide_q))
    for r in range(LANES):
        if usual[r]:
            continue
        for m in range(STATE):
            state[m] = 0
        for i in range(n):
            wide_p, wide_q = p[i * p_step + r], q[i * q_step + r]
            add_slow(job, &wide_p, &wide_q, 1, state)
        for m in range(TERMS + job.n_measures):
            lanes[m * LANES + r] = state[m]


cdef inline void note_best_columns(const floating* x, Py_ssize_t step, Py_ssize_t n, Py_ssize_t start,
                                   Py_ssize_t n_rows, double* states) noexcept nogil:
    """Update the largest value of each row and its first place."""
    cdef Py_ssize_t i, r
    for r in range(n_rows):
        for i in range(n):
            if x[i * step + r] > states[r * STATE]:
                states[r * STATE], states[r * STATE + 1] = x[i * step + r], start + i


cdef inline void add_columns(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n,
                             const Region* region, double* sums, double* states, floating* kind) noexcept nogil:
    """Add up to STEP elements of up to LANES rows to ``sums``; the first elements of a piece set them.

    Where the job asks for the places of the largest values, note these in ``states``.
    """
    cdef Py_ssize_t p_step = 0, q_step = 0
    cdef Groups groups
    cdef Memory filled
    cdef double* lanes = sums if start % PIECE == 0 else region.lanes
    cdef const floating* p = columns_of(&job.p, job, row, n_rows, start, n, <floating*>region.p, &p_step)
    cdef const floating* q = p
    q_step = p_step
    if job.has_q:
        q = columns_of(&job.q, job, row, n_rows, start, n, <floating*>region.q, &q_step)
    clear_lanes(job, lanes)
    filled.zeros, filled.largest[0], filled.largest[1] = 1, -1, -1  # lanes without a row hold zeros
    groups = groups_of(p, p_step, q, q_step, n, job.has_q)
    if add_lanes(job, &groups, lanes, region.memory if n_rows == LANES else &filled, <floating*>NULL):
        add_unusual_columns(job, &groups, region, lanes, <floating*>NULL)
    if lanes != sums:
        gather_lanes(job, lanes, sums)
    if job.top1:
        note_best_columns(p, p_step, n, start, n_rows, states + BEST_P)
        note_best_columns(q, q_step, n, start, n_rows, states + BEST_P + 2)
