/*
 * The split ring (virtio 1.2, 2.7), in the order of the data path: fill, take, publish,
 * notifications.
 *
 * Every descriptor is loaded once, as two words. Filling works in batches: it reads the heads of a
 * batch and prefetches their descriptors before it parses the first one. The driver's CPU wrote
 * these cache lines last, and so they arrive together.
 *
 * The in-flight region, as the vhost-user specification has it:
 *   take     write the counter, then the mark: a marked head always has its place in the order
 *   publish  link the batch, write the ring's index, clear the marks, write the region's index: if
 *            the two indices differ, a successor walks the batch and clears the marks itself
 * In order (VIRTIO_F_IN_ORDER), the used entry of a batch's last chain stands at the place of its
 * first, and the entries behind it are left as they are. The region has every chain.
 *
 * The number of marks is the distance between the used and the available position; a successor
 * relies on that.
 */
#include "virtq/split.h"

#include <string.h>

#include "virtq/chain.h"

#define FILL_BATCH 32
#define USED_BYTES(size, event_idx) (4 + 8 * (uint64_t)(size) + ((event_idx) ? 2 : 0))
#define CHAIN_DESCS_MAX (2 * VIRTQ_CHAIN_SPANS_MAX) /* some may be empty */

int split_map(struct virtq *vq)
{
	uint64_t n = vq->size, event = vq->event_idx ? 2 : 0;
	const struct ring_part parts[3] = {
		{ vq->setup.desc, DESC_BYTES * n, VRING_DESC_ALIGN_SIZE, MAP_READ },
		{ vq->setup.avail, 4 + 2 * n + event, VRING_AVAIL_ALIGN_SIZE, MAP_READ },
		{ vq->setup.used, USED_BYTES(n, vq->event_idx), VRING_USED_ALIGN_SIZE,
			MAP_READ_WRITE },
	};
	struct map_span spans[3];

	for (unsigned int i = 0; i < 3; i++) {
		int r = ring_part(vq, &parts[i], &spans[i]);

		if (r != 0)
			return r;
	}
	vq->split.desc = (const void *)spans[0].mem;
	vq->split.avail = (const void *)spans[1].mem;
	vq->split.used = (void *)spans[2].mem;
	vq->split.avail_seen = vq->taken;
	return 0;
}

/* --- Fill --- */

static struct desc load_desc(const struct virtq *vq, uint16_t i)
{
	const uint64_t *p = &vq->split.desc[2 * (size_t)i];

	return desc_of(guest_load(&p[0]), guest_load(&p[1]), false);
}

static int give_up(struct virtq *vq, struct slot *slot, const char *rule)
{
	slot_put(vq, slot);
	return rule ? ring_broken(vq, rule) : PARSE_E_LATER;
}

/* A chain of any form into the window. 0 | PARSE_E_LATER | VIRTQ_E_BROKEN */
static int parse_chain(struct virtq *vq, struct slot *slot, uint16_t head, struct desc desc)
{
	uint32_t n = 1;

	blame_head(vq, head);
	for (;;) {
		bool indirect = desc.flags & VRING_DESC_F_INDIRECT;

		if ((indirect ? chain_indirect : chain_add)(vq, slot, &desc) != 0)
			return give_up(vq, slot, NULL);
		/* a bad chain is completed by its head alone, so the rest of it need not be
		 * walked */
		if (indirect || !(desc.flags & VRING_DESC_F_NEXT) || slot->chain.bad)
			break;
		if (desc.link >= vq->size)
			return give_up(vq, slot, "a descriptor's next is outside the ring");
		if (n == vq->size)
			return give_up(vq, slot, "a chain of descriptors runs in a circle");
		if (n++ == CHAIN_DESCS_MAX)
			chain_bad(slot, "the chain has too many descriptors");
		desc = load_desc(vq, desc.link);
	}
	window_push(vq, slot, head, n);
	return 0;
}

