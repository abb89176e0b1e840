"""Header-only: further sweeps over rows, for values that the sums of the first sweep cannot give accurately.

The first sweep adds terms of rows as they are and leaves their normalisation to the end. Where that cancels, rows are
swept again in float64. Each element is divided by its row's sum, or turned from a logit into a probability. Logits are
swept as logits again, from origins that suit the row, where one sweep gives the measure.
"""

from libc.math cimport INFINITY, NAN, exp, fabs, log, log1p

from common.exp_log cimport exp_double
from divergence.blocks cimport add_block, max_of, pack_block, tile_of
from divergence.job cimport CENTRE, FARTHEST, Job, Operand, ROUGH, Region, SHIFT, STATE
from divergence.logits cimport (
    EXCESS, FORWARD, MASS_P, MIXED, Next, SWEPT, add_logits, add_logits_js, near_js,
)
from divergence.sweep cimport clear_state, next_block

cdef struct Frame:  # what makes a row a distribution: p = x / mass, or exp((x - origin) / temperature) / mass of logits
    double origin, mass


# ---- Probabilities that sum to one -----------------------------------------------------------------


cdef inline bint to_probabilities(const Job* job, double* x, Py_ssize_t n, const Frame* frame) noexcept nogil:
    """Replace a packed block by probabilities; return whether some of them may have few digits in float64."""
    cdef Py_ssize_t i
    cdef int far = 0, coarse = 0  # whether exponentials are too small for exp_double, and yet not none
    cdef double scale = job.inverse_temperature, origin = frame.origin, mass = frame.mass, part = 1 / mass
    if job.logits:
        for i in range(n):
            x[i] = (x[i] - origin) * scale
            far |= x[i] < -700
        if far:
            for i in range(n):
                coarse |= -1500 < x[i] < -700
                x[i] = exp(x[i]) * part
                x[i] = x[i] if x[i] > 1e-323 else 0  # what float64 has no digit for has no weight
        else:
            for i in range(n):
                x[i] = exp_double(x[i]) * part
        if job.smoothing != 0:
            for i in range(n):
                x[i] = (x[i] + job.smoothing) / (1 + job.n * job.smoothing)
    else:
        for i in range(n):
            x[i] = (x[i] + job.smoothing) / mass
    return coarse != 0


cdef inline void sweep_again(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const Frame* frames,
                             const Region* region, double* states) noexcept nogil:
    """Set ``states`` to the sums of rows of probabilities that are normalised element by element in float64.

    ``frames`` holds two for each row, of p and of q. FARTHEST says whether some p or q of the row may
    have few digits.
    """
    cdef Job plain = job[0]
    cdef Py_ssize_t r, n, start = 0
    plain.logits = False
    plain.top1 = False
    for r in range(n_rows):
        clear_state(&plain, states + r * STATE)
        states[r * STATE + FARTHEST] = 0
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, &job.p, row, n_rows, start, n, region.p)
        for r in range(n_rows):
            if to_probabilities(job, region.p + r * n, n, frames + 2 * r):
                states[r * STATE + FARTHEST] = 1
        if job.has_q:
            pack_block(job, &job.q, row, n_rows, start, n, region.q)
            for r in range(n_rows):
                if to_probabilities(job, region.q + r * n, n, frames + 2 * r + 1):
                    states[r * STATE + FARTHEST] = 1
        for r in range(n_rows):
            add_block[double](&plain, region.p + r * n, (region.q if job.has_q else region.p) + r * n, n, region,
                              NULL, states + r * STATE)
        start += n


# ---- Logits of one row -----------------------------------------------------------------------------


cdef inline double largest_of(const Job* job, const Operand* x, Py_ssize_t row, const Region* region) noexcept nogil:
    """Return the largest logit of one row."""
    cdef Py_ssize_t n, start = 0
    cdef double largest = -INFINITY
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, x, row, 1, start, n, region.wide_p)
        largest = max(largest, max_of(region.wide_p, n))
        start += n
    return largest


cdef inline Frame frame_of(const Job* job, const Operand* x, Py_ssize_t row, const Region* region) noexcept nogil:
    """Return the largest logit of one row and the sum of the exponentials below it."""
    cdef Py_ssize_t i, n, start = 0
    cdef Frame frame
    frame.origin, frame.mass = largest_of(job, x, row, region), 0
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, x, row, 1, start, n, region.wide_p)
        for i in range(n):
            if region.wide_p[i] != -INFINITY:
                frame.mass += exp((region.wide_p[i] - frame.origin) * job.inverse_temperature)
        start += n
    return frame


cdef inline void take_off_origin(double* x, Py_ssize_t n, double origin) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] -= origin


cdef inline void sweep_logits(const Job* job, Py_ssize_t row, double origin_p, double origin_q, double largest,
                              double shift, const Region* region, double* state) noexcept nogil:
    """Set ``state`` to the sums of one row of logits in float64.

    The origins are taken off first. ``largest`` is the largest logit of p.
    """
    cdef Py_ssize_t n, start = 0
    cdef Job plain = job[0]
    cdef Next next
    plain.wide, plain.js, plain.top1 = True, False, False
    clear_state(&plain, state)
    state[CENTRE], state[SHIFT] = largest - origin_p, shift
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, &job.p, row, 1, start, n, region.p)
        take_off_origin(region.p, n, origin_p)
        pack_block(job, &job.q, row, 1, start, n, region.q)
        take_off_origin(region.q, n, origin_q)
        next = next_block(job, row, start + n)
        add_logits(&plain, region.p, region.q, n, start, &next, region, state)
        start += n
    state[CENTRE] += origin_p
    state[SHIFT] += (origin_p - origin_q) * job.inverse_temperature
    state[MIXED] = NAN
    state[SWEPT] = 1


