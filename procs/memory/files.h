#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct file - what a VMM handed over, once, however often and for whichever devices it did
 *
 * A service manager keeps an open file once, under the first name that it was given: were it stored for
 * each token, the end of one would take it from all the others.
 */
struct file {
	uint64_t token;
	int fd;
	unsigned int n_users;
	char *stored_name;
};

/** files_put() - a descriptor (consumed always) for one more user
 * Errors: 0 | -ENOSPC: the fd store is full | -ENOMEM. */
int files_put(struct file **ret_file, const char *device, int fd);

/** files_find() - of this descriptor's open file, if it is there; or NULL */
const struct file *files_find(int fd);

/** files_count() - of all */
size_t files_count(void);

/** files_use() - the file of that token, for one more user; or NULL */
struct file *files_use(uint64_t token);

/** files_release() - one user less; the last closes it and takes it out of the fd store */
void files_release(struct file *file);

/** files_restore() - take back what the fd store has; does nothing but the first time */
void files_restore(void);

/** files_settle() - what was taken back and has no user goes */
void files_settle(void);
