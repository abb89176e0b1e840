"""Row-wise divergences of probabilities or logits: sums of element terms, then one formula a row.

A row is cut into pieces of fixed size and those into blocks that stay in cache. Terms are added in lanes
(lanes.h): the lanes of a long row are parts of it, those of short rows, and of rows that lie side by side, are rows. Pieces are
added in order. Neither threads nor neighbouring rows touch the arithmetic of a row, so they change no bit of its
result. Rows that are strided or of another dtype pass through contiguous tiles, never a full copy.
"""

from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, exp, fabs, log, log1p, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from divergence.blocks cimport (
    BEST_P, BLOCK, CENTRE, Job, MAX_GROUP, MAX_MEASURES, MODE, Memory, Operand, PIECE, ROUGH, Region, SHIFT, STATE, TERMS, add_block, add_columns,
    clear_lanes, fold_lanes, max_of, note_best, row_data, tile_of,
)
from divergence.finish cimport CHECK, DIVIDE, PLAIN, Sums, finish_measure
from divergence.logits cimport (
    EXCESS, MASS_P, N_SUMS, add_logits, add_logits_js, finish_logits, is_jensen_shannon, merge_logits, near_js,
)
from divergence.terms cimport (
    AFFINITY, ALPHA, JENSEN_SHANNON_ROOT, KL, LANES, MASS, MAX_RATIO, Next, POWER, RENYI, RENYI_ENTROPY, STEP, SUPPORT, TOP1,
    TSALLIS_ENTROPY, exp_double, finish_kl_lanes, gather, has_one_sweep, measure_numbers, needs_exact_masses,
)
from common.pack cimport FIRST_INTEGER, FLOAT64, pack

cdef enum:
    LINE = 8             # doubles of a cache line: what a thread remembers from block to block
    AT_ONCE = 64 * 1024  # elements of short rows that a thread takes at a time: ten microseconds of work and more

BLOCK_ELEMENTS = BLOCK
PIECE_ELEMENTS = PIECE
STATE_SUMS = STATE
LANE_ROWS = LANES
MAX_GROUP_ROWS = MAX_GROUP
MOST_MEASURES = MAX_MEASURES
MEASURES = measure_numbers()


cdef void clear_state(const Job* job, double* state) noexcept nogil:
    cdef int m
    for m in range(max(TERMS + job.n_measures, <int>N_SUMS)):
        state[m] = 0
    if job.logits:
        state[CENTRE] = -INFINITY
        state[SHIFT] = state[MODE] = 0
    if job.top1:
        state[BEST_P] = state[BEST_P + 2] = -INFINITY
        state[BEST_P + 1] = state[BEST_P + 3] = 0


cdef Next next_block(const Job* job, Py_ssize_t row, Py_ssize_t start) noexcept nogil:
    """Say where the block of a row that begins with element ``start`` stands."""
    cdef Next next
    next.x = row_data(&job.p, job.n_inner, row) + start * job.p.item
    next.y = row_data(&job.q, job.n_inner, row) + start * job.q.item
    next.x_step, next.y_step = LANES * job.p.item, LANES * job.q.item
    return next


cdef void find_shift(const Job* job, Py_ssize_t row, const Region* region, double* state, floating* kind) noexcept nogil:
    """Guess how far p's logits lie above q's: the difference of the log-sum-exps of the row's first block."""
    cdef Py_ssize_t n = min(job.block, job.n)
    cdef double best_p, best_q
    cdef const floating* p
    cdef const floating* q
    cdef Job plain
    cdef Next next
    if not job.has_q:
        return
    p = tile_of(&job.p, job, row, 1, 0, n, <floating*>region.p)
    q = tile_of(&job.q, job, row, 1, 0, n, <floating*>region.q)
    best_p, best_q = max_of(p, n), max_of(q, n)
    if not (-INFINITY < best_p < INFINITY and -INFINITY < best_q < INFINITY):
        return
    state[SHIFT] = <floating>((best_p - best_q) * job.inverse_temperature)
    plain = job[0]
    plain.top1, plain.js, plain.n_inner_sums = False, False, 0
    next = next_block(job, row, 0)
    add_logits(&plain, p, q, n, 0, &next, region, state)
    best_q = state[SHIFT] - log1p(state[EXCESS] / state[MASS_P])
    best_p = state[SHIFT]
    clear_state(job, state)
    state[SHIFT] = <floating>best_q if -INFINITY < best_q < INFINITY else best_p


