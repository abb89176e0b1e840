"""Header-only: KL and entropies from blocks of logits, in one sweep and without a softmax.

Let x and y be the logits over the temperature, M the largest x so far and c a shift that the row's first block
suggests. With e = exp(x - M) and t = (x - y) - c, e exp(-t) is proportional to q. Every element adds

    to Sp: e,    to T: e t,    to G: e (exp(-t) - 1 + t) >= 0,

and KL = G / Sp - (r - log(1 + r)) with r = (G - T) / Sp. G loses nothing where the rows are near, because x - y is then
exact and a wrong c leaves an error of second order. When M grows, the sums are scaled.

The mass of q is that of p plus the sum of e (exp(-t) - 1), which tells nothing where it is much smaller than that of p,
or has left the range of numbers. Then the first block has misled the shift, and the row is swept again from a better
one: see resweep.pxd.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, exp, expm1, fabs, log, log1p, sqrt
from libc.string cimport memset

from divergence.blocks cimport fold, max_of, note_best
from divergence.finish cimport Sums, excess, finish_perplexity, take_off
from divergence.job cimport BEST_P, CENTRE, FARTHEST, Job, MODE, Region, SHIFT
from divergence.passes cimport LANES
from divergence.terms cimport (
    CROSS, ENTROPY, ENTROPY_Q, JEFFREYS, JENSEN_SHANNON, KL, PERPLEXITY, REVERSE_KL, formula_of, jensen_shannon_slow,
)

cdef extern from "divergence/logits.h":
    ctypedef struct Next "kb_next":  # the block that will be worked after this one
        const char* x
        const char* y
        Py_ssize_t x_step, y_step
    ctypedef struct Logits "kb_logits":  # a block
        const void* x
        const void* y
        Py_ssize_t n_groups
        double scale, centre, shift
        const Next* next
    enum:
        NEAR "KB_NEAR"
        MASKED "KB_MASKED"
        X_ALONE "KB_X_ALONE"
        WITH_JS "KB_Q_INNER_AND_JS"
    const double NEAR_LIMIT "KB_NEAR_LIMIT"
    double add_logits_float "kb_add_logits_f"(int sums, int mode, const Logits* block, double* lanes) noexcept nogil
    double add_logits_double "kb_add_logits_d"(int sums, int mode, const Logits* block, double* lanes) noexcept nogil
    double add_logits_js_float "kb_add_logits_js_f"(int mode, const Logits* block, double* lanes) noexcept nogil
    double add_logits_js_double "kb_add_logits_js_d"(int mode, const Logits* block, double* lanes) noexcept nogil

cdef enum:      # the sums of a row of logits, the first doubles of its state
    MASS_P = 0  # e
    EXCESS      # e (exp(-t) - 1): by how much the mass of q exceeds that of p; lanes hold e t here
    FORWARD     # G above
    INNER_P     # e (x - M)
    INNER_Q     # e exp(-t) (y - M + c)
    BACKWARD    # G with p and q exchanged
    MIXED       # twice the Jensen-Shannon terms; NaN unless they are asked for and all blocks are near, see near_js
    LOG_COSH    # e log(cosh(t / 2))
    CUBES       # e t^3
    N_SUMS
    SWEPT = N_SUMS  # no sum: 1 where a second sweep has taken off origins, so that differences are not rounded


cdef inline double add_groups(int sums, int mode, const Logits* block, double* lanes, floating* kind) noexcept nogil:
    """Add groups of lanes and return the largest |t|; JENSEN_SHANNON asks for the sums of a second sweep."""
    if floating is float:
        return add_logits_js_float(mode, block, lanes) if sums == JENSEN_SHANNON \
            else add_logits_float(sums, mode, block, lanes)
    else:
        return add_logits_js_double(mode, block, lanes) if sums == JENSEN_SHANNON \
            else add_logits_double(sums, mode, block, lanes)


cdef inline void fill_last(const Logits* block, Py_ssize_t n_left, bint with_js, floating* x_out,
                           floating* y_out) noexcept nogil:
    """Copy the logits that are left after whole groups, and fill their group with pairs that add nothing.

    These are pairs of -inf, or pairs that add 1e-38 where the pass takes only near ones.
    """
    cdef Py_ssize_t k, start = block.n_groups * LANES
    for k in range(n_left):
        x_out[k] = (<const floating*>block.x)[start + k]
        y_out[k] = (<const floating*>block.y)[start + k]
    for k in range(n_left, LANES):
        x_out[k] = <floating>(block.centre - 86 / block.scale if with_js else -INFINITY)
        y_out[k] = <floating>(block.centre - (86 + block.shift) / block.scale if with_js else -INFINITY)


cdef inline bint has_room_below(const Logits* block) noexcept nogil:
    """Whether float32 tells the pairs of fill_last, which add 1e-38, from the block's largest logit."""
    return fabs(block.centre) * block.scale < 1e5 and fabs(block.shift) < 1e5


