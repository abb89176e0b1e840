"""Divergences of pairs of rows, all or listed: the terms of _divergence_terms.pxd, summed block by block."""

from cython cimport floating
from cython.parallel cimport prange, threadid

from _divergence_blocks cimport BLOCK, mass_of, sum_terms
from _divergence_finish cimport DIVIDE, Sums, finish_measure
from _divergence_terms cimport map_terms, term_slow

cdef enum:
    TILE = 16  # rows of p that meet a row of q while it is in cache
BLOCK_ELEMENTS = BLOCK


cdef double pair_value(const floating* p, const floating* q, Py_ssize_t n, int measure, double unit, bint slow,
                       floating* terms) noexcept nogil:
    """Return one measure of two rows that sum to one."""
    cdef Py_ssize_t i, length, start = 0
    cdef Sums sums
    sums.total, sums.p, sums.q, sums.alpha, sums.unit, sums.precision = 0, 1, 1, 0, unit, 1
    while start < n:
        length = min(<Py_ssize_t>BLOCK, n - start)
        if slow:
            for i in range(start, start + length):
                sums.total += term_slow(measure, p[i], q[i], 0)
        else:
            map_terms(measure, p + start, q + start, length, 0, terms)
            sums.total += sum_terms(terms, length)
        start += length
    return finish_measure(measure, DIVIDE, &sums)


def flag_rows(const floating[:, ::1] rows, unsigned char[::1] unusual_out):
    """Mark the rows that hold subnormals, which only the slow terms take."""
    cdef Py_ssize_t r
    cdef bint unusual
    for r in range(rows.shape[0]):
        unusual = False
        mass_of(&rows[r, 0], rows.shape[1], &unusual)
        unusual_out[r] = unusual


def all_pairs(
    const floating[:, ::1] p,         # IN: rows that sum to one
    const floating[:, ::1] q,         # IN
    const unsigned char[::1] p_slow,  # IN: see flag_rows
    const unsigned char[::1] q_slow,  # IN
    int measure,
    double unit,                      # IN: 1 / log(base)
    floating[:, ::1] scratch,         # scratch: a block of terms for each thread
    double[:, ::1] values_out,        # OUT
    int n_threads,
):
    """Write the measure of every row of p with every row of q."""
    cdef Py_ssize_t tile, i, j, n_tiles = (p.shape[0] + TILE - 1) // TILE
    for tile in prange(n_tiles, nogil=True, num_threads=n_threads, schedule="dynamic"):
        for j in range(q.shape[0]):
            for i in range(tile * TILE, min((tile + 1) * TILE, p.shape[0])):
                values_out[i, j] = pair_value(&p[i, 0], &q[j, 0], p.shape[1], measure, unit,
                                              p_slow[i] or q_slow[j], &scratch[threadid(), 0])


def listed_pairs(
    const floating[:, ::1] p,         # IN: rows that sum to one
    const floating[:, ::1] q,         # IN
    const unsigned char[::1] p_slow,  # IN: see flag_rows
    const unsigned char[::1] q_slow,  # IN
    const Py_ssize_t[::1] rows,       # IN: of p
    const Py_ssize_t[::1] columns,    # IN: rows of q
    int measure,
    double unit,                      # IN: 1 / log(base)
    floating[:, ::1] scratch,         # scratch: a block of terms for each thread
    double[::1] values_out,           # OUT
    int n_threads,
):
    """Write the measure of listed pairs."""
    cdef Py_ssize_t k, i, j
    for k in prange(rows.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        i = rows[k]
        j = columns[k]
        values_out[k] = pair_value(&p[i, 0], &q[j, 0], p.shape[1], measure, unit,
                                   p_slow[i] or q_slow[j], &scratch[threadid(), 0])
