#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bus.pb-c.h"
#include "look.h"
#include "usage.h"

/* The state of several guests at one time: what their service managers and memory managers say, and
 * what the kernel says of their processes. */

/** struct scraped - a guest */
struct scraped {
	const char *guest; /* borrowed */
	struct seen seen;  /* without a reply */
	/* NULL = its memory manager did not answer. Every device has both halves of its record,
	 * and every text is safe to show */
	Bh__GetStatusReply *status;
	struct usage *usage; /* of status->peers, in their order */
	uint64_t taken_us;   /* CLOCK_MONOTONIC */
};

/** struct scrape - all of them */
struct scrape {
	struct scraped *guests;
	size_t n;
};

/** scrape_take() - ask n guests, one after the other
 * @look:  borrowed until scrape_free()
 * @names: borrowed until scrape_free(); n = 0: all guests of look
 * @wants_memory: as in usage_read() */
void scrape_take(struct scrape *ret, const struct look *look, char *const names[], size_t n,
	bool wants_memory);

/** scrape_known() - 0 | -ENOENT: a guest has no file, no process, and nobody who answers for it;
 * standard error says so */
int scrape_known(const struct scrape *scrape, const struct look *look);

/** scrape_free() - zeros are fine */
void scrape_free(struct scrape *scrape);

/** scrape_restarts() - how often a process was started again, as its service manager knows; without
 * one, as the memory manager has seen it */
uint64_t scrape_restarts(const struct scraped *guest, const Bh__PeerStatus *process);

/** scrape_direction() - the way of a queue's frames as the guest sees them: "receive",
 * "transmit", "control"; "" = the type of device has no such notion. A static text */
const char *scrape_direction(const Bh__DeviceStatus *device, uint32_t index);

/** scrape_counters() - of a queue; NULL = there are none */
const Bh__QueueCounters *scrape_counters(const Bh__DeviceStatus *device, uint32_t index);

/** scrape_ring() - a queue as the worker sees it; NULL = it does not say */
const Bh__RingState *scrape_ring(const Bh__DeviceStatus *device, uint32_t index);