cdef inline bint add_logit_lanes(int sums, bint js, const Logits* block, Py_ssize_t n_left, double* lanes, double* mode,
                                 floating* kind) noexcept nogil:
    """Set ``lanes`` to the sums of a block of whole groups and ``n_left`` logits after them.

    A block is tried in the mode that the block before it ended with, and again in the next one until the terms hold; a
    block whose logits are near lets the block after it begin in the fastest. Return whether no mode takes some pair.
    ``mode`` is followed by the largest |t| so far.
    """
    cdef floating[LANES] last_x
    cdef floating[LANES] last_y
    cdef Logits last = block[0]
    cdef double largest = 0, largest_last = 0, limit
    cdef int m = <int>mode[0], asked
    cdef bint with_js
    last.x, last.y, last.n_groups = &last_x[0], &last_y[0], 1
    while m <= MASKED:
        memset(lanes, 0, N_SUMS * LANES * sizeof(double))
        with_js = js and m == NEAR and (n_left == 0 or has_room_below(block))
        asked = WITH_JS if with_js else sums
        limit = NEAR_LIMIT if m == NEAR else 40.0
        if block.n_groups > 0:
            largest = add_groups(asked, m, block, lanes, kind)
        if n_left > 0 and largest == largest:
            fill_last(block, n_left, with_js, last_x, last_y)
            largest_last = add_groups(asked, NEAR if with_js else MASKED, &last, lanes, kind)
        if js and not with_js:
            lanes[MIXED * LANES] = NAN
        if largest <= limit and largest_last <= (limit if with_js else 40.0) \
                or sums == X_ALONE and largest == largest and largest_last == largest_last:
            mode[0] = NEAR if largest <= NEAR_LIMIT and m < MASKED else m
            mode[1] = max(mode[1], largest, largest_last)
            return False
        m += 1
    mode[0] = NEAR
    return True


cdef inline Logits logits_of(const Job* job, const floating* x, const floating* y, Py_ssize_t n, double centre,
                             double shift, const Next* next) noexcept nogil:
    """Describe the whole groups of a block of logits."""
    cdef Logits block
    block.x, block.y, block.n_groups = x, y, n // LANES
    block.scale, block.centre, block.shift, block.next = job.inverse_temperature, centre, shift, next
    return block


cdef inline double excess_of(double t) noexcept nogil:
    """Return exp(-t) - 1 + t >= 0, without cancellation near 0."""
    cdef double term = 0.5 * t * t, total = 0
    cdef int k
    if fabs(t) > 0.5:
        return expm1(-t) + t
    for k in range(3, 19):  # the next term, t^18 / 18!, is below 1e-20 of the first
        total += term
        term *= -t / k
    return total


