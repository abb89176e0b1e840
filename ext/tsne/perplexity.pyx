"""The bandwidth of each row's Gaussian, searched so that the row's entropy is log(perplexity).

``kullback.reference.conditional_probabilities`` is the same in NumPy. Rows are independent, so the thread count changes
no bit. The caller has checked that the distances are finite and not negative.

The notation for one row is: d_j are the distances, D_j = (d_j^2 - min d^2) / max d^2, t_j = beta D_j, e_j = exp(-t_j).

Neighbours may have masses. One of mass m_j stands for m_j rows of data at its distance, so its weight is m_j e_j, and
the entropy is that of the rows.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport exp, fabs, log, sqrt
from libc.stdint cimport int64_t

from common.exp cimport exp_negative
from common.threads cimport startable

cdef enum:
    MAX_STEPS = 400   # the widest bracket, 1e-308 to 1e308 in beta, needs 240 expansions and 60 halvings
    BLOCK = 64        # rows a task: about 100 microseconds
cdef double TOLERANCE = 1e-9  # in nats of entropy; Newton's last step costs as much for 1e-5
cdef double LIMIT = 700       # of |log(beta)|: exp(700) is near the largest double
cdef double FLUSH = 708       # exp(-708) is the last normal double
cdef double TINY = 1e-300     # the distances of a row whose largest one is smaller count as equal


cdef struct Row:
    double inverse_largest    # 1 / max d
    double nearest            # min d
    double twice_nearest      # 2 min d / max d


cdef inline double spread(const Row* row, double distance) noexcept nogil:
    """Return D_j as (a - b) (a + b): it is exactly 0 for the nearest and never negative, and no square overflows."""
    cdef double difference = (distance - row.nearest) * row.inverse_largest
    return difference * (difference + row.twice_nearest)


cdef inline double clamp(double t) noexcept nogil:
    """Return an exponent that exp_negative takes."""
    return t if t < FLUSH else FLUSH


cdef void sum_masses(const floating* distances, const floating* masses, Py_ssize_t n, const Row* row, double beta,
                     double* sums) noexcept nogil:
    """Write the sums of m e, m t e and m t^2 e."""
    cdef Py_ssize_t j
    cdef double t, e, s0 = 0, s1 = 0, s2 = 0
    for j in range(n):
        t = clamp(beta * spread(row, distances[j]))
        e = masses[j] * exp_negative(t)
        s0 += e
        s1 += t * e
        s2 += t * t * e
    sums[0] = s0
    sums[1] = s1
    sums[2] = s2


cdef void sum_row(const floating* distances, const floating* masses, Py_ssize_t n, const Row* row, double beta,
                  double* sums) noexcept nogil:
    """Write the sums of e, t e and t^2 e, each times the mass unless ``masses`` is NULL."""
    cdef Py_ssize_t j
    cdef double t, e, s0 = 0, s1 = 0, s2 = 0
    if masses != NULL:
        sum_masses(distances, masses, n, row, beta, sums)
        return
    for j in range(n):
        t = clamp(beta * spread(row, distances[j]))
        e = exp_negative(t)
        s0 += e
        s1 += t * e
        s2 += t * t * e
    sums[0] = s0
    sums[1] = s1
    sums[2] = s2


cdef double search_row(
    const floating* distances, const floating* masses, Py_ssize_t n, const Row* row,
    double target,        # IN: the entropy that is searched for
    double mean,          # IN: of D_j, whose inverse is the first beta
    double* entropy_out,  # OUT
) noexcept nogil:
    """Return the beta at which the entropy is ``target``, by Newton's method in log(beta), inside a bracket.

    H = log(sum e) + mean t, and dH / dlog(beta) = - var t under the weights e: the entropy falls with beta.
    """
    cdef double u = -log(mean), low = -1e300, high = 1e300, step, mu, variance, excess, reach = 2
    cdef double[3] sums
    cdef int i
    for i in range(MAX_STEPS):
        sum_row(distances, masses, n, row, exp(u), sums)
        mu = sums[1] / sums[0]
        variance = sums[2] / sums[0] - mu * mu
        entropy_out[0] = log(sums[0]) + mu
        excess = entropy_out[0] - target
        if fabs(excess) <= TOLERANCE:
            break
        if excess > 0:
            low = u
        else:
            high = u
        step = excess / variance if variance > 0 else excess * 1e300
        if not fabs(step) <= reach:  # the entropy is flat far from the root: go in growing strides
            step = reach if excess > 0 else -reach
            reach = reach * 1.5
        u += step
        if not (low < u < high):
            u = 0.5 * (low + high)
        u = min(max(u, -LIMIT), LIMIT)  # the last stride may go past a root that lies within
        if u == low or u == high or high - low < 1e-14 * fabs(u):
            break  # not attainable: the limit is uniform over the nearest, which tie, or over all
    return exp(u)


cdef void fill_row(
    const floating* distances, const floating* masses, Py_ssize_t n, double target,
    floating* conditional_out, double* bandwidth_out, double* entropy_out,
) noexcept nogil:
    """Write the conditional probabilities of one row, their bandwidth and their entropy."""
    cdef Py_ssize_t j
    cdef double largest = 0, smallest = distances[0], mean = 0, n_rows = n, beta, total
    cdef double[3] sums
    cdef Row row
    for j in range(n):
        largest = distances[j] if distances[j] > largest else largest
        smallest = distances[j] if distances[j] < smallest else smallest
    row.inverse_largest = 0 if largest < TINY else 1 / largest
    row.nearest = smallest
    row.twice_nearest = 2 * (smallest * row.inverse_largest)
    for j in range(n):
        mean += spread(&row, distances[j]) / n
    if masses != NULL:
        n_rows = 0
        for j in range(n):
            n_rows += masses[j]
    if mean <= 0 or target >= log(n_rows) - TOLERANCE:  # all equal, or more perplexity than neighbours
        for j in range(n):
            conditional_out[j] = <floating>(1.0 / n_rows)
        entropy_out[0] = log(n_rows)
        bandwidth_out[0] = 0 if mean <= 0 else 1e308
    else:
        beta = search_row(distances, masses, n, &row, target, mean, entropy_out)
        sum_row(distances, masses, n, &row, beta, sums)
        total = 1 / sums[0]
        for j in range(n):
            conditional_out[j] = <floating>(exp_negative(clamp(beta * spread(&row, distances[j]))) * total)
        bandwidth_out[0] = largest / sqrt(2 * beta)
    if masses != NULL:
        for j in range(n):
            conditional_out[j] *= masses[j]


cdef void fill_block(
    const floating[::1] distances, const floating[::1] masses, const int64_t[::1] row_starts, double target,
    Py_ssize_t block,
    floating[::1] conditional_out, double[::1] bandwidth_out, double[::1] entropy_out,
) noexcept nogil:
    """Fill the rows of one block."""
    cdef Py_ssize_t i, start
    for i in range(block * BLOCK, min((block + 1) * BLOCK, row_starts.shape[0] - 1)):
        start = row_starts[i]
        fill_row(&distances[0] + start, &masses[0] + start if masses.shape[0] else NULL, row_starts[i + 1] - start,
                 target, &conditional_out[0] + start, &bandwidth_out[i], &entropy_out[i])


def search_bandwidths(
    const floating[::1] distances,    # IN: not squared, row after row
    const floating[::1] masses,       # IN: of the neighbours, in the order of the distances; empty: all are 1
    const int64_t[::1] row_starts,    # IN: n_points + 1; no row is empty
    double perplexity,                # IN
    floating[::1] conditional_out,    # OUT: p_j|i, each row sums to 1
    double[::1] bandwidth_out,        # OUT: sigma_i; 0 where all are equal, 1e308 where the row is uniform
    double[::1] entropy_out,          # OUT: nats
    int n_threads,
):
    """Find sigma_i with entropy log(perplexity): van der Maaten and Hinton (2008), eq. 1 and section 2."""
    cdef double target = log(perplexity)
    cdef Py_ssize_t block, n_blocks = (row_starts.shape[0] - 1 + BLOCK - 1) // BLOCK
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        fill_block(distances, masses, row_starts, target, block, conditional_out, bandwidth_out, entropy_out)
