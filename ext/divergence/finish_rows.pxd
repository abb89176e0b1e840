"""Header-only: from the states of rows to their values.

A value that the sums of the first sweep cannot give accurately is not settled, and its row is swept again for it: see
resweep.pxd. Each row's own sums decide whether that happens, never those of a neighbour in the same tile, because a
sweep from better sums changes last bits.
"""

from libc.math cimport INFINITY, fabs, log, sqrt
from libc.stdint cimport int64_t

from divergence.finish cimport CHECK, DIVIDE, PLAIN, Sums, finish_measure, in_unit
from divergence.job cimport (
    BEST_P, CENTRE, FARTHEST, Job, MAX_GROUP, MAX_MEASURES, ROUGH, Region, SHIFT, STATE, TERMS, count_rows,
)
from divergence.logits cimport (
    EXCESS, FORWARD, MASS_P, SHARP, finish_entropy_of_logits, finish_logits, is_jensen_shannon,
)
from divergence.orders cimport far_value, has_logs
from divergence.passes cimport LANES, finish_kl_lanes
from divergence.resweep cimport (
    Frame, find_js, resweep_logits, settle_logits, settle_mass, shift_between, sweep_again,
)
from divergence.sharp cimport sharp_entropy, sharp_value
from divergence.sweep cimport column_sums, comes_later, exchange_sides, unpack_column
from divergence.terms cimport (
    ALPHA, CHI2, ENTROPY_Q, JEFFREYS, JENSEN_SHANNON_ROOT, KL, MASS, MAX_RATIO, PERPLEXITY, RENYI, RENYI_ENTROPY,
    REVERSE_KL, TOP1, TSALLIS_ENTROPY, has_one_sweep, inner_sums_of, is_symmetric, needs_exact_masses,
)

cdef enum:             # why a row fails the check
    BAD_ENTRY = 1      # p holds a negative value, NaN or a logit of infinity; of q, one more
    BAD_SUM = 3        # the sum of p is not one, or all of its logits are -infinity; of q, one more

cdef struct Selection: # some of a job's measures
    int[MAX_MEASURES] measures
    int[MAX_MEASURES] lines
    int n


cdef inline void select(const Job* job, int m, Selection* selection) noexcept nogil:
    """Add one of the job's measures to a selection."""
    selection.measures[selection.n], selection.lines[selection.n] = job.measures[m], job.lines[m]
    selection.n += 1


cdef inline Job with_measures(const Job* job, Selection* selection) noexcept nogil:
    """Return the same job with the selected measures alone."""
    cdef Job part = job[0]
    part.measures, part.lines, part.n_measures = selection.measures, selection.lines, selection.n
    return part


cdef inline double* value_of(const Job* job, int m, Py_ssize_t row) noexcept nogil:
    """Return where a measure of a row is written."""
    return job.values + job.lines[m] * count_rows(job) + row


# ---- Masses ----------------------------------------------------------------------------------------


cdef inline void check_row(const Job* job, Py_ssize_t row, const double* state) noexcept nogil:
    """Note whether a row fails the check and why."""
    cdef int m
    cdef double mass, added = job.smoothing * job.n
    for m in range(2 if job.has_q else 1):
        mass = state[m]
        if job.logits and m == 1:
            mass += state[MASS_P]
        if mass != mass:
            job.status[row] = BAD_ENTRY + m
        elif job.logits:
            if mass == 0:
                job.status[row] = BAD_SUM + m
        elif mass == added or not (-job.tolerances[m] <= mass - added - 1 <= job.tolerances[m]):
            job.status[row] = BAD_SUM + m
        if job.status[row]:
            return


cdef inline void find_frames(const Job* job, const double* state, Frame* frames_out) noexcept nogil:
    """Find what makes p and q distributions from a row's sums."""
    frames_out[0].mass, frames_out[1].mass = state[0], state[1]
    if job.logits:
        frames_out[0].origin = state[CENTRE]
        frames_out[1].origin = state[CENTRE] - state[SHIFT] / job.inverse_temperature
        frames_out[1].mass = state[MASS_P] + state[EXCESS]


# ---- Values of rows that are swept again -----------------------------------------------------------


cdef inline bint has_powers(int measure) noexcept nogil:
    """Whether the measure has powers or quotients, of which the smallest may have few digits."""
    return measure == CHI2 or measure == MAX_RATIO or measure == ALPHA or measure == RENYI \
        or measure == RENYI_ENTROPY or measure == TSALLIS_ENTROPY


