"""Header-only: entropies and the total variation of rows of which one element has nearly all of the mass.

What the others have, the rest, would lose its digits beside the largest element. It is summed without it, and the
logarithm of the largest element's share is log1p(-rest).
"""

from libc.math cimport INFINITY, fabs, log, log1p

from divergence.blocks cimport add_block, fold, max_of, note_best, pack_block
from divergence.finish cimport Sums, in_unit
from divergence.job cimport Job, Operand, Region, STATE, TERMS
from divergence.logits cimport Logits, Next, X_ALONE, add_logit_lanes, logits_of
from divergence.passes cimport LANES
from divergence.powers cimport power_excess
from divergence.resweep cimport Frame, largest_of, to_probabilities
from divergence.sweep cimport clear_state, next_block
from divergence.terms cimport CROSS, ENTROPY_Q, MIN_ENTROPY, RENYI_ENTROPY, TOTAL_VARIATION, TSALLIS_ENTROPY


cdef inline Py_ssize_t place_of_largest(const Job* job, const Operand* x, Py_ssize_t row,
                                        const Region* region) noexcept nogil:
    """Return where the largest element of one row stands."""
    cdef Py_ssize_t n, start = 0
    cdef double[2] best
    best[0], best[1] = -INFINITY, 0
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, x, row, 1, start, n, region.wide_p)
        note_best(region.wide_p, n, start, max_of(region.wide_p, n), best)
        start += n
    return <Py_ssize_t>best[1]


cdef inline double sweep_others(const Job* job, int measure, Py_ssize_t row, Py_ssize_t place, const Region* region,
                                const Frame* frames, double* state) noexcept nogil:
    """Set ``state`` to the sums of one row of probabilities without one element; return p of that element."""
    cdef Job plain = job[0]
    cdef Py_ssize_t n, start = 0
    cdef double weight = 0
    plain.logits = plain.top1 = False
    plain.measures, plain.n_measures = &measure, 1
    clear_state(&plain, state)
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, &job.p, row, 1, start, n, region.p)
        to_probabilities(job, region.p, n, frames)
        if job.has_q:
            pack_block(job, &job.q, row, 1, start, n, region.q)
            to_probabilities(job, region.q, n, frames + 1)
        if start <= place < start + n:
            weight = region.p[place - start]
            region.p[place - start] = 0
            if job.has_q:
                region.q[place - start] = 0
        add_block[double](&plain, region.p, region.q if job.has_q else region.p, n, region, NULL, state)
        start += n
    return weight


cdef inline double sharp_value(const Job* job, int measure, Py_ssize_t row, const Region* region,
                               const Frame* frames, Sums* sums) noexcept nogil:
    """Return an entropy or the total variation of one row of numbers, in the asked unit."""
    cdef double[STATE] state
    cdef bint of_q = measure == ENTROPY_Q or measure == CROSS
    cdef Py_ssize_t place = place_of_largest(job, &job.q if of_q else &job.p, row, region)
    cdef double weight = sweep_others(job, measure, row, place, region, frames, state), less_one, value
    cdef double rest = state[1 if of_q else 0], log_largest = log1p(-rest), order = 1 - job.alpha
    if measure == CROSS:
        value = state[TERMS] - weight * log_largest
    elif measure == MIN_ENTROPY:
        value = -log_largest
    elif measure == TOTAL_VARIATION:  # the largest elements differ by as much as the rests do
        value = state[TERMS] + 0.5 * fabs(rest - state[1])
        if weight < 0.9876:  # no rounding shows, and another element may be the largest of q
            value = 2 * sums.total / (sums.p + sums.q)
    elif measure == RENYI_ENTROPY or measure == TSALLIS_ENTROPY:
        value = state[TERMS] + power_excess(1 - rest, -order * log_largest, order)
        less_one = order * value
        if measure == RENYI_ENTROPY:  # of high orders the largest element alone has a power
            value = log1p(less_one) / order if less_one > -0.5 else job.alpha / order * log_largest
    else:
        value = state[TERMS] - (1 - rest) * log_largest
    sums.mass = 0
    return in_unit(measure, max(value, 0.0), sums)


cdef inline double sharp_entropy(const Job* job, const Operand* x, Py_ssize_t row,
                                 const Region* region) noexcept nogil:
    """Return the entropy of one row of logits, the largest of which has nearly all of the mass.

    What the others add to the mass is summed without the largest, because it would lose its digits beside it. The pass
    takes a weight of 1e-307 for none; so an entropy below 1e-290 is 0.
    """
    cdef Py_ssize_t i, n, start = 0
    cdef double origin = largest_of(job, x, row, region), n_largest = 0, rest = 0, inner = 0
    cdef double[2] mode
    cdef Logits block
    cdef Next next
    mode[0] = mode[1] = 0
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, x, row, 1, start, n, region.wide_p)
        for i in range(n):
            n_largest += region.wide_p[i] == origin
            region.wide_p[i] = -INFINITY if region.wide_p[i] == origin else region.wide_p[i]
        next = next_block(job, row, start + n)
        block = logits_of(job, region.wide_p, region.wide_p, n, origin, 0, &next)
        add_logit_lanes(X_ALONE, False, &block, n % LANES, region.lanes, mode, <double*>NULL)
        rest += fold(region.lanes)
        inner += fold(region.lanes + 3 * LANES)
        start += n
    return log(n_largest) + log1p(rest / n_largest) - inner / (n_largest + rest) if rest > 1e-290 else log(n_largest)
