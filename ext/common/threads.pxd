# How many threads a parallel region can start; threads.h has the reasons.

cdef extern from "common/threads.h":
    int kullback_startable_threads(int n_threads, size_t spare) noexcept nogil


cdef inline int startable(int n_threads) noexcept nogil:
    """Return how many of so many threads can be started: what num_threads of a prange must be."""
    return kullback_startable_threads(n_threads, 0) if n_threads > 1 else 1
