/* Preloaded into rank 0 by a test: the process kills itself at the nth call that changes the results or a file beside
 * them, be the call our own or the HDF5 library's. Before each call, a letter that says which is appended to a log.
 *
 * MOSAIC_MPI_TEST_DIE_AT   which call, from 1; 0 for none
 * MOSAIC_MPI_TEST_DIE_TORN set: a write is half done first
 * MOSAIC_MPI_TEST_DIE_LOG  the log
 *
 * Children are left alone: the constructor takes the variables away before Python sees them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long die_at;
static int torn, log_descriptor = -1;
static long n_calls;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("MOSAIC_MPI_TEST_DIE_AT"), *log = getenv("MOSAIC_MPI_TEST_DIE_LOG");
    die_at = at ? atol(at) : 0;
    torn = getenv("MOSAIC_MPI_TEST_DIE_TORN") != NULL;
    if (log) log_descriptor = REAL(open64)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    unsetenv("LD_PRELOAD");
    unsetenv("MOSAIC_MPI_TEST_DIE_AT");
    unsetenv("MOSAIC_MPI_TEST_DIE_TORN");
    unsetenv("MOSAIC_MPI_TEST_DIE_LOG");
}

static int is_ours(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "run.h5") != NULL;
}

/* Whether this call is the one to die at. */
static int is_due(char kind) {
    pthread_mutex_lock(&mutex);
    if (log_descriptor >= 0 && REAL(write)(log_descriptor, &kind, 1) != 1) abort();
    int due = ++n_calls == die_at;
    if (!due) pthread_mutex_unlock(&mutex); /* else nobody gets any further */
    return due;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static ssize_t positioned(int descriptor, const void *data, size_t size, off64_t position) {
    if (is_ours(descriptor) && is_due('w')) {
        if (torn) REAL(pwrite64)(descriptor, data, size / 2, position);
        die();
    }
    return REAL(pwrite64)(descriptor, data, size, position);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t position) {
    return positioned(descriptor, data, size, position);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t position) {
    return positioned(descriptor, data, size, position);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    if (is_ours(descriptor) && is_due('w')) {
        if (torn) REAL(write)(descriptor, data, size / 2);
        die();
    }
    return REAL(write)(descriptor, data, size);
}

static int opened(const char *path, int flags, mode_t mode) {
    if (flags & O_CREAT && strstr(path, "run.h5") && is_due('o')) die();
    return REAL(open64)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

#define ON_DESCRIPTOR(result, name, kind, parameters, arguments)                                                       \
    result name parameters {                                                                                           \
        if (is_ours(descriptor) && is_due(kind)) die();                                                                \
        return REAL(name) arguments;                                                                                   \
    }
#define ON_PATH(name, kind, parameters, arguments)                                                                     \
    int name parameters {                                                                                              \
        if (strstr(path, "run.h5") && is_due(kind)) die();                                                             \
        return REAL(name) arguments;                                                                                   \
    }

ON_DESCRIPTOR(int, fsync, 's', (int descriptor), (descriptor))
ON_DESCRIPTOR(int, fdatasync, 's', (int descriptor), (descriptor))
ON_DESCRIPTOR(int, ftruncate, 't', (int descriptor, off_t size), (descriptor, size))
ON_DESCRIPTOR(int, ftruncate64, 't', (int descriptor, off64_t size), (descriptor, size))
ON_DESCRIPTOR(int, posix_fallocate, 'a', (int descriptor, off_t at, off_t size), (descriptor, at, size))
ON_DESCRIPTOR(int, posix_fallocate64, 'a', (int descriptor, off64_t at, off64_t size), (descriptor, at, size))
ON_PATH(unlink, 'u', (const char *path), (path))
ON_PATH(rename, 'r', (const char *path, const char *target), (path, target))
