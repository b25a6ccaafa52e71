/* Guest memory. Numbers and files are judged by the memory manager, where they are kept. */
#include "handlers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

Bh__Region *region_add(Bh__Desired *desired)
{
	Bh__Region **list =
		reallocarray(desired->regions, desired->n_regions + 1, sizeof(*list));
	Bh__Region *region = malloc(sizeof(*region));

	if (list)
		desired->regions = list;
	if (!list || !region) {
		free(region);
		return NULL;
	}
	bh__region__init(region);
	list[desired->n_regions++] = region;
	return region;
}

static void region_remove(Bh__Desired *desired, size_t i)
{
	bh__region__free_unpacked(desired->regions[i], NULL);
	desired->regions[i] = desired->regions[--desired->n_regions];
}

void regions_clear(Bh__Desired *desired)
{
	while (desired->n_regions)
		region_remove(desired, desired->n_regions - 1);
}

static int add(struct session *session, Bh__Desired *next, const struct memory_region *from,
	uint64_t token)
{
	Bh__Region *region = region_add(next);

	if (!region)
		return session_refuse(session, "out of memory");
	region->gpa = from->gpa;
	region->size_bytes = from->size;
	region->uva = from->uva;
	region->offset_bytes = from->offset;
	region->token = token;
	return 0;
}

int handle_set_mem_table(struct session *session, const struct message *msg, Bh__Desired *next)
{
	const struct memory_table *table = &msg->payload.table;
	uint64_t tokens[FDS_MAX];

	if (table->n == 0 || table->n > FDS_MAX || table->n != msg->n_fds ||
		msg->header.size != 8 + table->n * sizeof(table->regions[0]))
		return session_refuse(session,
			"%u regions with %zu descriptors in %u bytes do not fit together", table->n,
			msg->n_fds, msg->header.size);
	if (session_deposit(session, tokens))
		return OUTCOME_REFUSED;
	regions_clear(next);
	for (uint32_t i = 0; i < table->n; i++)
		if (add(session, next, &table->regions[i], tokens[i]))
			return OUTCOME_REFUSED;
	return OUTCOME_CHANGED;
}

static bool same_place(const Bh__Region *region, const struct memory_region *other)
{
	return region->gpa == other->gpa && region->uva == other->uva &&
		region->size_bytes == other->size;
}

/* Front-ends with several queue pairs say everything once for each: a region that is there is there, and
 * one that is gone is gone. */
int handle_add_mem_reg(struct session *session, const struct message *msg, Bh__Desired *next)
{
	const struct memory_region *new = &msg->payload.single.region;
	uint64_t token;

	for (size_t i = 0; i < next->n_regions; i++)
		if (same_place(next->regions[i], new) && next->regions[i]->offset_bytes == new->offset)
			return OUTCOME_DONE;
	if (next->n_regions >= session->observed->max_mem_slots)
		return session_refuse(session, "all %llu memory slots are taken",
			(unsigned long long)session->observed->max_mem_slots);
	if (session_deposit(session, &token) ||
		add(session, next, new, token))
		return OUTCOME_REFUSED;
	return OUTCOME_CHANGED;
}

int handle_rem_mem_reg(struct session *session, const struct message *msg, Bh__Desired *next)
{
	const struct memory_region *gone = &msg->payload.single.region;

	for (size_t i = 0; i < next->n_regions; i++)
		if (same_place(next->regions[i], gone)) {
			region_remove(next, i);
			return OUTCOME_CHANGED;
		}
	return OUTCOME_DONE;
}

size_t reply_max_mem_slots(struct session *session, const struct message *msg, uint8_t *buf)
{
	memcpy(buf, &session->observed->max_mem_slots, sizeof(uint64_t));
	return sizeof(uint64_t);
}
