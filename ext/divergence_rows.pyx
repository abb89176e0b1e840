"""Row-wise divergences of probabilities: sums of element terms, then one formula a row.

A row is cut into pieces of fixed size and those into blocks that stay in cache. Each block is
mapped to terms (see _divergence_terms.pxd) and summed in float64; pieces are added in order. Neither
threads nor neighbouring rows touch the arithmetic of a row, so they change no bit of its result.
Rows that are short, strided or of another dtype pass through contiguous tiles, never a full copy.
"""

from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer
from cython cimport floating
from cython.parallel cimport prange, threadid

from _divergence_finish cimport CHECK, PLAIN, finish_measure
from _divergence_terms cimport map_terms, mass_slow, term_slow
from _numeric cimport mass_double, mass_float, sum_double, sum_float, sum_terms_float
from _pack cimport FLOAT32, FLOAT64, FIRST_INTEGER, pack

cdef enum:
    BLOCK = 1024       # elements: operands and terms of a float64 block are 24 KiB, inside any L1 cache
    PIECE = 64 * 1024  # elements: what one thread takes of a row so long that it is shared
    STATE = 16         # sums a row: mass of p, mass of q, then one for each measure
    MAX_GROUP = 128    # rows that pass through one tile
BLOCK_ELEMENTS = BLOCK
PIECE_ELEMENTS = PIECE
STATE_SUMS = STATE
MAX_GROUP_ROWS = MAX_GROUP

cdef struct Operand:
    const char* data
    Py_ssize_t outer, row, item  # strides in bytes
    int kind

cdef struct Job:
    Operand p, q
    bint has_q
    Py_ssize_t n_outer, n_inner, n
    Py_ssize_t group       # rows in a tile
    Py_ssize_t block       # elements of a row in a tile
    const int* measures
    int n_measures
    const double* options  # see reduce_rows
    double* values
    unsigned char* status

cdef struct Region:        # the scratch of one thread
    double* p
    double* q
    double* terms
    double* wide_p
    double* wide_q
    double* wide_terms
    double* rows
    double* pieces


cdef inline double sum_of(const floating* x, Py_ssize_t n) noexcept nogil:
    if floating is float:
        return sum_float(x, n)
    else:
        return sum_double(x, n)


cdef inline double sum_terms(const floating* x, Py_ssize_t n) noexcept nogil:
    if floating is float:
        return sum_terms_float(x, n)
    else:
        return sum_double(x, n)


cdef inline double mass_of(const floating* x, Py_ssize_t n, bint* unusual) noexcept nogil:
    if floating is float:
        return mass_float(x, n, unusual)
    else:
        return mass_double(x, n, unusual)


