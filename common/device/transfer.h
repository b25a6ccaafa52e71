#pragma once

#include "device/core.h"

/*
 * The worker's step of a transfer of the device's state (proto/record.proto). It is taken once for
 * each transfer, by the instance that serves the device (a standby only listens), when the record
 * that the transfer names is in force; what came of it is reported. A worker that was started anew
 * takes it again, which does no harm. Loop thread only.
 */

/** transfer_new() - for core->transfer; the caller's until transfer_free() */
struct transfer *transfer_new(void);
/** transfer_free() - NULL is fine */
void transfer_free(struct transfer *transfer);

/** transfer_ask() - fill in what a watch asks about transfers */
void transfer_ask(const struct device *device, Bh__WatchDesired *request);
/** transfer_hear() - take note of the answer to it. Returns whether that is news of a transfer
 * only: the record is the one that was asked about */
bool transfer_hear(struct device *device, const Bh__WatchDesiredReply *reply);
/** transfer_unheard() - the watch failed: another memory manager may be there */
void transfer_unheard(struct device *device);
/** transfer_go_on() - take the step, if it is this worker's turn and the record is in force, and
 * report what has not been reported yet. Called whenever either may have changed. */
void transfer_go_on(struct device *device);
