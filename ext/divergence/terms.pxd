"""Header-only: the measures, what sets each apart, and what one pair of probabilities adds to it.

The vectorised terms are those of terms.h, which take 0 and normal numbers; those below take anything, through libm.
Both follow scipy.special.rel_entr at zeros: p = 0 adds nothing, and p > 0 with q = 0 adds infinity.
"""

from libc.math cimport INFINITY, M_LN2, NAN, fabs, log, log1p, sqrt

from divergence.powers cimport amari_term, log_ratio, tsallis_term

cdef enum:
    FAMILY_SIZE = 5  # places in the family, see measures.h

cdef extern from "divergence/measures.h":
    """
    #include "divergence/measures.h"
    _Static_assert(KB_FAMILY_SIZE == 5, "FAMILY_SIZE of terms.pxd is KB_FAMILY_SIZE");
    """
    enum:  # the numbers of the measures, and what one pair (p, q) of elements adds to each
        KL "KB_KL"                        # p log(p / q) - p + q, which is never negative
        REVERSE_KL "KB_REVERSE_KL"        # the same with p and q exchanged
        ENTROPY "KB_ENTROPY"              # -p log p
        ENTROPY_Q "KB_ENTROPY_Q"          # -q log q
        CROSS "KB_CROSS"                  # -p log q
        JENSEN_SHANNON "KB_JS"            # (p log(p / m) + q log(q / m)) / 2, m = (p + q) / 2
        JENSEN_SHANNON_ROOT "KB_JS_ROOT"  # the same; the row's value is the square root
        HELLINGER "KB_HELLINGER"          # (sqrt p - sqrt q)^2 / 2; the row's value is the square root
        AFFINITY "KB_AFFINITY"            # sqrt(p q), the Bhattacharyya coefficient
        TOTAL_VARIATION "KB_VARIATION"    # |p - q| / 2
        CHI2 "KB_CHI2"                    # (p - q)^2 / q
        JEFFREYS "KB_JEFFREYS"            # (p - q) log(p / q)
        RENYI "KB_RENYI"                  # amari_term of powers.pxd
        ALPHA "KB_ALPHA"                  # the same; the row's value is Amari's divergence
        RENYI_ENTROPY "KB_RENYI_ENTROPY"  # tsallis_term of powers.pxd
        TSALLIS_ENTROPY "KB_TSALLIS"      # the same; the row's value is another
        PERPLEXITY "KB_PERPLEXITY"        # -p log p; the row's value is the exponential of the entropy
        SUPPORT "KB_SUPPORT"              # q where p = 0: the Renyi divergence of order 0
        MAX_RATIO "KB_MAX_RATIO"          # p / q, the largest of which counts: the Renyi divergence of order infinity
        MIN_ENTROPY "KB_MIN_ENTROPY"      # p, the largest of which counts
        MIXTURE "KB_MIXTURE"              # -m log m, m = (p + q) / 2: pairwise Jensen-Shannon divergences
        TOP1 "KB_TOP1"                    # nothing; the value says whether the largest p and q share a place
        MASS "KB_MASS"                    # nothing; the value is the sum of p, or the log-sum-exp of logits
    enum:
        FAST_TERMS "KB_FAST"
        WIDE_TERMS "KB_WIDE"
        NO_TERMS "KB_NONE"
        USES_Q "KB_USES_Q"
        EXACT_MASSES "KB_EXACT"
        LARGEST "KB_LARGEST"
        UNITLESS "KB_UNITLESS"
        SHOWN "KB_SHOWN"
        SYMMETRIC "KB_SYMMETRIC"
        ALONE "KB_ALONE"
        N_MEASURES "KB_N_MEASURES"
    ctypedef struct Measure "kb_measure":
        const char* name
        int formula, terms, family_place, inner_sums, properties
    const Measure* MEASURES "kb_measures"


