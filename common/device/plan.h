#pragma once

#include "device/core.h"

/** enum ring_plan - what becomes of a ring when a record is put in force */
enum ring_plan {
	RING_STAYS,
	/* it runs on with another call descriptor, and nothing else is new: nobody pauses */
	RING_RECALLED,
	/* starts, is forgotten, or has its descriptors or its being enabled changed: its group
	 * pauses */
	RING_CHANGES,
	/* what it runs with is not what is wanted: it comes to rest, stops, and may start anew */
	RING_STOPS,
};

/** struct plan - the difference between what is in force and a record */
struct plan {
	bool whole;         /* something that all rings read changes: the whole device pauses */
	bool memory_leaves; /* every ring comes to rest before it is unmapped */
	uint8_t rings[VHOST_USER_MAX_QUEUES]; /* enum ring_plan */
};

/** plan_make() - changes nothing. What is in force is read from this process's own state, never
 * from the former record: a step that failed is thus tried again with the next one. */
void plan_make(struct plan *plan, const struct device *device, const Bh__Desired *desired);

/** plan_resets() - the driver or VMM has reset the device, or another VMM has come, since that was
 * last acted upon */
bool plan_resets(const struct device *device, const Bh__Desired *desired);

/** plan_find_ring() - what the record says of a ring; NULL = nothing */
const Bh__Ring *plan_find_ring(const Bh__Desired *desired, uint32_t index);

/** plan_wants_region() - whether the record names this region still */
bool plan_wants_region(const Bh__Desired *desired, const struct mapped_region *mapped);