cdef void add_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece, const Region* region,
                    double* states, floating* kind) noexcept nogil:
    """Set ``states`` to the sums of one piece of consecutive rows."""
    cdef Py_ssize_t r, n, start = piece * PIECE
    cdef Py_ssize_t end = min(start + PIECE, job.n)
    cdef const floating* p
    cdef const floating* q
    cdef Next next
    cdef double largest
    cdef double* totals = region.totals if n_rows == 1 and not job.logits else NULL  # of several rows, a block is all of them
    if totals != NULL:
        clear_lanes(job, totals)
    for r in range(n_rows):
        clear_state(job, states + r * STATE)
        if job.logits:
            find_shift(job, row + r, region, states + r * STATE, kind)
    while start < end:
        n = min(job.block, end - start)
        p = tile_of(&job.p, job, row, n_rows, start, n, <floating*>region.p)
        q = p
        if job.has_q:
            q = tile_of(&job.q, job, row, n_rows, start, n, <floating*>region.q)
        for r in range(n_rows):
            if job.logits:
                next = next_block(job, row + r, start + n)
                add_logits(job, p + r * n, q + r * n, n, start, &next, region, states + r * STATE)
                continue
            add_block(job, p + r * n, q + r * n, n, region, totals, states + r * STATE)
            if job.top1:
                largest = region.memory.largest[0]
                note_best(p + r * n, n, start, largest if largest >= 0 else max_of(p + r * n, n), states + r * STATE + BEST_P)
                largest = region.memory.largest[1]
                note_best(q + r * n, n, start, largest if largest >= 0 else max_of(q + r * n, n), states + r * STATE + BEST_P + 2)
        start += n
    if totals != NULL:
        fold_lanes(job, totals, states)


cdef void add_column_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece, const Region* region,
                           double* states, floating* kind) noexcept nogil:
    """Set ``region.columns`` to the same, a lane for each row: STEP elements of LANES rows after those of the next LANES."""
    cdef Py_ssize_t r, n, first, start = piece * PIECE, slice_sums = (TERMS + job.n_measures) * LANES
    cdef Py_ssize_t end = min(start + PIECE, job.n), n_slices = (n_rows + LANES - 1) // LANES
    if start == end:
        memset(region.columns, 0, n_slices * slice_sums * sizeof(double))
    if job.top1:
        for r in range(n_rows):
            clear_state(job, states + r * STATE)
    while start < end:
        n = min(<Py_ssize_t>STEP, end - start)
        for r in range(n_slices):
            first = r * LANES
            add_columns(job, row + first, min(<Py_ssize_t>LANES, n_rows - first), start, n, region,
                        region.columns + r * slice_sums, states + first * STATE, kind)
        start += n


cdef void unpack_column(const Job* job, const Region* region, Py_ssize_t r, double* state) noexcept nogil:
    """Set a row's state from the lane that holds it."""
    cdef const double* lanes = region.columns + r // LANES * (TERMS + job.n_measures) * LANES + r % LANES
    cdef Py_ssize_t m
    for m in range(TERMS + job.n_measures):
        state[m] = lanes[m * LANES]


cdef void any_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece, const Region* region,
                    double* states) noexcept nogil:
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


cdef void merge_states(const Job* job, double* state, double* other) noexcept nogil:
    """Add the sums of a later piece."""
    cdef int m
    for m in range(2):
        if job.top1 and other[BEST_P + 2 * m] > state[BEST_P + 2 * m]:
            state[BEST_P + 2 * m] = other[BEST_P + 2 * m]
            state[BEST_P + 2 * m + 1] = other[BEST_P + 2 * m + 1]
    if job.logits:
        merge_logits(state, other)
        return
    for m in range(TERMS):
        state[m] += other[m]
    for m in range(job.n_measures):
        state[TERMS + m] = gather(job.measures[m], state[TERMS + m], other[TERMS + m])


