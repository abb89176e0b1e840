"""Row-wise measures of probabilities or logits.

Each row becomes a few sums of element terms (sweep.pxd), which one formula turns into a value (finish_rows.pxd).
Threads share the rows in groups, or the pieces of rows where these are few and long; neither changes a bit of a result.
Rows that are strided or of another dtype pass through contiguous tiles, never through a full copy.
"""

from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from divergence.finish_rows cimport finish_columns, finish_rows, has_js_sweep
from divergence.job cimport (
    BLOCK, CACHE_LINE, Job, MAX_MEASURES, Operand, PIECE, Region, STATE, choose_layout, count_groups, count_pieces,
    count_rows, is_wide_kind, lay_out, region_size, scratch_size, shares_rows,
)
from divergence.passes cimport LANES
from divergence.sweep cimport merge_states, sweep_piece
from divergence.terms cimport TOP1, compared_measures, inner_sums_of, is_symmetric, measure_numbers, needs_wide_terms

cdef enum:
    CHUNK_ELEMENTS = 64 * 1024  # a thread takes so many elements of short rows at a time: 10 us of work and more

MEASURES = measure_numbers()
COMPARED = compared_measures()


# ---- Groups of rows and pieces of rows -------------------------------------------------------------


cdef Region thread_region(const Job* job, double* scratch) noexcept nogil:
    """Return this thread's part of the scratch."""
    cdef Region region
    lay_out(job, scratch + threadid() * region_size(job), &region)
    return region


