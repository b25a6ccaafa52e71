#ifndef TESTS_LIB_OFTEN_H
#define TESTS_LIB_OFTEN_H

/*
 * What is done often shows a leak that once does not: the memory and the descriptors of every
 * process of the product, before and after.
 */

#include <check.h>
#include <stddef.h>

#include "suite.h"

struct often {
	struct suite_process processes[SUITE_MAX_PROCESSES];
	size_t kib[SUITE_MAX_PROCESSES]; /* memory of its own: what is shared is not counted */
	struct suite_fds fds[SUITE_MAX_PROCESSES];
	size_t n;
};

/* as soon as nothing changes any more */
void often_note(struct often *ret, const struct suite *s);
/* 0 once no process has more descriptors or much more memory than before | 1 = one still has, and
 * why (200 bytes) says which. The processes are those of before; one that has ended has nothing.
 * @ret: [out] as of the end */
int often_has_grown(const struct often *before, struct often *ret, char *why);

/* all of both together, for people: "41 descriptors and 5120 KiB" */
void often_tell(const struct often *o, char *ret_text, size_t n);

/*
 * Runs the tests once; with BULKHEAD_ROUNDS=N again and again, N times in all or for
 * BULKHEAD_ROUNDS_S seconds, and prints how often and what the processes had before and after.
 * Returns how many tests failed, and 1 if something has grown.
 */
int often_run(struct suite *s, const char *name, void (*add)(Suite *suite));

#endif
