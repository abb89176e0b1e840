"""Header-only: sums of element terms over blocks of probabilities; see divergence_rows.pyx."""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from divergence.terms cimport (
    LANES, MASS, add_family_double, add_family_float, add_terms_double,
    add_terms_float, family_place, formula_of, gather, has_fast_terms, has_q_terms, has_terms, mass_slow, needs_exact_masses, takes_largest,
    term_slow, transpose_double, transpose_float,
)
from divergence.job cimport BEST_P, Job, Memory, Operand, PIECE, ROUGH, Region, STATE, TERMS, row_data
from common.numeric cimport max_double, max_float
from common.pack cimport FLOAT32, FLOAT64, pack

cdef enum:
    FAMILY = 3         # measures that share their logarithms: from here on, one pass for all is the faster


cdef inline double max_of(const floating* x, Py_ssize_t n) noexcept nogil:
    if floating is float:
        return max_float(x, n)
    else:
        return max_double(x, n)


cdef inline void note_best(const floating* x, Py_ssize_t n, Py_ssize_t start, double largest, double* best) noexcept nogil:
    """Update the largest value of a row and where it first stands, sought 64 elements at a time, which vectorises."""
    cdef Py_ssize_t i = 0, k
    cdef floating sought = <floating>largest
    cdef int found = 0
    if not (largest > best[0] or start == 0):
        return
    best[0] = largest
    while i + 64 <= n and not found:
        for k in range(64):
            found |= x[i + k] == sought
        i += 64
    i = max(i - 64, 0)
    while i < n and x[i] != sought:
        i += 1
    if i < n:
        best[1] = start + i


# ---- Lanes -----------------------------------------------------------------------------------------


cdef inline bint add_terms(int measure, bint has_q, bint masses, const floating* p, Py_ssize_t p_step, const floating* q,
                           Py_ssize_t q_step, Py_ssize_t n_groups, double* mass, double* sums, int64_t* zeros) noexcept nogil:
    if floating is float:
        return add_terms_float(formula_of(measure), has_q, masses, p, p_step, q, q_step, n_groups, mass, sums, zeros)
    else:
        return add_terms_double(formula_of(measure), has_q, masses, p, p_step, q, q_step, n_groups, mass, sums, zeros)


cdef inline void add_slow_lanes(int measure, double alpha, const floating* p, Py_ssize_t p_step, const floating* q,
                                Py_ssize_t q_step, Py_ssize_t n_groups, double* sums) noexcept nogil:
    cdef Py_ssize_t j, k
    for j in range(n_groups):
        for k in range(LANES):
            sums[k] = gather(measure, sums[k], term_slow(measure, p[j * p_step + k], q[j * q_step + k], alpha))


