"""Header-only: what the row kernel is asked to do, how it lays rows out, and the scratch that each thread works in.

A row is cut into pieces of PIECE elements and each piece into blocks, which stay in cache. Terms are added in LANES
partial sums, the lanes. The lanes of a long row are parts of that row. Short rows, and rows that lie side by side in
memory, are worked LANES rows at a time, each in a lane of its own; such rows are called columns here.
"""

from libc.stdint cimport int64_t

from common.pack cimport FIRST_INTEGER, FLOAT64
from divergence.passes cimport LANES

cdef enum:
    BLOCK = 4096        # elements of a block of probabilities
    LOGITS_BLOCK = 1024 # the same of logits, which are read twice: both float64 operands are 16 KiB, inside any L1
    TALL_BLOCK = 248    # the same of logits that lie side by side: 128 rows of both operands stay in L2, and a pitch
                        # that is no multiple of 512 bytes keeps the lines of a tile in different sets of L1
    PIECE = 64 * 1024   # elements that one thread takes of a row so long that threads share it
    COLUMN_ROW = 64     # rows of probabilities of at most so many elements are columns
    TILE_ROW = 128      # other rows of at most so many elements share a tile
    MAX_GROUP = 128     # rows that one task takes where they are short or lie side by side
    MAX_MEASURES = 20
    CACHE_LINE = 8      # doubles in a line

cdef enum:              # the sums of a row, its state: one double each
    ROUGH = 2           # masses of p and q from partial sums in the precision of the terms; exact ones are at 0 and 1
    TERMS = 4           # the first measure's sum, which those of the other measures follow
    BEST_P = 24         # the largest p so far and its place, and then the same of q
    CENTRE = 28         # of logits: the largest x so far
    SHIFT = 29          # of logits: the offset of p against q that the terms take off
    MODE = 30           # of logits: how the last block was worked
    FARTHEST = 31       # of logits: the largest |t| of blocks that were worked in vectors, see logits.pxd; or whether a
                        # probability made of them may have few digits, see resweep.pxd
    STATE = 32          # how many doubles a state has

cdef struct Operand:
    const char* data
    Py_ssize_t outer, row, item  # strides in bytes
    int kind                     # of its elements: see common/pack.pxd

cdef struct Job:
    # what is asked
    const int* measures
    const int* lines           # which line of the values each measure fills
    int n_measures
    int normalisation          # PLAIN, DIVIDE or CHECK: see finish.pxd
    double[2] tolerances       # how far the sums of p and of q may be from one
    double unit                # 1 / log(base)
    double alpha               # the order of the powers
    double smoothing           # what is added to each probability
    double inverse_temperature # what logits are multiplied by
    bint logits
    bint exchange              # of logits: whether all measures are symmetric, see comes_later in sweep.pxd
    bint top1                  # whether some measure asks where the largest values stand
    int n_inner_sums           # of logits: which inner products are summed, see inner_sums_of in terms.pxd
    # the rows
    Operand p, q
    bint has_q
    Py_ssize_t n_outer, n_inner, n
    # how they are worked
    bint wide                  # whether terms are worked in float64
    bint js                    # of float32 logits: whether near blocks give Jensen-Shannon in the first sweep
    bint columns               # whether each lane is a row
    Py_ssize_t group           # rows in a tile
    Py_ssize_t block           # elements of each row in a tile
    # OUT
    double* values             # measures x rows
    unsigned char* status      # why a row fails the check, 0 where it passes

cdef struct Memory:            # what a thread remembers from block to block
    int64_t zeros              # how many blocks are still worked with zeros in mind: see lanes.h
    double[2] largest          # of p and q in the last block; negative where no pass has noted them

cdef struct Region:            # the scratch of one thread
    Memory* memory
    double* rows               # states of a group of rows
    double* pieces             # states of the same rows from one piece, or from a second sweep
    double* columns            # lanes of a group of columns
    double* lanes              # lanes of one block
    double* totals             # lanes of the blocks of a row so far
    double* wide_p             # a block in float64
    double* wide_q
    double* p                  # tiles
    double* q


