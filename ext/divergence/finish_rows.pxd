"""Header-only: from the states of rows to their values.

A value that the sums of the first sweep cannot give accurately is not settled, and its row is swept again for it: see
resweep.pxd. Each row's own sums decide whether that happens, never those of a neighbour in the same tile, because a
sweep from better sums changes last bits.
"""

from libc.math cimport INFINITY, fabs, log, sqrt
from libc.stdint cimport int64_t

from divergence.finish cimport CHECK, DIVIDE, PLAIN, Sums, finish_measure
from divergence.job cimport (
    BEST_P, CENTRE, Job, MAX_GROUP, MAX_MEASURES, ROUGH, Region, SHIFT, STATE, TERMS, count_rows,
)
from divergence.logits cimport EXCESS, MASS_P, finish_logits, is_jensen_shannon
from divergence.orders cimport far_value
from divergence.passes cimport LANES, finish_kl_lanes
from divergence.resweep cimport find_js, log_sum_exp, settle_mass, sweep_again
from divergence.sweep cimport column_sums, unpack_column
from divergence.terms cimport JENSEN_SHANNON_ROOT, KL, MASS, TOP1, has_one_sweep, is_symmetric, needs_exact_masses

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


cdef inline void find_offsets(const Job* job, Py_ssize_t row, const Region* region, const double* state,
                              double* offsets_out) noexcept nogil:
    """Find what makes p and q distributions: their sums, or the log-sum-exps of their logits."""
    cdef double p = state[0], q = state[1]
    if not job.logits:
        offsets_out[0], offsets_out[1] = p, q
        return
    q = p + state[EXCESS]
    offsets_out[0] = state[CENTRE] + log(p)
    offsets_out[1] = state[CENTRE] - state[SHIFT] + log(q)
    if p == p and q == q and not (1e-30 < p < INFINITY and 1e-4 * p < q < INFINITY):
        offsets_out[0] = log_sum_exp(job, &job.p, row, region)
        if job.has_q:
            offsets_out[1] = log_sum_exp(job, &job.q, row, region)


# ---- Values of rows that are swept again -----------------------------------------------------------


cdef inline bint finish_swept(const Job* job, Py_ssize_t row, const Region* region, double* state,
                              double* offsets) noexcept nogil:
    """Write the values of a row that was swept again; return whether all of them are settled.

    The row's offsets are corrected by how far its sums are off one.
    """
    cdef Sums sums
    cdef int m
    cdef bint settled = True
    sums.alpha, sums.unit = job.alpha, job.unit
    sums.precision, sums.wide = 2e-14 if job.wide else 1e-7, True
    sums.p, sums.q = state[0], state[1] if job.has_q else state[0]
    for m in range(job.n_measures):
        sums.total, sums.settled = state[TERMS + m], True
        value_of(job, m, row)[0] = finish_measure(job.measures[m], DIVIDE, &sums)
        if sums.far:
            value_of(job, m, row)[0] = far_value(job, job.measures[m], row, region, offsets, &sums)
        settled &= sums.settled or sums.far
    for m in range(2):
        if job.logits:
            offsets[m] += log(sums.p if m == 0 else sums.q)
        else:
            offsets[m] *= sums.p if m == 0 else sums.q
    return settled


cdef inline void resweep_measures(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                                  double* offsets) noexcept nogil:
    """Sweep rows again, and those that are still not settled a last time, from sums that are exact to rounding.

    Neighbours that are not settled are swept together.
    """
    cdef Py_ssize_t r, k, first = 0
    cdef bint[MAX_GROUP] settled
    sweep_again(job, row, n_rows, offsets, region, region.pieces)
    for r in range(n_rows):
        settled[r] = finish_swept(job, row + r, region, region.pieces + r * STATE, offsets + 2 * r)
    for r in range(n_rows):
        if settled[r]:
            first = r + 1
        elif r + 1 == n_rows or settled[r + 1]:  # rows first to r are not settled
            sweep_again(job, row + first, r + 1 - first, offsets + 2 * first, region, region.pieces)
            for k in range(first, r + 1):
                finish_swept(job, row + k, region, region.pieces + (k - first) * STATE, offsets + 2 * k)


cdef inline void resweep_rows(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                              double* offsets) noexcept nogil:
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
            resweep_measures(&part, row, n_rows, region, offsets)


