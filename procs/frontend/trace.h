#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.pb-c.h"

struct exchange;

/*
 * What passes between the VMMs and this process, for an operator who watches (bulkheadctl trace).
 * Off, it costs the look at a flag; on, what nobody takes in time is dropped, and counted: no VMM
 * waits for a reader.
 */

#define TRACE_ENTRIES_MAX 256 /* that wait */

/** trace_on - whether anybody watches; callers look before they call */
extern bool trace_on;

/** trace_set() - begin or end; what waits at the end is dropped */
void trace_set(bool on);

/** trace_call() - fn is called when an entry has come; NULL = nobody wants to know */
void trace_call(void (*fn)(void *data), void *data);

/** trace_message() - the message in work, which was not judged yet */
void trace_message(const struct exchange *exchange);

/** trace_reply() - the reply to the message in work: an acknowledgement, or what it asked for
 * @payload: n bytes, borrowed */
void trace_reply(const struct exchange *exchange, const void *payload, size_t n);

/** trace_refused() - the message in work is refused, as its `why` says */
void trace_refused(const struct exchange *exchange);

/** trace_event() - something else: a VMM has come or gone */
void trace_event(const char *device, const char *text);

/** struct trace_taken - entries that were taken out */
struct trace_taken {
	Bh__TraceEntry *entries[TRACE_ENTRIES_MAX];
	size_t n;
	uint64_t dropped; /* since the last time */
};

/** trace_take() - all that wait, in their order. Owner: the caller, until trace_free() */
void trace_take(struct trace_taken *ret);

/** trace_free() - free them */
void trace_free(struct trace_taken *taken);
