"""Header-only: from the sums of a row to its value, with the row's normalisation worked in exactly."""

from libc.math cimport INFINITY, NAN, exp, fabs, isfinite, log, log1p, pow, sqrt

from divergence.terms cimport (
    AFFINITY, ALPHA, CHI2, CROSS, ENTROPY, ENTROPY_Q, HELLINGER, JEFFREYS, JENSEN_SHANNON,
    JENSEN_SHANNON_ROOT, KL, MASS, MAX_RATIO, MIN_ENTROPY, PERPLEXITY, POWER, RENYI, RENYI_ENTROPY, REVERSE_KL, SUPPORT, TOP1,
    TOTAL_VARIATION, TSALLIS_ENTROPY,
)

cdef enum Mode:
    PLAIN = 0   # sums as they are: generalised measures
    DIVIDE = 1  # rows divided by their sums
    CHECK = 2   # the same, and sums far from one are an error

cdef struct Sums:
    double total, p, q
    double alpha
    double unit       # 1 / log(base)
    double precision  # relative error that the terms may have: 5e-7 from float32, 2e-14 from float64
    bint settled      # cleared where a second sweep, of rows divided by their sums, must decide


cdef inline double log_mass(double x) noexcept nogil:
    """Return log(x), by its series where x is 1 to rounding, as most sums are."""
    cdef double e = x - 1
    if fabs(e) < 1e-4:  # next term: e^5 / 5 < 2e-21
        return e * (1 - e * (0.5 - e * (1.0 / 3 - e * 0.25)))
    return log(x)


cdef inline double excess(double r) noexcept nogil:
    """Return r - log(1 + r) >= 0."""
    if fabs(r) < 1e-4:  # next term: r^6 / 6, relative to r^2 / 2 below 4e-17
        return r * r * (0.5 - r * (1.0 / 3 - r * (0.25 - r * 0.2)))
    return r - log1p(r)


cdef inline double take_off(double first, double second, Sums* sums) noexcept nogil:
    """Return first - second >= 0, where second is what unequal sums added; a quarter must be left."""
    if second > 0.75 * first:
        sums.settled = False
    return first - second if not first < second else 0.0


cdef inline double finish_kl(double p, double q, Sums* sums) noexcept nogil:
    """KL = total / sum p - (r - log(1 + r)), r = (sum q - sum p) / sum p: both non-negative, exact for equal sums."""
    if sums.total == INFINITY or (q == 0 and p > 0):
        return INFINITY
    return take_off(sums.total / p, excess((q - p) / p), sums)


cdef inline double finish_entropy(double p, Sums* sums) noexcept nogil:
    """H = total / sum p + log(sum p); of counts, the two cancel."""
    cdef double mass = log_mass(p), value = sums.total / p + mass
    if fabs(mass) > 4 * fabs(value):
        sums.settled = False
    return value if not value < 0 else 0.0


cdef inline double finish_symmetric(Sums* sums) noexcept nogil:
    """A total of degree one in (p, q), off by a part |sum p - sum q| of itself, or by its square over 8."""
    cdef double difference = fabs(sums.p - sums.q)
    if difference > sums.precision * sums.p or difference * difference > sums.precision * sums.total:
        sums.settled = False
    return 2 * sums.total / (sums.p + sums.q)


cdef inline double finish_hellinger(Sums* sums) noexcept nogil:
    """Return the squared distance: (total - (sqrt sum p - sqrt sum q)^2 / 2) / sqrt(sum p sum q)."""
    cdef double d = sqrt(sums.p) - sqrt(sums.q), scale = sqrt(sums.p) * sqrt(sums.q)
    return take_off(sums.total / scale, 0.5 * d * d / scale, sums) if scale > 0 else 1


