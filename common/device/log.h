#pragma once

#include "device/core.h"

/*
 * The dirty log: memory of the VMM's in which each page of guest memory that the device writes to
 * is marked, while the VMM migrates its guest. Loop thread; the device is paused, unless stated
 * otherwise.
 */

/** log_wanted() - the log that is to be written: the record's, while LOG_ALL is acked; NULL = none.
 * Borrowed from desired. Pure */
const Bh__Log *log_wanted(const Bh__Desired *desired);

/** log_token() - its token; 0 = none. Pure */
static inline uint64_t log_token(const Bh__Desired *desired)
{
	const Bh__Log *log = log_wanted(desired);

	return log ? log->token : 0;
}

/** log_is_in_force() - whether applying this record leaves the log as it is. Pure */
bool log_is_in_force(const struct device *device, const Bh__Desired *desired);

/** log_apply() - put the log that the record wants in force, mapped from fd (borrowed), unless it
 * is already. A log that cannot be mapped is noted as the record's error, and nothing is marked. */
void log_apply(struct device *device, const Bh__Desired *desired, int fd);

/** log_close() - end of use; fine without a log */
void log_close(struct device *device);
