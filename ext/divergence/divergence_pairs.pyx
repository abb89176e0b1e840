"""Divergences of pairs of rows, all or listed: the fast terms, added in lanes."""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from divergence.blocks cimport fold
from divergence.finish cimport DIVIDE, Sums, finish_measure
from divergence.passes cimport Groups, LANES, add_terms_alone, groups_of, is_usual
from divergence.terms cimport term_slow

cdef enum:
    TILE = 16  # rows of p that meet a row of q while it is in cache


cdef double pair_value(const floating* p, const floating* q, Py_ssize_t n, int measure, double unit,
                       bint slow) noexcept nogil:
    """Return one measure of two rows that sum to one."""
    cdef Py_ssize_t i, rest = n % LANES
    cdef double[LANES] lanes
    cdef floating[LANES] last_p
    cdef floating[LANES] last_q
    cdef Sums sums
    cdef Groups groups = groups_of(p, LANES, q, LANES, n // LANES, True)
    sums.total, sums.p, sums.q, sums.alpha, sums.unit, sums.precision = 0, 1, 1, 0, unit, 1
    if slow:
        for i in range(n):
            sums.total += term_slow(measure, p[i], q[i], 0)
        return finish_measure(measure, DIVIDE, &sums)
    memset(lanes, 0, sizeof(lanes))
    add_terms_alone(measure, &groups, lanes, <floating*>NULL)
    if rest > 0:  # zeros add nothing
        memset(last_p, 0, sizeof(last_p))
        memset(last_q, 0, sizeof(last_q))
        memcpy(last_p, p + n - rest, rest * sizeof(floating))
        memcpy(last_q, q + n - rest, rest * sizeof(floating))
        groups = groups_of(<const floating*>last_p, LANES, <const floating*>last_q, LANES, 1, True)
        add_terms_alone(measure, &groups, lanes, <floating*>NULL)
    sums.total = fold(lanes)
    return finish_measure(measure, DIVIDE, &sums)


def flag_rows(const floating[:, ::1] rows, unsigned char[::1] unusual_out):
    """Mark the rows that hold subnormals, which only the slow terms take."""
    cdef Py_ssize_t r, i
    cdef bint usual
    for r in range(rows.shape[0]):
        usual = True
        for i in range(rows.shape[1]):
            usual &= is_usual(rows[r, i])
        unusual_out[r] = not usual


def all_pairs(
    const floating[:, ::1] p,         # IN: rows that sum to one
    const floating[:, ::1] q,         # IN
    const unsigned char[::1] p_slow,  # IN: see flag_rows
    const unsigned char[::1] q_slow,  # IN
    int measure,
    double unit,                      # IN: 1 / log(base)
    double[:, ::1] values_out,        # OUT
    int n_threads,
):
    """Write the measure of every row of p with every row of q."""
    cdef Py_ssize_t tile, i, j, n_tiles = (p.shape[0] + TILE - 1) // TILE
    for tile in prange(n_tiles, nogil=True, num_threads=n_threads, schedule="dynamic"):
        for j in range(q.shape[0]):
            for i in range(tile * TILE, min((tile + 1) * TILE, p.shape[0])):
                values_out[i, j] = pair_value(&p[i, 0], &q[j, 0], p.shape[1], measure, unit,
                                              p_slow[i] or q_slow[j])


def listed_pairs(
    const floating[:, ::1] p,         # IN: rows that sum to one
    const floating[:, ::1] q,         # IN
    const unsigned char[::1] p_slow,  # IN: see flag_rows
    const unsigned char[::1] q_slow,  # IN
    const Py_ssize_t[::1] rows,       # IN: of p
    const Py_ssize_t[::1] columns,    # IN: rows of q
    int measure,
    double unit,                      # IN: 1 / log(base)
    double[::1] values_out,           # OUT
    int n_threads,
):
    """Write the measure of listed pairs."""
    cdef Py_ssize_t k, i, j
    for k in prange(rows.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        i = rows[k]
        j = columns[k]
        values_out[k] = pair_value(&p[i, 0], &q[j, 0], p.shape[1], measure, unit,
                                   p_slow[i] or q_slow[j])
