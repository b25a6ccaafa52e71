#pragma once

#include <stdbool.h>

#include "bus.pb-c.h"

/* Questions to the memory manager of a guest. All of them wait for the answer. */

/** enum answers - who would answer for a guest */
enum answers {
	ANSWERS_NOBODY,
	ANSWERS_MEMORY,
	ANSWERS_FORMER, /* a release before 0.2, in which all guests shared three users */
};

/** query_answers() - whether the socket of a memory manager is there, and of which release; nobody
 * is asked */
enum answers query_answers(const char *runtime_dir, const char *guest);

/** query_fn - gets the answer, borrowed for the call; its texts hold no control characters */
typedef void (*query_fn)(const Bh__GetStatusReply *status, void *data);

/** query_status() - ask for the status of a guest, and call fn with the answer
 * Errors: 0 | -ETIMEDOUT: nobody answers in time | another negative errno of the bus: fn was not
 *         called. */
int query_status(const char *runtime_dir, const char *guest, unsigned int timeout_ms, query_fn fn,
	void *data);

/** query_release() - take a device out of quarantine
 * @ret_released: [out] whether it was in quarantine; set on 0
 *
 * Errors: 0 | -ENODEV: there is no such device | as query_status(). */
int query_release(const char *runtime_dir, const char *guest, char *device, bool *ret_released);
