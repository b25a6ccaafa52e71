#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct file - an open file that was deposited or is kept, once, however often, under however many
 * names and for however many devices
 *
 * A service manager keeps an open file once, under the first name that it was given. If it were
 * stored for each token, removing one name would take the file from all the others.
 */
struct file {
	uint64_t token;       /* what the record calls it; unique over all restarts */
	int fd;               /* owned */
	unsigned int n_users; /* vaults that hold it, and names in them */
	char *stored_name;    /* in the fd store */
};

/**
 * files_put() - count one more user of the file behind a descriptor (consumed always), and store it
 * if it is new
 * @ret_file:    [out] valid until its users have all called files_release()
 * @device:      [in] for whom it is stored first
 * @stored_name: [in] the name under which it is stored, unless another file is; NULL = one that has
 *               the token. With another name the next process does not find the token.
 *
 * Errors: 0 | -ENOSPC: the fd store is full | -ENOMEM.
 * Cost:   O(log n) comparisons of open files by the kernel.
 */
int files_put(struct file **ret_file, const char *device, const char *stored_name, int fd);

/** files_find() - the file behind this descriptor (borrowed), if it is there already; or NULL */
const struct file *files_find(int fd);

/** files_count() - how many files all devices hold together; one that several share is counted
 * once */
size_t files_count(void);

/** files_use() - count one more user of the file of that token; NULL: there is none */
struct file *files_use(uint64_t token);

/** files_use_stored() - count one more user of the file that the fd store has under that name, and
 * take it from there if nobody has; after files_restore(). NULL: there is none */
struct file *files_use_stored(const char *stored_name);

/** files_release() - count one user less; the last one closes the file and takes it out of the fd
 * store */
void files_release(struct file *file);

/** files_restore() - take all files with tokens from the fd store, without users yet; does nothing
 * when called again */
void files_restore(void);

/** files_settle() - close what was restored and found no user, once all devices have adopted
 * theirs */
void files_settle(void);