cdef void to_probabilities(const Job* job, double* x, Py_ssize_t n, double offset) noexcept nogil:
    """Divide a packed block by its row's sum, or take exp(logit - log-sum-exp)."""
    cdef Py_ssize_t i
    cdef double scale = job.inverse_temperature
    if job.logits:
        for i in range(n):
            x[i] = exp_double(x[i] * scale - offset)
        if job.smoothing != 0:
            for i in range(n):
                x[i] = (x[i] + job.smoothing) / (1 + job.n * job.smoothing)
    else:
        for i in range(n):
            x[i] = (x[i] + job.smoothing) / offset


cdef void sweep_again(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const double* offsets, const Region* region,
                      double* states) noexcept nogil:
    """Set ``states`` to the sums of rows of probabilities that are normalised element by element in float64."""
    cdef Job plain = job[0]
    cdef Py_ssize_t r, n, start = 0
    plain.logits = False
    plain.top1 = False
    for r in range(n_rows):
        clear_state(&plain, states + r * STATE)
    while start < job.n:
        n = min(job.block, job.n - start)
        pack(row_data(&job.p, job.n_inner, row) + start * job.p.item, job.p.kind, job.p.row, job.p.item, n_rows, n,
             region.p)
        for r in range(n_rows):
            to_probabilities(job, region.p + r * n, n, offsets[2 * r])
        if job.has_q:
            pack(row_data(&job.q, job.n_inner, row) + start * job.q.item, job.q.kind, job.q.row, job.q.item, n_rows, n,
                 region.q)
            for r in range(n_rows):
                to_probabilities(job, region.q + r * n, n, offsets[2 * r + 1])
        for r in range(n_rows):
            add_block[double](&plain, region.p + r * n, (region.q if job.has_q else region.p) + r * n, n, region,
                              NULL, states + r * STATE)
        start += n


cdef void check_row(const Job* job, Py_ssize_t row, const double* state) noexcept nogil:
    """Note why a row fails: 1, 2: a bad entry in p, q; 3, 4: a bad sum of p, q."""
    cdef int m
    cdef double mass, added = job.smoothing * job.n
    for m in range(2 if job.has_q else 1):
        mass = state[m]
        if job.logits and m == 1:
            mass += state[0]
        if mass != mass:
            job.status[row] = 1 + m
        elif job.logits:
            if mass == 0:
                job.status[row] = 3 + m
        elif mass == added or not (-job.options[2 + m] <= mass - added - 1 <= job.options[2 + m]):
            job.status[row] = 3 + m
        if job.status[row]:
            return


cdef double log_sum_exp(const Job* job, const Operand* x, Py_ssize_t row, const Region* region) noexcept nogil:
    """Return the log-sum-exp of one row by two plain sweeps, for rows whose first block misled the shift."""
    cdef Py_ssize_t i, n, start
    cdef int sweep
    cdef double largest = -INFINITY, total = 0
    for sweep in range(2):
        start = 0
        while start < job.n:
            n = min(job.block, job.n - start)
            pack(row_data(x, job.n_inner, row) + start * x.item, x.kind, 0, x.item, 1, n, region.wide_p)
            if sweep == 0:
                largest = max(largest, max_of(region.wide_p, n) * job.inverse_temperature)
            else:
                for i in range(n):
                    total += exp(region.wide_p[i] * job.inverse_temperature - largest)
            start += n
    return largest + log(total)


cdef void settle_mass(const Job* job, Py_ssize_t row, const Region* region, double* state) noexcept nogil:
    """Sum q once more where that is small beside p, for sums of q - p then have lost some of it."""
    cdef Py_ssize_t i, n, start = 0
    cdef double total = 0
    if not job.has_q or state[ROUGH + 1] > 0.5 * state[ROUGH] or state[ROUGH + 1] != state[ROUGH + 1]:
        return
    while start < job.n:
        n = min(job.block, job.n - start)
        pack(row_data(&job.q, job.n_inner, row) + start * job.q.item, job.q.kind, 0, job.q.item, 1, n, region.wide_q)
        for i in range(n):
            total += region.wide_q[i]
        start += n
    state[1] = state[ROUGH + 1] = total + job.n * job.smoothing


