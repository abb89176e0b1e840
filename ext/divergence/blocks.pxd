"""Header-only: sums of element terms over blocks of probabilities.

The sums of a block are lanes, laid out as a row's state is (job.pxd): LANES doubles for each double of the state.
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from common.numeric cimport max_double, max_float
from common.pack cimport FLOAT32, FLOAT64, pack
from divergence.job cimport Job, Memory, Operand, ROUGH, Region, TERMS, row_data
from divergence.passes cimport Groups, LANES, add_family, add_terms, add_terms_alone, groups_of
from divergence.terms cimport (
    FAMILY_SIZE, MASS, family_place, gather, has_fast_terms, has_q_terms, has_terms, mass_slow, needs_exact_masses,
    takes_largest, term_slow,
)

cdef enum:
    FAMILY_PASS = 3  # from so many measures of the family on, one pass for all of them is faster than one for each
    HAVE_EXACT = 1   # whether the masses of a block that sum widened values have been set,
    HAVE_ROUGH = 2   # and those that are summed in the terms' own precision


cdef inline double max_of(const floating* x, Py_ssize_t n) noexcept nogil:
    """Return the largest value; NaN may be ignored."""
    if floating is float:
        return max_float(x, n)
    else:
        return max_double(x, n)


cdef inline void note_best(const floating* x, Py_ssize_t n, Py_ssize_t start, double largest,
                           double* best) noexcept nogil:
    """Update the largest value of a row and its first place, given the largest of the block that begins at ``start``.

    The place is sought 64 elements at a time, which vectorises.
    """
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


# ---- Lanes of a block ------------------------------------------------------------------------------


cdef inline void add_slow_lanes(int measure, double alpha, const Groups* groups, double* sums,
                                floating* kind) noexcept nogil:
    """Add the terms of a measure that is worked through libm."""
    cdef const floating* p = <const floating*>groups.p
    cdef const floating* q = <const floating*>groups.q
    cdef Py_ssize_t j, k
    for j in range(groups.n_groups):
        for k in range(LANES):
            sums[k] = gather(measure, sums[k], term_slow(measure, p[j * groups.p_step + k], q[j * groups.q_step + k],
                                                         alpha))


cdef inline int family_sums(const Job* job, double* lanes, double** sums_out) noexcept nogil:
    """Set ``sums_out`` to where the sums of the family's measures belong, or NULL; return how many are asked for."""
    cdef int m, place, n_shared = 0
    for place in range(FAMILY_SIZE):
        sums_out[place] = NULL
    for m in range(job.n_measures):
        place = family_place(job.measures[m])
        if place >= 0:
            n_shared += sums_out[place] == NULL
            sums_out[place] = lanes + (TERMS + m) * LANES
    return n_shared


cdef inline bint add_measure(const Job* job, int m, const Groups* groups, double* lanes, int* masses, int64_t* zeros,
                             floating* kind) noexcept nogil:
    """Add the terms of measure ``m``, and the masses that it needs unless a measure before it has set them.

    ``masses`` says which masses are set: HAVE_EXACT, HAVE_ROUGH. Return whether values are unusual.
    """
    cdef int measure = job.measures[m]
    cdef double* sums = lanes + (TERMS + m) * LANES
    cdef bint unusual = False, fast = has_fast_terms(measure)
    if not needs_exact_masses(measure):
        if masses[0] & HAVE_ROUGH:
            add_terms_alone(measure, groups, sums, kind)
            return False
        masses[0] |= HAVE_ROUGH
        return add_terms(measure, groups, lanes + ROUGH * LANES, sums, zeros, kind)
    if not masses[0] & HAVE_EXACT:
        masses[0] |= HAVE_EXACT
        if fast and has_q_terms(measure) == job.has_q:
            return add_terms(measure, groups, lanes, sums, zeros, kind)
        unusual = add_terms(MASS, groups, lanes, lanes, zeros, kind)
    if fast:
        add_terms_alone(measure, groups, sums, kind)
    elif not unusual:
        add_slow_lanes(measure, job.alpha, groups, sums, kind)
    return unusual


cdef inline bint add_lanes(const Job* job, const Groups* groups, double* lanes, Memory* memory,
                           floating* kind) noexcept nogil:
    """Add groups of lanes to ``lanes``; both kinds of masses are set.

    Return whether values are unusual; the sums are then of no use.
    """
    cdef double* shared[FAMILY_SIZE]
    cdef double* sums
    cdef int m, place, masses = 0
    cdef bint unusual = False, family = family_sums(job, lanes, shared) >= FAMILY_PASS and job.has_q
    if family:
        masses = HAVE_EXACT | HAVE_ROUGH
        unusual = add_family(groups, lanes, shared, &memory.zeros, memory.largest, kind)
    for m in range(job.n_measures):
        if unusual or not has_terms(job.measures[m]):
            continue
        place = family_place(job.measures[m])
        if not family or place < 0:
            unusual = add_measure(job, m, groups, lanes, &masses, &memory.zeros, kind)
            continue
        sums = lanes + (TERMS + m) * LANES
        if shared[place] != sums:  # two measures have the same terms
            memcpy(sums, shared[place], LANES * sizeof(double))
    if masses == 0:
        unusual = add_terms(MASS, groups, lanes, lanes, &memory.zeros, kind)
        masses = HAVE_EXACT
    if masses == HAVE_ROUGH:
        memcpy(lanes, lanes + ROUGH * LANES, 2 * LANES * sizeof(double))
    elif masses == HAVE_EXACT:
        memcpy(lanes + ROUGH * LANES, lanes, 2 * LANES * sizeof(double))
    return unusual