# ---- Values of rows --------------------------------------------------------------------------------


cdef inline bint has_js_sweep(const Job* job, int measure) noexcept nogil:
    """Whether the measure is found from float32 logits by find_js."""
    return is_jensen_shannon(measure) and not job.wide and job.smoothing == 0


cdef inline bint needs_probabilities(const Job* job, int measure) noexcept nogil:
    """Whether logits have to become probabilities before the measure's terms can be added."""
    return job.logits and not (has_one_sweep(measure) and job.smoothing == 0) and not has_js_sweep(job, measure)


cdef inline double js_value(const Job* job, int measure, double js, const double* state, Sums* sums) noexcept nogil:
    """Return the divergence in the asked unit or its root, the distance."""
    # Rounding moves x - y by up to 2^-24 |c| in t ~ sqrt(8 JS), as in finish_logits.
    sums.settled = not 1.2e-7 * fabs(state[SHIFT]) > 1e-6 * sqrt(8 * js)
    return sqrt(js * sums.unit) if measure == JENSEN_SHANNON_ROOT else js * sums.unit


cdef inline double logits_value(const Job* job, int measure, const double* state, const double* offsets,
                                Sums* sums) noexcept nogil:
    """Return a measure that one sweep over logits gives."""
    if measure == MASS:
        return offsets[0]
    cdef double value = finish_logits(measure, state, job.wide, sums)
    return value if measure == TOP1 else value * sums.unit


cdef inline double probabilities_value(const Job* job, int m, const double* state, Sums* sums) noexcept nogil:
    """Return one of the job's measures of a row of probabilities."""
    if job.measures[m] == TOP1:
        return state[BEST_P + 1] == state[BEST_P + 3]
    sums.total = state[TERMS + m]
    return finish_measure(job.measures[m], job.normalisation, sums)


cdef inline void finish_row(const Job* job, Py_ssize_t row, const Region* region, double* state,
                            double* offsets) noexcept nogil:
    """Write the values of one row, and sweep it again for those that are not settled."""
    cdef int m, measure, masses
    cdef double value, js = -1
    cdef Sums sums
    cdef Selection again
    cdef Job second
    again.n = 0
    sums.alpha, sums.unit = job.alpha, job.unit
    sums.precision, sums.wide = 2e-14 if job.wide else 5e-7, job.wide
    for m in range(job.n_measures):
        measure = job.measures[m]
        sums.settled, sums.far = True, False
        masses = 0 if job.logits or needs_exact_masses(measure) else ROUGH
        sums.p, sums.q = state[masses], state[masses + 1] if job.has_q else state[masses]
        if not job.logits:
            value = probabilities_value(job, m, state, &sums)
        elif is_jensen_shannon(measure):
            js = find_js(job, row, region, state, offsets) if js < 0 else js
            value = js_value(job, measure, js, state, &sums)
        else:
            value = logits_value(job, measure, state, offsets, &sums)
        if not sums.settled:
            select(job, m, &again)
        elif sums.far:
            value = far_value(job, measure, row, region, offsets, &sums)
        value_of(job, m, row)[0] = value
    if again.n > 0:
        second = with_measures(job, &again)
        resweep_rows(&second, row, 1, region, offsets)


cdef inline void finish_rows(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Region* region,
                             double* states) noexcept nogil:
    """Check rows of a tile and write their values.

    Measures that need probabilities of logits come last, because one further sweep gives them for all rows together.
    """
    cdef int m
    cdef Selection now, later
    cdef double[2 * MAX_GROUP] offsets
    cdef Py_ssize_t r
    cdef Job part
    now.n = later.n = 0
    for m in range(job.n_measures):
        select(job, m, &later if needs_probabilities(job, job.measures[m]) else &now)
    part = with_measures(job, &now)
    for r in range(n_rows):
        if not job.logits:
            settle_mass(job, row + r, region, states + r * STATE)
        if job.normalisation == CHECK:
            check_row(job, row + r, states + r * STATE)
        find_offsets(job, row + r, region, states + r * STATE, &offsets[2 * r])
        finish_row(&part, row + r, region, states + r * STATE, &offsets[2 * r])
    if later.n > 0 and n_rows > 0:
        part = with_measures(job, &later)
        resweep_rows(&part, row, n_rows, region, &offsets[0])


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
