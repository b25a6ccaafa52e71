#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * The files of a device's record. The truth is in nobody's hands but ours. What others read is a
 * copy that they cannot write, and what they might do to a copy all the same is never read here.
 */

struct copies;

/**
 * copies_open() - what the fd store has of the device, judged, or new and empty
 * @ret_desired, @ret_observed: [out] the caller's: free with bh__..__free_unpacked(x, NULL)
 *
 * What cannot be used is said in a line, and the device starts anew.
 * Errors: 0 | negative errno.
 */
int copies_open(struct copies **ret_copies, const char *device, Bh__Desired **ret_desired,
	Bh__Observed **ret_observed);
struct copies *copies_close(struct copies *copies);

/** copies_write_desired() - replace a half, in the truth first; -EMSGSIZE: too large, and nothing
 * is changed */
int copies_write_desired(struct copies *copies, const Bh__Desired *desired);
int copies_write_observed(struct copies *copies, const Bh__Observed *observed);

/** copies_id() - of the truth: the same over all restarts, for as long as nothing is lost */
uint64_t copies_id(const struct copies *copies);

/** copies_fd() - for a worker to read; borrowed
 * @by_id: it goes by the id, and takes another file after our restart; one of the former release
 * needs the same file */
int copies_fd(const struct copies *copies, bool by_id);
