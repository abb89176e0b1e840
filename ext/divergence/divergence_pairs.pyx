"""Divergences of pairs of rows, either all pairs or listed ones.

Fast terms are added in lanes, as those of long rows are. Rows that hold subnormals are unusual: the slow terms, through
libm, take the pairs of which they are part.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from divergence.blocks cimport fold
from divergence.finish cimport DIVIDE, Sums, finish_measure
from divergence.passes cimport Groups, LANES, add_terms_alone, groups_of, is_usual
from divergence.terms cimport term_slow

cdef enum:
    TILE = 16  # so many rows of p meet a row of q while it is in cache


cdef double pair_value(const floating* p, const floating* q, Py_ssize_t n, int measure, double unit,
                       bint unusual) noexcept nogil:
    """Return one measure of two rows that sum to one."""
    cdef Py_ssize_t i, n_last = n % LANES
    cdef double[LANES] lanes
    cdef floating[LANES] last_p
    cdef floating[LANES] last_q
    cdef Sums sums
    cdef Groups groups = groups_of(p, LANES, q, LANES, n // LANES, True)
    sums.total, sums.p, sums.q, sums.alpha, sums.unit, sums.precision = 0, 1, 1, 0, unit, 1
    sums.wide = floating is double
    if unusual:
        for i in range(n):
            sums.total += term_slow(measure, p[i], q[i], 0)
        return finish_measure(measure, DIVIDE, &sums)
    memset(lanes, 0, sizeof(lanes))
    add_terms_alone(measure, &groups, lanes, <floating*>NULL)
    if n_last > 0:  # zeros, which add nothing, fill the last group
        memset(last_p, 0, sizeof(last_p))
        memset(last_q, 0, sizeof(last_q))
        memcpy(last_p, p + n - n_last, n_last * sizeof(floating))
        memcpy(last_q, q + n - n_last, n_last * sizeof(floating))
        groups = groups_of(<const floating*>last_p, LANES, <const floating*>last_q, LANES, 1, True)
        add_terms_alone(measure, &groups, lanes, <floating*>NULL)
    sums.total = fold(lanes)
    return finish_measure(measure, DIVIDE, &sums)


def flag_rows(const floating[:, ::1] rows, unsigned char[::1] unusual_out):
    """Mark the rows that hold subnormals, which the slow terms alone take."""
    cdef Py_ssize_t r, i
    cdef bint usual
    for r in range(rows.shape[0]):
        usual = True
        for i in range(rows.shape[1]):
            usual &= is_usual(rows[r, i])
        unusual_out[r] = not usual


def all_pairs(
    const floating[:, ::1] p,            # IN: rows that sum to one
    const floating[:, ::1] q,            # IN: the same
    const unsigned char[::1] p_unusual,  # IN: see flag_rows
    const unsigned char[::1] q_unusual,  # IN: the same
    int measure,                         # IN: its number
    double unit,                         # IN: 1 / log(base)
    double[:, ::1] values_out,           # OUT
    int n_threads,
):
    """Write the measure of every row of p with every row of q."""
    cdef Py_ssize_t tile, i, j, n_tiles = (p.shape[0] + TILE - 1) // TILE
    for tile in prange(n_tiles, nogil=True, num_threads=n_threads, schedule="dynamic"):
        for j in range(q.shape[0]):
            for i in range(tile * TILE, min((tile + 1) * TILE, p.shape[0])):
                values_out[i, j] = pair_value(&p[i, 0], &q[j, 0], p.shape[1], measure, unit,
                                              p_unusual[i] or q_unusual[j])


def listed_pairs(
    const floating[:, ::1] p,            # IN: rows that sum to one
    const floating[:, ::1] q,            # IN: the same
    const unsigned char[::1] p_unusual,  # IN: see flag_rows
    const unsigned char[::1] q_unusual,  # IN: the same
    const Py_ssize_t[::1] rows,          # IN: of p
    const Py_ssize_t[::1] columns,       # IN: rows of q
    int measure,                         # IN: its number
    double unit,                         # IN: 1 / log(base)
    double[::1] values_out,              # OUT
    int n_threads,
):
    """Write the measure of the listed pairs."""
    cdef Py_ssize_t k, i, j
    for k in prange(rows.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        i = rows[k]
        j = columns[k]
        values_out[k] = pair_value(&p[i, 0], &q[j, 0], p.shape[1], measure, unit,
                                   p_unusual[i] or q_unusual[j])
