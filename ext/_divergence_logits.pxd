"""Header-only: KL and entropies from blocks of logits, in one sweep and without a softmax.

With x, y the logits, M the largest x so far and c a shift that the row's first block suggests,
e = exp(x - M) and t = (x - y) - c, so that e exp(-t) is proportional to q. Every element adds

    Sp: e    T: e t    G: e (exp(-t) - 1 + t) >= 0

and KL = G / Sp - (r - log(1 + r)), r = (G - T) / Sp. G loses nothing where the rows are near: x - y is
then exact, and what a wrong c leaves is of second order. When M grows, the sums are scaled.
"""

from cython cimport floating
from libc.math cimport INFINITY, exp, fabs, log, sqrt

from _divergence_blocks cimport (
    BEST_P, CENTRE, LANE, Job, Region, SHIFT, max_of, note_best, sum_of, sum_terms,
)
from _divergence_finish cimport Sums, excess, take_off
from _divergence_terms cimport (
    CROSS, ENTROPY, ENTROPY_Q, KL, MASS, PERPLEXITY, REVERSE_KL, TOP1, exp_fast, exp_tail, reduce,
)
from _numeric cimport within_double, within_float

cdef enum:
    MASS_P = 0
    EXCESS      # e (exp(-t) - 1): by how much q's mass exceeds p's
    FORWARD     # G above
    INNER_P     # e (x - M)
    INNER_Q     # e exp(-t) (y - M + c)
    BACKWARD    # G with p and q exchanged
    N_SUMS


cdef inline bint within(const floating* x, Py_ssize_t n, double limit) noexcept nogil:
    if floating is float:
        return within_float(x, n, limit)
    else:
        return within_double(x, n, limit)


cdef inline void map_logits(const floating* x, const floating* y, Py_ssize_t n, floating scale, floating centre,
                            floating shift, floating* out) noexcept nogil:
    """Write e, e t, e (exp(-t) - 1 + t) and t, LANE apart (one pointer spares alias checks). Masked pairs (-inf, -inf) give e = 0 and a finite t."""
    cdef Py_ssize_t i
    cdef floating a, b, e, t, r, r2, power
    cdef floating lowest = -1e37 if floating is float else -1e300
    for i in range(n):
        a = lowest if x[i] < lowest else x[i]
        b = lowest if y[i] < lowest else y[i]
        e = exp_fast(a * scale - centre)
        t = (a - b) * scale - shift
        r = reduce(-t, &power)
        r2 = r * r * exp_tail(r)
        out[i] = e
        out[LANE + i] = e * t
        out[2 * LANE + i] = e * (power * r2 + ((power - <floating>1) + (power * r + t)))
        out[3 * LANE + i] = t


cdef inline void add_logits_slow(const Job* job, const floating* x, const floating* y, Py_ssize_t n, double* state) noexcept nogil:
    """Add a block with a mask on one side, far tails, infinities or NaN; in float64, from both exponentials."""
    cdef Py_ssize_t i
    cdef double scale = job.inverse_temperature, centre = state[CENTRE], other = centre - state[SHIFT], u, v, e, f
    for i in range(n):
        u = x[i] * scale - centre
        v = y[i] * scale - other if job.has_q else u
        if u == -INFINITY and v == -INFINITY:
            continue
        e = exp(u)
        f = exp(v)
        state[MASS_P] += e
        state[EXCESS] += f - e
        if e == 0 and u == u:
            state[FORWARD] += f
            state[BACKWARD] += INFINITY if u == -INFINITY and f > 0 else 0
            state[INNER_Q] += f * v if f > 0 else 0
        elif f == 0 and v == v:
            state[FORWARD] += INFINITY if v == -INFINITY else e * (u - v) - e
            state[BACKWARD] += e
            state[INNER_P] += e * u
        else:
            state[FORWARD] += e * (u - v) - e + f
            state[BACKWARD] += f * (v - u) - f + e
            state[INNER_P] += e * u
            state[INNER_Q] += f * v


cdef inline void add_inner(const Job* job, const floating* x, const floating* y, Py_ssize_t n, floating scale,
                           floating centre, floating shift, floating* out, double* state) noexcept nogil:
    """Add what entropies and the reverse divergence need, from what map_logits wrote; overwrites t."""
    cdef Py_ssize_t i
    cdef floating u, e, f, g, h, t, lowest = -1e37 if floating is float else -1e300
    cdef floating other = centre - shift
    if job.n_inner_sums > 1:
        for i in range(n):  # near: t^2 - g (1 + t); far: 1 - exp(-t) (1 + t)
            e, h, g, t = out[i], out[LANE + i], out[2 * LANE + i], out[3 * LANE + i]
            u = h * t - g * (<floating>1 + t)
            f = e - (e + (g - h)) * (<floating>1 + t)
            out[3 * LANE + i] = u if (t if t > 0 else -t) < <floating>0.5 else f
        state[BACKWARD] += sum_of(out + 3 * LANE, n)
        for i in range(n):
            u = (lowest if y[i] < lowest else y[i]) * scale - other
            f = out[i] + (out[2 * LANE + i] - out[LANE + i])
            out[3 * LANE + i] = f * u if out[i] > 0 else 0
        state[INNER_Q] += sum_of(out + 3 * LANE, n)
    for i in range(n):
        u = (lowest if x[i] < lowest else x[i]) * scale - centre
        out[3 * LANE + i] = out[i] * u if out[i] > 0 else 0
    state[INNER_P] += sum_terms(out + 3 * LANE, n)


