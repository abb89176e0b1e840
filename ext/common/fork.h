/* Lets a process fork after it has used OpenMP.

   libgomp keeps the idle threads of each thread that ran a parallel region. A forked child has none of them but waits
   for them all the same, for ever. Before each fork, the thread that forks therefore lets its idle threads go, in every
   libgomp that the process has loaded: wheels of faiss and of scikit-learn bring copies of their own. Copies before
   version 9 keep theirs, and then the child is told to do with one thread. Runtimes of other makers see to forks, but
   LLVM's libomp 14 does not where a libgomp is loaded beside it, and crashes later where it is told to end its threads.
   Where clang has compiled the kernels, children have one thread. */

#ifndef KULLBACK_FORK_H
#define KULLBACK_FORK_H

static int kullback_is_serial = 0; /* whether this process is a child whose parent had threads that stayed */

#if defined(_OPENMP) && defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

enum { KULLBACK_MOST_RUNTIMES = 16 };

typedef struct {
    int n_runtimes;
    const char* paths[KULLBACK_MOST_RUNTIMES];
    void (*limit_threads[KULLBACK_MOST_RUNTIMES])(int); /* NULL where the idle threads are gone */
} KullbackRuntimes;

static __thread KullbackRuntimes kullback_runtimes; /* of the thread that forks, which is the one that the child has */

static int kullback_is_named(const char* path, const char* name) {
    const char* slash = path ? strrchr(path, '/') : NULL;
    return slash && !strncmp(slash + 1, name, strlen(name));
}

static int kullback_is_libomp(const char* path) {
#ifdef __clang__
    return kullback_is_named(path, "libomp");
#else
    (void)path;
    return 0;
#endif
}

static int kullback_note_runtime(struct dl_phdr_info* info, size_t size, void* data) {
    KullbackRuntimes* found = (KullbackRuntimes*)data;
    (void)size;
    if ((kullback_is_named(info->dlpi_name, "libgomp") || kullback_is_libomp(info->dlpi_name))
        && found->n_runtimes < KULLBACK_MOST_RUNTIMES)
        found->paths[found->n_runtimes++] = info->dlpi_name;
    return 0;
}

static void kullback_release_threads(void) {
    KullbackRuntimes* found = &kullback_runtimes;
    const int soft = 1; /* omp_pause_soft of OpenMP 5 */
    int k;
    found->n_runtimes = 0;
    dl_iterate_phdr(kullback_note_runtime, found);
    for (k = 0; k < found->n_runtimes; k++) {
        void* runtime = dlopen(found->paths[k], RTLD_LAZY | RTLD_NOLOAD);
        int (*pause)(int) = runtime ? (int (*)(int))dlsym(runtime, "omp_pause_resource_all") : NULL;
        found->limit_threads[k] = NULL;
        if (pause && !kullback_is_libomp(found->paths[k]))
            (void)pause(soft);
        else if (runtime)
            found->limit_threads[k] = (void (*)(int))dlsym(runtime, "omp_set_num_threads");
        if (runtime)
            dlclose(runtime); /* the count goes back to what it was; the library stays */
    }
}

static void kullback_limit_child(void) {
    int k;
    for (k = 0; k < kullback_runtimes.n_runtimes; k++)
        if (kullback_runtimes.limit_threads[k]) {
            kullback_runtimes.limit_threads[k](1);
            kullback_is_serial = 1;
        }
}

static int kullback_install_fork_handlers(void) {
    return pthread_atfork(kullback_release_threads, NULL, kullback_limit_child);
}

#elif defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && !defined(_WIN32) && __GNUC__ >= 9
#include <omp.h>
#include <pthread.h>

static void kullback_release_threads(void) { (void)omp_pause_resource_all(omp_pause_soft); }
static int kullback_install_fork_handlers(void) { return pthread_atfork(kullback_release_threads, NULL, NULL); }

#else
static int kullback_install_fork_handlers(void) { return 0; }
#endif

#endif