cdef inline void add_logits_slow(const Job* job, const floating* x, const floating* y, Py_ssize_t n,
                                 double* state) noexcept nogil:
    """Add a block with a mask on one side, far tails, infinities or NaN, in float64 and from both exponentials.

    A weight that leaves the range of float64 adds nothing, even where the other side is masked: masks are -1e4 as well
    as -inf. Any other weight adds infinity where the other side is -inf.
    """
    cdef Py_ssize_t i
    cdef int m
    cdef double scale = job.inverse_temperature, u, v, t, e, f
    cdef double[N_SUMS] sums
    memset(sums, 0, sizeof(sums))
    for i in range(n):
        u = (x[i] - state[CENTRE]) * scale
        v = (y[i] - state[CENTRE]) * scale + state[SHIFT]
        t = u - v
        if u == -INFINITY and v == -INFINITY:
            continue
        if fabs(t) < 40:
            t = (<double>x[i] - y[i]) * scale - state[SHIFT]
        e = exp(u)
        f = exp(v)
        sums[MASS_P] += e
        sums[INNER_P] += e * u if e > 0 else 0
        sums[INNER_Q] += f * v if f > 0 else 0
        if fabs(t) < 40:
            sums[EXCESS] += e * expm1(-t)
            sums[FORWARD] += e * excess_of(t)
            sums[BACKWARD] += f * excess_of(-t)
        else:
            sums[EXCESS] += f - e if f < 1e290 else INFINITY  # so that the row is swept again, with all of its sums
            sums[FORWARD] += f - e + (e * t if e > 0 else 0)
            sums[BACKWARD] += e - f - (f * t if f > 0 else 0)
    for m in range(N_SUMS):
        state[m] += sums[m]


cdef inline void raise_centre(const Job* job, double* state, double centre) noexcept nogil:
    """Scale the sums to a larger centre; the inner products are of x less the centre."""
    cdef double step = (state[CENTRE] - centre) * job.inverse_temperature, factor = exp(step)
    if state[CENTRE] > -INFINITY:
        state[INNER_P] = state[INNER_P] * factor + state[MASS_P] * (step * factor if factor > 0 else 0)
        state[INNER_Q] = (state[INNER_Q] + step * (state[MASS_P] + state[EXCESS])) * factor
        state[MASS_P] *= factor
        state[EXCESS] *= factor
        state[MIXED] *= factor
        state[LOG_COSH] *= factor
        state[CUBES] *= factor
        state[FORWARD] = state[FORWARD] * factor if state[FORWARD] < INFINITY else INFINITY
        state[BACKWARD] = state[BACKWARD] * factor if state[BACKWARD] < INFINITY else INFINITY
    state[CENTRE] = centre


cdef inline void add_logits(const Job* job, const floating* x, const floating* y, Py_ssize_t n, Py_ssize_t start,
                            const Next* next, const Region* region, double* state) noexcept nogil:
    """Add one block of one row, which begins with element ``start``, and have the ``next`` one fetched."""
    cdef double scale = job.inverse_temperature, largest = max_of(x, n), best = largest
    cdef double forward, bound
    cdef double* lanes = region.lanes
    cdef Logits block
    cdef bint slow
    if job.top1:
        note_best(x, n, start, largest, state + BEST_P)
        if start == 0 or n % LANES != 0:
            note_best(y, n, start, max_of(y, n), state + BEST_P + 2)
    if best == -INFINITY and state[CENTRE] == -INFINITY:
        best = <floating>(max_of(y, n) + state[SHIFT] / scale)
        if best == -INFINITY:
            return  # all masked so far, in y too
    if best > state[CENTRE]:
        raise_centre(job, state, best)
    block = logits_of(job, x, y, n, state[CENTRE], state[SHIFT], next)
    slow = add_logit_lanes(job.n_inner_sums if job.has_q else X_ALONE, job.js, &block, n % LANES, lanes, state + MODE,
                           <floating*>NULL)
    if job.top1 and start > 0 and n % LANES == 0:  # where all logits are near, x often shows that y has no larger value
        bound = largest * scale - state[SHIFT] + NEAR_LIMIT + 0.01 + 1e-6 * fabs(state[SHIFT])
        if slow or state[MODE] != NEAR or bound >= state[BEST_P + 2] * scale:
            note_best(y, n, start, max_of(y, n), state + BEST_P + 2)
    if slow:
        add_logits_slow(job, x, y, n, state)
        state[MIXED] = NAN
        return
    state[MASS_P] += fold(lanes)
    if job.has_q:
        forward = fold(lanes + 2 * LANES)
        state[FORWARD] += forward
        state[EXCESS] += forward - fold(lanes + LANES)
    if job.n_inner_sums > 0 or not job.has_q:
        state[INNER_P] += fold(lanes + 3 * LANES)
    if job.n_inner_sums > 1:
        state[INNER_Q] += fold(lanes + 4 * LANES)
        state[BACKWARD] += fold(lanes + 5 * LANES)
    if job.js:
        state[MIXED] += fold(lanes + MIXED * LANES)
        state[LOG_COSH] += fold(lanes + LOG_COSH * LANES)
        state[CUBES] += fold(lanes + CUBES * LANES)