cdef void find_offsets(const Job* job, Py_ssize_t row, const Region* region, const double* state, double* offsets) noexcept nogil:
    """Find what makes each row a distribution: its sum, or the log-sum-exp of its logits."""
    cdef double p = state[0], q = state[1]
    if not job.logits:
        offsets[0], offsets[1] = p, q
        return
    q = p + state[EXCESS]
    offsets[0] = state[CENTRE] + log(p)
    offsets[1] = state[CENTRE] - state[SHIFT] + log(q)
    if p == p and q == q and not (1e-30 < p < INFINITY and 1e-4 * p < q < INFINITY):
        offsets[0] = log_sum_exp(job, &job.p, row, region)
        if job.has_q:
            offsets[1] = log_sum_exp(job, &job.q, row, region)


cdef bint finish_swept(const Job* job, const int* places, Py_ssize_t row, double* state, double* offsets) noexcept nogil:
    """Write the values of a row that was swept again; correct its offsets by what its sums are off one."""
    cdef Sums sums
    cdef int m
    cdef bint settled = True
    cdef Py_ssize_t n_all = job.n_outer * job.n_inner
    sums.alpha, sums.unit = job.options[4], job.options[0]
    sums.precision = 2e-14 if job.wide else 1e-7
    sums.p, sums.q = state[0], state[1] if job.has_q else state[0]
    for m in range(job.n_measures):
        sums.total, sums.settled = state[TERMS + m], True
        job.values[places[m] * n_all + row] = finish_measure(job.measures[m], DIVIDE, &sums)
        settled &= sums.settled
    for m in range(2):
        if job.logits:
            offsets[m] += log(sums.p if m == 0 else sums.q)
        else:
            offsets[m] *= sums.p if m == 0 else sums.q
    return settled


cdef void sweep_rows(const Job* job, const int* places, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                     double* offsets) noexcept nogil:
    """Sweep rows again, and those that are still not settled a last time, from sums that are exact to rounding.

    A sweep from better sums changes last bits, so each row's own sums decide whether it gets one, never a
    neighbour's in the same tile. Rows that go on are swept in runs of neighbours.
    """
    cdef Py_ssize_t r, k, first = 0
    cdef bint[MAX_GROUP] settled
    sweep_again(job, row, n_rows, offsets, region, region.pieces)
    for r in range(n_rows):
        settled[r] = finish_swept(job, places, row + r, region.pieces + r * STATE, offsets + 2 * r)
    for r in range(n_rows):
        if settled[r]:
            first = r + 1
        elif r + 1 == n_rows or settled[r + 1]:  # rows first to r
            sweep_again(job, row + first, r + 1 - first, offsets + 2 * first, region, region.pieces)
            for k in range(first, r + 1):
                finish_swept(job, places, row + k, region.pieces + (k - first) * STATE, offsets + 2 * k)


cdef bint has_js_sweep(const Job* job, int measure) noexcept nogil:
    return is_jensen_shannon(measure) and not job.wide and job.smoothing == 0


cdef double sweep_js(const Job* job, Py_ssize_t row, const Region* region, const double* state, const double* offsets) noexcept nogil:
    """Return the Jensen-Shannon divergence of a row of float32 logits, from a second sweep while it is in cache."""
    cdef Py_ssize_t n, start = 0
    cdef double shift = offsets[0] - offsets[1]
    cdef double[2] sums
    cdef double mode = 0
    cdef const float* p
    cdef const float* q
    sums[0] = sums[1] = 0
    while start < job.n:
        n = min(job.block, job.n - start)
        p = tile_of(&job.p, job, row, 1, start, n, <float*>region.p)
        q = tile_of(&job.q, job, row, 1, start, n, <float*>region.q)
        add_logits_js(job, p, q, n, state[CENTRE], shift, region, sums, &mode)
        start += n
    return sums[1] / sums[0]