cdef inline double finish_power(int measure, Sums* sums, bint plain) noexcept nogil:
    """Renyi (1961) and Amari's alpha divergence, from the sum of p^alpha q^(1-alpha) - alpha p - (1-alpha) q."""
    cdef double alpha = sums.alpha, total = sums.total
    if not plain and (fabs(sums.p - 1) > 2e-14 or fabs(sums.q - 1) > 2e-14):
        sums.settled = False
    if measure == ALPHA:
        return total / (alpha * (alpha - 1))
    if plain:
        return log(total + alpha * sums.p + (1 - alpha) * sums.q) / (alpha - 1)
    return max(log1p(total) / (alpha - 1), 0.0)


cdef inline double finish_normalised(int measure, Sums* sums) noexcept nogil:
    """Return the value of the rows divided by their sums, in nats."""
    cdef double p = sums.p, q = sums.q, d = p - q
    if measure == KL:
        return finish_kl(p, q, sums)
    elif measure == REVERSE_KL:
        return finish_kl(q, p, sums)
    elif measure == ENTROPY or measure == PERPLEXITY:
        return finish_entropy(p, sums)
    elif measure == ENTROPY_Q:
        return finish_entropy(q, sums)
    elif measure == CROSS:
        return sums.total / p + log_mass(q) if sums.total < INFINITY else sums.total
    elif measure == JENSEN_SHANNON or measure == JENSEN_SHANNON_ROOT or measure == JEFFREYS:
        return finish_symmetric(sums)
    elif measure == HELLINGER:
        return finish_hellinger(sums)
    elif measure == AFFINITY:
        return sums.total / (sqrt(p) * sqrt(q))
    elif measure == TOTAL_VARIATION:
        if fabs(d) > sums.precision * sums.total:
            sums.settled = False
        return 2 * sums.total / (p + q)
    elif measure == CHI2:
        if sums.total == INFINITY:
            return INFINITY
        return take_off(sums.total / p * (q / p), (d / p) * (d / p), sums)
    elif measure == RENYI or measure == ALPHA:
        return finish_power(measure, sums, False)
    elif measure == RENYI_ENTROPY:
        return log(sums.total / pow(p, sums.alpha)) / (1 - sums.alpha)
    elif measure == TSALLIS_ENTROPY:
        return (sums.total / pow(p, sums.alpha) - 1) / (1 - sums.alpha)
    elif measure == SUPPORT:
        return -log(sums.total / q)
    elif measure == POWER:
        return log(sums.total / (pow(p, sums.alpha) * pow(q, 1 - sums.alpha))) / (sums.alpha - 1)
    elif measure == MAX_RATIO:
        return max(log(sums.total * (q / p)), 0.0)
    elif measure == MIN_ENTROPY:
        return max(-log(sums.total / p), 0.0)
    return sums.total


cdef inline double finish_measure(int measure, int mode, Sums* sums) noexcept nogil:
    """Return one measure of a row in the asked unit; clear ``settled`` where a second sweep must decide."""
    cdef double value = sums.total
    if measure == MASS:
        return sums.p
    if measure == TOP1:
        return value
    if mode != PLAIN:
        if not (sums.p > 0 and isfinite(sums.p) and isfinite(sums.q)):
            return NAN
        value = finish_normalised(measure, sums)
    elif measure == RENYI or measure == ALPHA:
        value = finish_power(measure, sums, True)
    elif measure == RENYI_ENTROPY:
        value = log(value) / (1 - sums.alpha)
    elif measure == TSALLIS_ENTROPY:
        value = (value - 1) / (1 - sums.alpha)
    elif measure == SUPPORT or measure == MIN_ENTROPY:
        value = -log(value)
    elif measure == MAX_RATIO:
        value = log(value)
    elif measure == POWER:
        value = log(value) / (sums.alpha - 1)
    if measure == PERPLEXITY:
        return exp(value)
    if measure == HELLINGER:
        return sqrt(value)
    if measure == JENSEN_SHANNON_ROOT:
        return sqrt(value * sums.unit)
    if measure == AFFINITY or measure == TOTAL_VARIATION or measure == CHI2 or measure == ALPHA \
            or measure == TSALLIS_ENTROPY:
        return value  # no logarithm, no unit
    return value * sums.unit
