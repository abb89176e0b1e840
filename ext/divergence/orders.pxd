"""Header-only: values of an order alpha from the logarithms of the powers, where sums of the powers themselves fail.

Let e = log(p^alpha q^(1 - alpha)) of each pair, and E the largest e of a row. The divergence of Renyi is
(E + log sum exp(e - E)) / (alpha - 1) and that of order infinity is the largest log(p / q). The entropy of Renyi has
the same form without q. Rows are divided by their sums, or turned from logits into logarithms of probabilities, in two
sweeps of their own.
"""

from libc.math cimport INFINITY, NAN, exp, log

from divergence.finish cimport PLAIN, Sums, in_unit
from divergence.job cimport Job, Region
from divergence.powers cimport log_power, log_power_of_logs
from divergence.resweep cimport pack_block, to_probabilities
from divergence.terms cimport MAX_RATIO, RENYI_ENTROPY, SUPPORT


cdef inline bint has_logs(const Job* job) noexcept nogil:
    """Whether the logarithms of the probabilities are known without the probabilities."""
    return job.logits and job.smoothing == 0


cdef inline double power_at(const Job* job, Py_ssize_t i, double alpha, bint paired, const Region* region,
                            const double* offsets) noexcept nogil:
    """Return e of one element of a packed block; without pairs q counts as 1."""
    cdef double p = region.wide_p[i], q = region.wide_q[i], scale = job.inverse_temperature
    if has_logs(job):
        return log_power_of_logs(p * scale - offsets[0], q * scale - offsets[1] if paired else 0, alpha)
    return log_power(p, q if paired else 1, alpha)


cdef inline double log_sum_powers(const Job* job, Py_ssize_t row, double alpha, bint paired, const Region* region,
                                  const double* offsets) noexcept nogil:
    """Return log sum exp(e) of a row, or the largest e for an infinite order."""
    cdef Py_ssize_t i, n, start
    cdef int sweep
    cdef double largest = -INFINITY, total = 0
    for sweep in range(2):
        start = 0
        while start < job.n:
            n = min(job.block, job.n - start)
            pack_block(job, &job.p, row, 1, start, n, region.wide_p)
            if paired:
                pack_block(job, &job.q, row, 1, start, n, region.wide_q)
            if not has_logs(job):
                to_probabilities(job, region.wide_p, n, offsets[0])
                if paired:
                    to_probabilities(job, region.wide_q, n, offsets[1])
            for i in range(n):
                if sweep == 0:
                    largest = max(largest, power_at(job, i, alpha, paired, region, offsets))
                else:
                    total += exp(power_at(job, i, alpha, paired, region, offsets) - largest)
            start += n
        if alpha == INFINITY or not -INFINITY < largest < INFINITY:
            return largest
    return largest + log(total)


cdef inline double far_value(const Job* job, int measure, Py_ssize_t row, const Region* region, const double* offsets,
                             Sums* sums) noexcept nogil:
    """Return a value of an order alpha, in the asked unit, of a row whose sums have given none."""
    cdef double alpha = INFINITY if measure == MAX_RATIO else (0.0 if measure == SUPPORT else job.alpha), value
    cdef double[2] divisors
    if sums.p != sums.p or sums.q != sums.q:
        return NAN
    divisors[0], divisors[1] = offsets[0], offsets[1]
    if job.normalisation == PLAIN and not job.logits:
        divisors[0] = divisors[1] = 1
    value = log_sum_powers(job, row, alpha, measure != RENYI_ENTROPY, region, divisors)
    if measure == RENYI_ENTROPY:
        value /= 1 - alpha
    elif alpha < INFINITY:
        value /= alpha - 1
    return in_unit(measure, max(value, 0.0) if job.normalisation != PLAIN else value, sums)
