#pragma once

#include "bus.pb-c.h"
#include "served.h"

/**
 * positions_fill() - tell the frontend whether a worker is attached, and at which positions stopped
 * rings stand
 * @reply: [out] worker_gone and rings; the rings are borrowed until the next call
 *
 * Cost: the ledger is mapped for the call, but only if a ring has been stopped.
 */
void positions_fill(const struct served *device, Bh__CommitDesiredReply *reply);
