"""Header-only: the formulas that turn the sums of a row into its value.

Terms are added of rows as they are. The formulas work the division by the rows' sums in afterwards, exactly, so that no
row has to be divided first.
"""

from libc.math cimport INFINITY, M_LN2, M_LOG2E, NAN, exp, fabs, isfinite, log, log1p, rint, sqrt

from divergence.powers cimport log_ratio
from divergence.terms cimport (
    AFFINITY, ALPHA, CHI2, CROSS, ENTROPY, ENTROPY_Q, HELLINGER, JEFFREYS, JENSEN_SHANNON, JENSEN_SHANNON_ROOT, KL,
    MASS, MAX_RATIO, MIN_ENTROPY, PERPLEXITY, RENYI, RENYI_ENTROPY, REVERSE_KL, SUPPORT, TOP1, TOTAL_VARIATION,
    TSALLIS_ENTROPY, excess, has_unit, is_symmetric,
)

cdef enum Normalisation:
    PLAIN = 0   # rows are taken as they are, which gives generalised measures
    DIVIDE = 1  # rows are divided by their sums
    CHECK = 2   # rows are divided by their sums, and sums that are far from one are an error

cdef struct Sums:
    double total      # of the measure's terms
    double p, q       # of the row's elements
    double alpha      # the order of the powers
    double unit       # 1 / log(base)
    double precision  # the relative error that the terms may have: 5e-7 from float32, 2e-14 from float64
    double mass       # OUT: the logarithm of a sum that the value has a part of, whose error it shares
    bint wide         # whether terms are worked in float64
    bint far          # set where the logarithms of powers must decide the value: see orders.pxd
    bint sharp        # set where one element has nearly all of a row, which must be known better: see sharp.pxd
    bint settled      # cleared where a second sweep, of rows divided by their sums, must decide the value


cdef inline double log_mass(double x) noexcept nogil:
    """Return log(x). Most sums are 1 but for rounding, where the series is exact and fast."""
    cdef double e = x - 1
    if fabs(e) < 1e-4:  # the next term, e^5 / 5, is below 2e-21
        return e * (1 - e * (0.5 - e * (1.0 / 3 - e * 0.25)))
    return log(x)


cdef inline bint is_near(double value, double near, double error) noexcept nogil:
    """Whether a value is within an error of a number that is not 0."""
    return near != 0 and fabs(value - near) <= error


cdef inline double in_unit(int measure, double value, Sums* sums) noexcept nogil:
    """Return a value, or one of nats in the asked unit, which is exact where counts and powers of two make it so.

    Their values are multiples of 2^-20 of the unit, or of log 2 if that is natural. A value of float64 terms that
    rounding cannot tell from a multiple is that multiple. One that the first sweep leaves in doubt is swept again,
    which befalls 1 in 1,000 rows of float32.
    """
    cdef bint natural = has_unit(measure) and sums.unit == 1
    cdef double factor = M_LOG2E if natural else (sums.unit if has_unit(measure) else 1.0)
    cdef double scaled = value * factor, size = fabs(scaled) + fabs(sums.mass) * factor
    cdef double steps = 1048576 if sums.wide else 256, step = 1.0 / 1048576 if sums.wide else 1.0 / 256
    cdef double near = rint(scaled * steps) * step
    if is_near(scaled, near, (2e-14 if sums.wide else 1e-6) * size) and size < 1e6:
        if sums.wide and is_near(scaled, near, 4e-15 * size):
            return near * M_LN2 if natural else near
        sums.settled = False
    return value if natural else scaled


cdef inline double finish_perplexity(double entropy, Sums* sums) noexcept nogil:
    """Return exp(entropy), or the integer that it is but for rounding, which float32 leaves in doubt."""
    cdef double value = exp(entropy), near = rint(value)
    if is_near(value, near, (1.8e-15 if sums.wide else 1e-6) * (1 + entropy) * value):
        if sums.wide:
            return near
        sums.settled = sums.settled and value > 128  # larger ones are near an integer too often
    return value


cdef inline double take_off(double first, double second, Sums* sums) noexcept nogil:
    """Return first - second >= 0, where ``second`` is what the unequal sums of p and q have added to ``first``.

    The value is settled if at least a quarter of ``first`` is left.
    """
    if second > 0.75 * first:
        sums.settled = False
    return first - second if not first < second else 0.0


