"""From conditional to joint probabilities: a sparse matrix is transposed, and two with sorted columns are added.

``kullback.reference.joint_probabilities`` is the same in NumPy. Every element of the output is written by one task, in
one order, so the thread count changes no bit. The caller has checked the range of the indices.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t

from common.threads cimport startable

cdef enum:
    BLOCK = 1024  # rows a task when merging
    PARTS = 4     # ranges of target rows when transposing; each range reads every column once


cdef void scatter_part(
    const floating[::1] values, const int32_t[::1] columns, const int64_t[::1] row_starts,
    int32_t low, int32_t high,                              # IN: the range of target rows
    int64_t[::1] next_slots,                                # IN/OUT: the next free slot of each target row
    floating[::1] values_out, int32_t[::1] columns_out,
) noexcept nogil:
    """Move the elements of some columns to the rows that these become."""
    cdef Py_ssize_t i, k
    cdef int64_t slot
    cdef int32_t column
    for i in range(row_starts.shape[0] - 1):
        for k in range(row_starts[i], row_starts[i + 1]):
            column = columns[k]
            if low <= column < high:
                slot = next_slots[column]
                next_slots[column] = slot + 1
                values_out[slot] = values[k]
                columns_out[slot] = <int32_t>i


def transpose(
    const floating[::1] values,       # IN: CSR, columns in any order
    const int32_t[::1] columns,       # IN
    const int64_t[::1] row_starts,    # IN: n_points + 1
    floating[::1] values_out,         # OUT
    int32_t[::1] columns_out,         # OUT: sorted within each row
    int64_t[::1] row_starts_out,      # OUT: n_points + 1
    int64_t[::1] next_slots_out,      # OUT: scratch, n_points + 1
    int n_threads,
):
    """Transpose a square CSR matrix by a counting sort; doing so twice sorts the columns of every row."""
    cdef Py_ssize_t i, part, n_points = row_starts.shape[0] - 1
    for i in range(n_points + 1):
        row_starts_out[i] = 0
    for i in range(columns.shape[0]):
        row_starts_out[columns[i] + 1] += 1
    next_slots_out[0] = 0
    for i in range(n_points):
        row_starts_out[i + 1] += row_starts_out[i]
        next_slots_out[i + 1] = row_starts_out[i + 1]
    for part in prange(PARTS, nogil=True, num_threads=startable(n_threads), schedule="static"):
        scatter_part(values, columns, row_starts, <int32_t>(n_points * part // PARTS),
                     <int32_t>(n_points * (part + 1) // PARTS), next_slots_out, values_out, columns_out)


cdef inline int64_t count_union(const int32_t* a, int64_t n_a, const int32_t* b, int64_t n_b) noexcept nogil:
    """Return how many different columns two sorted rows have."""
    cdef int64_t i = 0, j = 0, count = 0
    cdef int32_t x, y
    while i < n_a and j < n_b:
        x = a[i]
        y = b[j]
        i += x <= y
        j += y <= x
        count += 1
    return count + (n_a - i) + (n_b - j)


def count_sums(
    const int32_t[::1] columns, const int64_t[::1] row_starts,                # IN: sorted columns
    const int32_t[::1] other_columns, const int64_t[::1] other_row_starts,    # IN: sorted columns
    int64_t[::1] row_starts_out,                                              # OUT: of the sum of both
    int n_threads,
):
    """Write where the rows of the sum of two CSR matrices start."""
    cdef Py_ssize_t i, n_points = row_starts.shape[0] - 1
    row_starts_out[0] = 0
    for i in prange(n_points, nogil=True, num_threads=startable(n_threads), schedule="static", chunksize=BLOCK):
        row_starts_out[i + 1] = count_union(
            &columns[0] + row_starts[i], row_starts[i + 1] - row_starts[i],
            &other_columns[0] + other_row_starts[i], other_row_starts[i + 1] - other_row_starts[i])
    for i in range(n_points):
        row_starts_out[i + 1] += row_starts_out[i]


cdef inline void add_row(
    const floating* values, const int32_t* columns, int64_t n_values,
    const floating* other_values, const int32_t* other_columns, int64_t n_other,
    double factor, floating* values_out, int32_t* columns_out,
) noexcept nogil:
    """Merge two sorted rows; a column that is in both gets the sum of its values."""
    cdef int64_t i = 0, j = 0, k = 0
    cdef int32_t x, y, last = 2147483647  # above every column
    while i < n_values or j < n_other:
        x = columns[i] if i < n_values else last
        y = other_columns[j] if j < n_other else last
        columns_out[k] = x if x < y else y
        values_out[k] = <floating>(factor * ((<double>values[i] if x <= y else 0.0)
                                             + (<double>other_values[j] if y <= x else 0.0)))
        i += x <= y
        j += y <= x
        k += 1


def add_scaled(
    first, second,                              # IN: two CSR matrices: values, columns and row starts, columns sorted
    double factor,                              # IN
    const int64_t[::1] row_starts,              # IN: of the sum, from count_sums
    floating[::1] values_out,                   # OUT
    int32_t[::1] columns_out,                   # OUT: sorted
    int n_threads,
):
    """Write ``factor * (A + B)``; as a + b = b + a, the sum of a matrix and its transpose is exactly symmetric."""
    cdef const floating[::1] a_values = first[0], b_values = second[0]
    cdef const int32_t[::1] a_columns = first[1], b_columns = second[1]
    cdef const int64_t[::1] a_starts = first[2], b_starts = second[2]
    cdef Py_ssize_t i, n_points = row_starts.shape[0] - 1
    for i in prange(n_points, nogil=True, num_threads=startable(n_threads), schedule="static", chunksize=BLOCK):
        add_row(&a_values[0] + a_starts[i], &a_columns[0] + a_starts[i], a_starts[i + 1] - a_starts[i],
                &b_values[0] + b_starts[i], &b_columns[0] + b_starts[i], b_starts[i + 1] - b_starts[i],
                factor, &values_out[0] + row_starts[i], &columns_out[0] + row_starts[i])