cdef inline const char* row_data(const Operand* x, Py_ssize_t n_inner, Py_ssize_t row) noexcept nogil:
    return x.data + (row // n_inner) * x.outer + (row % n_inner) * x.row


cdef void add_slow(const Job* job, const double* p, const double* q, Py_ssize_t n, double* state) noexcept nogil:
    """Add a block that holds subnormals, infinities, NaN or negative values."""
    cdef Py_ssize_t i
    cdef int m
    for i in range(n):
        state[0] += mass_slow(p[i])
        state[1] += mass_slow(q[i])
        for m in range(job.n_measures):
            state[2 + m] += term_slow(job.measures[m], p[i], q[i])


cdef void add_block(const Job* job, const floating* p, const floating* q, Py_ssize_t n, floating* terms,
                    const Region* region, double* state) noexcept nogil:
    """Add one block of one row; float32 blocks with unusual values are worked in float64."""
    cdef Py_ssize_t i
    cdef int m
    cdef bint unusual = False
    cdef double sum_p = mass_of(p, n, &unusual), sum_q = mass_of(q, n, &unusual) if job.has_q else 0
    if unusual:
        if floating is float:
            for i in range(n):
                region.wide_p[i] = p[i]
                region.wide_q[i] = q[i]
            add_block[double](job, region.wide_p, region.wide_q, n, region.wide_terms, region, state)
        else:
            add_slow(job, p, q, n, state)
        return
    state[0] += sum_p
    state[1] += sum_q
    for m in range(job.n_measures):
        map_terms(job.measures[m], p, q, n, terms)
        state[2 + m] += sum_terms(terms, n)


cdef void add_tile(const Job* job, const floating* p, const floating* q, Py_ssize_t n_rows, Py_ssize_t n,
                   floating* terms, const Region* region, double* states) noexcept nogil:
    """Add a contiguous tile of (n_rows, n); a small one is mapped as a whole."""
    cdef Py_ssize_t r
    cdef int m
    cdef bint unusual = n_rows == 1 or n_rows * n > BLOCK
    if not unusual:
        mass_of(p, n_rows * n, &unusual)
        if job.has_q:
            mass_of(q, n_rows * n, &unusual)
    if unusual:
        for r in range(n_rows):
            add_block(job, p + r * n, q + r * n, n, terms, region, states + r * STATE)
        return
    for r in range(n_rows):
        states[r * STATE] += sum_of(p + r * n, n)
        if job.has_q:
            states[r * STATE + 1] += sum_of(q + r * n, n)
    for m in range(job.n_measures):
        map_terms(job.measures[m], p, q, n_rows * n, terms)
        for r in range(n_rows):
            states[r * STATE + 2 + m] += sum_terms(terms + r * n, n)


cdef inline const floating* tile_of(const Operand* x, const Job* job, Py_ssize_t row, Py_ssize_t n_rows,
                                    Py_ssize_t start, Py_ssize_t n, floating* out) noexcept nogil:
    """Return a contiguous tile: the caller's own memory where that is one, else a packed copy."""
    cdef const char* data = row_data(x, job.n_inner, row) + start * x.item
    cdef int native = FLOAT32 if floating is float else FLOAT64
    if x.kind == native and x.item == <Py_ssize_t>sizeof(floating) and (<size_t>data) % sizeof(floating) == 0 \
            and (n_rows == 1 or x.row == n * x.item):
        return <const floating*>data
    pack(data, x.kind, x.row, x.item, n_rows, n, out)
    return out


cdef void add_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece, const Region* region,
                    double* states, floating* kind) noexcept nogil:
    """Set ``states`` to the sums of one piece of consecutive rows."""
    cdef int m
    cdef Py_ssize_t r, n, start = piece * PIECE
    cdef Py_ssize_t end = min(start + PIECE, job.n)
    cdef const floating* p
    cdef const floating* q
    for r in range(n_rows):
        for m in range(2 + job.n_measures):
            states[r * STATE + m] = 0
    while start < end:
        n = min(job.block, end - start)
        p = tile_of(&job.p, job, row, n_rows, start, n, <floating*>region.p)
        q = p
        if job.has_q:
            q = tile_of(&job.q, job, row, n_rows, start, n, <floating*>region.q)
        add_tile(job, p, q, n_rows, n, <floating*>region.terms, region, states)
        start += n


cdef inline void any_piece(const Job* job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t piece,
                           const Region* region, double* states) noexcept nogil:
    if job.p.kind == FLOAT64 or job.p.kind >= FIRST_INTEGER or job.q.kind == FLOAT64 or job.q.kind >= FIRST_INTEGER:
        add_piece[double](job, row, n_rows, piece, region, states, NULL)
    else:
        add_piece[float](job, row, n_rows, piece, region, states, NULL)