cdef void finish_rows(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region, double* states) noexcept nogil:
    """Turn the sums of rows into values; sweep again the rows and measures that ask for it."""
    cdef int m, n_now = 0, n_later = 0
    cdef int[MAX_MEASURES] now
    cdef int[MAX_MEASURES] later
    cdef int[MAX_MEASURES] now_places
    cdef int[MAX_MEASURES] later_places
    cdef double[2 * MAX_GROUP] offsets
    cdef Py_ssize_t r
    cdef Job part = job[0]
    for m in range(job.n_measures):  # what logits cannot give in one sweep, all rows of the tile get together
        if job.logits and not (has_one_sweep(job.measures[m]) and job.smoothing == 0) and not has_js_sweep(job, job.measures[m]):
            later[n_later], later_places[n_later] = job.measures[m], m
            n_later += 1
        else:
            now[n_now], now_places[n_now] = job.measures[m], m
            n_now += 1
    part.measures, part.n_measures = &now[0], n_now
    for r in range(n_rows):
        if not job.logits:
            settle_mass(job, row + r, region, states + r * STATE)
        if <int>job.options[1] == CHECK:
            check_row(job, row + r, states + r * STATE)
        find_offsets(job, row + r, region, states + r * STATE, &offsets[2 * r])
        finish_row(&part, &now_places[0], row + r, region, states + r * STATE, &offsets[2 * r])
    if n_later > 0 and n_rows > 0:
        part.measures, part.n_measures = &later[0], n_later
        sweep_rows(&part, &later_places[0], row, n_rows, region, &offsets[0])


cdef void finish_row(const Job* job, const int* places, Py_ssize_t row, const Region* region, double* state,
                     double* offsets) noexcept nogil:
    """Finish one row; ``places`` says which line of the values each measure fills."""
    cdef int m, rough, n_again = 0
    cdef int[MAX_MEASURES] again
    cdef int[MAX_MEASURES] again_places
    cdef Py_ssize_t n_all = job.n_outer * job.n_inner
    cdef double value, js = -1
    cdef Sums sums
    cdef Job second
    sums.alpha, sums.unit = job.options[4], job.options[0]
    sums.precision = 2e-14 if job.wide else 5e-7
    for m in range(job.n_measures):
        sums.settled = True
        rough = 0 if job.logits or needs_exact_masses(job.measures[m]) else ROUGH
        sums.p, sums.q = state[rough], state[rough + 1] if job.has_q else state[rough]
        if job.logits and is_jensen_shannon(job.measures[m]):
            if js < 0:
                js = near_js(state) if job.js else -1
            if js < 0:
                js = sweep_js(job, row, region, state, offsets)
            # rounding of x - y by up to 2^-24 |c|, in t ~ sqrt(8 JS): as in finish_logits
            sums.settled = not 1.2e-7 * fabs(state[SHIFT]) > 1e-6 * sqrt(8 * js)
            value = js * sums.unit
            value = sqrt(value) if job.measures[m] == JENSEN_SHANNON_ROOT else value
        elif job.logits:
            value = finish_logits(job.measures[m], state, job.wide, &sums)
            value = value if job.measures[m] == TOP1 or job.measures[m] == MASS else value * sums.unit
            if job.measures[m] == MASS:
                value = offsets[0]
        elif job.measures[m] == TOP1:
            value = state[BEST_P + 1] == state[BEST_P + 3]
        else:
            sums.total = state[TERMS + m]
            value = finish_measure(job.measures[m], <int>job.options[1], &sums)
        job.values[places[m] * n_all + row] = value
        if not sums.settled:
            again[n_again], again_places[n_again] = job.measures[m], places[m]
            n_again += 1
    if n_again > 0:
        second = job[0]
        second.measures, second.n_measures = &again[0], n_again
        sweep_rows(&second, &again_places[0], row, 1, region, offsets)


cdef void finish_columns(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region, double* states) noexcept nogil:
    """Finish rows from their lanes: KL, which has a fast way for many rows, or what that leaves over and the rest."""
    cdef Py_ssize_t r
    cdef const double* lanes
    cdef double[LANES] values
    cdef int64_t[LANES] settled
    cdef double unlimited = INFINITY
    cdef bint check = <int>job.options[1] == CHECK
    cdef bint fast = job.n_measures == 1 and job.measures[0] == KL and job.smoothing == 0 and <int>job.options[1] != PLAIN
    for r in range(n_rows):
        if fast and r % LANES == 0:
            lanes = region.columns + r // LANES * (TERMS + job.n_measures) * LANES
            finish_kl_lanes(lanes + ROUGH * LANES, lanes + (ROUGH + 1) * LANES, lanes + TERMS * LANES, job.options[0],
                            job.options[2] if check else unlimited, job.options[3] if check else unlimited, values, settled)
        if fast and settled[r % LANES]:
            job.values[row + r] = values[r % LANES]
            continue
        unpack_column(job, region, r, states + r * STATE)
        finish_rows(job, row + r, 1, region, states + r * STATE)