cdef inline bint add_lanes(const Job* job, const floating* p, Py_ssize_t p_step, const floating* q, Py_ssize_t q_step,
                           Py_ssize_t n_groups, double* lanes, Memory* memory) noexcept nogil:
    """Add groups of lanes to ``lanes``, which are laid out as a row's state; both kinds of masses are set.

    Return whether values are unusual; the sums are then of no use.
    """
    cdef double* shared[5]
    cdef double* sums
    cdef int m, measure, place, n_shared = 0
    cdef bint have_exact = False, have_rough = False, unusual = False
    memset(shared, 0, sizeof(shared))
    for m in range(job.n_measures):
        place = family_place(job.measures[m])
        if place >= 0:
            n_shared += shared[place] == NULL
            shared[place] = lanes + (TERMS + m) * LANES
    if n_shared >= FAMILY and job.has_q:
        have_exact = have_rough = True
        if floating is float:
            unusual = add_family_float(p, p_step, q, q_step, n_groups, lanes, shared, &memory.zeros, memory.largest)
        else:
            unusual = add_family_double(p, p_step, q, q_step, n_groups, lanes, shared, &memory.zeros, memory.largest)
    else:
        n_shared = 0
    for m in range(job.n_measures):
        measure, sums = job.measures[m], lanes + (TERMS + m) * LANES
        if unusual or not has_terms(measure):
            continue
        if n_shared > 0 and family_place(measure) >= 0:
            if shared[family_place(measure)] != sums:
                memcpy(sums, shared[family_place(measure)], LANES * sizeof(double))
        elif not needs_exact_masses(measure):
            unusual = add_terms(measure, True, not have_rough, p, p_step, q, q_step, n_groups, lanes + ROUGH * LANES, sums,
                                &memory.zeros)
            have_rough = True
        elif not have_exact and has_fast_terms(measure) and has_q_terms(measure) == job.has_q:
            unusual = add_terms(measure, job.has_q, True, p, p_step, q, q_step, n_groups, lanes, sums, &memory.zeros)
            have_exact = True
        else:
            if not have_exact:
                unusual = add_terms(MASS, job.has_q, True, p, p_step, q, q_step, n_groups, lanes, lanes, &memory.zeros)
                have_exact = True
            if has_fast_terms(measure):
                add_terms(measure, has_q_terms(measure), False, p, p_step, q, q_step, n_groups, lanes, sums, NULL)
            elif not unusual:
                add_slow_lanes(measure, job.alpha, p, p_step, q, q_step, n_groups, sums)
    if not have_exact and not have_rough:
        unusual = add_terms(MASS, job.has_q, True, p, p_step, q, q_step, n_groups, lanes, lanes, &memory.zeros)
        have_exact = True
    if not have_exact:
        memcpy(lanes, lanes + ROUGH * LANES, 2 * LANES * sizeof(double))
    elif not have_rough:
        memcpy(lanes + ROUGH * LANES, lanes, 2 * LANES * sizeof(double))
    return unusual


cdef inline void clear_lanes(const Job* job, double* lanes) noexcept nogil:
    memset(lanes, 0, (TERMS + job.n_measures) * LANES * sizeof(double))


# ---- Rows: the lanes are parts of one row ----------------------------------------------------------


cdef inline double fold(const double* lanes) noexcept nogil:
    """Return the sum of the lanes, by halves."""
    cdef double[8] half
    cdef Py_ssize_t k
    for k in range(8):
        half[k] = lanes[k] + lanes[k + 8]
    for k in range(4):
        half[k] += half[k + 4]
    return (half[0] + half[2]) + (half[1] + half[3])


cdef inline double fold_largest(const double* lanes) noexcept nogil:
    cdef Py_ssize_t k
    cdef double largest = lanes[0]
    for k in range(1, LANES):
        largest = lanes[k] if lanes[k] > largest or lanes[k] != lanes[k] else largest
    return largest


cdef inline void gather_lanes(const Job* job, const double* lanes, double* totals) noexcept nogil:
    """Add the lanes of a block to those of its row."""
    cdef Py_ssize_t m, k
    for m in range(TERMS + job.n_measures):
        if m >= TERMS and takes_largest(job.measures[m - TERMS]):
            for k in range(LANES):
                totals[m * LANES + k] = gather(job.measures[m - TERMS], totals[m * LANES + k], lanes[m * LANES + k])
        else:
            for k in range(LANES):
                totals[m * LANES + k] += lanes[m * LANES + k]


cdef inline void fold_lanes(const Job* job, const double* lanes, double* state) noexcept nogil:
    cdef Py_ssize_t m
    for m in range(TERMS + job.n_measures):
        if m >= TERMS and takes_largest(job.measures[m - TERMS]):
            state[m] = gather(job.measures[m - TERMS], state[m], fold_largest(lanes + m * LANES))
        else:
            state[m] += fold(lanes + m * LANES)


