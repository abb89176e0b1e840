"""Header-only: sums of element terms over blocks of probabilities; see divergence_rows.pyx."""

from cython cimport floating

from _divergence_terms cimport MAX_RATIO, MIN_ENTROPY, TOP1, gather, map_terms, mass_slow, term_slow
from _numeric cimport (
    mass_double, mass_float, max_double, max_float, sum_double, sum_float, sum_terms_float,
)
from _pack cimport FLOAT32, FLOAT64, pack

cdef enum:
    BLOCK = 1024       # elements: operands and terms of a float64 block are 24 KiB, inside any L1 cache
    LANE = BLOCK + 112 # distance of arrays that one loop writes: no multiple of a page, whose ends would collide
    PIECE = 64 * 1024  # elements: what one thread takes of a row so long that it is shared
    STATE = 32         # sums a row: mass of p, mass of q, one for each measure, then the named ones
    MAX_MEASURES = 20
    BEST_P = 24        # largest p so far, where, and the same of q
    CENTRE = 28        # of logits: their largest value so far
    SHIFT = 29         # of logits: the offset of p against q that the terms take off
    MAX_GROUP = 128    # rows that pass through one tile

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
    bint wide              # float64 terms
    bint logits
    int n_inner_sums       # of logits: 0 none, 1 what H(p) needs, 2 what q and the reverse need too
    bint top1              # whether some measure asks where the largest values stand
    double inverse_temperature
    double smoothing
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


cdef inline void add_slow(const Job* job, const double* p, const double* q, Py_ssize_t n, double* state) noexcept nogil:
    """Add a block that holds subnormals, infinities, NaN or negative values."""
    cdef Py_ssize_t i
    cdef int m
    for i in range(n):
        state[0] += mass_slow(p[i])
        state[1] += mass_slow(q[i])
        for m in range(job.n_measures):
            state[2 + m] = gather(job.measures[m], state[2 + m],
                                  term_slow(job.measures[m], p[i], q[i], job.options[4]))


cdef inline double max_of(const floating* x, Py_ssize_t n) noexcept nogil:
    if floating is float:
        return max_float(x, n)
    else:
        return max_double(x, n)


cdef inline double total_of(int measure, const floating* terms, Py_ssize_t n) noexcept nogil:
    if measure == MAX_RATIO or measure == MIN_ENTROPY:
        return max_of(terms, n)
    return sum_terms(terms, n)


cdef inline void note_best(const floating* x, Py_ssize_t n, Py_ssize_t start, double* best) noexcept nogil:
    """Update the largest value of a row and where it first stands."""
    cdef Py_ssize_t i
    cdef double largest = max_of(x, n)
    if largest > best[0] or start == 0:
        best[0] = largest
        for i in range(n):
            if x[i] == largest:
                best[1] = start + i
                break


cdef inline void add_block(const Job* job, const floating* p, const floating* q, Py_ssize_t n, floating* terms,
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
        if job.measures[m] >= TOP1:
            continue  # not a sum of terms
        map_terms(job.measures[m], p, q, n, job.options[4], terms)
        state[2 + m] = gather(job.measures[m], state[2 + m], total_of(job.measures[m], terms, n))


cdef inline void add_tile(const Job* job, const floating* p, const floating* q, Py_ssize_t n_rows, Py_ssize_t n,
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
    for r in range(n_rows):  # by the function that add_block uses, for the same bits
        states[r * STATE] += mass_of(p + r * n, n, &unusual)
        if job.has_q:
            states[r * STATE + 1] += mass_of(q + r * n, n, &unusual)
    for m in range(job.n_measures):
        if job.measures[m] >= TOP1:
            continue
        map_terms(job.measures[m], p, q, n_rows * n, job.options[4], terms)
        for r in range(n_rows):
            states[r * STATE + 2 + m] = gather(job.measures[m], states[r * STATE + 2 + m],
                                               total_of(job.measures[m], terms + r * n, n))


cdef inline const floating* tile_of(const Operand* x, const Job* job, Py_ssize_t row, Py_ssize_t n_rows,
                                    Py_ssize_t start, Py_ssize_t n, floating* out) noexcept nogil:
    """Return a contiguous tile: the caller's own memory where that is one, else a packed copy."""
    cdef const char* data = row_data(x, job.n_inner, row) + start * x.item
    cdef int native = FLOAT32 if floating is float else FLOAT64
    cdef Py_ssize_t i
    if x.kind == native and job.smoothing == 0 and x.item == <Py_ssize_t>sizeof(floating) and (<size_t>data) % sizeof(floating) == 0 \
            and (n_rows == 1 or x.row == n * x.item):
        return <const floating*>data
    pack(data, x.kind, x.row, x.item, n_rows, n, out)
    if job.smoothing != 0 and not job.logits:
        for i in range(n_rows * n):
            out[i] += <floating>job.smoothing
    return out