cdef inline void add_logits_js(const Job* job, const floating* x, const floating* y, Py_ssize_t n, double centre,
                               double shift, const Region* region, double* sums, double* mode) noexcept nogil:
    """Add e and the Jensen-Shannon terms of one block of a row whose log-sum-exps are ``shift`` apart."""
    cdef Py_ssize_t i
    cdef double e, f, scale = job.inverse_temperature
    cdef Logits block = logits_of(job, x, y, n, centre, shift, NULL)
    if not add_logit_lanes(JENSEN_SHANNON, False, &block, n % LANES, region.lanes, mode, <floating*>NULL):
        sums[0] += fold(region.lanes)
        sums[1] += fold(region.lanes + LANES)
        return
    for i in range(n):
        e, f = exp((x[i] - centre) * scale), exp((y[i] - centre) * scale + shift)
        sums[0] += e
        if e + f > 1e-300:  # half of a subnormal weight may be 0
            sums[1] += jensen_shannon_slow(e, f)


cdef inline void merge_logits(const Job* job, double* state, double* other) noexcept nogil:
    """Add the sums of a later piece of the same row, whose shift is the same."""
    cdef int i
    cdef double centre = max(state[CENTRE], other[CENTRE])
    if other[CENTRE] == -INFINITY:
        return
    raise_centre(job, state, centre)
    raise_centre(job, other, centre)
    for i in range(N_SUMS):
        state[i] += other[i]
    state[FARTHEST] = max(state[FARTHEST], other[FARTHEST])


cdef inline double near_js(const double* state) noexcept nogil:
    """Return the Jensen-Shannon divergence of a row from the sums of its first sweep, or -1 if that is not accurate.

    The shift of the sweep misses log(Sq / Sp) = r. The row's value is therefore the mean under p of phi(t + r), where
    phi(t) = (L + exp(-t) (L - t)) / 2 and L = t / 2 - log(cosh(t / 2)). It is worked as a Taylor series in r, whose
    derivatives follow from phi' = L / 2 - phi. L' = 1/2 - t/4 + t^3/48 ... and those after it are taken as far as the
    moments of t are known. As |t| <= 1/2, what is left out is at most (r^2 / 8,000 + r^3 / 600) of the value.
    """
    cdef double mass = state[MASS_P], r = log1p(state[EXCESS] / mass), value = 0.5 * state[MIXED] / mass
    cdef double mean = (state[FORWARD] - state[EXCESS]) / mass, cube = state[CUBES] / mass  # moments of t
    cdef double square = 8 * value + 0.5 * cube, js, power = 1
    cdef double[6] slopes  # the means of L and its derivatives
    cdef int i
    slopes[0] = 0.5 * mean - state[LOG_COSH] / mass
    slopes[1] = 0.5 - 0.25 * mean + cube / 48
    slopes[2] = -0.25 + square / 16
    slopes[3] = mean / 8 - cube / 24
    slopes[4] = 0.125 - square / 8
    slopes[5] = -mean / 4
    js = value
    for i in range(6):
        value = 0.5 * slopes[i] - value
        power *= r / (i + 1)
        js += power * value
    return js if fabs(r) <= 0.05 and r * r <= 8 * js else -1.0


cdef inline bint is_jensen_shannon(int measure) noexcept nogil:
    """Whether the measure is the Jensen-Shannon divergence or its square root."""
    return formula_of(measure) == JENSEN_SHANNON


