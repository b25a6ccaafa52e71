/* What the in-flight region says, for a state that is saved while the ring runs. */
#include "virtq/in-flight.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "virtq/ring.h"

struct entry {
	uint64_t counter;
	uint16_t id;
};

static int by_age(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->counter != y->counter)
		return x->counter < y->counter ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static uint32_t read_split(const struct virtq *vq, struct entry *entries)
{
	const struct inflight_split *region = vq->split.region;
	uint32_t n = 0;

	for (uint32_t i = 0; i < vq->size; i++)
		if (region->desc[i].inflight)
			entries[n++] = (struct entry){ region->desc[i].counter, (uint16_t)i };
	return n;
}

/* The first entry of a chain is marked, and the last one has the id. */
static uint32_t read_packed(const struct virtq *vq, struct entry *entries)
{
	const struct inflight_packed_desc *desc = vq->ring.region->desc;
	uint32_t n = 0;

	for (uint32_t i = 0; i < vq->size; i++) {
		uint16_t last = guest_load(&desc[i].last);
		uint16_t id = last < vq->size ? guest_load(&desc[last].id) : 0;

		if (desc[i].inflight && last < vq->size && id < vq->size)
			entries[n++] = (struct entry){ desc[i].counter, id };
	}
	return n;
}

uint32_t virtq_in_flight(const struct virtq *vq, uint16_t *ret_ids)
{
	_cleanup_free_ struct entry *entries = calloc(vq->size, sizeof(*entries));
	uint32_t n;

	check(entries);
	n = vq->packed ? read_packed(vq, entries) : read_split(vq, entries);
	qsort(entries, n, sizeof(*entries), by_age);
	for (uint32_t i = 0; i < n; i++)
		ret_ids[i] = entries[i].id;
	return n;
}
