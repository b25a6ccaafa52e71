#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * The files of a device's record. The authoritative one never leaves this process and the fd store.
 * Workers read a copy that they cannot write, and no copy that was handed out is ever read back.
 */

struct copies;

/**
 * copies_open() - read and judge the record that the fd store has of the device, or begin an empty
 * one
 * @device: [in] its name; borrowed until copies_close()
 * @ret_desired, @ret_observed: [out] the caller's: free with bh__..__free_unpacked(x, NULL)
 *
 * A record that cannot be used is reported in the log, and the device starts anew.
 * Errors: 0 | negative errno: what was opened is in ret_copies all the same, for copies_close().
 */
int copies_open(struct copies **ret_copies, const char *device, Bh__Desired **ret_desired,
	Bh__Observed **ret_observed);

/** copies_close() - unmap and close all files; they stay in the fd store. NULL is fine; returns
 * NULL */
struct copies *copies_close(struct copies *copies);

/** copies_write_desired(), copies_write_observed() - replace a half, in the authoritative file
 * first
 * Errors: 0 | -EMSGSIZE: it is too large, and nothing has changed. */
int copies_write_desired(struct copies *copies, const Bh__Desired *desired);
int copies_write_observed(struct copies *copies, const Bh__Observed *observed);

/** copies_id() - identifies the record: the same over all restarts and upgrades, for as long as
 * nothing is lost; 0 = unknown */
uint64_t copies_id(const struct copies *copies);

/** copies_fd() - the descriptor for a worker to read the record from; borrowed
 * @by_id: the worker knows the record by its id, and accepts another file after our restart. One of
 *         the former release does not, and must get the same file again */
int copies_fd(const struct copies *copies, bool by_id);
