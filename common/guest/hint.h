#pragma once

#include "guest/map.h"

/** struct map_hint - a look-up that remembers the region it found last. Stale once the map has
 * changed: only .map must then be set, and the rest zero */
struct map_hint {
	const struct map *map;
	uint64_t start;   /* of the region, as descriptors name it */
	uint64_t n_bytes; /* of the region; 0: none was found yet */
	uint8_t *mem;
	struct gpa gpa;
};

/** map_hint_holds() - whether all of a range lies in the region that was found last; n_bytes is not
 * 0 */
static inline bool map_hint_holds(const struct map_hint *hint, struct gpa start, uint64_t n_bytes)
{
	uint64_t offset = start.val - hint->start;

	return offset < hint->n_bytes && n_bytes <= hint->n_bytes - offset;
}

/** map_hint_span() - a range that map_hint_holds() */
static inline struct map_span map_hint_span(const struct map_hint *hint, struct gpa start,
	uint64_t n_bytes)
{
	uint64_t offset = start.val - hint->start;

	return (struct map_span){ hint->mem + offset, { hint->gpa.val + offset }, n_bytes };
}

/** map_hint_find() - as map_find(), but it searches only when the hint does not hold the range */
int map_hint_find(struct map_hint *hint, struct gpa start, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span);
