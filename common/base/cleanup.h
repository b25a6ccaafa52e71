#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Attributes for locals that own something. The local starts as NULL or -1, and is released when it
 * goes out of scope. */
#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/** fd_close() - close fd unless it is negative; keeps errno; returns -1, to be assigned to the
 * owner */
static inline int fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return -1;
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(int *fdp)
{
	*fdp = fd_close(*fdp);
}

/** fd_steal() - hand over an owned descriptor; its former owner is left with -1 */
static inline int fd_steal(int *fdp)
{
	int fd = *fdp;

	*fdp = -1;
	return fd;
}

/** ptr_steal() - hand over an owned pointer; its former owner is left with NULL */
#define ptr_steal(pp)                                                                              \
	({                                                                                         \
		__auto_type _pp = (pp);                                                            \
		__auto_type _p = *_pp;                                                             \
		*_pp = NULL;                                                                       \
		_p;                                                                                \
	})