cdef inline double finish_shifted(double mass, double other, double more, Sums* sums) noexcept nogil:
    """Return a KL divergence from a sum under a distribution of this mass; the other's mass is ``more`` larger."""
    cdef double r = more / mass, second
    if sums.total == INFINITY:
        return INFINITY
    second = excess(r) if r > -0.5 else r - log(other / mass)
    return take_off(sums.total / mass, second, sums)


cdef inline double finish_forward(const double* state, Sums* sums) noexcept nogil:
    """Return D(p || q)."""
    sums.total = state[FORWARD]
    return finish_shifted(state[MASS_P], state[MASS_P] + state[EXCESS], state[EXCESS], sums)


cdef inline double finish_backward(const double* state, Sums* sums) noexcept nogil:
    """Return D(q || p)."""
    sums.total = state[BACKWARD]
    return finish_shifted(state[MASS_P] + state[EXCESS], state[MASS_P], -state[EXCESS], sums)


cdef inline bint is_rounded(const Job* job, const double* state, double value) noexcept nogil:
    """Whether rounding shows in a divergence.

    x - y is exact where the rows are near. Elsewhere t is rounded by up to 2^-24 or 2^-53 of |c|, which is of the size
    of sqrt(2 KL). Weights below exp(-87) count as exp(-87) in float32, and are multiplied by up to exp(|t|). Weights of
    q err by 2^-24 |t|.
    """
    cdef double size = sqrt(2 * value)
    if job.wide or value == INFINITY:  # which a mask before the largest logit may have caused
        return state[SWEPT] == 0 and (value == INFINITY or 1.1e-16 * fabs(state[SHIFT]) > 1e-14 * size)
    return value > 4 or 1.2e-7 * fabs(state[SHIFT]) > 1e-6 * size \
        or state[FARTHEST] > NEAR_LIMIT and job.n * exp(state[FARTHEST] - 87) > 1e-8 * value


cdef inline double finish_entropy_of_logits(int measure, const double* state, Sums* sums) noexcept nogil:
    """Return the entropy of q, or of p for all other measures."""
    cdef double mass = state[MASS_P], inner = state[INNER_P]
    if measure == ENTROPY_Q:
        mass, inner = state[MASS_P] + state[EXCESS], state[INNER_Q]
    sums.mass = log(mass)
    return sums.mass - inner / mass


cdef extern from *:
    """
    static const double kullback_sharp = 0.05;
    """
    const double SHARP "kullback_sharp"  # entropies below it, in nats, are worked by sharp_entropy


cdef inline double finish_logits(const Job* job, int measure, const double* state, double entropy,
                                 Sums* sums) noexcept nogil:
    """Return one measure of a row in nats; clear ``settled`` where a second sweep in float64 must decide.

    ``entropy`` is that of finish_entropy_of_logits, or a more accurate one.
    """
    cdef double value
    if measure == ENTROPY:
        return max(entropy, 0.0)
    if measure == PERPLEXITY:
        return finish_perplexity(max(entropy, 0.0), sums)
    if measure == ENTROPY_Q:
        if not job.wide and entropy >= SHARP:  # rounding of t spoils the weights of q
            value = fabs(state[SHIFT]) + finish_backward(state, sums)
            sums.settled = not value > 6 * min(entropy, 1.0)
        elif state[SWEPT] == 0:  # and in float64 where the offset is large
            sums.settled = not 1.1e-16 * fabs(state[SHIFT]) > 1e-13 * min(entropy, 1.0)
        return max(entropy, 0.0)
    value = 0 if measure == REVERSE_KL else finish_forward(state, sums)
    if measure == REVERSE_KL or measure == JEFFREYS:
        value += finish_backward(state, sums)
        if not job.wide and state[FORWARD] > 2 * state[MASS_P]:  # rounding of t spoils the weights of q
            sums.settled = False
        elif state[SWEPT] == 0 and 1.1e-16 * fabs(state[SHIFT]) > 1e-13:  # and in float64 where the offset is large
            sums.settled = False
    if is_rounded(job, state, value):
        sums.settled = False
    return value + entropy if measure == CROSS else value
