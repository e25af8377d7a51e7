/* Preloaded into a gateway under test: while the file FAILING_STORAGE exists, writes and syncs of database files fail
 * with EIO, as they do on a disk that dies. Reads go on, as they do from the cache. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd)
{
    static const char *flag;
    char link[64], path[PATH_MAX];
    ssize_t length;

    if (flag == NULL && (flag = getenv("FAILING_STORAGE")) == NULL)
        return 0;
    if (access(flag, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = '\0';
    return strstr(path, ".sqlite3") != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILING(name, parameters, arguments)                                                                           \
    parameters                                                                                                         \
    {                                                                                                                  \
        if (fails(fd)) {                                                                                               \
            errno = EIO;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        return REAL(name) arguments;                                                                                   \
    }

FAILING(write, ssize_t write(int fd, const void *from, size_t size), (fd, from, size))
FAILING(pwrite, ssize_t pwrite(int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
FAILING(pwrite64, ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
FAILING(fsync, int fsync(int fd), (fd))
FAILING(fdatasync, int fdatasync(int fd), (fd))
FAILING(ftruncate, int ftruncate(int fd, off_t size), (fd, size))
FAILING(ftruncate64, int ftruncate64(int fd, off64_t size), (fd, size))
