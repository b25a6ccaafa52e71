#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

/*
 * The names under which the worker of one device keeps files, and under which name the fd store has
 * each file. They lie in a file of the fd store, so that they outlive the process.
 *
 * A service manager keeps an open file once, under the first name that it was given, and removes
 * all that a name stands for. So a file that is kept under two names is stored once, and to put
 * another file in the place of one under the same name would leave nothing for a moment. Here a
 * name is given another file by one store.
 */

#define NAMES_MAX 1024
#define NAMES_STORED_BYTES 80 /* of a name in the fd store */

/** struct name_row - a name, while seq is not 0; written by names.c alone */
struct name_row {
	uint64_t seq; /* of two rows with the same name, the higher one counts */
	char name[CONFIG_NAME_MAX + 8];
	char stored[NAMES_STORED_BYTES];
};

/** struct names - of one device; all zeros: there is no table yet */
struct names {
	struct name_row *rows; /* NAMES_MAX, and one to be filled before another is cleared */
	uint64_t last_seq;
};

/** names_open() - take the table from the fd store. Returns whether there is a usable one. */
bool names_open(struct names *names, const char *device);

/** names_create() - make an empty table
 * @ret_fd: [out] its file, the caller's; it counts once it is stored (names_store())
 * Errors: 0 | negative errno. */
int names_create(struct names *names, int *ret_fd);

/** names_store() - store the file of a new table
 * Errors: 0 | negative errno. */
int names_store(const char *device, int fd);

/** names_close() - the process's view of it; the fd store keeps it */
void names_close(struct names *names);

/** names_next() - iterate over the rows in use; NULL at the end
 * @at: the iterator, 0 at first */
struct name_row *names_next(const struct names *names, size_t *at);

/** names_set() - the name stands for the file of that name in the fd store
 * @former: [in] the row that the name has; NULL = none. It is cleared.
 * Returns: the new row | NULL: there are NAMES_MAX. */
struct name_row *names_set(struct names *names, struct name_row *former, const char *name,
	const char *stored);

/** names_clear() - the name stands for nothing */
void names_clear(struct name_row *row);
