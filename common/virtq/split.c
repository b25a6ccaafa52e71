/*
 * The split ring (virtio 1.2, 2.7).
 *
 * Recovery: the region's used_idx says up to where it has been brought in line with the ring. When the
 * ring is further, a batch was published and its descriptors were not yet cleared: as many entries as the
 * ring is ahead are walked from last_batch_head, all of the batch, and cleared. What is in flight
 * after that was taken and never given back; the available position is the used index and their number.
 */
#include "virtq/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static uint16_t load_acquire(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static uint16_t load(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static uint16_t *avail_event(struct virtq *vq)
{
	return &vq->split.used[2 + 4 * vq->size]; /* behind the elements */
}

int split_map(struct virtq *vq)
{
	uint64_t n = vq->size;
	uint64_t events = vq->setup.event_idx ? 2 : 0;

	vq->split.desc = map_uva(vq->map, vq->setup.desc, 16 * n);
	vq->split.avail = map_uva(vq->map, vq->setup.avail, 4 + 2 * n + events);
	vq->split.used = map_uva(vq->map, vq->setup.used, 4 + 8 * n + events);
	if (!vq->split.desc || !vq->split.avail || !vq->split.used ||
		((uintptr_t)vq->split.desc & 15) || ((uintptr_t)vq->split.avail & 1) ||
		((uintptr_t)vq->split.used & 3))
		return VIRTQ_E_ADDRESS;
	return 0;
}

/* --- Start and recovery --- */

static void begin(struct virtq *vq)
{
	struct inflight_split *region = vq->inflight_split;
	struct ledger_queue *slot = vq->slot;

	slot->start_id = 0;
	ledger_order();
	memset(region, 0, sizeof(*region) + vq->size * sizeof(region->desc[0]));
	region->desc_num = (uint16_t)vq->size;
	region->used_idx = load(&vq->split.used[1]);
	region->version = 1;
	vq->used = region->used_idx;
	vq->taken = (uint16_t)vq->setup.base;
	slot->size = (uint16_t)vq->size;
	slot->packed = 0;
	slot->broken = 0;
	slot->avail_idx = vq->taken;
	slot->used_idx = vq->used;
	ledger_order();
	slot->start_id = vq->setup.start_id;
}

static int repair_batch(struct virtq *vq)
{
	struct inflight_split *region = vq->inflight_split;
	uint16_t used = load(&vq->split.used[1]);
	uint16_t n = (uint16_t)(used - region->used_idx);
	uint16_t head = region->last_batch_head;

	if (n > vq->size)
		return VIRTQ_E_BROKEN;
	for (; n; n--) {
		if (head >= vq->size)
			return VIRTQ_E_BROKEN;
		region->desc[head].inflight = 0;
		head = region->desc[head].next;
	}
	ledger_order();
	region->used_idx = used;
	return 0;
}

static int by_counter(const void *a, const void *b, void *data)
{
	const struct inflight_split *region = data;
	uint64_t x = region->desc[*(const uint16_t *)a].counter;
	uint64_t y = region->desc[*(const uint16_t *)b].counter;

	return x < y ? -1 : x > y;
}

static int recover(struct virtq *vq)
{
	struct inflight_split *region = vq->inflight_split;
	int r = repair_batch(vq);

	if (r != 0)
		return r;
	for (uint32_t i = 0; i < vq->size; i++) {
		if (!region->desc[i].inflight)
			continue;
		vq->resubmit[vq->n_resubmit++] = (uint16_t)i;
		vq->counter = MAX(vq->counter, region->desc[i].counter + 1);
	}
	qsort_r(vq->resubmit, vq->n_resubmit, sizeof(*vq->resubmit), by_counter, region);
	vq->used = region->used_idx;
	vq->taken = (uint16_t)(vq->used + vq->n_resubmit);
	return 0;
}

int split_start(struct virtq *vq)
{
	const struct inflight_split *region = vq->inflight_split;
	int r = 0;

	if (vq->slot->start_id == vq->setup.start_id && region->version == 1 &&
		region->desc_num == vq->size && !vq->slot->packed)
		r = recover(vq);
	else
		begin(vq);
	vq->parsed = vq->taken;
	vq->avail_seen = vq->taken;
	/* whatever the driver was last told, it is told again */
	vq->since_call = 1;
	vq->call_valid = false;
	return r;
}

/* --- Parse --- */

