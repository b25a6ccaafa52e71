#pragma once

#include "bus.pb-c.h"

/** query_status() - ask a guest's memory manager, and wait for the answer; fn is called with it, borrowed.
 * Errors: 0 | -ETIMEDOUT: nobody answers | others of the bus. */
int query_status(const char *runtime_dir, const char *guest, void (*fn)(const Bh__GetStatusReply *status, void *data),
	void *data);
