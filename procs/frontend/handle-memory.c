/* Guest memory. Overlaps, sizes and files are judged by the memory manager, where the files are
 * kept. */
#include <string.h>

#include "handlers.h"

#define NUM(x) ((unsigned long long)(x))

/* Ring addresses are looked up by user addresses. With GPA_ADDRESSES both are guest addresses, and
 * a VMM says the same twice. One that took bit 21 for something else, as some did, says two. */
static void add(Bh__Desired *next, const struct memory_region *from, uint64_t token)
{
	Bh__Region *region = desired_add_region(next);

	region->gpa = from->gpa;
	region->size_bytes = from->size;
	region->uva = from->uva;
	region->offset_bytes = from->offset;
	region->token = token;
}

enum outcome handle_set_mem_table(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct memory_table *table = &msg->payload.table;
	uint64_t tokens[FDS_MAX];
	enum outcome outcome = exchange_deposit(exchange, tokens);

	if (outcome != OUTCOME_DONE)
		return outcome;
	desired_clear_regions(next);
	for (uint32_t i = 0; i < table->n; i++)
		add(next, &table->regions[i], tokens[i]);
	return log_refuses(exchange, next) ? OUTCOME_REFUSED : OUTCOME_CHANGED;
}

/* The offset in the file is no part of what a region is. */
static bool same_region(const Bh__Region *region, const struct memory_region *other)
{
	return region->gpa == other->gpa && region->uva == other->uva &&
		region->size_bytes == other->size;
}

static size_t find_region(const Bh__Desired *desired, const struct memory_region *wanted)
{
	size_t i = 0;

	while (i < desired->n_regions && !same_region(desired->regions[i], wanted))
		i++;
	return i;
}

/* Front-ends with several queue pairs say everything about memory once for each pair, and a
 * message may come to be handled twice: a region that is there is there, and one that is gone is
 * gone. */
enum outcome handle_add_mem_reg(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct memory_region *region = &msg->payload.single.region;
	size_t i = find_region(next, region);
	enum outcome outcome;
	uint64_t token;

	if (i < next->n_regions && next->regions[i]->offset_bytes == region->offset)
		return OUTCOME_SETTLE;
	if (next->n_regions >= exchange->view->observed->max_mem_slots)
		return exchange_refuse(exchange, "all %llu memory slots are taken",
			NUM(exchange->view->observed->max_mem_slots));
	outcome = exchange_deposit(exchange, &token);
	if (outcome != OUTCOME_DONE)
		return outcome;
	add(next, region, token);
	return log_refuses(exchange, next) ? OUTCOME_REFUSED : OUTCOME_CHANGED;
}

static bool ranges_meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b ? b - a < a_bytes : a - b < b_bytes;
}

static bool touches_another(const Bh__Desired *desired, const struct memory_region *region)
{
	for (size_t i = 0; i < desired->n_regions; i++) {
		const Bh__Region *other = desired->regions[i];

		if (ranges_meet(other->gpa, other->size_bytes, region->gpa, region->size) ||
			ranges_meet(other->uva, other->size_bytes, region->uva, region->size))
			return true;
	}
	return false;
}

enum outcome handle_rem_mem_reg(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct memory_region *region = &msg->payload.single.region;
	size_t i = find_region(next, region);

	if (i < next->n_regions) {
		desired_remove_region(next, i);
		return OUTCOME_CHANGED;
	}
	if (touches_another(next, region))
		return exchange_refuse(exchange,
			"0x%llx bytes at guest address 0x%llx, 0x%llx in the VMM, are not a whole memory region",
			NUM(region->size), NUM(region->gpa), NUM(region->uva));
	return OUTCOME_SETTLE;
}

size_t reply_max_mem_slots(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	memcpy(buf, &exchange->view->observed->max_mem_slots, sizeof(uint64_t));
	return sizeof(uint64_t);
}