static inline int parse_head(struct virtq *vq, uint16_t head)
{
	struct desc desc = load_desc(vq, head);
	struct slot *slot;

	if (unlikely(vq->busy[head]))
		return ring_broken(vq, "a descriptor was made available while it was in use");
	slot = slot_get(vq);
	if (unlikely(!chain_simple(vq, slot, &desc)))
		return parse_chain(vq, slot, head, desc);
	window_push(vq, slot, head, 1);
	return 0;
}

static int parse_again(struct virtq *vq, unsigned int n)
{
	while (vq->window_len < n && vq->again_parsed < vq->n_again) {
		int r = parse_head(vq, vq->again[vq->again_parsed]);

		if (r != 0)
			return r;
		window_slot(vq, vq->window_len - 1)->again = true;
		vq->again_parsed++;
	}
	return 0;
}

/* How many chains are available, at most n. 0 | PARSE_E_NONE | VIRTQ_E_BROKEN */
static inline int available(struct virtq *vq, unsigned int n, unsigned int *ret_n)
{
	uint16_t ready = (uint16_t)(vq->split.avail_seen - vq->parsed);

	if (ready < n) {
		vq->split.avail_seen = guest_load_acquire(&vq->split.avail[1]);
		ready = (uint16_t)(vq->split.avail_seen - vq->parsed);
		if (unlikely(ready > vq->size))
			return ring_broken(vq,
				"the available index is further ahead than the ring is long");
	}
	*ret_n = MIN(ready, n);
	return ready ? 0 : PARSE_E_NONE;
}

static int parse_batch(struct virtq *vq, unsigned int n)
{
	const uint16_t *ring = &vq->split.avail[2];
	uint16_t heads[FILL_BATCH], mask = (uint16_t)(vq->size - 1);

	for (unsigned int i = 0; i < n; i++) {
		heads[i] = guest_load(&ring[(vq->parsed + i) & mask]);
		if (unlikely(heads[i] >= vq->size))
			return ring_broken(vq, "an available entry is outside the ring");
		__builtin_prefetch(&vq->split.desc[2 * (size_t)heads[i]]);
	}
	for (unsigned int i = 0; i < n; i++) {
		int r = parse_head(vq, heads[i]);

		if (unlikely(r != 0))
			return r;
		vq->parsed++;
	}
	return 0;
}

int split_fill(struct virtq *vq, unsigned int n)
{
	unsigned int n_ready = 0;
	int r = 0;

	if (unlikely(vq->again_parsed < vq->n_again))
		r = parse_again(vq, n);
	while (r == 0 && vq->window_len < n) {
		r = available(vq, MIN(n - vq->window_len, (unsigned int)FILL_BATCH), &n_ready);
		if (r == 0)
			r = parse_batch(vq, n_ready);
	}
	return r == VIRTQ_E_BROKEN ? r : 0;
}

/* --- Take and publish --- */

void split_take(struct virtq *vq, unsigned int n)
{
	struct inflight_split_desc *region = vq->split.region->desc;
	uint64_t counter = vq->counter;
	uint16_t taken = vq->taken;
	uint32_t n_slots = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct slot *slot = window_take(vq, i);

		n_slots += slot->chain.n_slots;
		if (unlikely(slot->again))
			continue;
		region[slot->chain.id].counter = counter++;
		step();
		region[slot->chain.id].inflight = 1;
		step();
		taken++;
	}
	vq->window_slots -= n_slots;
	vq->counter = counter;
	vq->taken = taken;
	vq->ledger->avail_idx = taken;
}

/* The region knows the batch before the driver sees it. */
static void link_batch(struct virtq *vq)
{
	struct inflight_split *region = vq->split.region;
	uint16_t last = vq->split.last_batch_head;

	for (uint32_t i = 0; i < vq->n_staged; i++) {
		region->desc[vq->staged[i].id].next = last;
		last = (uint16_t)vq->staged[i].id;
	}
	step();
	region->last_batch_head = last;
	vq->split.last_batch_head = last;
}

