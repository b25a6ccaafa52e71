#pragma once

#include <stdbool.h>

#include "bus.pb-c.h"

/** query_served() - whether a memory manager of that guest listens, and of which release it is */
enum served {
	SERVED_NOT,
	SERVED,
	SERVED_BY_FORMER, /* before 0.2, whose processes were three users for all guests */
};

enum served query_served(const char *runtime_dir, const char *guest);

typedef void (*query_fn)(const Bh__GetStatusReply *status, void *data);

/** query_status() - ask a guest's memory manager, and wait for the answer; fn is called with it, borrowed.
 * Errors: 0 | -ETIMEDOUT: nobody answers in time | others of the bus. */
int query_status(const char *runtime_dir, const char *guest, unsigned int timeout_ms, query_fn fn, void *data);

/** query_release() - take a device out of quarantine; *ret_released: it was in one
 * Errors: 0 | -ENODEV: there is no such device | as query_status() */
int query_release(const char *runtime_dir, const char *guest, char *device, bool *ret_released);