cdef inline double finish_kl(double p, double q, Sums* sums) noexcept nogil:
    """Return KL = total / sum p - (r - log(1 + r)), where r = (sum q - sum p) / sum p.

    Neither part is negative, and the second is 0 for equal sums.
    """
    if sums.total == INFINITY or (q == 0 and p > 0):
        return INFINITY
    return take_off(sums.total / p, excess((q - p) / p) if 0.5 * p < q < 2 * p else (q - p) / p - log_ratio(q, p), sums)


cdef inline double finish_entropy(double p, Sums* sums) noexcept nogil:
    """Return H = total / sum p + log(sum p). The two parts cancel where p holds counts."""
    cdef double mass = log_mass(p), value = sums.total / p + mass
    if fabs(mass) > 4 * fabs(value):
        sums.settled = False
    sums.mass = mass
    return value if not value < 0 else 0.0


cdef inline double finish_cross(Sums* sums) noexcept nogil:
    """Return H(p, q) = total / sum p + log(sum q)."""
    cdef double mass = log_mass(sums.q), value = sums.total / sums.p + mass
    if fabs(mass) > 4 * fabs(value):
        sums.settled = False
    sums.mass = mass
    return value if sums.total < INFINITY else sums.total


cdef inline double finish_symmetric(Sums* sums) noexcept nogil:
    """Return the value of a total that is symmetric and of degree one in (p, q).

    Dividing it by the mean of the two sums is off by a part |sum p - sum q| of the total, or by the square of that
    difference over 8.
    """
    cdef double difference = fabs(sums.p - sums.q), mean = 0.5 * (sums.p + sums.q)
    if difference > sums.precision * mean or difference * difference > sums.precision * sums.total:
        sums.settled = False
    return sums.total / mean


cdef inline double finish_hellinger(Sums* sums) noexcept nogil:
    """Return the squared distance: (total - (sqrt sum p - sqrt sum q)^2 / 2) / sqrt(sum p sum q)."""
    cdef double difference = sqrt(sums.p) - sqrt(sums.q), scale = sqrt(sums.p) * sqrt(sums.q)
    return take_off(sums.total / scale, 0.5 * difference * difference / scale, sums)


cdef inline void ask_for_unit_sum(double mass, double size, Sums* sums) noexcept nogil:
    """Unsettle a value of an order alpha, which takes a sum of one, unless what the sum is off has no effect.

    ``size`` is that of the sum of powers less one, of which it is a part.
    """
    if fabs(mass - 1) * min(max(fabs(sums.alpha), 1.0), 64.0) > max(2e-14 * min(10 * fabs(size), 1.0), 1e-15):
        sums.settled = False


cdef inline double log_of_powers(double less_one, Sums* sums) noexcept nogil:
    """Return the logarithm of a sum of powers that is given less one."""
    sums.far = not -0.5 <= less_one < INFINITY
    return log1p(less_one)


cdef inline double finish_divergence_of_order(int measure, Sums* sums, bint plain) noexcept nogil:
    """Return the divergence of Renyi (1961) or of Amari from the sum of the terms amari_term."""
    cdef double alpha = sums.alpha, less_one = alpha * ((alpha - 1) * sums.total)
    if plain:
        less_one += alpha * (sums.p - 1) + (1 - alpha) * (sums.q - 1)
        return sums.total if measure == ALPHA else log_of_powers(less_one, sums) / (alpha - 1)
    ask_for_unit_sum(sums.p, 1, sums)
    ask_for_unit_sum(sums.q, 1, sums)
    return sums.total if measure == ALPHA else max(log_of_powers(less_one, sums) / (alpha - 1), 0.0)


cdef inline double finish_entropy_of_order(int measure, Sums* sums, bint plain) noexcept nogil:
    """Return the entropy of Renyi (1961) or Tsallis (1988) from the sum of the terms tsallis_term."""
    cdef double rest = 1 - sums.alpha, less_one = rest * sums.total
    if plain:
        less_one += sums.p - 1
        return log_of_powers(less_one, sums) / rest if measure == RENYI_ENTROPY else less_one / rest
    ask_for_unit_sum(sums.p, less_one, sums)
    return max(log_of_powers(less_one, sums) / rest, 0.0) if measure == RENYI_ENTROPY else max(sums.total, 0.0)