/* Bytes of the used ring were written. The VMM says where they count for the log, which may be no
 * guest memory at all. */
static inline void mark_used(const struct virtq *vq, uint64_t offset, uint64_t n_bytes)
{
	if (unlikely(vq->map->log) && vq->setup.log)
		map_mark_dirty(vq->map, (struct gpa){ vq->setup.log_gpa.val + offset }, n_bytes);
}

/* The last staged chain for which the one used entry may stand, from the i-th on. */
static inline uint32_t batch_end(const struct virtq *vq, uint32_t i)
{
	while (vq->staged[i].spoken_for && i + 1 < vq->n_staged)
		i++;
	return i;
}

static void write_used(struct virtq *vq, uint16_t used)
{
	uint16_t *ring = &vq->split.used[2], mask = (uint16_t)(vq->size - 1);

	for (uint32_t i = 0, last; i < vq->n_staged; i = last + 1) {
		last = batch_end(vq, i);
		memcpy(&ring[4 * (size_t)((used + i) & mask)], &vq->staged[last], 8); /* id, len */
	}
}

/* The used index was moved over n entries from this one on. */
static __attribute__((cold)) void mark_entries(const struct virtq *vq, uint16_t from, uint32_t n)
{
	uint32_t at = from & (vq->size - 1), up_to_end = MIN(n, vq->size - at);

	mark_used(vq, 4 + 8 * (uint64_t)at, 8 * (uint64_t)up_to_end);
	mark_used(vq, 4, 8 * (uint64_t)(n - up_to_end));
	mark_used(vq, 2, 2);
}

void split_mark_ring(const struct virtq *vq)
{
	mark_used(vq, 0, USED_BYTES(vq->size, vq->event_idx));
}

void split_publish(struct virtq *vq)
{
	struct inflight_split *region = vq->split.region;
	uint16_t used = (uint16_t)(vq->used + vq->n_staged);

	link_batch(vq);
	write_used(vq, vq->used);
	step();
	guest_store_release(&vq->split.used[1], used);
	step();
	if (unlikely(vq->map->log))
		mark_entries(vq, vq->used, vq->n_staged);
	for (uint32_t i = 0; i < vq->n_staged; i++) {
		vq->busy[vq->staged[i].id] = 0;
		region->desc[vq->staged[i].id].inflight = 0;
	}
	step();
	region->used_idx = used;
	step();
	vq->ledger->used_idx = used;
	vq->used = used;
	vq->since_call += vq->n_staged;
}

/* --- Notifications --- */

bool split_call_due(struct virtq *vq)
{
	uint16_t event;

	full_fence();
	if (!vq->event_idx)
		return !(guest_load(&vq->split.avail[0]) & VRING_AVAIL_F_NO_INTERRUPT);
	if (!vq->call_known || vq->since_call > UINT16_MAX)
		return true;
	event = guest_load(&vq->split.avail[2 + vq->size]);
	return (uint16_t)(vq->used - event - 1) < (uint16_t)vq->since_call;
}

/* With an event index the driver ignores the flag, and an index that has been passed asks for no
 * kick. */
void split_kick_off(struct virtq *vq)
{
	if (vq->event_idx)
		return;
	guest_store(&vq->split.used[0], VRING_USED_F_NO_NOTIFY);
	mark_used(vq, 0, 2);
}

bool split_kick_on(struct virtq *vq)
{
	size_t event = vq->event_idx ? 2 + 4 * (size_t)vq->size
				     : 0; /* where it is said, in the used ring */

	guest_store(&vq->split.used[event], vq->event_idx ? vq->parsed : 0);
	mark_used(vq, 2 * event, 2);
	full_fence();
	return guest_load_acquire(&vq->split.avail[1]) != vq->parsed;
}
