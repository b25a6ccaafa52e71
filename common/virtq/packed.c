/*
 * The packed ring (virtio 1.2, 2.8).
 *
 * In the in-flight region descriptors are copied, since a used one may overwrite the ring slot of another
 * that is still in flight. The copies lie on a free list; a batch is committed by bringing the old_* fields
 * up to the present ones after the driver saw it.
 *
 * Recovery: when present and old fields differ, the ring slot at old_used_idx tells whether the batch was
 * published: the driver sees a batch by its first descriptor, which is written last. Published: the old
 * fields follow; not published: the present ones go back.
 */
#include "virtq/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define EVENT_ENABLE 0
#define EVENT_DISABLE 1
#define EVENT_DESC 2

static uint16_t load_flags(const struct virtq *vq, uint16_t i)
{
	return __atomic_load_n(&vq->packed.desc[i].b, __ATOMIC_ACQUIRE);
}

static bool is_available(uint16_t flags, bool wrap)
{
	return !!(flags & DESC_F_AVAIL) == wrap && !!(flags & DESC_F_USED) != wrap;
}

static void advance(const struct virtq *vq, uint16_t *idx, bool *wrap, uint32_t n)
{
	uint32_t next = *idx + n;

	if (next >= vq->size) {
		next -= vq->size;
		*wrap = !*wrap;
	}
	*idx = (uint16_t)next;
}

int packed_map(struct virtq *vq)
{
	vq->packed.desc = map_uva(vq->map, vq->setup.desc, 16 * (uint64_t)vq->size);
	vq->packed.driver = map_uva(vq->map, vq->setup.avail, sizeof(struct packed_event));
	vq->packed.device = map_uva(vq->map, vq->setup.used, sizeof(struct packed_event));
	if (!vq->packed.desc || !vq->packed.driver || !vq->packed.device ||
		((uintptr_t)vq->packed.desc & 15) || ((uintptr_t)vq->packed.driver & 3) ||
		((uintptr_t)vq->packed.device & 3))
		return VIRTQ_E_ADDRESS;
	return 0;
}

/* --- Start and recovery --- */

/* Front-ends that know nothing of the packed layout give a base of 0, which means wrap counters of 0; a
 * ring whose first descriptor was never used cannot be in that state. One that gives only the lower half
 * means that nothing is in flight. */
static void read_base(struct virtq *vq)
{
	uint32_t base = vq->setup.base;
	uint16_t flags = load_flags(vq, 0);

	if (base == 0 && !(flags & DESC_F_USED))
		base = 0x8000;
	if (base >> 16 == 0)
		base |= base << 16;
	vq->taken = base & 0x7fff;
	vq->taken_wrap = base >> 15 & 1;
	vq->used = base >> 16 & 0x7fff;
	vq->used_wrap = base >> 31;
}

static void begin(struct virtq *vq)
{
	struct inflight_packed *region = vq->inflight_packed;
	struct ledger_queue *slot = vq->slot;

	slot->start_id = 0;
	ledger_order();
	read_base(vq);
	memset(region, 0, sizeof(*region) + vq->size * sizeof(region->desc[0]));
	for (uint32_t i = 0; i < vq->size; i++)
		region->desc[i].next = (uint16_t)(i + 1);
	region->desc_num = (uint16_t)vq->size;
	region->used_idx = region->old_used_idx = vq->used;
	region->used_wrap = region->old_used_wrap = vq->used_wrap;
	region->version = 1;
	slot->size = (uint16_t)vq->size;
	slot->packed = 1;
	slot->broken = 0;
	slot->avail_idx = (uint16_t)(vq->taken | vq->taken_wrap << 15);
	slot->used_idx = (uint16_t)(vq->used | vq->used_wrap << 15);
	ledger_order();
	slot->start_id = vq->setup.start_id;
}

static int settle_batch(struct virtq *vq)
{
	struct inflight_packed *region = vq->inflight_packed;
	uint16_t flags;

	if (region->old_used_idx >= vq->size || region->used_idx >= vq->size)
		return VIRTQ_E_BROKEN;
	if (region->used_idx != region->old_used_idx || region->used_wrap != region->old_used_wrap) {
		flags = load_flags(vq, region->old_used_idx);
		if (!is_available(flags, region->old_used_wrap)) {
			region->old_free_head = region->free_head;
			region->old_used_idx = region->used_idx;
			region->old_used_wrap = region->used_wrap;
		}
	}
	ledger_order();
	region->free_head = region->old_free_head;
	region->used_idx = region->old_used_idx;
	region->used_wrap = region->old_used_wrap;
	return 0;
}

static void clear_free_list(struct virtq *vq)
{
	struct inflight_packed *region = vq->inflight_packed;
	uint16_t i = region->free_head;

	for (uint32_t n = 0; n < vq->size && i < vq->size; n++) {
		region->desc[i].inflight = 0;
		i = region->desc[i].next;
	}
}

