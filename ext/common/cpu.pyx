"""What this CPU runs and what this build holds; compiled with baseline flags only."""

cdef extern from "common/cpu.h":
    int kullback_simd_level() noexcept nogil

cdef extern from "common/fork.h":
    int kullback_is_serial
    int kullback_install_fork_handlers() noexcept nogil

cdef extern from "common/threads.h":
    int kullback_has_memory(int n_threads, size_t spare) noexcept nogil
    int kullback_startable_threads(int n_threads, size_t spare) noexcept nogil

cdef extern from *:
    """
    #ifdef _OPENMP
    #define KULLBACK_OPENMP _OPENMP
    #else
    #define KULLBACK_OPENMP 0
    #endif

    #if defined(__clang__)
    #define KULLBACK_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define KULLBACK_COMPILER "gcc " __VERSION__
    #else
    #define KULLBACK_COMPILER "unknown"
    #endif
    """
    const char* KULLBACK_COMPILER
    int KULLBACK_OPENMP


def simd_level() -> int:
    """Return the highest level this CPU runs: 0 baseline, 1 v3, 2 v4."""
    return kullback_simd_level()


def openmp() -> int:
    """Return the OpenMP version as yyyymm, or 0 for a build without OpenMP."""
    return KULLBACK_OPENMP


def is_serial() -> bool:
    """Return whether this process was forked from one with threads of a libgomp that cannot let them go."""
    return kullback_is_serial != 0


def startable_threads(int n_threads, size_t spare=0) -> int:
    """Return how many of n_threads threads can be started beside an allocation of ``spare`` bytes, at least 1."""
    return kullback_startable_threads(n_threads, spare)


def has_memory(size_t n_bytes) -> bool:
    """Return whether so many bytes can be allocated now."""
    return kullback_has_memory(1, n_bytes) != 0


def compiler() -> str:
    """Return the name and version of the compiler that built the kernels."""
    return KULLBACK_COMPILER.decode()


if kullback_install_fork_handlers() != 0:
    raise MemoryError("could not register the fork handlers")
