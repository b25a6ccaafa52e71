#pragma once

#include "device/core.h"

/** enum ring_plan - what applying a record does to a ring */
enum ring_plan {
	RING_STAYS,
	/* only its call descriptor changes: no thread is paused */
	RING_RECALLED,
	/* starts, is forgotten, is enabled or disabled, or gets new descriptors: its group is
	 * paused */
	RING_CHANGES,
	/* runs with outdated parameters: is drained, stopped, and possibly started again */
	RING_STOPS,
};

/** struct plan - the difference between the current state and a record */
struct plan {
	bool whole;         /* state that all rings read changes: pause the whole device */
	bool memory_leaves; /* memory will be unmapped: all rings are drained first */
	uint8_t rings[VHOST_USER_MAX_QUEUES]; /* enum ring_plan */
};

/** plan_make() - compute the difference; has no side effects. The current state is this process's
 * own, not the last record: a step that failed is thus retried with the next record. */
void plan_make(struct plan *plan, const struct device *device, const Bh__Desired *desired);

/** plan_features() - the features that a device sees: the dirty log is not its matter */
uint64_t plan_features(const Bh__Desired *desired);

/** plan_resets() - whether the driver or VMM has reset the device, or a new VMM has connected,
 * since the last reset that was handled */
bool plan_resets(const struct device *device, const Bh__Desired *desired);

/** plan_find_ring() - the record's entry for a ring; NULL = none */
const Bh__Ring *plan_find_ring(const Bh__Desired *desired, uint32_t index);

/** plan_wants_region() - whether the record still names this region */
bool plan_wants_region(const Bh__Desired *desired, const struct mapped_region *mapped);
