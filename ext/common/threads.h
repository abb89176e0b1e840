/* How many threads a parallel region can start where memory or the number of processes is limited.

   libgomp ends the process where it cannot make a thread. So each region asks right before it starts. Without limits
   that costs a microsecond. With a limit on memory, the stacks of all threads are mapped and unmapped again, and with a
   limit on processes, threads are started and joined. Fewer threads change no bit. */

#ifndef KULLBACK_THREADS_H
#define KULLBACK_THREADS_H

#if defined(_OPENMP) && defined(__linux__)
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

/* What libgomp allocates for a team beside the stacks, and as much again. */
enum { KULLBACK_TEAM_BYTES = 1 << 20, KULLBACK_SPARE_PROCESSES = 64 };

/* Return the bytes of a thread's stack and its guard: what OMP_STACKSIZE says, or the default of the system. */
static size_t kullback_stack_bytes(void) {
    const char* text = getenv("OMP_STACKSIZE");
    pthread_attr_t attributes;
    size_t size = 0, guard = 0;
    if (!text)
        text = getenv("GOMP_STACKSIZE");
    if (text) {
        char* unit;
        size = (size_t)strtoull(text, &unit, 10);
        while (*unit == ' ')
            unit++;
        if (*unit != 'b' && *unit != 'B')
            size <<= *unit == 'g' || *unit == 'G' ? 30 : *unit == 'm' || *unit == 'M' ? 20 : 10;
    }
    if (!size && !pthread_attr_init(&attributes)) { /* glibc puts the default into it */
        pthread_attr_getstacksize(&attributes, &size);
        pthread_attr_getguardsize(&attributes, &guard);
        pthread_attr_destroy(&attributes);
    }
    return size + guard + (1 << 16); /* and what the thread keeps for itself */
}

static int kullback_is_limited(int resource) {
    struct rlimit limit;
    return !getrlimit(resource, &limit) && limit.rlim_cur != RLIM_INFINITY;
}

static int kullback_has_memory(int n_threads, size_t spare) {
    size_t size = (size_t)(n_threads - 1) * kullback_stack_bytes() + KULLBACK_TEAM_BYTES + spare;
    void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED && !munmap(memory, size);
}

static void* kullback_wait(void* lock) {
    pthread_mutex_lock((pthread_mutex_t*)lock);
    pthread_mutex_unlock((pthread_mutex_t*)lock);
    return NULL;
}

/* Return how many of n_threads threads, of which the caller is one, exist at a time. */
static int kullback_try_threads(int n_threads) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t* threads = (pthread_t*)malloc((size_t)n_threads * sizeof(pthread_t));
    int n_started = 0, k;
    if (!threads)
        return 1;
    pthread_mutex_lock(&lock);
    while (n_started < n_threads - 1 && !pthread_create(&threads[n_started], NULL, kullback_wait, &lock))
        n_started++;
    pthread_mutex_unlock(&lock);
    for (k = 0; k < n_started; k++)
        pthread_join(threads[k], NULL);
    free(threads);
    return n_started + 1;
}

/* Return whether the limit on processes may be near. The number of all threads of the system bounds those of a user. */
static int kullback_may_lack_processes(int n_threads) {
    struct rlimit limit;
    struct sysinfo system;
    if (getrlimit(RLIMIT_NPROC, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    return sysinfo(&system) || (rlim_t)system.procs + (rlim_t)n_threads + KULLBACK_SPARE_PROCESSES > limit.rlim_cur;
}

/* Return how many of n_threads threads can be started, beside `spare` bytes that the region allocates: at least 1. */
static int kullback_startable_threads(int n_threads, size_t spare) {
    if (n_threads > 1 && (kullback_is_limited(RLIMIT_AS) || kullback_is_limited(RLIMIT_DATA)))
        while (n_threads > 1 && !kullback_has_memory(n_threads, spare))
            n_threads /= 2;
    return n_threads > 1 && kullback_may_lack_processes(n_threads) ? kullback_try_threads(n_threads) : n_threads;
}

#else
#include <stddef.h>
static int kullback_has_memory(int n_threads, size_t spare) {
    (void)n_threads, (void)spare;
    return 1;
}
static int kullback_startable_threads(int n_threads, size_t spare) {
    (void)spare;
    return n_threads;
}
#endif

#endif