cdef void sweep_again(const Job* job, Py_ssize_t row, const Region* region, double* state) noexcept nogil:
    """Replace the sums of a row by those of p / sum p and q / sum q in float64."""
    cdef Py_ssize_t i, n, start = 0
    cdef double sum_p = state[0], sum_q = state[1]
    for i in range(STATE):
        state[i] = 0
    while start < job.n:
        n = min(<Py_ssize_t>BLOCK, job.n - start)
        pack(row_data(&job.p, job.n_inner, row) + start * job.p.item, job.p.kind, 0, job.p.item, 1, n, region.wide_p)
        for i in range(n):
            region.wide_p[i] = region.wide_p[i] / sum_p
        if job.has_q:
            pack(row_data(&job.q, job.n_inner, row) + start * job.q.item, job.q.kind, 0, job.q.item, 1, n,
                 region.wide_q)
            for i in range(n):
                region.wide_q[i] = region.wide_q[i] / sum_q
        add_block[double](job, region.wide_p, region.wide_q if job.has_q else region.wide_p, n,
                          region.wide_terms, region, state)
        start += n


cdef void finish_row(const Job* job, Py_ssize_t row, const Region* region, double* state) noexcept nogil:
    """Turn the sums of a row into its values and its status."""
    cdef int m, mode = <int>job.options[1]
    cdef Py_ssize_t n_rows = job.n_outer * job.n_inner
    cdef bint settled = True
    if mode == CHECK:  # 1, 2: negative or NaN in p, q; 3, 4: the sum of p, q
        if state[0] != state[0]:
            job.status[row] = 1
        elif job.has_q and state[1] != state[1]:
            job.status[row] = 2
        elif state[0] == 0 or not (-job.options[2] <= state[0] - 1 <= job.options[2]):
            job.status[row] = 3
        elif job.has_q and (state[1] == 0 or not (-job.options[3] <= state[1] - 1 <= job.options[3])):
            job.status[row] = 4
    for m in range(job.n_measures):
        job.values[m * n_rows + row] = finish_measure(
            job.measures[m], state[2 + m], state[0], state[1], mode, job.options[0], &settled)
    if not settled:
        sweep_again(job, row, region, state)
        for m in range(job.n_measures):
            job.values[m * n_rows + row] = finish_measure(
                job.measures[m], state[2 + m], state[0], state[1], mode, job.options[0], &settled)


cdef Region thread_region(const Job* job, double* scratch, Py_ssize_t size) noexcept nogil:
    cdef Region region
    cdef Py_ssize_t tile = job.group * min(job.n, job.block)
    scratch += threadid() * size
    region.rows = scratch
    region.pieces = region.rows + job.group * STATE
    region.terms = region.pieces + job.group * STATE
    region.wide_p = region.terms + BLOCK
    region.wide_q = region.wide_p + BLOCK
    region.wide_terms = region.wide_q + BLOCK
    region.p = region.wide_terms + BLOCK
    region.q = region.p + tile
    return region