cdef inline void resweep_logits(const Job* job, Py_ssize_t row, const Region* region, double* state) noexcept nogil:
    """Sweep a row of logits again, with a shift that makes the masses of p and q equal.

    Differences of float64 logits are exact where these are near, so that origins are taken off where the rows are far
    apart, or where the largest logits have nearly all of both masses. Differences of float32 logits are always exact.
    """
    cdef double p = state[MASS_P], q = state[MASS_P] + state[EXCESS], scale = job.inverse_temperature, apart, rest, r
    cdef Frame of_p, of_q
    cdef int sweep
    if 0.5 <= p and 1e-3 * p < q < 1e30 * p:  # the masses of the sweep before this one tell the shift
        of_p.origin, of_q.origin = state[CENTRE], largest_of(job, &job.q, row, region)
        rest = (state[SHIFT] - (of_p.origin - of_q.origin) * scale) - log1p(state[EXCESS] / p)
    else:
        of_p, of_q = frame_of(job, &job.p, row, region), frame_of(job, &job.q, row, region)
        if not (0 < of_p.mass < INFINITY and 0 < of_q.mass < INFINITY):
            state[MASS_P] = of_p.mass  # NaN, or 0 where all logits are -inf
            state[EXCESS] = of_q.mass - of_p.mass
            state[FORWARD] = INFINITY
            return
        rest = log(of_p.mass / of_q.mass)
    apart = (of_p.origin - of_q.origin) * scale
    for sweep in range(4):
        if job.wide and fabs(apart) <= 4 and sweep < 2:
            sweep_logits(job, row, 0, 0, of_p.origin, apart + rest, region, state)
        else:
            sweep_logits(job, row, of_p.origin, of_q.origin, of_p.origin, rest, region, state)
        r = state[EXCESS] / state[MASS_P]
        if not r * r > state[FORWARD] / state[MASS_P]:
            return
        rest -= log1p(r)


cdef inline bint settle_logits(const Job* job, Py_ssize_t row, const Region* region, double* state) noexcept nogil:
    """Sweep a row of logits again if the first block has misled the shift; return whether the sums are float64's."""
    cdef double p = state[MASS_P], q = state[MASS_P] + state[EXCESS]
    if not job.has_q or 0.5 <= p and 0.25 * p < q < 1e6 * p:
        return job.wide
    resweep_logits(job, row, region, state)
    return True


# ---- Sums of one row -------------------------------------------------------------------------------


cdef inline void settle_mass(const Job* job, Py_ssize_t row, const Region* region, double* state) noexcept nogil:
    """Sum p or q once more where its sum is small beside the other's: sums of q - p have then lost some of it."""
    cdef Py_ssize_t i, n, start = 0
    cdef double total = 0, p = state[ROUGH], q = state[ROUGH + 1]
    cdef const Operand* x
    if not job.has_q or 0.5 * p < q < 2 * p or p != p or q != q:
        return
    x = &job.p if p < q else &job.q
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, x, row, 1, start, n, region.wide_q)
        for i in range(n):
            total += region.wide_q[i]
        start += n
    state[0 if p < q else 1] = state[ROUGH + (0 if p < q else 1)] = total + job.n * job.smoothing


cdef inline double shift_between(const Job* job, const Frame* frames) noexcept nogil:
    """Return how far p's scaled logits lie above q's where their probabilities are equal."""
    return (frames[0].origin - frames[1].origin) * job.inverse_temperature + log(frames[0].mass / frames[1].mass)


cdef inline double sweep_js(const Job* job, Py_ssize_t row, const Region* region, const double* state,
                            const Frame* frames) noexcept nogil:
    """Return the Jensen-Shannon divergence of a row of float32 logits, from a sweep while the row is in cache."""
    cdef Py_ssize_t n, start = 0
    cdef double shift = shift_between(job, frames)
    cdef double[2] sums
    cdef double[2] mode
    cdef const float* p
    cdef const float* q
    sums[0] = sums[1] = mode[0] = mode[1] = 0
    while start < job.n:
        n = min(job.block, job.n - start)
        p = tile_of(&job.p, job, row, 1, start, n, <float*>region.p)
        q = tile_of(&job.q, job, row, 1, start, n, <float*>region.q)
        add_logits_js(job, p, q, n, state[CENTRE], shift, region, sums, mode)
        start += n
    return sums[1] / sums[0]


cdef inline double find_js(const Job* job, Py_ssize_t row, const Region* region, const double* state,
                           const Frame* frames) noexcept nogil:
    """Return the Jensen-Shannon divergence of a row of float32 logits: from the first sweep where that suffices."""
    cdef double js = near_js(state) if job.js else -1
    return sweep_js(job, row, region, state, frames) if js < 0 else js