cdef inline dict measure_numbers():
    """Return the number of each measure by the name that Python knows."""
    return {MEASURES[number].name.decode(): number for number in range(N_MEASURES)}


cdef inline tuple compared_measures():
    """Return the names of the measures that compare, evaluate and the accumulators of rows know."""
    return tuple([MEASURES[number].name.decode() for number in range(N_MEASURES)
                  if MEASURES[number].properties & SHOWN != 0])


cdef inline bint is_symmetric(int measure) noexcept nogil:
    """Whether exchanging p with q changes nothing."""
    return MEASURES[measure].properties & SYMMETRIC == SYMMETRIC


cdef inline int formula_of(int measure) noexcept nogil:
    """Return the measure that has the same terms."""
    return MEASURES[measure].formula


cdef inline bint has_fast_terms(int measure) noexcept nogil:
    """Whether the vectorised passes include the measure; the others are rare enough for libm."""
    return MEASURES[measure].terms == FAST_TERMS


cdef inline bint has_terms(int measure) noexcept nogil:
    """Whether elements add anything; without terms, the value comes from the masses or from the largest elements."""
    return MEASURES[measure].terms != NO_TERMS


cdef inline bint needs_wide_terms(int measure) noexcept nogil:
    """Whether terms have to be worked from float64, as powers and quotients leave the range of float32."""
    return MEASURES[measure].terms == WIDE_TERMS


cdef inline bint has_q_terms(int measure) noexcept nogil:
    """Whether the terms depend on q."""
    return MEASURES[measure].properties & USES_Q != 0


cdef inline bint needs_exact_masses(int measure) noexcept nogil:
    """Whether the sums of p and q enter the value to first order."""
    return not has_fast_terms(measure) or MEASURES[measure].properties & EXACT_MASSES != 0


cdef inline bint takes_largest(int measure) noexcept nogil:
    """Whether a row takes the largest of its terms instead of their sum."""
    return MEASURES[measure].properties & LARGEST != 0


cdef inline bint has_unit(int measure) noexcept nogil:
    """Whether the value is a logarithm, which the base scales."""
    return MEASURES[measure].properties & UNITLESS == 0


cdef inline int family_place(int measure) noexcept nogil:
    """Return the place among the measures that can share their logarithms, or ALONE, which is negative."""
    return MEASURES[measure].family_place


cdef inline bint has_one_sweep(int measure) noexcept nogil:
    """Whether one sweep over logits gives the measure."""
    return MEASURES[measure].inner_sums >= 0


cdef inline int inner_sums_of(int measure) noexcept nogil:
    """Return which inner products a sweep over logits sums for the measure: 0 none, 1 those of p, 2 those of q too."""
    return max(MEASURES[measure].inner_sums, 0)


cdef inline double excess(double r) noexcept nogil:
    """Return r - log(1 + r) >= 0, for r > -1, to rounding."""
    cdef double u, z
    if fabs(r) < 1e-4:  # the next term, r^6 / 6, is below 4e-17 of r^2 / 2
        return r * r * (0.5 - r * (1.0 / 3 - r * (0.25 - r * 0.2)))
    if fabs(r) > 0.25:
        return r - log1p(r)
    # log(1 + r) = 2 atanh(u) with u = r / (2 + r), and r - 2 u = r u. As u^2 < 0.021, u^22 / 23 is below 2^-110.
    u = r / (2 + r)
    z = u * u
    return u * (r - 2 * z * (1 / 3. + z * (1 / 5. + z * (1 / 7. + z * (1 / 9. + z * (1 / 11. + z * (
        1 / 13. + z * (1 / 15. + z * (1 / 17. + z * (1 / 19. + z / 21.))))))))))


cdef inline double kl_slow(double p, double q) noexcept nogil:
    if p < 0 or q < 0 or p != p or q != q:
        return NAN
    if p == 0:
        return q
    if q == 0 or (p == INFINITY and q < INFINITY):
        return INFINITY
    if 0.5 * p <= q <= 2 * p:
        return p * excess((q - p) / p)
    return p * log_ratio(p, q) - p + q