cdef inline void add_slow(const Job* job, const double* p, const double* q, Py_ssize_t n, double* state) noexcept nogil:
    """Add a block that holds subnormals, infinities, NaN or negative values."""
    cdef Py_ssize_t i
    cdef int m
    for i in range(n):
        for m in range(TERMS):
            state[m] += mass_slow(p[i] if m % 2 == 0 else q[i])
        for m in range(job.n_measures):
            state[TERMS + m] = gather(job.measures[m], state[TERMS + m],
                                  term_slow(job.measures[m], p[i], q[i], job.alpha))


cdef inline bint add_row_lanes(const Job* job, const floating* p, const floating* q, Py_ssize_t n, double* lanes,
                               Memory* memory) noexcept nogil:
    """Set ``lanes`` to the sums of a block of one row; zeros, which add nothing, fill the last group."""
    cdef Py_ssize_t n_groups = n // LANES, rest = n % LANES
    cdef floating[LANES] last_p
    cdef floating[LANES] last_q
    cdef int64_t zeros
    cdef bint unusual = False
    clear_lanes(job, lanes)
    memory.largest[0] = memory.largest[1] = -1
    if n_groups > 0:
        unusual = add_lanes(job, p, LANES, q, LANES, n_groups, lanes, memory)
    if rest > 0 and not unusual:
        memset(last_p, 0, sizeof(last_p))
        memset(last_q, 0, sizeof(last_q))
        memcpy(last_p, p + n - rest, rest * sizeof(floating))
        memcpy(last_q, q + n - rest, rest * sizeof(floating))
        zeros, memory.zeros = memory.zeros, 1
        unusual = add_lanes(job, <const floating*>last_p, LANES, <const floating*>last_q, LANES, 1, lanes, memory)
        memory.zeros = zeros
    if unusual:
        memory.largest[0] = memory.largest[1] = -1
    return unusual


cdef inline void add_block(const Job* job, const floating* p, const floating* q, Py_ssize_t n, const Region* region,
                           double* totals, double* state) noexcept nogil:
    """Add one block of one row to ``totals``, or to its state if that is NULL or where values are unusual.

    Of float32, such blocks are worked in float64 first.
    """
    cdef Py_ssize_t i
    if not add_row_lanes(job, p, q, n, region.lanes, region.memory):
        if totals != NULL:
            gather_lanes(job, region.lanes, totals)
        else:
            fold_lanes(job, region.lanes, state)
    elif floating is float:
        for i in range(n):
            region.wide_p[i] = p[i]
            region.wide_q[i] = q[i]
        add_block[double](job, region.wide_p, region.wide_q, n, region, totals, state)
    else:
        add_slow(job, p, q, n, state)


cdef inline bint is_native(const Operand* x, const Job* job, const char* data, Py_ssize_t size) noexcept nogil:
    """Whether elements can be read where they stand."""
    return x.kind == (FLOAT32 if size == 4 else FLOAT64) and job.smoothing == 0 and (<size_t>data) % size == 0


