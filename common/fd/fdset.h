#pragma once

#include <stddef.h>

/*
 * A list of descriptors, as one packet carries them. The type says who closes them: a struct fdset
 * owns its descriptors, a struct fdloan borrows them.
 */

#define FDSET_MAX 64 /* in one packet */

/** struct fdset - owned descriptors; fdset_deinit() closes those that were not stolen */
struct fdset {
	int fds[FDSET_MAX];
	size_t n_fds;
};

#define FDSET_INIT ((struct fdset){ .n_fds = 0 })
#define _cleanup_fdset_ __attribute__((cleanup(fdset_deinit)))

/** fdset_deinit() - close the descriptors that are left, and empty the set */
void fdset_deinit(struct fdset *set);

/** fdset_steal() - hand over the i-th descriptor, leaving -1 in its place; -1 if there is no
 * i-th */
int fdset_steal(struct fdset *set, size_t i);

/** struct fdloan - borrowed descriptors, which their owner keeps open meanwhile; nothing to
 * release */
struct fdloan {
	int fds[FDSET_MAX];
	size_t n_fds;
};

#define FDLOAN_INIT ((struct fdloan){ .n_fds = 0 })
