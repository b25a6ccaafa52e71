#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Files with snapshots. Every failure is reported here, by one line on standard error that names
 * the file. */

/** struct saved - what is in a file, or shall be */
struct saved {
	uint8_t *bytes; /* malloc'ed */
	size_t n;
};

/** saved_fail() - report why a file cannot be used; returns r */
__attribute__((format(printf, 3, 4))) int saved_fail(const char *path, int r, const char *fmt, ...);

/**
 * saved_read() - read a whole file
 * @path:  a regular file, or a symbolic link to one; "-" is standard input, of any kind
 * @saved: [out] set on 0; free saved->bytes
 *
 * Errors: 0 | negative errno, already reported; -EFBIG: longer than any guest's.
 */
int saved_read(const char *path, struct saved *saved);

/** struct place - where a file is going to be */
struct place {
	const char *path; /* borrowed */
	const char *name; /* within path */
	int dir_fd;
};

/**
 * place_open() - find out whether a file can be written, before there is anything to write
 * @path: [in] borrowed until place_close(). It need not exist; a regular file will be replaced
 *
 * Errors: 0 | negative errno, already reported: nothing was changed, and nothing need be closed.
 */
int place_open(struct place *place, const char *path);

/**
 * place_write() - write the file
 *
 * It appears under its name only when all of it is on the disk, and replaces a former one in a
 * single step; until then that one stays as it is, whatever happens to this process. The mode is
 * 0600 from the first byte on.
 * Errors: 0 | negative errno, already reported: what was there is there.
 */
int place_write(const struct place *place, const struct saved *saved);

/** place_close() - end of use */
void place_close(struct place *place);