static int by_counter(const void *a, const void *b, void *data)
{
	const struct inflight_packed *region = data;
	uint64_t x = region->desc[*(const uint16_t *)a].counter;
	uint64_t y = region->desc[*(const uint16_t *)b].counter;

	return x < y ? -1 : x > y;
}

static int recover(struct virtq *vq)
{
	struct inflight_packed *region = vq->inflight_packed;
	uint32_t slots = 0;
	int r = settle_batch(vq);

	if (r != 0)
		return r;
	clear_free_list(vq);
	for (uint32_t i = 0; i < vq->size; i++) {
		if (!region->desc[i].inflight)
			continue;
		if (region->desc[i].num == 0 || region->desc[i].num > vq->size - slots)
			return VIRTQ_E_BROKEN;
		slots += region->desc[i].num;
		vq->resubmit[vq->n_resubmit++] = (uint16_t)i;
		vq->counter = MAX(vq->counter, region->desc[i].counter + 1);
	}
	qsort_r(vq->resubmit, vq->n_resubmit, sizeof(*vq->resubmit), by_counter, region);
	vq->used = vq->taken = region->used_idx;
	vq->used_wrap = vq->taken_wrap = region->used_wrap & 1;
	advance(vq, &vq->taken, &vq->taken_wrap, slots);
	return 0;
}

int packed_start(struct virtq *vq)
{
	const struct inflight_packed *region = vq->inflight_packed;
	int r = 0;

	if (vq->slot->start_id == vq->setup.start_id && region->version == 1 &&
		region->desc_num == vq->size && vq->slot->packed)
		r = recover(vq);
	else
		begin(vq);
	vq->parsed = vq->taken;
	vq->parsed_wrap = vq->taken_wrap;
	vq->since_call = 1;
	vq->call_valid = false;
	return r;
}

/* --- Parse --- */

static void add(struct virtq *vq, struct chain *chain, const struct desc *desc)
{
	if (desc->b & DESC_F_INDIRECT)
		parse_indirect(vq, chain, desc);
	else
		parse_add(vq, chain, desc, desc->b & DESC_F_WRITE);
}

static int end(struct virtq *vq, struct chain *chain, uint16_t id, uint32_t n)
{
	if (id >= vq->size || vq->busy[id]) {
		parse_drop(vq, chain);
		return parse_broken(vq, id >= vq->size ? "a buffer id is outside the ring"
						       : "a buffer id was made available while it was in use");
	}
	chain->pub.id = id;
	parse_end(vq, chain, n);
	return 1;
}

/* From the copies: the ring slots may hold something else by now. */
static int parse_recovered(struct virtq *vq)
{
	const struct inflight_packed *region = vq->inflight_packed;
	uint16_t head = vq->resubmit[vq->resubmit_parsed], i = head, id = 0;
	struct chain *chain = parse_begin(vq);
	uint32_t n = region->desc[head].num;
	int r;

	for (uint32_t k = 0; k < n; k++) {
		struct inflight_packed_desc copy;
		struct desc desc;

		if (i >= vq->size) {
			parse_drop(vq, chain);
			return parse_broken(vq, "the record of descriptors in flight is damaged");
		}
		memcpy(&copy, &region->desc[i], sizeof(copy));
		desc = (struct desc){ .addr = copy.addr, .len = copy.len, .a = copy.id, .b = copy.flags };
		add(vq, chain, &desc);
		id = copy.id;
		i = copy.next;
	}
	chain->recovered = true;
	chain->entry = head;
	r = end(vq, chain, id, n);
	if (r == 1)
		vq->resubmit_parsed++;
	return r;
}

static int parse_chain(struct virtq *vq)
{
	struct chain *chain = parse_begin(vq);
	uint16_t idx = vq->parsed;
	bool wrap = vq->parsed_wrap;
	struct desc desc;
	uint32_t n = 0;
	int r;

	chain->slot = idx;
	do {
		if (n + vq->window_slots >= vq->size) {
			parse_drop(vq, chain);
			return parse_broken(vq, "a chain is longer than the ring");
		}
		memcpy(&desc, &vq->packed.desc[idx], sizeof(desc));
		add(vq, chain, &desc);
		advance(vq, &idx, &wrap, 1);
		n++;
	} while ((desc.b & DESC_F_NEXT) && !(desc.b & DESC_F_INDIRECT));
	r = end(vq, chain, desc.a, n);
	if (r == 1) {
		vq->parsed = idx;
		vq->parsed_wrap = wrap;
	}
	return r;
}

int packed_parse(struct virtq *vq)
{
	if (vq->resubmit_parsed < vq->n_resubmit)
		return parse_recovered(vq);
	if (vq->window_slots >= vq->size || !is_available(load_flags(vq, vq->parsed), vq->parsed_wrap))
		return 0;
	return parse_chain(vq);
}

/* --- Take and publish --- */

