"""What this CPU runs and what this build holds; compiled with baseline flags only."""

cdef extern from "common/cpu.h":
    int kullback_simd_level() noexcept nogil

cdef extern from *:
    """
    #include <stddef.h>
    #ifdef _OPENMP
    #include <omp.h>
    #include <pthread.h>
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

    /* libgomp hangs in a forked child that asks for threads after its parent used them: let the
       parent's idle threads go before each fork. */
    #if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
    static void kullback_release_threads(void) { (void)omp_pause_resource_all(omp_pause_soft); }
    static int kullback_install_fork_handler(void) {
        return pthread_atfork(kullback_release_threads, NULL, NULL);
    }
    #else
    static int kullback_install_fork_handler(void) { return 0; }
    #endif
    """
    const char* KULLBACK_COMPILER
    int KULLBACK_OPENMP
    int kullback_install_fork_handler() noexcept nogil


def simd_level() -> int:
    """Return the highest level this CPU runs: 0 baseline, 1 v3, 2 v4."""
    return kullback_simd_level()


def openmp() -> int:
    """Return the OpenMP version as yyyymm, or 0 for a build without OpenMP."""
    return KULLBACK_OPENMP


def compiler() -> str:
    """Return the name and version of the compiler that built the kernels."""
    return KULLBACK_COMPILER.decode()


if kullback_install_fork_handler() != 0:
    raise MemoryError("could not register the fork handler")
