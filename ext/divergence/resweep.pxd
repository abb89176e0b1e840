"""Header-only: further sweeps over rows, for values that the sums of the first sweep cannot give accurately.

The first sweep adds terms of rows as they are and leaves their normalisation to the end. Where that cancels, rows are
swept again: each element is divided by its row's sum, or turned from a logit into a probability, in float64.
"""

from libc.math cimport INFINITY, exp, log

from common.exp_log cimport exp_double
from common.pack cimport pack
from divergence.blocks cimport add_block, max_of, tile_of
from divergence.job cimport CENTRE, Job, Operand, ROUGH, Region, STATE, row_data
from divergence.logits cimport add_logits_js, near_js
from divergence.sweep cimport clear_state


cdef inline void pack_block(const Job* job, const Operand* x, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start,
                            Py_ssize_t n, double* block_out) noexcept nogil:
    """Copy ``n`` elements of each row, from element ``start`` on."""
    pack(row_data(x, job.n_inner, row) + start * x.item, x.kind, x.row, x.item, n_rows, n, block_out)


# ---- Probabilities that sum to one -----------------------------------------------------------------


cdef inline void to_probabilities(const Job* job, double* x, Py_ssize_t n, double offset) noexcept nogil:
    """Divide a packed block by its row's sum, or replace it by exp(logit - log-sum-exp)."""
    cdef Py_ssize_t i
    cdef double scale = job.inverse_temperature
    if job.logits:
        for i in range(n):
            x[i] = exp_double(x[i] * scale - offset)
        if job.smoothing != 0:
            for i in range(n):
                x[i] = (x[i] + job.smoothing) / (1 + job.n * job.smoothing)
    else:
        for i in range(n):
            x[i] = (x[i] + job.smoothing) / offset


cdef inline void sweep_again(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, const double* offsets,
                             const Region* region, double* states) noexcept nogil:
    """Set ``states`` to the sums of rows of probabilities that are normalised element by element in float64.

    ``offsets`` holds two numbers a row, of p and of q: see find_offsets.
    """
    cdef Job plain = job[0]
    cdef Py_ssize_t r, n, start = 0
    plain.logits = False
    plain.top1 = False
    for r in range(n_rows):
        clear_state(&plain, states + r * STATE)
    while start < job.n:
        n = min(job.block, job.n - start)
        pack_block(job, &job.p, row, n_rows, start, n, region.p)
        for r in range(n_rows):
            to_probabilities(job, region.p + r * n, n, offsets[2 * r])
        if job.has_q:
            pack_block(job, &job.q, row, n_rows, start, n, region.q)
            for r in range(n_rows):
                to_probabilities(job, region.q + r * n, n, offsets[2 * r + 1])
        for r in range(n_rows):
            add_block[double](&plain, region.p + r * n, (region.q if job.has_q else region.p) + r * n, n, region,
                              NULL, states + r * STATE)
        start += n


# ---- Sums of one row -------------------------------------------------------------------------------


cdef inline double log_sum_exp(const Job* job, const Operand* x, Py_ssize_t row, const Region* region) noexcept nogil:
    """Return the log-sum-exp of one row of logits by two plain sweeps, for rows whose first block misled the shift."""
    cdef Py_ssize_t i, n, start
    cdef int sweep
    cdef double largest = -INFINITY, total = 0
    for sweep in range(2):
        start = 0
        while start < job.n:
            n = min(job.block, job.n - start)
            pack_block(job, x, row, 1, start, n, region.wide_p)
            if sweep == 0:
                largest = max(largest, max_of(region.wide_p, n) * job.inverse_temperature)
            else:
                for i in range(n):
                    total += exp(region.wide_p[i] * job.inverse_temperature - largest)
            start += n
    return largest + log(total)


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


cdef inline double sweep_js(const Job* job, Py_ssize_t row, const Region* region, const double* state,
                            const double* offsets) noexcept nogil:
    """Return the Jensen-Shannon divergence of a row of float32 logits, from a sweep while the row is in cache."""
    cdef Py_ssize_t n, start = 0
    cdef double shift = offsets[0] - offsets[1]
    cdef double[2] sums
    cdef double mode = 0
    cdef const float* p
    cdef const float* q
    sums[0] = sums[1] = 0
    while start < job.n:
        n = min(job.block, job.n - start)
        p = tile_of(&job.p, job, row, 1, start, n, <float*>region.p)
        q = tile_of(&job.q, job, row, 1, start, n, <float*>region.q)
        add_logits_js(job, p, q, n, state[CENTRE], shift, region, sums, &mode)
        start += n
    return sums[1] / sums[0]


cdef inline double find_js(const Job* job, Py_ssize_t row, const Region* region, const double* state,
                           const double* offsets) noexcept nogil:
    """Return the Jensen-Shannon divergence of a row of float32 logits: from the first sweep where that suffices."""
    cdef double js = near_js(state) if job.js else -1
    return sweep_js(job, row, region, state, offsets) if js < 0 else js