cdef inline void add_smoothing(const Job* job, floating* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if job.smoothing != 0 and not job.logits:
        for i in range(n):
            x[i] += <floating>job.smoothing


cdef inline const floating* tile_of(const Operand* x, const Job* job, Py_ssize_t row, Py_ssize_t n_rows,
                                    Py_ssize_t start, Py_ssize_t n, floating* out) noexcept nogil:
    """Return a contiguous tile: the caller's own memory where that is one, else a packed copy."""
    cdef const char* data = row_data(x, job.n_inner, row) + start * x.item
    if is_native(x, job, data, sizeof(floating)) and x.item == <Py_ssize_t>sizeof(floating) \
            and (n_rows == 1 or x.row == n * x.item):
        return <const floating*>data
    pack(data, x.kind, x.row, x.item, n_rows, n, out)
    add_smoothing(job, out, n_rows * n)
    return out


# ---- Columns: each lane is a row -------------------------------------------------------------------


cdef inline const floating* columns_of(const Operand* x, const Job* job, Py_ssize_t row, Py_ssize_t n_rows,
                                       Py_ssize_t start, Py_ssize_t n, floating* out, Py_ssize_t* step) noexcept nogil:
    """Return LANES rows side by side and the step from element to element: the caller's memory, or a packed copy."""
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
    if n_rows < LANES:  # spread from the end; rows that are not there are zero
        for i in range(n - 1, -1, -1):
            for r in range(n_rows - 1, -1, -1):
                out[i * LANES + r] = out[i * n_rows + r]
            for r in range(n_rows, LANES):
                out[i * LANES + r] = 0
    return out


cdef inline bint is_usual(floating x) noexcept nogil:
    """Whether the fast terms take this value: see lanes.h."""
    if floating is float:
        return x == 0 or 4.70197740328915e-38 <= x <= 8.507059173023462e37
    else:
        return x == 0 or 8.900295434028806e-308 <= x <= 4.49423283715579e307


cdef inline void add_unusual_columns(const Job* job, const floating* p, Py_ssize_t p_step, const floating* q,
                                     Py_ssize_t q_step, Py_ssize_t n, const Region* region, double* lanes) noexcept nogil:
    """Add elements of LANES rows, some with unusual values: those rows by the slow terms, the others as ever."""
    cdef floating* clean_p = <floating*>region.wide_p
    cdef floating* clean_q = <floating*>region.wide_q
    cdef bint[LANES] usual
    cdef double[STATE] state
    cdef double wide_p, wide_q
    cdef Memory memory
    memory.zeros, memory.largest[0], memory.largest[1] = 1, -1, -1
    cdef Py_ssize_t i, r
    cdef int m
    for r in range(LANES):
        usual[r] = True
        for i in range(n):
            usual[r] &= is_usual(p[i * p_step + r]) and is_usual(q[i * q_step + r])
    for i in range(n):
        for r in range(LANES):
            clean_p[i * LANES + r] = abs(p[i * p_step + r]) if usual[r] else 0  # of -0, 0
            clean_q[i * LANES + r] = abs(q[i * q_step + r]) if usual[r] else 0
    clear_lanes(job, lanes)
    add_lanes(job, <const floating*>clean_p, LANES, <const floating*>clean_q, LANES, n, lanes, &memory)
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


cdef inline void note_best_columns(const floating* x, Py_ssize_t step, Py_ssize_t n, Py_ssize_t start, Py_ssize_t n_rows,
                                   double* states) noexcept nogil:
    """Update the largest value of each row and where it first stands."""
    cdef Py_ssize_t i, r
    for r in range(n_rows):
        for i in range(n):
            if x[i * step + r] > states[r * STATE]:
                states[r * STATE], states[r * STATE + 1] = x[i * step + r], start + i


cdef inline void add_columns(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n,
                             const Region* region, double* sums, double* states, floating* kind) noexcept nogil:
    """Add up to STEP elements of up to LANES rows to ``sums``, or set them to the first; and note best places in ``states``."""
    cdef Py_ssize_t p_step = 0, q_step = 0
    cdef Memory filled
    cdef double* lanes = sums if start % PIECE == 0 else region.lanes
    cdef const floating* p = columns_of(&job.p, job, row, n_rows, start, n, <floating*>region.p, &p_step)
    cdef const floating* q = p
    q_step = p_step
    if job.has_q:
        q = columns_of(&job.q, job, row, n_rows, start, n, <floating*>region.q, &q_step)
    clear_lanes(job, lanes)
    filled.zeros, filled.largest[0], filled.largest[1] = 1, -1, -1  # rows that are not there are zero
    if add_lanes(job, p, p_step, q, q_step, n, lanes, region.memory if n_rows == LANES else &filled):
        add_unusual_columns(job, p, p_step, q, q_step, n, region, lanes)
    if lanes != sums:
        gather_lanes(job, lanes, sums)
    if job.top1:
        note_best_columns(p, p_step, n, start, n_rows, states + BEST_P)
        note_best_columns(q, q_step, n, start, n_rows, states + BEST_P + 2)