cdef inline void add_logits(const Job* job, const floating* x, const floating* y, Py_ssize_t n, Py_ssize_t start,
                            const Region* region, double* state) noexcept nogil:
    """Add one block of one row."""
    cdef Py_ssize_t i
    cdef double scale = job.inverse_temperature, best = <floating>(max_of(x, n) * scale), factor, forward
    cdef floating* out = <floating*>region.terms  # 4 lanes
    if job.top1:
        note_best(x, n, start, state + BEST_P)
        note_best(y, n, start, state + BEST_P + 2)
    if best == -INFINITY and state[CENTRE] == -INFINITY:
        best = <floating>(max_of(y, n) * scale + state[SHIFT])
        if best == -INFINITY:
            return  # all masked so far
    if best > state[CENTRE]:
        factor = exp(state[CENTRE] - best)
        if state[CENTRE] > -INFINITY:  # the inner products are of x less the centre
            state[INNER_P] = (state[INNER_P] + (state[CENTRE] - best) * state[MASS_P]) * factor
            state[INNER_Q] = (state[INNER_Q] + (state[CENTRE] - best) * (state[MASS_P] + state[EXCESS])) * factor
            state[MASS_P] *= factor
            state[EXCESS] *= factor
            if state[FORWARD] < INFINITY:
                state[FORWARD] *= factor
            if state[BACKWARD] < INFINITY:
                state[BACKWARD] *= factor
        state[CENTRE] = best
    map_logits(x, y, n, <floating>scale, <floating>state[CENTRE], <floating>state[SHIFT], out)
    if not within(out + 3 * LANE, n, 40):
        add_logits_slow(job, x, y, n, state)
        return
    state[MASS_P] += sum_terms(out, n)
    forward = sum_terms(out + 2 * LANE, n)
    state[FORWARD] += forward
    state[EXCESS] += forward - sum_of(out + LANE, n)
    if job.n_inner_sums > 0:
        add_inner(job, x, y, n, <floating>scale, <floating>state[CENTRE], <floating>state[SHIFT], out,
                  state)


cdef inline void merge_logits(double* state, double* other) noexcept nogil:
    """Add the sums of a later piece of the same row (and so of the same shift)."""
    cdef int i
    cdef double* part
    cdef double centre = max(state[CENTRE], other[CENTRE]), step, factor
    if other[CENTRE] == -INFINITY:
        return
    for i in range(2):
        part = state if i == 0 else other
        if part[CENTRE] == -INFINITY:
            continue
        step = part[CENTRE] - centre
        factor = exp(step)
        part[INNER_P] = (part[INNER_P] + step * part[MASS_P]) * factor
        part[INNER_Q] = (part[INNER_Q] + step * (part[MASS_P] + part[EXCESS])) * factor
        part[MASS_P] *= factor
        part[EXCESS] *= factor
        part[FORWARD] = part[FORWARD] * factor if part[FORWARD] < INFINITY else INFINITY
        part[BACKWARD] = part[BACKWARD] * factor if part[BACKWARD] < INFINITY else INFINITY
        part[CENTRE] = centre
    for i in range(N_SUMS):
        state[i] += other[i]
    state[CENTRE] = centre


cdef inline bint has_one_sweep(int measure) noexcept nogil:
    return (measure == KL or measure == REVERSE_KL or measure == ENTROPY or measure == ENTROPY_Q
            or measure == CROSS or measure == PERPLEXITY or measure == MASS or measure == TOP1)


cdef inline double finish_shifted(double mass, double more, Sums* sums) noexcept nogil:
    return INFINITY if sums.total == INFINITY else take_off(sums.total / mass, excess(more / mass), sums)


cdef inline double finish_logits(int measure, const double* state, bint wide, Sums* sums) noexcept nogil:
    """Return one measure of a row in nats; clear ``settled`` where a second sweep in float64 must decide."""
    cdef double p = state[MASS_P], q = state[MASS_P] + state[EXCESS], value, h = 0
    if measure == MASS:
        return state[CENTRE] + log(p)
    if measure == TOP1:
        return state[BEST_P + 1] == state[BEST_P + 3]
    if measure == ENTROPY or measure == PERPLEXITY or measure == CROSS:
        h = log(p) - state[INNER_P] / p
        if fabs(log(p)) > 4 * h:
            sums.settled = False
        if measure != CROSS:
            return exp(max(h, 0.0)) if measure == PERPLEXITY else max(h, 0.0)
    if measure == ENTROPY_Q:
        h = log(q) - state[INNER_Q] / q
        if fabs(log(q)) > 4 * h or (not wide and fabs(state[SHIFT]) > 8):  # rounding in t spoils the weights
            sums.settled = False
        return max(h, 0.0)
    if measure == REVERSE_KL:
        sums.total = state[BACKWARD]
        value = finish_shifted(q, -state[EXCESS], sums)
    else:
        sums.total = state[FORWARD]
        value = finish_shifted(p, state[EXCESS], sums)
    # x - y is exact where the rows are near; elsewhere it rounds, by up to 2^-24 |c| in t ~ sqrt(2 KL)
    if not wide and 1.2e-7 * fabs(state[SHIFT]) > 1e-6 * sqrt(2 * value):
        sums.settled = False
    return value + h if measure == CROSS else value