cdef inline double cross_slow(double p, double q) noexcept nogil:
    if p < 0 or q < 0 or p != p or q != q:
        return NAN
    return 0 if p == 0 else (-p * log(q) if q > 0 else INFINITY)


cdef inline double mass_slow(double p) noexcept nogil:
    return p if p >= 0 else NAN


cdef inline double jensen_shannon_slow(double p, double q) noexcept nogil:
    """Return a ((1 + u) log(1 + u) + (1 - u) log(1 - u)) / 4 with a = p + q and u = (p - q) / a.

    The mean of p and q is not formed, as half of an odd subnormal number is rounded.
    """
    cdef double total = p + q, u, v, larger = max(p, q), smaller = min(p, q)
    if not 0 < total < 1e308:
        return total if total == 0 else (NAN if not larger < INFINITY else 4 * jensen_shannon_slow(p / 4, q / 4))
    u = (larger - smaller) / total
    v = u * u
    if v < 0.0625:  # the next term, v^12 / 276, is below 2^-54 of the first
        return 0.25 * total * (v * (1 + v * (1 / 6. + v * (1 / 15. + v * (1 / 28. + v * (1 / 45. + v * (
            1 / 66. + v * (1 / 91. + v * (1 / 120. + v * (1 / 153. + v * (1 / 190. + v / 231.)))))))))))
    if smaller == 0:
        return 0.5 * total * M_LN2
    return 0.5 * (larger * log1p(u) + smaller * log(2 * (smaller / total)))


cdef inline double chi2_slow(double p, double q) noexcept nogil:
    """Return (p - q)^2 / q, of which the quotient overflows by itself where q is subnormal."""
    cdef double difference = fabs(p - q), ratio
    if difference == 0 or q == 0:
        return INFINITY if difference > 0 else 0
    ratio = difference / q
    return difference * ratio if ratio < INFINITY else difference * difference / q


cdef inline double term_slow(int measure, double p, double q, double alpha) noexcept nogil:
    cdef double d
    if not (p >= 0 and q >= 0):
        return NAN
    if measure == KL:
        return kl_slow(p, q)
    elif measure == REVERSE_KL:
        return kl_slow(q, p)
    elif measure == ENTROPY or measure == PERPLEXITY:
        return cross_slow(p, p)
    elif measure == ENTROPY_Q:
        return cross_slow(q, q)
    elif measure == CROSS:
        return cross_slow(p, q)
    elif measure == JENSEN_SHANNON or measure == JENSEN_SHANNON_ROOT:
        return jensen_shannon_slow(p, q)
    elif measure == HELLINGER:
        d = sqrt(p) - sqrt(q)
        return 0.5 * d * d
    elif measure == AFFINITY:
        return sqrt(p) * sqrt(q)
    elif measure == TOTAL_VARIATION:
        return 0.5 * fabs(p - q)
    elif measure == CHI2:
        return chi2_slow(p, q)
    elif measure == JEFFREYS:
        return kl_slow(p, q) + kl_slow(q, p)
    elif measure == RENYI or measure == ALPHA:
        return amari_term(p, q, alpha)
    elif measure == RENYI_ENTROPY or measure == TSALLIS_ENTROPY:
        return tsallis_term(p, alpha)
    elif measure == SUPPORT:
        return q if p == 0 else 0
    elif measure == MAX_RATIO:
        return 0 if p == 0 else (p / q if q > 0 else INFINITY)
    elif measure == MIN_ENTROPY:
        return p
    elif measure == MIXTURE:
        return cross_slow(0.5 * (p + q), 0.5 * (p + q))
    return 0


cdef inline double gather(int measure, double before, double value) noexcept nogil:
    """Add the terms of a block to a row's sum, or take the larger."""
    if takes_largest(measure):
        return value if value > before or value != value else before
    return before + value