void packed_take(struct virtq *vq, struct chain *chain)
{
	struct inflight_packed *region = vq->inflight_packed;
	struct inflight_packed_desc *head;
	uint16_t e = region->free_head, slot = chain->slot;
	bool wrap = true;

	check(e < vq->size);
	head = &region->desc[e];
	chain->entry = e;
	for (uint32_t i = 0; i < chain->pub.n_slots; i++) {
		struct inflight_packed_desc *entry = &region->desc[e];
		struct desc desc;

		memcpy(&desc, &vq->packed.desc[slot], sizeof(desc));
		entry->addr = desc.addr;
		entry->len = desc.len;
		entry->flags = desc.b;
		entry->id = i + 1 == chain->pub.n_slots ? chain->pub.id : desc.a;
		head->last = e;
		e = entry->next;
		check(e < vq->size || i + 1 == chain->pub.n_slots);
		advance(vq, &slot, &wrap, 1);
	}
	head->num = chain->pub.n_slots;
	head->counter = vq->counter++;
	ledger_order();
	head->inflight = 1;
	ledger_order();
	region->free_head = e;
	ledger_order();
	region->old_free_head = e;
	advance(vq, &vq->taken, &vq->taken_wrap, chain->pub.n_slots);
}

static void free_entries(struct virtq *vq)
{
	struct inflight_packed *region = vq->inflight_packed;

	for (uint32_t i = 0; i < vq->n_staged; i++) {
		uint16_t entry = vq->staged[i].entry;
		uint16_t last = region->desc[entry].last;

		check(last < vq->size);
		region->desc[last].next = region->free_head;
		ledger_order();
		region->free_head = entry;
	}
}

static uint16_t used_flags(bool wrap, uint32_t len)
{
	return (uint16_t)((wrap ? DESC_F_AVAIL | DESC_F_USED : 0) | (len ? DESC_F_WRITE : 0));
}

/* The first descriptor's flags are stored last: the driver sees the batch at once. */
static void write_used(struct virtq *vq, uint16_t *idx, bool *wrap)
{
	uint16_t first = *idx, first_flags = used_flags(*wrap, vq->staged[0].len);

	for (uint32_t i = 0; i < vq->n_staged; i++) {
		struct desc *desc = &vq->packed.desc[*idx];
		const struct staged *staged = &vq->staged[i];

		desc->a = staged->id;
		desc->len = staged->len;
		if (i)
			__atomic_store_n(&desc->b, used_flags(*wrap, staged->len), __ATOMIC_RELEASE);
		advance(vq, idx, wrap, staged->n_slots);
	}
	ledger_order();
	__atomic_store_n(&vq->packed.desc[first].b, first_flags, __ATOMIC_RELEASE);
}

void packed_publish(struct virtq *vq)
{
	struct inflight_packed *region = vq->inflight_packed;
	uint16_t idx = vq->used;
	bool wrap = vq->used_wrap;

	free_entries(vq);
	advance(vq, &idx, &wrap, vq->staged_slots);
	ledger_order();
	region->used_idx = idx;
	region->used_wrap = wrap;
	ledger_order();
	write_used(vq, &vq->used, &vq->used_wrap);
	ledger_order();
	for (uint32_t i = 0; i < vq->n_staged; i++)
		region->desc[vq->staged[i].entry].inflight = 0;
	ledger_order();
	region->old_free_head = region->free_head;
	region->old_used_idx = region->used_idx;
	region->old_used_wrap = region->used_wrap;
}

/* --- Notifications --- */

bool packed_call_due(struct virtq *vq)
{
	struct packed_event event;
	uint16_t off;

	atomic_thread_fence(memory_order_seq_cst);
	event.flags = __atomic_load_n(&vq->packed.driver->flags, __ATOMIC_ACQUIRE);
	event.off_wrap = __atomic_load_n(&vq->packed.driver->off_wrap, __ATOMIC_RELAXED);
	if (event.flags == EVENT_DISABLE)
		return false;
	if (event.flags != EVENT_DESC || !vq->setup.event_idx || !vq->call_valid ||
		vq->since_call >= vq->size)
		return true;
	off = event.off_wrap & 0x7fff;
	if (event.off_wrap >> 15 != vq->used_wrap)
		off = (uint16_t)(off - vq->size);
	return need_event(off, vq->used, (uint16_t)(vq->used - vq->since_call));
}

void packed_kick_off(struct virtq *vq)
{
	__atomic_store_n(&vq->packed.device->flags, EVENT_DISABLE, __ATOMIC_RELAXED);
}

bool packed_kick_on(struct virtq *vq)
{
	if (vq->setup.event_idx) {
		__atomic_store_n(&vq->packed.device->off_wrap,
			(uint16_t)(vq->parsed | vq->parsed_wrap << 15), __ATOMIC_RELAXED);
		__atomic_store_n(&vq->packed.device->flags, EVENT_DESC, __ATOMIC_RELEASE);
	} else {
		__atomic_store_n(&vq->packed.device->flags, EVENT_ENABLE, __ATOMIC_RELAXED);
	}
	atomic_thread_fence(memory_order_seq_cst);
	return vq->resubmit_parsed < vq->n_resubmit ||
		is_available(load_flags(vq, vq->parsed), vq->parsed_wrap);
}