cdef inline void clear_lanes(const Job* job, double* lanes) noexcept nogil:
    """Set all sums of a block to 0."""
    memset(lanes, 0, (TERMS + job.n_measures) * LANES * sizeof(double))


# ---- Rows: the lanes are parts of one row ----------------------------------------------------------


cdef inline double fold(const double* lanes) noexcept nogil:
    """Return the sum of the lanes, which are added by halves."""
    cdef double[8] half
    cdef Py_ssize_t k
    for k in range(8):
        half[k] = lanes[k] + lanes[k + 8]
    for k in range(4):
        half[k] += half[k + 4]
    return (half[0] + half[2]) + (half[1] + half[3])


cdef inline double fold_largest(const double* lanes) noexcept nogil:
    """Return the largest of the lanes, or NaN where any is NaN."""
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
    """Add the lanes of a block to its row's state."""
    cdef Py_ssize_t m
    for m in range(TERMS + job.n_measures):
        if m >= TERMS and takes_largest(job.measures[m - TERMS]):
            state[m] = gather(job.measures[m - TERMS], state[m], fold_largest(lanes + m * LANES))
        else:
            state[m] += fold(lanes + m * LANES)


cdef inline void add_slow(const Job* job, const double* p, const double* q, Py_ssize_t n,
                          double* state) noexcept nogil:
    """Add a block that holds subnormal numbers, infinities, NaN or negative values."""
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
    """Set ``lanes`` to the sums of a block of one row. Return whether values are unusual.

    Zeros, which add nothing, fill the group of the elements that are left after whole groups.
    """
    cdef Groups groups
    cdef Py_ssize_t n_groups = n // LANES, n_left = n % LANES
    cdef floating[LANES] last_p
    cdef floating[LANES] last_q
    cdef int64_t zeros
    cdef bint unusual = False
    clear_lanes(job, lanes)
    memory.largest[0] = memory.largest[1] = -1
    if n_groups > 0:
        groups = groups_of(p, LANES, q, LANES, n_groups, job.has_q)
        unusual = add_lanes(job, &groups, lanes, memory, <floating*>NULL)
    if n_left > 0 and not unusual:
        memset(last_p, 0, sizeof(last_p))
        memset(last_q, 0, sizeof(last_q))
        memcpy(last_p, p + n - n_left, n_left * sizeof(floating))
        memcpy(last_q, q + n - n_left, n_left * sizeof(floating))
        zeros, memory.zeros = memory.zeros, 1
        groups = groups_of(<const floating*>last_p, LANES, <const floating*>last_q, LANES, 1, job.has_q)
        unusual = add_lanes(job, &groups, lanes, memory, <floating*>NULL)
        memory.zeros = zeros
    if unusual:
        memory.largest[0] = memory.largest[1] = -1
    return unusual


cdef inline void add_block(const Job* job, const floating* p, const floating* q, Py_ssize_t n, const Region* region,
                           double* totals, double* state) noexcept nogil:
    """Add one block of one row to ``totals``, or to the row's state if that is NULL or where values are unusual.

    A block of float32 with unusual values is worked in float64, which may hold them as usual ones.
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
    """Whether elements of ``size`` bytes can be read where they stand."""
    return x.kind == (FLOAT32 if size == 4 else FLOAT64) and job.smoothing == 0 and (<size_t>data) % size == 0


cdef inline void add_smoothing(const Job* job, floating* x, Py_ssize_t n) noexcept nogil:
    """Add what the job adds to each probability."""
    cdef Py_ssize_t i
    if job.smoothing != 0 and not job.logits:
        for i in range(n):
            x[i] += <floating>job.smoothing


cdef inline const floating* tile_of(const Operand* x, const Job* job, Py_ssize_t row, Py_ssize_t n_rows,
                                    Py_ssize_t start, Py_ssize_t n, floating* out) noexcept nogil:
    """Return a contiguous tile: the caller's own memory where that is contiguous, else a packed copy in ``out``."""
    cdef const char* data = row_data(x, job.n_inner, row) + start * x.item
    if is_native(x, job, data, sizeof(floating)) and x.item == <Py_ssize_t>sizeof(floating) \
            and (n_rows == 1 or x.row == n * x.item):
        return <const floating*>data
    pack(data, x.kind, x.row, x.item, n_rows, n, out)
    add_smoothing(job, out, n_rows * n)
    return out


cdef inline void pack_block(const Job* job, const Operand* x, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start,
                            Py_ssize_t n, double* block_out) noexcept nogil:
    """Copy ``n`` elements of each row, from element ``start`` on."""
    pack(row_data(x, job.n_inner, row) + start * x.item, x.kind, x.row, x.item, n_rows, n, block_out)
