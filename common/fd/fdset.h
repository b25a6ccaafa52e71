#pragma once

#include <stddef.h>

/*
 * Descriptors in a row, as one packet carries them. Two types tell who closes them: struct fdset owns its descriptors,
 * struct fdloan only names descriptors that stay somebody else's.
 */

#define FDSET_MAX 64 /* in one packet */

/** struct fdset - descriptors that are owned; fdset_deinit() closes what was not stolen */
struct fdset {
	int fds[FDSET_MAX];
	size_t n_fds;
};

#define FDSET_INIT { .n_fds = 0 }
#define _cleanup_fdset_ __attribute__((cleanup(fdset_deinit)))

/** fdset_deinit() - close what is left in the set, and leave it empty */
void fdset_deinit(struct fdset *set);

/** fdset_steal() - take the i-th out: it is the caller's, and -1 is left in its place; -1 also where there is no i-th */
int fdset_steal(struct fdset *set, size_t i);

/** struct fdloan - descriptors that are borrowed: the owner keeps them open while the loan is used; nothing to release */
struct fdloan {
	int fds[FDSET_MAX];
	size_t n_fds;
};

#define FDLOAN_INIT { .n_fds = 0 }