cdef Region thread_region(const Job* job, double* scratch, Py_ssize_t size) noexcept nogil:
    cdef Region region
    cdef Py_ssize_t tile = BLOCK if job.columns else job.group * min(job.n, job.block)
    scratch += threadid() * size
    region.memory = <Memory*>scratch
    region.rows = scratch + LINE
    region.pieces = region.rows + job.group * STATE
    region.columns = region.pieces + job.group * STATE
    region.lanes = region.columns + (job.group + LANES) * STATE
    region.totals = region.lanes + LANES * STATE
    region.wide_p = region.totals + LANES * STATE
    region.wide_q = region.wide_p + BLOCK
    region.p = region.wide_q + BLOCK
    region.q = region.p + tile
    return region


cdef Py_ssize_t first_row(const Job* job, Py_ssize_t group, Py_ssize_t* n_rows) noexcept nogil:
    """Return the first row of a group, and how many it has."""
    cdef Py_ssize_t groups_per_outer = (job.n_inner + job.group - 1) // job.group
    cdef Py_ssize_t first = (group % groups_per_outer) * job.group
    n_rows[0] = min(job.group, job.n_inner - first)
    return (group // groups_per_outer) * job.n_inner + first


cdef void run_group(const Job* job, Py_ssize_t group, double* scratch, Py_ssize_t size) noexcept nogil:
    """Work a group of rows from end to end."""
    cdef Py_ssize_t i, piece, n_pieces = (job.n + PIECE - 1) // PIECE, n_rows = 0
    cdef Py_ssize_t first = first_row(job, group, &n_rows)
    cdef Region region = thread_region(job, scratch, size)
    any_piece(job, first, n_rows, 0, &region, region.rows)
    for piece in range(1, n_pieces):
        any_piece(job, first, n_rows, piece, &region, region.pieces)
        for i in range(n_rows):
            merge_states(job, region.rows + i * STATE, region.pieces + i * STATE)
    if job.columns and n_pieces <= 1:
        finish_columns(job, first, n_rows, &region, region.rows)
    else:
        finish_rows(job, first, n_rows, &region, region.rows)


cdef void run_piece(const Job* job, Py_ssize_t task, double* partials, double* scratch, Py_ssize_t size) noexcept nogil:
    """Work one piece of one group of rows."""
    cdef Py_ssize_t n_pieces = (job.n + PIECE - 1) // PIECE, piece = task % n_pieces, i
    cdef Py_ssize_t first, n_rows = 0
    cdef Region region = thread_region(job, scratch, size)
    first = first_row(job, task // n_pieces, &n_rows)
    any_piece(job, first, n_rows, piece, &region, region.rows)
    for i in range(n_rows):
        memcpy(partials + ((first + i) * n_pieces + piece) * STATE, region.rows + i * STATE, STATE * sizeof(double))


cdef void merge_pieces(const Job* job, Py_ssize_t row, double* partials, double* scratch, Py_ssize_t size) noexcept nogil:
    """Add the pieces of a row in order and finish it."""
    cdef Py_ssize_t piece, n_pieces = (job.n + PIECE - 1) // PIECE
    cdef Region region = thread_region(job, scratch, size)
    cdef double* first = partials + row * n_pieces * STATE
    for piece in range(1, n_pieces):
        merge_states(job, first, first + piece * STATE)
    finish_rows(job, row, 1, &region, first)


cdef void run_job(const Job* job, double* scratch, Py_ssize_t size, int n_threads) noexcept nogil:
    cdef Py_ssize_t task, n_rows = job.n_outer * job.n_inner, n_pieces = (job.n + PIECE - 1) // PIECE
    cdef Py_ssize_t n_groups = job.n_outer * ((job.n_inner + job.group - 1) // job.group)
    cdef int some = <int>max(<Py_ssize_t>1, min(n_groups // (32 * n_threads), AT_ONCE // max(<Py_ssize_t>1, job.group * job.n)))
    cdef double* partials = scratch + n_threads * size
    for task in range(n_threads):
        memset(scratch + task * size, 0, LINE * sizeof(double))
    if n_pieces > 1 and n_groups < 4 * n_threads:
        for task in prange(n_groups * n_pieces, num_threads=n_threads, schedule="dynamic"):
            run_piece(job, task, partials, scratch, size)
        for task in prange(n_rows, num_threads=n_threads, schedule="dynamic"):
            merge_pieces(job, task, partials, scratch, size)
    elif n_threads == 1:
        for task in range(n_groups):
            run_group(job, task, scratch, size)
    else:
        for task in prange(n_groups, num_threads=n_threads, schedule="dynamic", chunksize=some):
            run_group(job, task, scratch, size)


cdef int fill_operand(object source, int kind, Operand* operand, Py_buffer* view) except -1:
    PyObject_GetBuffer(source, view, PyBUF_STRIDED_RO)
    operand.data = <const char*>view.buf
    operand.outer, operand.row, operand.item = view.strides[0], view.strides[1], view.strides[2]
    operand.kind = kind
    return 0


cdef void fill_job(Job* job, const int[::1] measures, const double[::1] options) noexcept nogil:
    cdef int m
    job.measures, job.n_measures, job.options = &measures[0], <int>measures.shape[0], &options[0]
    job.n_inner_sums = <int>options[5]
    job.logits, job.inverse_temperature, job.smoothing = options[6] != 0, options[7], options[8]
    job.wide = job.p.kind == FLOAT64 or job.p.kind >= FIRST_INTEGER or job.q.kind == FLOAT64 \
        or job.q.kind >= FIRST_INTEGER
    job.top1 = job.js = False
    for m in range(job.n_measures):
        job.top1 |= measures[m] == TOP1
        job.js |= job.logits and job.has_q and has_js_sweep(job, measures[m])
        if not job.logits and measures[m] in (AFFINITY, ALPHA, MAX_RATIO, POWER, RENYI, RENYI_ENTROPY, SUPPORT, TSALLIS_ENTROPY):
            job.wide = True  # powers leave the range of float32


def reduce_rows(
    object p,                         # IN: three axes (outer, inner, element), any strides
    object q,                         # IN: the same shape, or None
    int p_kind,                       # IN: element types, see common/pack.pxd
    int q_kind,
    const int[::1] measures,          # IN: at most MAX_MEASURES
    const double[::1] options,        # IN: unit, normalisation mode, tolerance of p's sum, of q's, alpha,
                                      # inner sums of logits (0 none, 1 of p, 2 of both), whether logits,
                                      # 1 / temperature, smoothing
    double[::1] values_out,           # OUT: measures x rows
    unsigned char[::1] status_out,    # OUT: why a row fails the check, 0 where it passes
    double[::1] scratch,              # scratch: n_threads regions, then STATE sums for each piece of a row
    Py_ssize_t region_size,
    Py_ssize_t group,                 # IN: rows that pass through one tile, at most MAX_GROUP
    Py_ssize_t block,                 # IN: elements of each, at most BLOCK
    bint columns,                     # IN: whether lanes are rows
    int n_threads,
):
    """Write every measure of every row; return the first row that fails the check, or -1."""
    cdef Job job
    cdef Py_buffer p_view, q_view
    cdef Py_ssize_t row
    cdef unsigned char failed = 0
    if status_out.shape[0] == 0:
        return -1
    fill_operand(p, p_kind, &job.p, &p_view)
    try:
        job.n_outer, job.n_inner, job.n = p_view.shape[0], p_view.shape[1], p_view.shape[2]
        job.q = job.p
        job.has_q = q is not None
        job.group, job.block, job.columns = group, block, columns
        job.values = &values_out[0]
        job.status = &status_out[0]
        if job.has_q:
            fill_operand(q, q_kind, &job.q, &q_view)
        try:
            fill_job(&job, measures, options)
            with nogil:
                run_job(&job, &scratch[0], region_size, n_threads)
        finally:
            if job.has_q:
                PyBuffer_Release(&q_view)
    finally:
        PyBuffer_Release(&p_view)
    for row in range(status_out.shape[0]):  # no row to leave at, so that the loop is vectorised
        failed |= status_out[row]
    if failed:
        for row in range(status_out.shape[0]):
            if status_out[row]:
                return row
    return -1