cdef inline bint overflows(const Sums* sums) noexcept nogil:
    """Whether sums are so large or small, or infinite without being near one, that the formulas leave their range."""
    cdef bint near = 0.5 < sums.p < 2 and 0.5 < sums.q < 2
    return not near and sums.q > 0 and not (isfinite(sums.total) and 1e-30 < sums.p < 1e30 and 1e-30 < sums.q < 1e30)


cdef inline double finish_normalised(int measure, Sums* sums) noexcept nogil:
    """Return the value, in nats, of the rows divided by their sums."""
    cdef double p = sums.p, q = sums.q, difference = p - q
    if overflows(sums):
        sums.settled = False
    if measure == KL:
        return finish_kl(p, q, sums)
    elif measure == REVERSE_KL:
        return finish_kl(q, p, sums)
    elif measure == ENTROPY or measure == PERPLEXITY:
        return finish_entropy(p, sums)
    elif measure == ENTROPY_Q:
        return finish_entropy(q, sums)
    elif measure == CROSS:
        return finish_cross(sums)
    elif measure == JENSEN_SHANNON or measure == JENSEN_SHANNON_ROOT or measure == JEFFREYS:
        return finish_symmetric(sums)
    elif measure == HELLINGER:
        return finish_hellinger(sums)
    elif measure == AFFINITY:
        return sums.total / (sqrt(p) * sqrt(q))
    elif measure == TOTAL_VARIATION:
        if fabs(difference) > sums.precision * sums.total:
            sums.settled = False
        return 2 * sums.total / (p + q)
    elif measure == CHI2:
        if sums.total == INFINITY:
            return INFINITY
        return take_off(sums.total / p * (q / p), (difference / p) * (difference / p), sums)
    elif measure == RENYI or measure == ALPHA:
        return finish_divergence_of_order(measure, sums, False)
    elif measure == RENYI_ENTROPY or measure == TSALLIS_ENTROPY:
        return finish_entropy_of_order(measure, sums, False)
    elif measure == SUPPORT:
        return max(-log_of_powers(-sums.total / q, sums), 0.0)
    elif measure == MAX_RATIO:
        sums.far = not 2 < sums.total * (q / p) < INFINITY  # near rows need log1p
        return log(sums.total * (q / p))
    elif measure == MIN_ENTROPY:
        return max(-log(sums.total / p), 0.0)
    return sums.total


cdef inline double finish_plain(int measure, Sums* sums) noexcept nogil:
    """Return the value, in nats, of the rows as they are."""
    cdef double total = sums.total
    if measure == RENYI or measure == ALPHA:
        return finish_divergence_of_order(measure, sums, True)
    elif measure == RENYI_ENTROPY or measure == TSALLIS_ENTROPY:
        return finish_entropy_of_order(measure, sums, True)
    elif measure == MIN_ENTROPY:
        return -log(total)
    sums.far = measure == SUPPORT or measure == MAX_RATIO
    return total


cdef inline bint is_sharp(int measure, double value, const Sums* sums) noexcept nogil:
    """Whether the rounding of a row's sum may show in its entropy, of which a sure row has none, or total variation."""
    if not value < (1e-3 if sums.wide else 1e-8) or (sums.total == 0 and sums.mass == 0 and measure != CROSS):
        return False
    if measure == TOTAL_VARIATION:
        return value < 1e-11
    return measure == ENTROPY or measure == ENTROPY_Q or measure == CROSS or measure == RENYI_ENTROPY \
        or measure == TSALLIS_ENTROPY or measure == MIN_ENTROPY


cdef inline double finish_measure(int measure, int normalisation, Sums* sums) noexcept nogil:
    """Return one measure of a row in the asked unit; clear ``settled`` where a second sweep must decide."""
    cdef double value
    sums.mass, sums.far, sums.sharp = 0, False, False
    if measure == MASS:
        return sums.p
    if measure == TOP1:
        return sums.total
    if normalisation == PLAIN:
        value = finish_plain(measure, sums)
    elif sums.p > 0 and isfinite(sums.p) and isfinite(sums.q) and (sums.q > 0 or not is_symmetric(measure)):
        value = finish_normalised(measure, sums)
        sums.sharp = is_sharp(measure, value, sums)
    else:
        return NAN
    if measure == HELLINGER:
        return sqrt(value)
    value = in_unit(measure, value, sums)
    if normalisation == PLAIN:
        sums.settled = True  # a second sweep divides
    if measure == PERPLEXITY:
        return finish_perplexity(value, sums)
    return sqrt(value) if measure == JENSEN_SHANNON_ROOT else value
