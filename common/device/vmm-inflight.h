#pragma once

#include "device/device.h"

/* The in-flight region that the VMM shares, or asks the back-end to create. Loop thread only. */

/** struct inflight_map - its mapping; mapping NULL = none */
struct inflight_map {
	uint64_t token; /* set even if mapping it failed */
	uint8_t *mapping;
	size_t mapping_bytes;
	uint8_t *regions; /* of the first queue */
	uint64_t n_bytes; /* of all queues */
	uint32_t n_queues;
	uint32_t queue_size;
};

/** inflight_token() - the token of the region that the record names; 0 = none */
static inline uint64_t inflight_token(const Bh__Desired *desired)
{
	return desired->inflight ? desired->inflight->token : 0;
}

/** inflight_apply() - map the region that the record names (fd borrowed) unless already mapped;
 * NULL = none, unmap. No ring that uses the former region may be running. */
void inflight_apply(struct device *device, const Bh__Inflight *inflight, int fd);

/** inflight_of() - the region of one queue, and its ID for the ledger: the VMM's region, or the
 * ledger's own (ID 0) if that has no room for such a ring */
void *inflight_of(const struct device *device, const struct virtq_setup *setup, uint64_t *ret_id);