static int parse_chain(struct virtq *vq, uint16_t head, struct chain **ret)
{
	struct chain *chain = parse_begin(vq);
	uint16_t i = head;
	uint32_t n = 0;

	chain->pub.id = head;
	for (;;) {
		struct desc desc;

		if (i >= vq->size || n++ == vq->size) {
			parse_drop(vq, chain);
			return parse_broken(vq, i >= vq->size ? "a descriptor's next is outside the ring"
							      : "a chain runs in a circle");
		}
		memcpy(&desc, &vq->split.desc[i], sizeof(desc));
		if (desc.a & DESC_F_INDIRECT)
			parse_indirect(vq, chain, &desc);
		else
			parse_add(vq, chain, &desc, desc.a & DESC_F_WRITE);
		if (!(desc.a & DESC_F_NEXT) || (desc.a & DESC_F_INDIRECT))
			break;
		i = desc.b;
	}
	*ret = chain;
	parse_end(vq, chain, n);
	return 1;
}

static int parse_recovered(struct virtq *vq)
{
	struct chain *chain;
	int r = parse_chain(vq, vq->resubmit[vq->resubmit_parsed], &chain);

	if (r < 0)
		return r;
	chain->recovered = true;
	vq->resubmit_parsed++;
	return 1;
}

int split_parse(struct virtq *vq)
{
	struct chain *chain;
	uint16_t head;
	int r;

	if (vq->resubmit_parsed < vq->n_resubmit)
		return parse_recovered(vq);
	if (vq->parsed == vq->avail_seen) {
		vq->avail_seen = load_acquire(&vq->split.avail[1]);
		if ((uint16_t)(vq->avail_seen - vq->used) > vq->size) {
			vq->avail_seen = vq->parsed;
			return parse_broken(vq, "the available index is ahead by more than the ring's size");
		}
		if (vq->parsed == vq->avail_seen)
			return 0;
	}
	head = load(&vq->split.avail[2 + (vq->parsed & (vq->size - 1))]);
	if (head >= vq->size)
		return parse_broken(vq, "an available entry is outside the ring");
	if (vq->busy[head])
		return parse_broken(vq, "a descriptor was made available while it was in use");
	r = parse_chain(vq, head, &chain);
	if (r == 1)
		vq->parsed++;
	return r;
}

/* --- Take and publish --- */

void split_take(struct virtq *vq, struct chain *chain)
{
	struct inflight_split_desc *entry = &vq->inflight_split->desc[chain->pub.id];

	entry->counter = vq->counter++;
	ledger_order();
	entry->inflight = 1;
	vq->taken++;
}

void split_publish(struct virtq *vq)
{
	struct inflight_split *region = vq->inflight_split;
	struct split_used_elem *ring = (struct split_used_elem *)(void *)&vq->split.used[2];
	uint16_t used = vq->used;

	for (uint32_t i = 0; i < vq->n_staged; i++, used++) {
		uint16_t head = vq->staged[i].id;

		ring[used & (vq->size - 1)] =
			(struct split_used_elem){ .id = head, .len = vq->staged[i].len };
		region->desc[head].next = region->last_batch_head;
		ledger_order();
		region->last_batch_head = head;
	}
	ledger_order();
	__atomic_store_n(&vq->split.used[1], used, __ATOMIC_RELEASE);
	ledger_order();
	for (uint32_t i = 0; i < vq->n_staged; i++)
		region->desc[vq->staged[i].id].inflight = 0;
	ledger_order();
	region->used_idx = used;
	vq->used = used;
}

/* --- Notifications --- */

bool split_call_due(struct virtq *vq)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (!vq->setup.event_idx)
		return !(load(&vq->split.avail[0]) & 1);
	if (!vq->call_valid || vq->since_call > vq->size)
		return true;
	return need_event(load(&vq->split.avail[2 + vq->size]), vq->used,
		(uint16_t)(vq->used - vq->since_call));
}

void split_kick_off(struct virtq *vq)
{
	if (!vq->setup.event_idx)
		__atomic_store_n(&vq->split.used[0], 1, __ATOMIC_RELAXED);
}

bool split_kick_on(struct virtq *vq)
{
	if (vq->setup.event_idx)
		__atomic_store_n(avail_event(vq), vq->parsed, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&vq->split.used[0], 0, __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_seq_cst);
	return load_acquire(&vq->split.avail[1]) != vq->parsed ||
		vq->resubmit_parsed < vq->n_resubmit;
}
