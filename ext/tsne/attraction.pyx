"""Attraction of t-SNE: sparse P (CSR) against the embedding.

``kullback.reference.attractive_forces`` is the same in NumPy. Every row writes its own force and every block of rows
its own sum, so the thread count changes no bit. The caller has checked the range of the indices.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from common.exp_log cimport log_fast
from common.threads cimport startable
from tsne.kernels cimport log_bases

cdef extern from "tsne/attract.h" nogil:
    bint kb_attract_row(const float* values, const int32_t* columns, Py_ssize_t n_values, const float* positions,
                        Py_ssize_t row, float dof, float* force_out)

cdef enum:
    BLOCK = 64   # rows a block: about 8,000 non-zeros or 6 microseconds of work; 1,797 points make 29 blocks
    CHUNK = 128  # neighbours at a time: 1 KiB of float32 pairs
BLOCK_ROWS = BLOCK


cdef inline void attract_row(
    const floating* values, const int32_t* columns, Py_ssize_t n_values,  # IN: one row of P
    const floating* positions, Py_ssize_t row,                            # IN: n_points x n_components
    int n_components,                                                     # a literal where it is called
    floating dof,                                                         # IN
    floating* force_out,                                                  # OUT
) noexcept nogil:
    """Write sum_j p_ij (y_i - y_j) dof / (dof + |y_i - y_j|^2): van der Maaten (2014), eq. 8, for any dof.

    Neighbours are first copied side by side. The arithmetic then vectorises, and the copies cost less than the gather
    instructions that a compiler would make of indexed loads.
    """
    cdef floating[3 * CHUNK] near
    cdef Py_ssize_t start, k, n_near
    cdef floating dx, dy = 0, dz = 0, squared, weight
    cdef floating x = positions[row * n_components], y = 0, z = 0
    cdef floating fx = 0, fy = 0, fz = 0
    if n_components > 1:
        y = positions[row * n_components + 1]
    if n_components > 2:
        z = positions[row * n_components + 2]
    start = 0
    while start < n_values:
        n_near = min(<Py_ssize_t>CHUNK, n_values - start)
        for k in range(n_near):
            memcpy(near + k * n_components, positions + columns[start + k] * <Py_ssize_t>n_components,
                   n_components * sizeof(floating))
        for k in range(n_near):
            dx = x - near[k * n_components]
            squared = dof + dx * dx
            if n_components > 1:
                dy = y - near[k * n_components + 1]
                squared = squared + dy * dy
            if n_components > 2:
                dz = z - near[k * n_components + 2]
                squared = squared + dz * dz
            weight = values[start + k] / squared
            fx += weight * dx
            if n_components > 1:
                fy += weight * dy
            if n_components > 2:
                fz += weight * dz
        start += CHUNK
    force_out[0] = fx * dof
    if n_components > 1:
        force_out[1] = fy * dof
    if n_components > 2:
        force_out[2] = fz * dof


cdef inline double squared_distance(const floating* a, const floating* b, Py_ssize_t n_components) noexcept nogil:
    """Return the squared distance in float64."""
    cdef Py_ssize_t c
    cdef double delta, total = 0
    for c in range(n_components):
        delta = <double>a[c] - b[c]
        total += delta * delta
    return total


cdef void attract_row_general(
    const floating[::1] values, const int32_t[::1] columns, Py_ssize_t start, Py_ssize_t end,
    const floating[:, ::1] positions, Py_ssize_t row, double dof, floating[:, ::1] forces_out,
) noexcept nogil:
    """Write the same in any number of components: sum_j p_ij (1 + |y_i - y_j|^2 / dof)^-1 (y_i - y_j)."""
    cdef Py_ssize_t k, c, n_components = positions.shape[1]
    cdef double weight
    for c in range(positions.shape[1]):
        forces_out[row, c] = 0
    for k in range(start, end):
        weight = values[k] / (1 + squared_distance(&positions[row, 0], &positions[columns[k], 0], n_components) / dof)
        for c in range(positions.shape[1]):
            forces_out[row, c] += <floating>(weight * (<double>positions[row, c] - positions[columns[k], c]))


cdef void attract_block(
    const floating[::1] values, const int32_t[::1] columns, const int64_t[::1] row_starts,
    const floating[:, ::1] positions, Py_ssize_t block, double dof, bint wide, floating[:, ::1] forces_out,
) noexcept nogil:
    """Write the forces on the points of one block; ``wide`` takes all in float64."""
    cdef Py_ssize_t row, start, end
    for row in range(block * BLOCK, min((block + 1) * BLOCK, positions.shape[0])):
        start = row_starts[row]
        end = row_starts[row + 1]
        if wide:
            attract_row_general(values, columns, start, end, positions, row, dof, forces_out)
        elif positions.shape[1] == 2:
            if floating is float:
                if kb_attract_row(&values[0] + start, &columns[0] + start, end - start, &positions[0, 0], row,
                                  <float>dof, &forces_out[row, 0]):
                    continue
            attract_row(&values[0] + start, &columns[0] + start, end - start, &positions[0, 0], row, 2,
                        <floating>dof, &forces_out[row, 0])
        elif positions.shape[1] == 1:
            attract_row(&values[0] + start, &columns[0] + start, end - start, &positions[0, 0], row, 1,
                        <floating>dof, &forces_out[row, 0])
        elif positions.shape[1] == 3:
            attract_row(&values[0] + start, &columns[0] + start, end - start, &positions[0, 0], row, 3,
                        <floating>dof, &forces_out[row, 0])
        else:
            attract_row_general(values, columns, start, end, positions, row, dof, forces_out)


cdef bint is_wide(const floating[:, ::1] positions) noexcept nogil:
    """Return whether squares of distances may overflow in float32. The count vectorises, where a maximum does not."""
    cdef Py_ssize_t i, n_values = positions.shape[0] * positions.shape[1]
    cdef int32_t n_far = 0
    cdef floating limit = 1e18
    cdef const floating* values = &positions[0, 0]
    for i in range(n_values):
        n_far += (values[i] > limit) | (values[i] < -limit)
    return n_far > 0


def accumulate_attraction(
    const floating[::1] values,        # IN: P, CSR
    const int32_t[::1] columns,        # IN
    const int64_t[::1] row_starts,     # IN: n_points + 1
    const floating[:, ::1] positions,  # IN
    double dof,
    floating[:, ::1] forces_out,       # OUT
    int n_threads,
):
    """Write sum_j p_ij w_ij^(1/dof) (y_i - y_j) for every point."""
    cdef Py_ssize_t block, n_blocks = (positions.shape[0] + BLOCK - 1) // BLOCK
    # In float32, squares of large distances overflow, and small affinities that are divided by a large dof underflow.
    cdef bint wide = sizeof(floating) == 4 and (dof > 30 or is_wide(positions))
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        attract_block(values, columns, row_starts, positions, block, dof, wide, forces_out)


cdef double log_affinity_block(
    const floating[::1] values, const int32_t[::1] columns, const int64_t[::1] row_starts,
    const floating[:, ::1] positions, Py_ssize_t block, double dof,
) noexcept nogil:
    """Return - sum_ij p_ij log w_ij over the rows of one block."""
    cdef double[CHUNK] squared
    cdef double[CHUNK] logs
    cdef const floating* point
    cdef Py_ssize_t row, start, k, n_near, n_components = positions.shape[1]
    cdef double total = 0
    for row in range(block * BLOCK, min((block + 1) * BLOCK, positions.shape[0])):
        start = row_starts[row]
        point = &positions[row, 0]
        while start < row_starts[row + 1]:
            n_near = min(<Py_ssize_t>CHUNK, row_starts[row + 1] - start)
            if n_components == 2:  # a literal spares the commonest case a loop in the loop
                for k in range(n_near):
                    squared[k] = squared_distance(point, &positions[columns[start + k], 0], 2)
            else:
                for k in range(n_near):
                    squared[k] = squared_distance(point, &positions[columns[start + k], 0], n_components)
            if dof == 1:
                for k in range(n_near):
                    total += values[start + k] * log_fast(1 + squared[k])
            else:
                log_bases(squared, n_near, dof, logs)
                for k in range(n_near):
                    total += values[start + k] * logs[k]
            start += CHUNK
    return total


def sum_log_affinity(
    const floating[::1] values,        # IN: P, CSR
    const int32_t[::1] columns,        # IN
    const int64_t[::1] row_starts,     # IN
    const floating[:, ::1] positions,  # IN
    double dof,
    double[::1] sums_out,              # OUT: scratch, one value a block of BLOCK_ROWS
    int n_threads,
):
    """Return - sum_ij p_ij log w_ij, the part of the cross-entropy that does not need Z."""
    cdef Py_ssize_t block, n_blocks = (positions.shape[0] + BLOCK - 1) // BLOCK
    cdef double total = 0
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="dynamic"):
        sums_out[block] = log_affinity_block(values, columns, row_starts, positions, block, dof)
    for block in range(n_blocks):
        total += sums_out[block]
    return total


def permute_rows(
    const floating[::1] values,      # IN: CSR
    const int32_t[::1] columns,      # IN
    const int64_t[::1] row_starts,   # IN
    const int32_t[::1] order,        # IN: the old index of each new row
    const int32_t[::1] rank,         # IN: the new index of each old row, the inverse of order
    floating[::1] values_out,        # OUT
    int32_t[::1] columns_out,        # OUT
    int64_t[::1] row_starts_out,     # OUT
    int n_threads,
):
    """Apply one permutation to rows and columns; entries keep their order within a row."""
    cdef Py_ssize_t row, n_rows = order.shape[0]
    row_starts_out[0] = 0
    for row in range(n_rows):
        row_starts_out[row + 1] = row_starts_out[row] + row_starts[order[row] + 1] - row_starts[order[row]]
    for row in prange(n_rows, nogil=True, num_threads=startable(n_threads), schedule="static"):
        permute_row(values, columns, row_starts[order[row]], row_starts[order[row] + 1], rank,
                    row_starts_out[row], values_out, columns_out)


cdef void permute_row(
    const floating[::1] values, const int32_t[::1] columns, Py_ssize_t start, Py_ssize_t end,
    const int32_t[::1] rank, Py_ssize_t slot, floating[::1] values_out, int32_t[::1] columns_out,
) noexcept nogil:
    """Copy a row to ``slot`` and give its columns their new indices."""
    cdef Py_ssize_t k
    for k in range(start, end):
        values_out[slot + k - start] = values[k]
        columns_out[slot + k - start] = rank[columns[k]]
