#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/map.h"
#include "record.pb-c.h"

/** struct mapped_region - a region that is currently mapped */
struct mapped_region {
	uint64_t token;
	struct map_region region;
};

/** mapped_is() - whether it is this region of a record, of the same file */
static inline bool mapped_is(const struct mapped_region *mapped, const Bh__Region *region)
{
	const struct map_region *m = &mapped->region;

	return mapped->token == region->token && m->gpa.val == region->gpa &&
		m->uva.val == region->uva && m->size_bytes == region->size_bytes &&
		m->offset_bytes == region->offset_bytes;
}