cdef inline bint finish_swept(const Job* job, Py_ssize_t row, const Region* region, double* state,
                              Frame* frames) noexcept nogil:
    """Write the values of a row that was swept again; return whether all of them are settled.

    The masses of the row's frames are corrected by how far its sums are off one, before values are found from them.
    """
    cdef Sums sums
    cdef int m
    cdef double value
    cdef bint settled = True
    sums.alpha, sums.unit = job.alpha, job.unit
    sums.precision, sums.wide = 2e-14 if job.wide else 1e-7, True
    sums.p, sums.q = state[0], state[1] if job.has_q else state[0]
    frames[0].mass *= sums.p if 0 < sums.p < INFINITY else 1
    frames[1].mass *= sums.q if 0 < sums.q < INFINITY else 1
    for m in range(job.n_measures):
        sums.total, sums.settled = state[TERMS + m], True
        value = finish_measure(job.measures[m], DIVIDE, &sums)
        if has_powers(job.measures[m]) and has_logs(job) and not (state[FARTHEST] == 0 and value < 1e15):
            sums.far = True
        if sums.far:
            value = far_value(job, job.measures[m], row, region, frames, &sums)
        elif sums.sharp:
            value = sharp_value(job, job.measures[m], row, region, frames, &sums)
        value_of(job, m, row)[0] = value
        settled &= sums.settled or sums.far
    return settled


cdef inline void resweep_measures(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                                  Frame* frames) noexcept nogil:
    """Sweep rows again, and those that are still not settled a last time, from sums that are exact to rounding.

    Neighbours that are not settled are swept together.
    """
    cdef Py_ssize_t r, k, first = 0
    cdef bint[MAX_GROUP] settled
    sweep_again(job, row, n_rows, frames, region, region.pieces)
    for r in range(n_rows):
        settled[r] = finish_swept(job, row + r, region, region.pieces + r * STATE, frames + 2 * r)
    for r in range(n_rows):
        if settled[r]:
            first = r + 1
        elif r + 1 == n_rows or settled[r + 1]:  # rows first to r are not settled
            sweep_again(job, row + first, r + 1 - first, frames + 2 * first, region, region.pieces)
            for k in range(first, r + 1):
                finish_swept(job, row + k, region, region.pieces + (k - first) * STATE, frames + 2 * k)


cdef inline void resweep_rows(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                              Frame* frames) noexcept nogil:
    """Sweep rows again for symmetric measures, and then for the others.

    Which others are not settled may depend on which side is p, and a sweep for them would change last bits.
    """
    cdef Selection[2] parts
    cdef Job part
    cdef int m
    parts[0].n = parts[1].n = 0
    for m in range(job.n_measures):
        select(job, m, &parts[0 if is_symmetric(job.measures[m]) else 1])
    for m in range(2):
        if parts[m].n > 0:
            part = with_measures(job, &parts[m])
            resweep_measures(&part, row, n_rows, region, frames)


# ---- Values of rows --------------------------------------------------------------------------------


cdef inline bint has_js_sweep(const Job* job, int measure) noexcept nogil:
    """Whether the measure is found from float32 logits by find_js."""
    return is_jensen_shannon(measure) and not job.wide and job.smoothing == 0


cdef inline bint needs_probabilities(const Job* job, int measure) noexcept nogil:
    """Whether logits have to become probabilities before the measure's terms can be added."""
    return job.logits and not (has_one_sweep(measure) and job.smoothing == 0) and not has_js_sweep(job, measure)


cdef inline double js_value(const Job* job, int measure, double js, const double* state, const Frame* frames,
                            Sums* sums) noexcept nogil:
    """Return the divergence in the asked unit or its root, the distance."""
    # Rounding moves x - y by up to 2^-24 |c| in t ~ sqrt(8 JS), as in finish_logits. It also spoils the mass of far
    # rows, where one t is large beside the masses and the t of all others are added to it.
    sums.settled = not (1.2e-7 * fabs(shift_between(job, frames)) > 1e-6 * sqrt(8 * js)
                        or state[FORWARD] > 2 * state[MASS_P]
                        and state[FARTHEST] > 4 * min(state[MASS_P], state[MASS_P] + state[EXCESS]))
    js = in_unit(measure, js, sums)
    return sqrt(js) if measure == JENSEN_SHANNON_ROOT else js


cdef inline double logits_value(const Job* job, int measure, Py_ssize_t row, const Region* region,
                                const double* state, Sums* sums) noexcept nogil:
    """Return a measure that one sweep over logits gives."""
    cdef double entropy = 0, value
    if inner_sums_of(measure) > 0 and measure != REVERSE_KL and measure != JEFFREYS:
        entropy = finish_entropy_of_logits(measure, state, sums)
        if entropy < SHARP:
            entropy = sharp_entropy(job, &job.q if measure == ENTROPY_Q else &job.p, row, region)
    value = finish_logits(job, measure, state, entropy, sums)
    return value if measure == PERPLEXITY else in_unit(measure, value, sums)


cdef inline double first_value(const Job* job, int m, Py_ssize_t row, const Region* region, const double* state,
                               const Frame* frames, Sums* sums) noexcept nogil:
    """Return one of the job's measures of one row from the sums of its first sweep."""
    cdef int measure = job.measures[m]
    if measure == TOP1:
        return state[BEST_P + 1] == state[BEST_P + 3]
    if not job.logits:
        sums.total = state[TERMS + m]
        return finish_measure(measure, job.normalisation, sums)
    if measure == MASS:
        return frames[0].origin * job.inverse_temperature + log(frames[0].mass)
    if is_jensen_shannon(measure):
        return js_value(job, measure, find_js(job, row, region, state, frames), state, frames, sums)
    return logits_value(job, measure, row, region, state, sums)


