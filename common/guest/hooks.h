#pragma once

#include <stdint.h>

#include "guest/addr.h"

/* Who else has a say in a guest's memory. The owner of a hook embeds its struct and finds itself by
 * the pointer. */

/** enum map_access - what a range of guest memory is for; the numbers of VHOST_ACCESS_* */
enum map_access {
	MAP_READ = 1,
	MAP_WRITE = 2,
	MAP_READ_WRITE = 3,
};

/** struct map_log - hears of each write into guest memory */
struct map_log {
	/** @dirty: n_bytes (at least 1) from start on were written. Any thread that serves a ring;
	 * must not block. */
	void (*dirty)(struct map_log *log, struct gpa start, uint64_t n_bytes);
};

/** struct map_resolver - knows memory that the map does not have yet: the owner of an IOMMU's
 * translations, say */
struct map_resolver {
	/**
	 * @miss: a range begins in no region. Any thread that serves a ring; must not block. It is
	 *        asked anew each time
	 * the ring is served, so it remembers by itself which questions it has passed on.
	 *
	 * Returns MAP_E_OUTSIDE: the map will never have it | MAP_E_LATER: it may.
	 */
	int (*miss)(struct map_resolver *resolver, struct iova start, uint64_t n_bytes,
		enum map_access access);
};
