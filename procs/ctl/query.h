#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "bus.pb-c.h"

/* Queries to the memory manager of a guest. All of them block until the reply. */

/** enum answers - which release's memory manager serves a guest */
enum answers {
	ANSWERS_NOBODY,
	ANSWERS_MEMORY,
	ANSWERS_FORMER, /* a release before 0.2, in which all guests shared three users */
};

/** query_answers() - which release's socket exists for the guest; sends no query */
enum answers query_answers(const char *runtime_dir, const char *guest);

/** query_allowed() - whether we may ask the memory manager of a guest
 * Errors: 0 | -EACCES | -ENOENT: no memory manager has been there. */
int query_allowed(const char *runtime_dir, const char *guest);

/** query_fn - receives the reply, borrowed for the call; its texts hold no control characters */
typedef void (*query_fn)(const Bh__GetStatusReply *status, void *data);

/** query_status() - query the status of a guest, and call fn with the reply
 * Errors: 0 | -ENOENT: nobody serves the guest | -EACCES: we may not ask | -EBADMSG: the reply
 * cannot be true (plausible.h) | -ETIMEDOUT: no reply in time | another negative errno: fn was not
 * called. */
int query_status(const char *runtime_dir, const char *guest, unsigned int timeout_ms, query_fn fn,
	void *data);

/** query_why() - what to tell the operator of a query that failed; a static text */
const char *query_why(int r);

/** query_release() - release a device from quarantine
 * @ret_released: [out] whether it was in quarantine; set on 0
 *
 * Errors: 0 | -ENODEV: no such device | as query_status(). */
int query_release(const char *runtime_dir, const char *guest, char *device, bool *ret_released);

/** query_transfers_fn - receives all transfers of a guest, as query_fn */
typedef void (*query_transfers_fn)(const Bh__WatchTransfersReply *reply, void *data);

/** query_transfers() - wait until the transfers of a guest are others than at that number, 0 = do
 * not wait, and call fn with the reply
 * Errors: as query_status(). */
int query_transfers(const char *runtime_dir, const char *guest, uint64_t seq, query_transfers_fn fn,
	void *data);

/** query_trace_fn - receives the entries of a trace, as query_fn */
typedef void (*query_trace_fn)(const Bh__WatchTraceReply *reply, void *data);

/** query_trace() - wait for entries of a guest's trace, and call fn with them
 * @device: NULL = of all devices
 * @next:   as in the last reply; 0 = begin, and wait until it has begun
 *
 * Errors: -ENODEV: no such device | -EOPNOTSUPP: the frontend is of a former release | -EBUSY: too
 * many watch | as query_status(). */
int query_trace(const char *runtime_dir, const char *guest, const char *device, uint64_t next,
	query_trace_fn fn, void *data);

/** query_event() - the loop that runs while a query waits; borrowed; NULL = no memory */
sd_event *query_event(void);

/** query_link_path() - the socket that takes descriptors of ours; malloc'ed */
char *query_link_path(const char *runtime_dir, const char *guest);