cdef inline void finish_row(Job* job, Py_ssize_t row, const Region* region, double* state,
                            Frame* frames) noexcept nogil:
    """Write the values of one row, and sweep it again for those that are not settled.

    Sums of logits are replaced by better ones, which are in float64 (``job.wide``).
    """
    cdef int m, masses
    cdef double value
    cdef bint swept = False
    cdef Sums sums
    cdef Selection again
    cdef Job second
    again.n = 0
    sums.alpha, sums.unit = job.alpha, job.unit
    sums.precision, sums.wide = 2e-14 if job.wide else 5e-7, job.wide
    for m in range(job.n_measures):
        sums.settled, sums.far, sums.sharp, sums.mass = True, False, False, 0
        masses = 0 if job.logits or needs_exact_masses(job.measures[m]) else ROUGH
        sums.p, sums.q = state[masses], state[masses + 1] if job.has_q else state[masses]
        value = first_value(job, m, row, region, state, frames, &sums)
        if not sums.settled and job.logits and not is_jensen_shannon(job.measures[m]):
            if not swept:
                resweep_logits(job, row, region, state)
            swept = job.wide = sums.settled = sums.wide = True
            value = first_value(job, m, row, region, state, frames, &sums)
        elif not sums.settled:
            select(job, m, &again)
        elif sums.far:
            value = far_value(job, job.measures[m], row, region, frames, &sums)
        elif sums.sharp:
            value = sharp_value(job, job.measures[m], row, region, frames, &sums)
        value_of(job, m, row)[0] = value
    if again.n > 0:
        second = with_measures(job, &again)
        resweep_rows(&second, row, 1, region, frames)


cdef inline void begin_row(Job* job, Py_ssize_t row, const Region* region, double* state,
                           Frame* frames_out) noexcept nogil:
    """Check one row, find what makes it a distribution, and write the values that its first sweep gives."""
    cdef bint wide = job.wide
    if job.logits:
        job.wide = settle_logits(job, row, region, state)
    else:
        settle_mass(job, row, region, state)
    if job.normalisation == CHECK:
        check_row(job, row, state)
    find_frames(job, state, frames_out)
    finish_row(job, row, region, state, frames_out)
    job.wide = wide


cdef inline void finish_rows(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                             double* states) noexcept nogil:
    """Check rows of a tile and write their values.

    Measures that need probabilities of logits come last, because one further sweep gives them for all rows together.
    """
    cdef int m
    cdef Selection now, later
    cdef Frame[2 * MAX_GROUP] frames
    cdef Py_ssize_t r
    cdef Job part, other
    now.n = later.n = 0
    for m in range(job.n_measures):
        select(job, m, &later if needs_probabilities(job, job.measures[m]) else &now)
    part = with_measures(job, &now)
    if job.exchange:
        other = exchange_sides(&part)
    for r in range(n_rows):
        if job.exchange and comes_later(job, row + r, region):
            begin_row(&other, row + r, region, states + r * STATE, &frames[2 * r])
            frames[2 * r], frames[2 * r + 1] = frames[2 * r + 1], frames[2 * r]
            if job.status[row + r]:  # it names the sides as they were exchanged
                job.status[row + r] = ((job.status[row + r] - 1) ^ 1) + 1
        else:
            begin_row(&part, row + r, region, states + r * STATE, &frames[2 * r])
    if later.n > 0 and n_rows > 0:
        part = with_measures(job, &later)
        resweep_rows(&part, row, n_rows, region, &frames[0])


cdef inline void finish_columns(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                                double* states) noexcept nogil:
    """Write the values of columns from their lanes.

    KL alone has a fast way for LANES rows at a time; the rows that it does not settle, and all other measures, go
    through finish_rows.
    """
    cdef Py_ssize_t r
    cdef const double* lanes
    cdef double* values_out = value_of(job, 0, row)
    cdef double[LANES] values
    cdef int64_t[LANES] settled
    cdef bint check = job.normalisation == CHECK
    if not (job.n_measures == 1 and job.measures[0] == KL and job.smoothing == 0 and job.normalisation != PLAIN):
        for r in range(n_rows):
            unpack_column(job, region, r, states + r * STATE)
        finish_rows(job, row, n_rows, region, states)
        return
    for r in range(n_rows):
        if r % LANES == 0:
            lanes = region.columns + r // LANES * column_sums(job)
            finish_kl_lanes(lanes + ROUGH * LANES, lanes + (ROUGH + 1) * LANES, lanes + TERMS * LANES, job.unit,
                            job.tolerances[0] if check else INFINITY, job.tolerances[1] if check else INFINITY,
                            job.wide, values, settled)
        if settled[r % LANES]:
            values_out[r] = values[r % LANES]
            continue
        unpack_column(job, region, r, states + r * STATE)
        finish_rows(job, row + r, 1, region, states + r * STATE)
