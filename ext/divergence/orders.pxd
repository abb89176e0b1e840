"""Header-only: values of an order alpha from the logarithms of the powers, where sums of the powers themselves fail.

Let e = log(p^alpha q^(1 - alpha)) of each pair, and E the largest e of a row. The divergence of Renyi is
(E + log sum exp(e - E)) / (alpha - 1) and that of order infinity is the largest log(p / q). The entropy of Renyi has
the same form without q. Rows are divided by their sums, or turned from logits into logarithms of probabilities, in two
sweeps of their own.
"""

from libc.math cimport INFINITY, NAN, exp, expm1, fabs, log, log1p

from divergence.blocks cimport pack_block
from divergence.finish cimport PLAIN, Sums, in_unit
from divergence.job cimport Job, Operand, Region
from divergence.powers cimport NO_WEIGHT, amari_term_of_logs, log_power, log_power_of_logs, tsallis_term_of_log
from divergence.resweep cimport Frame, largest_of, to_probabilities
from divergence.sharp cimport sharp_value
from divergence.terms cimport ALPHA, CHI2, MAX_RATIO, RENYI_ENTROPY, SUPPORT, TSALLIS_ENTROPY


cdef inline bint has_logs(const Job* job) noexcept nogil:
    """Whether the logarithms of the probabilities are known without the probabilities."""
    return job.logits and job.smoothing == 0


cdef inline void find_logs(const Job* job, Py_ssize_t row, bint paired, const Region* region, Frame* frames_out,
                           double* logs_out) noexcept nogil:
    """Find the largest logit of each side, and the logarithm of the sum of exponentials below it.

    The largest one, which is 1, stays out of the sum of the others, beside which it would hide them.
    """
    cdef Py_ssize_t i, n, start
    cdef int side
    cdef double rest
    cdef bint found
    cdef const Operand* x
    for side in range(2 if paired else 1):
        x = &job.q if side else &job.p
        frames_out[side].origin, rest, found, start = largest_of(job, x, row, region), 0, False, 0
        while start < job.n:
            n = min(job.block, job.n - start)
            pack_block(job, x, row, 1, start, n, region.wide_p)
            for i in range(n):
                if region.wide_p[i] == frames_out[side].origin and not found:
                    found = True
                elif region.wide_p[i] != -INFINITY:
                    rest += exp((region.wide_p[i] - frames_out[side].origin) * job.inverse_temperature)
            start += n
        frames_out[side].mass, logs_out[side] = 1 + rest, log1p(rest)


cdef inline double power_at(const Job* job, Py_ssize_t i, double alpha, bint paired, const Region* region,
                            const Frame* frames, const double* logs) noexcept nogil:
    """Return e of one element of a packed block; without pairs q counts as 1. ``logs`` are those of the masses."""
    cdef double p = region.wide_p[i], q = region.wide_q[i], scale = job.inverse_temperature
    if has_logs(job):
        p = (p - frames[0].origin) * scale - logs[0]
        if not paired and p < NO_WEIGHT:
            return -INFINITY
        q = (q - frames[1].origin) * scale - logs[1] if paired else 0
        return log_power_of_logs(p, q, alpha)
    return log_power(p, q if paired else 1, alpha)


cdef inline double log_sum_powers(const Job* job, Py_ssize_t row, double alpha, bint paired, const Region* region,
                                  const Frame* frames, const double* logs) noexcept nogil:
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
                to_probabilities(job, region.wide_p, n, frames)
                if paired:
                    to_probabilities(job, region.wide_q, n, frames + 1)
            for i in range(n):
                if sweep == 0:
                    largest = max(largest, power_at(job, i, alpha, paired, region, frames, logs))
                else:
                    total += exp(power_at(job, i, alpha, paired, region, frames, logs) - largest)
            start += n
        if alpha == INFINITY or not -INFINITY < largest < INFINITY:
            return largest
    return largest + log(total)


cdef inline double sum_terms(const Job* job, Py_ssize_t row, double alpha, bint paired, const Region* region,
                             const Frame* frames, const double* logs) noexcept nogil:
    """Return the sum of the terms amari_term of a row of logits, or of tsallis_term without pairs, from logarithms."""
    cdef Py_ssize_t i, n, start = 0
    cdef double p, q, total = 0, scale = job.inverse_temperature
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, &job.p, row, 1, start, n, region.wide_p)
        if paired:
            pack_block(job, &job.q, row, 1, start, n, region.wide_q)
        for i in range(n):
            p = region.wide_p[i] - frames[0].origin
            if paired:
                q = region.wide_q[i] - frames[1].origin
                total += amari_term_of_logs(p * scale - logs[0], q * scale - logs[1],
                                            (p - q) * scale - (logs[0] - logs[1]), alpha)
            else:
                total += tsallis_term_of_log(p * scale - logs[0], alpha)
        start += n
    return total


cdef inline double order_of(const Job* job, int measure) noexcept nogil:
    """Return the order of a measure whose value is that of some order."""
    if measure == MAX_RATIO:
        return INFINITY
    return 0 if measure == SUPPORT else 2 if measure == CHI2 else job.alpha


cdef inline double far_value(const Job* job, int measure, Py_ssize_t row, const Region* region, const Frame* frames,
                             Sums* sums) noexcept nogil:
    """Return a value of an order alpha, in the asked unit, of a row whose sums have given none.

    Let L be the logarithm of the sum of powers. The chi-squared divergence is exp(L) - 1 of order 2, the
    alpha-divergence is that divided by alpha (alpha - 1), and the entropy of Tsallis is it divided by 1 - alpha.
    """
    cdef double alpha = order_of(job, measure), value
    cdef bint paired = measure != RENYI_ENTROPY and measure != TSALLIS_ENTROPY
    cdef Frame[2] divisors
    cdef double[2] logs
    if sums.p != sums.p or sums.q != sums.q:
        return NAN
    divisors[0], divisors[1] = frames[0], frames[1]
    if has_logs(job):
        find_logs(job, row, paired, region, divisors, logs)
    elif job.normalisation == PLAIN:
        divisors[0].mass = divisors[1].mass = 1
    value = log_sum_powers(job, row, alpha, paired, region, divisors, logs)
    if has_logs(job) and fabs(value) < 0.5 and alpha != 0 and fabs(alpha) < INFINITY:  # little is left of the 1 in it
        value = sum_terms(job, row, alpha, paired, region, divisors, logs)
        value = log1p(value * (alpha * (alpha - 1) if paired else 1 - alpha))
    if measure == RENYI_ENTROPY:
        value /= 1 - alpha
        if value < 1e-3 and job.normalisation != PLAIN and not has_logs(job):
            return sharp_value(job, measure, row, region, divisors, sums)
    elif measure == TSALLIS_ENTROPY:
        value = expm1(value) / (1 - alpha)
    elif measure == ALPHA:
        value = expm1(value) / (alpha * (alpha - 1))
    elif measure == CHI2:
        value = expm1(value)
    elif alpha < INFINITY:
        value /= alpha - 1
    return in_unit(measure, max(value, 0.0) if job.normalisation != PLAIN else value, sums)