cdef inline const char* row_data(const Operand* x, Py_ssize_t n_inner, Py_ssize_t row) noexcept nogil:
    """Return where a row begins."""
    return x.data + (row // n_inner) * x.outer + (row % n_inner) * x.row


cdef inline Py_ssize_t count_rows(const Job* job) noexcept nogil:
    return job.n_outer * job.n_inner


cdef inline Py_ssize_t count_pieces(const Job* job) noexcept nogil:
    """Return the pieces of a row."""
    return (job.n + PIECE - 1) // PIECE


cdef inline Py_ssize_t count_groups(const Job* job) noexcept nogil:
    """Return the groups of rows; a group never spans two outer indices."""
    return job.n_outer * ((job.n_inner + job.group - 1) // job.group)


cdef inline bint shares_rows(const Job* job, int n_threads) noexcept nogil:
    """Whether rows are so long and so few that threads take pieces of them instead of groups."""
    return count_pieces(job) > 1 and count_groups(job) < 4 * n_threads


# ---- Layout ----------------------------------------------------------------------------------------


cdef inline bint is_wide_kind(int kind) noexcept nogil:
    """Whether elements need float64: integers are counts, which float32 may not hold."""
    return kind == FLOAT64 or kind >= FIRST_INTEGER


cdef inline bint lies_sideways(const Operand* x) noexcept nogil:
    """Whether the elements of a row are farther apart than the rows."""
    return max(x.item, -x.item) > max(x.row, -x.row) > 0


cdef inline void choose_layout(Job* job) noexcept nogil:
    """Decide whether rows are columns, how many rows form a group and how many of their elements a tile holds."""
    cdef bint sideways = job.n > COLUMN_ROW and (lies_sideways(&job.p) or lies_sideways(&job.q))
    job.group, job.block = 1, LOGITS_BLOCK if job.logits else BLOCK
    job.columns = not job.logits and (job.n <= COLUMN_ROW or sideways)
    if job.columns:
        job.group = (job.n_inner + LANES - 1) // LANES * LANES
    elif job.n <= TILE_ROW:
        job.group = min(job.block // max(job.n, <Py_ssize_t>1), job.n_inner)
    elif sideways:
        job.group, job.block = MAX_GROUP, TALL_BLOCK
    job.group = max(<Py_ssize_t>1, min(job.group, <Py_ssize_t>MAX_GROUP))


# ---- Scratch ---------------------------------------------------------------------------------------


cdef inline double* take(double* memory, Py_ssize_t n, Py_ssize_t* used) noexcept nogil:
    """Return the next ``n`` doubles of a thread's memory, and count them as used; without memory, only count them."""
    cdef double* part = NULL if memory == NULL else memory + used[0]
    used[0] += n
    return part


cdef inline Py_ssize_t lay_out(const Job* job, double* memory, Region* region) noexcept nogil:
    """Point ``region`` to its parts in one thread's memory; return the doubles of those, in whole cache lines."""
    cdef Py_ssize_t used = 0, tile = BLOCK if job.columns else job.group * min(job.n, job.block)
    region.memory = <Memory*>take(memory, CACHE_LINE, &used)
    region.rows = take(memory, job.group * STATE, &used)
    region.pieces = take(memory, job.group * STATE, &used)
    region.columns = take(memory, (job.group + LANES) * STATE, &used)
    region.lanes = take(memory, LANES * STATE, &used)
    region.totals = take(memory, LANES * STATE, &used)
    region.wide_p = take(memory, BLOCK, &used)
    region.wide_q = take(memory, BLOCK, &used)
    region.p = take(memory, tile, &used)
    region.q = take(memory, tile, &used)
    return (used + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE


cdef inline Py_ssize_t region_size(const Job* job) noexcept nogil:
    """Return the doubles of one thread's scratch."""
    cdef Region region
    return lay_out(job, NULL, &region)


cdef inline Py_ssize_t scratch_size(const Job* job, int n_threads) noexcept nogil:
    """Return the doubles of all threads' scratch, and of a state for each piece of a row where threads share rows."""
    cdef Py_ssize_t n_states = count_rows(job) * count_pieces(job) if shares_rows(job, n_threads) else 0
    return n_threads * region_size(job) + n_states * STATE