cdef void run_group(const Job* job, Py_ssize_t group, double* scratch, Py_ssize_t size) noexcept nogil:
    """Work a group of rows from end to end."""
    cdef Py_ssize_t groups_per_outer = (job.n_inner + job.group - 1) // job.group
    cdef Py_ssize_t first = (group % groups_per_outer) * job.group
    cdef Py_ssize_t n_rows = min(job.group, job.n_inner - first)
    cdef Py_ssize_t i, piece, n_pieces = (job.n + PIECE - 1) // PIECE
    cdef Region region = thread_region(job, scratch, size)
    first += (group // groups_per_outer) * job.n_inner
    any_piece(job, first, n_rows, 0, &region, region.rows)
    for piece in range(1, n_pieces):
        any_piece(job, first, n_rows, piece, &region, region.pieces)
        for i in range(n_rows * STATE):
            region.rows[i] += region.pieces[i]
    for i in range(n_rows):
        finish_row(job, first + i, &region, region.rows + i * STATE)


cdef void run_piece(const Job* job, Py_ssize_t task, double* partials, double* scratch, Py_ssize_t size) noexcept nogil:
    """Work one piece of one row."""
    cdef Py_ssize_t n_pieces = (job.n + PIECE - 1) // PIECE
    cdef Region region = thread_region(job, scratch, size)
    any_piece(job, task // n_pieces, 1, task % n_pieces, &region, partials + task * STATE)


cdef void add_partials(const Job* job, Py_ssize_t row, const double* partials, double* scratch,
                       Py_ssize_t size) noexcept nogil:
    """Add the pieces of a row in order and finish it."""
    cdef Py_ssize_t i, piece, n_pieces = (job.n + PIECE - 1) // PIECE
    cdef Region region = thread_region(job, scratch, size)
    for i in range(STATE):
        region.rows[i] = partials[row * n_pieces * STATE + i]
    for piece in range(1, n_pieces):
        for i in range(STATE):
            region.rows[i] += partials[(row * n_pieces + piece) * STATE + i]
    finish_row(job, row, &region, region.rows)


cdef int fill_operand(object source, int kind, Operand* operand, Py_buffer* view) except -1:
    PyObject_GetBuffer(source, view, PyBUF_STRIDED_RO)
    operand.data = <const char*>view.buf
    operand.outer = view.strides[0]
    operand.row = view.strides[1]
    operand.item = view.strides[2]
    operand.kind = kind
    return 0


cdef void run_job(Job* job, double* scratch, Py_ssize_t size, int n_threads) noexcept nogil:
    cdef Py_ssize_t task, n_rows = job.n_outer * job.n_inner, n_pieces = (job.n + PIECE - 1) // PIECE
    cdef Py_ssize_t n_groups = job.n_outer * ((job.n_inner + job.group - 1) // job.group)
    cdef double* partials = scratch + n_threads * size
    if job.group == 1 and n_pieces > 1 and n_rows < 4 * n_threads:
        for task in prange(n_rows * n_pieces, num_threads=n_threads, schedule="dynamic"):
            run_piece(job, task, partials, scratch, size)
        for task in prange(n_rows, num_threads=n_threads, schedule="dynamic"):
            add_partials(job, task, partials, scratch, size)
    elif n_threads == 1:
        for task in range(n_groups):
            run_group(job, task, scratch, size)
    else:
        for task in prange(n_groups, num_threads=n_threads, schedule="dynamic"):
            run_group(job, task, scratch, size)


def reduce_rows(
    object p,                         # IN: three axes (outer, inner, element), any strides
    object q,                         # IN: the same shape, or None
    int p_kind,                       # IN: element types, see _pack.pxd
    int q_kind,
    const int[::1] measures,          # IN: at most STATE - 2
    const double[::1] options,        # IN: unit, normalisation mode, tolerance of p's sum, of q's
    double[::1] values_out,           # OUT: measures x rows
    unsigned char[::1] status_out,    # OUT: why a row fails the check, 0 where it passes
    double[::1] scratch,              # scratch: n_threads regions, then STATE sums for each piece
    Py_ssize_t region_size,
    Py_ssize_t group,                 # IN: rows that pass through one tile, at most MAX_GROUP
    Py_ssize_t block,                 # IN: elements of each, at most BLOCK
    int n_threads,
):
    """Write every measure of every row; return the first row that fails the check, or -1."""
    cdef Job job
    cdef Py_buffer p_view, q_view
    cdef Py_ssize_t row
    fill_operand(p, p_kind, &job.p, &p_view)
    try:
        job.n_outer, job.n_inner, job.n = p_view.shape[0], p_view.shape[1], p_view.shape[2]
        job.q = job.p
        job.has_q = q is not None
        job.group, job.block = group, block
        job.measures = &measures[0]
        job.n_measures = <int>measures.shape[0]
        job.options = &options[0]
        if status_out.shape[0] == 0:
            return -1
        job.values = &values_out[0]
        job.status = &status_out[0]
        if job.has_q:
            fill_operand(q, q_kind, &job.q, &q_view)
        try:
            with nogil:
                run_job(&job, &scratch[0], region_size, n_threads)
        finally:
            if job.has_q:
                PyBuffer_Release(&q_view)
    finally:
        PyBuffer_Release(&p_view)
    for row in range(status_out.shape[0]):
        if status_out[row]:
            return row
    return -1
