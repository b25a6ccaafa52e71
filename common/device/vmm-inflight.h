#pragma once

#include "device/device.h"

/* The in-flight region that the VMM shares, or has us make for it. The loop's thread. */

/** struct inflight_map - the in-flight region that the VMM shares; mapping NULL = there is none */
struct inflight_map {
	uint64_t token; /* also of one that could not be mapped */
	uint8_t *mapping;
	size_t mapping_bytes;
	uint8_t *regions; /* of the first queue */
	uint64_t n_bytes; /* of all queues */
	uint32_t n_queues;
	uint32_t queue_size;
};

/** inflight_token() - of the region that the record names; 0 = none */
static inline uint64_t inflight_token(const Bh__Desired *desired)
{
	return desired->inflight ? desired->inflight->token : 0;
}

/** inflight_apply() - map what the record names (fd borrowed), or with NULL nothing, if that is not
 * there yet; no ring that uses the former one runs */
void inflight_apply(struct device *device, const Bh__Inflight *inflight, int fd);

/** inflight_of() - the region of one queue, and its name for the ledger: the VMM's, or where that
 * has no room for such a ring the ledger's own */
void *inflight_of(const struct device *device, const struct virtq_setup *setup, uint64_t *ret_id);