cdef Py_ssize_t first_row(const Job* job, Py_ssize_t group, Py_ssize_t* n_rows) noexcept nogil:
    """Return the first row of a group, and how many it has."""
    cdef Py_ssize_t groups_per_outer = (job.n_inner + job.group - 1) // job.group
    cdef Py_ssize_t first = (group % groups_per_outer) * job.group
    n_rows[0] = min(job.group, job.n_inner - first)
    return (group // groups_per_outer) * job.n_inner + first


cdef void reduce_group(const Job* job, Py_ssize_t group, double* scratch) noexcept nogil:
    """Write the values of one group of rows."""
    cdef Py_ssize_t i, piece, n_pieces = count_pieces(job), n_rows = 0
    cdef Py_ssize_t first = first_row(job, group, &n_rows)
    cdef Region region = thread_region(job, scratch)
    sweep_piece(job, first, n_rows, 0, &region, region.rows)
    for piece in range(1, n_pieces):
        sweep_piece(job, first, n_rows, piece, &region, region.pieces)
        for i in range(n_rows):
            merge_states(job, region.rows + i * STATE, region.pieces + i * STATE)
    if job.columns and n_pieces <= 1:
        finish_columns(job, first, n_rows, &region, region.rows)
    else:
        finish_rows(job, first, n_rows, &region, region.rows)


cdef void reduce_piece(const Job* job, Py_ssize_t task, double* scratch, double* states_out) noexcept nogil:
    """Write the states of one piece of one group of rows."""
    cdef Py_ssize_t i, first, n_rows = 0, n_pieces = count_pieces(job), piece = task % n_pieces
    cdef Region region = thread_region(job, scratch)
    first = first_row(job, task // n_pieces, &n_rows)
    sweep_piece(job, first, n_rows, piece, &region, region.rows)
    for i in range(n_rows):
        memcpy(states_out + ((first + i) * n_pieces + piece) * STATE, region.rows + i * STATE, STATE * sizeof(double))


cdef void merge_pieces(const Job* job, Py_ssize_t row, double* scratch, double* states) noexcept nogil:
    """Merge the pieces of a row in order and write its values."""
    cdef Py_ssize_t piece, n_pieces = count_pieces(job)
    cdef Region region = thread_region(job, scratch)
    cdef double* first = states + row * n_pieces * STATE
    for piece in range(1, n_pieces):
        merge_states(job, first, first + piece * STATE)
    finish_rows(job, row, 1, &region, first)


cdef void run_job(const Job* job, double* scratch, int n_threads) noexcept nogil:
    """Write the values of all rows."""
    cdef Py_ssize_t task, size = region_size(job), n_groups = count_groups(job)
    cdef Py_ssize_t group_elements = max(<Py_ssize_t>1, job.group * job.n)
    cdef int chunk = <int>max(<Py_ssize_t>1, min(n_groups // (32 * n_threads), CHUNK_ELEMENTS // group_elements))
    cdef double* states = scratch + n_threads * size
    for task in range(n_threads):
        memset(scratch + task * size, 0, CACHE_LINE * sizeof(double))  # the memory from block to block
    if shares_rows(job, n_threads):
        for task in prange(n_groups * count_pieces(job), num_threads=n_threads, schedule="dynamic"):
            reduce_piece(job, task, scratch, states)
        for task in prange(count_rows(job), num_threads=n_threads, schedule="dynamic"):
            merge_pieces(job, task, scratch, states)
    elif n_threads == 1:
        for task in range(n_groups):
            reduce_group(job, task, scratch)
    else:
        for task in prange(n_groups, num_threads=n_threads, schedule="dynamic", chunksize=chunk):
            reduce_group(job, task, scratch)


# ---- From Python -----------------------------------------------------------------------------------


cdef int open_operand(object source, Py_buffer* view, Operand* operand_out) except -1:
    """Set where an array of one to three axes (outer, inner, element) lies; axes that it lacks have one row."""
    PyObject_GetBuffer(source, view, PyBUF_STRIDED_RO)
    operand_out.data = <const char*>view.buf
    operand_out.outer = view.strides[0] if view.ndim > 2 else 0
    operand_out.row = view.strides[view.ndim - 2] if view.ndim > 1 else 0
    operand_out.item = view.strides[view.ndim - 1]
    return 0


cdef int open_operands(object p, object q, Py_buffer* views, Job* job) except -1:
    """Set where p and q lie and choose the job's layout; close_operands must follow."""
    cdef int q_kind = job.q.kind
    open_operand(p, &views[0], &job.p)
    job.q = job.p
    job.q.kind = q_kind
    if job.has_q:
        try:
            open_operand(q, &views[1], &job.q)
        except BaseException:
            PyBuffer_Release(&views[0])
            raise
    job.n_outer = views[0].shape[0] if views[0].ndim > 2 else 1
    job.n_inner = views[0].shape[views[0].ndim - 2] if views[0].ndim > 1 else 1
    job.n = views[0].shape[views[0].ndim - 1]
    choose_layout(job)
    return 0


cdef int close_operands(const Job* job, Py_buffer* views) except -1:
    if job.has_q:
        PyBuffer_Release(&views[1])
    PyBuffer_Release(&views[0])
    return 0


cdef Py_ssize_t first_failure(const unsigned char* status, Py_ssize_t n) noexcept nogil:
    """Return the first row that fails the check, or -1."""
    cdef Py_ssize_t row
    cdef unsigned char failed = 0
    for row in range(n):  # without a way out, so that the loop is vectorised
        failed |= status[row]
    if failed:
        for row in range(n):
            if status[row]:
                return row
    return -1


cdef class Reduction:
    """Measures of rows and all that is asked of them, for any number of arrays of the same element types.

    Arrays have one to three axes (outer, inner, element), of any strides.
    """

    cdef Job job
    cdef int[MAX_MEASURES] measures
    cdef int[MAX_MEASURES] lines

    def __cinit__(
        self,
        tuple names,                # IN: at most MAX_MEASURES of those in MEASURES
        tuple p_elements,           # IN: element type of p, see common/pack.pxd, and how far its sums may be from one
        tuple q_elements,           # IN: the same of q; None where there is no q
        double unit,                # IN: 1 / log(base)
        int normalisation,          # IN: PLAIN, DIVIDE or CHECK, see finish.pxd
        double alpha,               # IN: the order of the powers
        bint from_logits,           # IN
        double inverse_temperature, # IN: what logits are multiplied by
        double smoothing,           # IN: what is added to each probability
    ):
        """Resolve what no array changes."""
        cdef Job* job = &self.job
        cdef int m
        if len(names) > MAX_MEASURES:
            raise ValueError(f"measures must name at most {MAX_MEASURES}, got {len(names)}")
        # The first of the measures that need rough masses sums them, and only symmetric ones do so symmetrically.
        order = sorted([(not is_symmetric(MEASURES[name]), line) for line, name in enumerate(names)])
        for m in range(len(names)):
            self.lines[m] = order[m][1]
            self.measures[m] = MEASURES[names[self.lines[m]]]
        job.measures, job.lines, job.n_measures = self.measures, self.lines, <int>len(names)
        job.has_q = q_elements is not None
        job.p.kind, job.tolerances[0] = p_elements
        job.q.kind, job.tolerances[1] = q_elements if job.has_q else p_elements
        job.unit, job.normalisation, job.alpha, job.smoothing = unit, normalisation, alpha, smoothing
        job.logits, job.inverse_temperature = from_logits, inverse_temperature
        resolve_measures(job)

    def scratch_size(self, p, q, int n_threads):
        """Return how many doubles of scratch `reduce` needs for these arrays."""
        cdef Job job = self.job
        cdef Py_buffer[2] views
        open_operands(p, q, views, &job)
        close_operands(&job, views)
        return scratch_size(&job, n_threads)

    def reduce(
        self,
        p,                              # IN
        q,                              # IN: of p's shape, or None
        double[::1] values_out,         # OUT: measures x rows
        unsigned char[::1] status_out,  # OUT: why a row fails the check; zeros come in and stay where it passes
        double[::1] scratch,            # begins on a cache line
        int n_threads,
    ):
        """Write every measure of every row; return the first row that fails the check, or -1."""
        cdef Job job = self.job
        cdef Py_buffer[2] views
        if status_out.shape[0] == 0:
            return -1
        open_operands(p, q, views, &job)
        job.values, job.status = &values_out[0], &status_out[0]
        with nogil:
            run_job(&job, &scratch[0], n_threads)
        close_operands(&job, views)
        return first_failure(&status_out[0], status_out.shape[0])


cdef void resolve_measures(Job* job) noexcept nogil:
    """Note what the measures need: float64 terms, inner products of logits, places of the largest values."""
    cdef int m
    job.top1, job.js, job.n_inner_sums = False, False, 0
    job.exchange = job.logits and job.has_q
    job.wide = is_wide_kind(job.p.kind) or is_wide_kind(job.q.kind)
    for m in range(job.n_measures):
        job.top1 |= job.measures[m] == TOP1
        job.exchange &= is_symmetric(job.measures[m])
        job.wide |= not job.logits and needs_wide_terms(job.measures[m])
        job.js |= job.logits and job.has_q and has_js_sweep(job, job.measures[m])
        if job.logits:
            job.n_inner_sums = max(job.n_inner_sums, inner_sums_of(job.measures[m]))


def vector_scratch_size():
    """Return the doubles of scratch that suffice for one row, of any length up to PIECE, on one thread."""
    cdef Job job
    job.columns, job.group, job.block, job.n = True, LANES, BLOCK, PIECE
    return region_size(&job)
