/*
 * The packed ring (virtio 1.2, 2.8), in the order of the data path: fill, take, publish,
 * notifications.
 *
 * A descriptor is loaded as two words. The word with its flags comes first, with acquire: length,
 * id and flags are then from one moment, and the address is not older. What was loaded is kept by
 * ring slot (`copies`), because taking enters the descriptors into the in-flight region, and the
 * driver may have changed them meanwhile.
 *
 * The flags of a batch's first used descriptor are stored last. The driver looks at the first
 * before all others, so it sees the whole batch at once.
 *
 * In order (VIRTIO_F_IN_ORDER), a batch has one used descriptor, with the id of its last chain at
 * the place of its first; the slots behind it are left as the driver wrote them.
 *
 * The in-flight region, as the vhost-user specification has it, is a list of free entries, and
 * copies of descriptors in the entries that are not free:
 *   take     fill entries of the free list, then move both heads of the list behind them by one
 *            store
 *   publish  put the entries back before the present head, move the present used position, write
 *            the ring (now the driver sees the batch), clear the marks, let both old_ fields follow
 * If the present and the old position differ, a successor looks at the ring to find out which one
 * is true. The VMM shares the region, so nothing is ever read from it while the ring runs.
 */
#include "virtq/packed.h"

#include <errno.h>
#include <stdlib.h>

#include "virtq/chain.h"
#include "virtq/packed-pos.h"

int packed_new(struct virtq *vq)
{
	vq->ring.copies = lazy_new(vq->size, DESC_BYTES);
	vq->ring.next = lazy_new(vq->size, sizeof(*vq->ring.next));
	return vq->ring.copies && vq->ring.next ? 0 : -ENOMEM;
}

void packed_free(struct virtq *vq)
{
	lazy_free(vq->ring.copies, vq->size, DESC_BYTES);
	lazy_free(vq->ring.next, vq->size, sizeof(*vq->ring.next));
	free(vq->ring.again);
	free(vq->ring.again_next);
	free(vq->ring.again_num);
}

int packed_map(struct virtq *vq)
{
	const struct ring_part parts[3] = {
		{ vq->setup.desc, DESC_BYTES * (uint64_t)vq->size, 16, MAP_READ_WRITE },
		{ vq->setup.avail, sizeof(uint32_t), 4, MAP_READ },
		{ vq->setup.used, sizeof(uint32_t), 4, MAP_WRITE },
	};
	struct map_span spans[3];

	for (unsigned int i = 0; i < 3; i++) {
		int r = ring_part(vq, &parts[i], &spans[i]);

		if (r != 0)
			return r;
	}
	vq->ring.desc = (void *)spans[0].mem;
	vq->ring.desc_gpa = spans[0].gpa;
	vq->ring.driver = (const void *)spans[1].mem;
	vq->ring.device = (void *)spans[2].mem;
	vq->ring.device_gpa = spans[2].gpa;
	return 0;
}

/* --- Fill --- */

static inline struct desc load_rest(struct virtq *vq, uint16_t pos, uint64_t word1)
{
	uint64_t *copy = &vq->ring.copies[2 * (size_t)(pos & ~POS_WRAP)];

	copy[0] = guest_load(pos_words(vq, pos));
	copy[1] = word1;
	return desc_of(copy[0], copy[1], true);
}

static int give_up(struct virtq *vq, struct slot *slot, const char *rule)
{
	slot_put(vq, slot);
	return rule ? ring_broken(vq, rule) : PARSE_E_LATER;
}

static const char *judge_id(const struct virtq *vq, uint16_t id)
{
	if (id >= vq->size)
		return "a buffer id is outside the ring";
	return vq->busy[id] ? "a buffer id was made available while it was in use" : NULL;
}

static inline void push(struct virtq *vq, struct slot *slot, uint16_t id, uint32_t n)
{
	slot->pos = vq->parsed;
	window_push(vq, slot, id, n);
	vq->parsed = pos_advance(vq, vq->parsed, n);
	vq->ring.live_slots += n;
}

/* A chain of any form into the window. 0 | PARSE_E_LATER | VIRTQ_E_BROKEN */
static int parse_chain(struct virtq *vq, struct slot *slot, struct desc desc)
{
	uint16_t pos = vq->parsed;
	const char *rule;
	uint32_t n = 1;

	blame_head(vq,
		desc.link); /* only the last one's id counts, but most drivers write it into each */
	for (;;) {
		bool indirect = desc.flags & VRING_DESC_F_INDIRECT;

		if ((indirect ? chain_indirect : chain_add)(vq, slot, &desc) != 0)
			return give_up(vq, slot, NULL);
		if (!(desc.flags & VRING_DESC_F_NEXT))
			break;
		if (n++ + vq->ring.live_slots == vq->size)
			return give_up(vq, slot, "a chain is longer than what is free of the ring");
		pos = pos_advance(vq, pos, 1);
		desc = load_rest(vq, pos, guest_load(pos_words(vq, pos) + 1));
	}
	rule = judge_id(vq, desc.link);
	if (rule)
		return give_up(vq, slot, rule);
	push(vq, slot, desc.link, n);
	return 0;
}

/* One more into the window. 0 | PARSE_E_NONE | PARSE_E_LATER | VIRTQ_E_BROKEN */
static inline int parse_next(struct virtq *vq)
{
	uint64_t word1 = guest_load_acquire(pos_words(vq, vq->parsed) + 1);
	struct slot *slot;
	struct desc desc;

	if (!pos_available((uint16_t)(word1 >> 48), vq->parsed))
		return PARSE_E_NONE;
	if (unlikely(vq->ring.live_slots == vq->size))
		return ring_broken(vq, "more descriptors were made available than the ring has");
	__builtin_prefetch(pos_words(vq, pos_advance(vq, vq->parsed, MIN(8u, vq->size))));
	desc = load_rest(vq, vq->parsed, word1);
	slot = slot_get(vq);
	if (unlikely(!chain_simple(vq, slot, &desc)))
		return parse_chain(vq, slot, desc);
	if (unlikely(desc.link >= vq->size) || unlikely(vq->busy[desc.link]))
		return give_up(vq, slot, judge_id(vq, desc.link));
	push(vq, slot, desc.link, 1);
	return 0;
}

/* A chain that a former worker had taken. It is parsed from the region's copies, as its ring slots
 * may have been reused. */
static int parse_copies(struct virtq *vq, uint16_t entry)
{
	struct slot *slot = slot_get(vq);
	uint16_t e = entry, n = vq->ring.again_num[entry];
	const char *rule;

	slot->entry = entry;
	for (uint16_t i = 0;; i++, e = vq->ring.again_next[e]) {
		const struct desc *desc = &vq->ring.again[e];

		if ((desc->flags & VRING_DESC_F_INDIRECT ? chain_indirect : chain_add)(vq, slot,
			    desc) != 0)
			return give_up(vq, slot, NULL);
		if (i + 1 == n)
			break;
	}
	slot->last = e;
	slot->again = true;
	rule = judge_id(vq, vq->ring.again[e].link);
	if (rule)
		return give_up(vq, slot, rule);
	window_push(vq, slot, vq->ring.again[e].link, n);
	return 0;
}

int packed_fill(struct virtq *vq, unsigned int n)
{
	int r = 0;

	while (r == 0 && vq->window_len < n && unlikely(vq->again_parsed < vq->n_again)) {
		r = parse_copies(vq, vq->again[vq->again_parsed]);
		vq->again_parsed += r == 0;
	}
	while (r == 0 && vq->window_len < n)
		r = parse_next(vq);
	return r == VIRTQ_E_BROKEN ? r : 0;
}

/* --- Take and publish --- */

/* Copy one chain's descriptors into entries of the free list; the caller moves the heads of the
 * list. */
static inline uint16_t enter(struct virtq *vq, struct slot *slot, uint16_t e, uint64_t counter)
{
	struct inflight_packed_desc *region = vq->ring.region->desc, *head = &region[e];
	uint16_t n = slot->chain.n_slots, pos = slot->pos;

	slot->entry = e;
	for (uint16_t i = 0; i < n; i++) {
		const uint64_t *copy = &vq->ring.copies[2 * (size_t)(pos & ~POS_WRAP)];

		region[e].id = (uint16_t)(copy[1] >> 32);
		region[e].flags = (uint16_t)(copy[1] >> 48);
		region[e].len = (uint32_t)copy[1];
		region[e].addr = copy[0];
		slot->last = e;
		e = vq->ring.next[e];
		pos = pos_advance(vq, pos, 1);
	}
	head->last = slot->last;
	head->num = n;
	head->counter = counter;
	head->inflight = 1;
	return e;
}

void packed_take(struct virtq *vq, unsigned int n)
{
	uint64_t counter = vq->counter;
	uint16_t e = vq->ring.free_head;
	uint32_t n_slots = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct slot *slot = window_take(vq, i);

		if (unlikely(slot->again)) {
			vq->window_slots -= slot->chain.n_slots;
			continue;
		}
		e = enter(vq, slot, e, counter++);
		n_slots += slot->chain.n_slots;
	}
	step();
	store_free(vq, e, e);
	step();
	vq->window_slots -= n_slots;
	vq->counter = counter;
	vq->ring.free_head = e;
	vq->taken = pos_advance(vq, vq->taken, n_slots);
	vq->ledger->avail_idx = vq->taken;
}

/* Link the batch's entries before the head of the free list. Returns the new head, which the caller
 * stores. */
static uint16_t free_entries(struct virtq *vq, uint32_t *ret_slots)
{
	uint16_t head = vq->ring.free_head;

	for (uint32_t i = 0; i < vq->n_staged; i++) {
		const struct staged *staged = &vq->staged[i];

		*ret_slots += staged->n_slots;
		vq->ring.next[staged->last] = head;
		vq->ring.region->desc[staged->last].next = head;
		head = staged->entry;
	}
	return head;
}

static uint64_t used_word(const struct staged *staged, uint16_t pos)
{
	uint16_t flags = (pos & POS_WRAP ? DESC_F_AVAIL | DESC_F_USED : 0) |
		(staged->len ? VRING_DESC_F_WRITE : 0);

	return staged->len | (uint64_t)staged->id << 32 | (uint64_t)flags << 48;
}

/* The last staged chain for which the one used descriptor at *pos may stand, from the i-th on; *pos
 * moves behind it. Each lap begins with a used descriptor, so that a look at the ring tells whether
 * its driver has begun anew (recover.c). */
static inline uint32_t pass_batch(const struct virtq *vq, uint32_t i, uint16_t *pos)
{
	uint16_t lap = *pos & POS_WRAP;

	*pos = pos_advance(vq, *pos, vq->staged[i].n_slots);
	while (vq->staged[i].spoken_for && i + 1 < vq->n_staged && (*pos & POS_WRAP) == lap)
		*pos = pos_advance(vq, *pos, vq->staged[++i].n_slots);
	return i;
}

static void write_used(struct virtq *vq)
{
	uint16_t pos = vq->used;
	uint32_t last = pass_batch(vq, 0, &pos);
	uint64_t first = used_word(&vq->staged[last], vq->used);

	while (++last < vq->n_staged) {
		uint16_t at = pos;

		last = pass_batch(vq, last, &pos);
		guest_store(pos_words(vq, at) + 1, used_word(&vq->staged[last], at));
		step();
	}
	guest_store_release(pos_words(vq, vq->used) + 1, first);
}

/* The driver has the batch: its chains are no longer in flight. */
static inline void clear_marks(struct virtq *vq)
{
	struct inflight_packed_desc *region = vq->ring.region->desc;
	const struct staged *staged = vq->staged, *end = staged + vq->n_staged;
	uint8_t *busy = vq->busy;

	for (; staged < end; staged++) {
		busy[staged->id] = 0;
		region[staged->entry].inflight = 0;
		step();
	}
}

/*
 * Descriptors from pos on, over n slots of the ring, were written.
 *
 * vhost-user has one address for the log of a ring, and says what it means for a used ring alone.
 * In a packed ring the device writes in two places: descriptors, and its event area. QEMU gives the
 * address of the latter, other back-ends take it for the former. So that address is left aside:
 * both are marked where they lie in guest memory, whether the ring's flag is set or not. A mark too
 * many costs one page more to copy; one too few costs the guest its ring.
 */
static __attribute__((cold)) void mark_descs(const struct virtq *vq, uint16_t pos, uint32_t n)
{
	uint32_t at = pos & ~POS_WRAP, up_to_end = MIN(n, vq->size - at);
	struct gpa ring = vq->ring.desc_gpa;

	map_mark_dirty(vq->map, (struct gpa){ ring.val + DESC_BYTES * (uint64_t)at },
		DESC_BYTES * (uint64_t)up_to_end);
	map_mark_dirty(vq->map, ring, DESC_BYTES * (uint64_t)(n - up_to_end));
}

void packed_mark_ring(const struct virtq *vq)
{
	mark_descs(vq, 0, vq->size);
	map_mark_dirty(vq->map, vq->ring.device_gpa, sizeof(*vq->ring.device));
}

void packed_publish(struct virtq *vq)
{
	uint32_t n_slots = 0;
	uint16_t head = free_entries(vq, &n_slots), used = pos_advance(vq, vq->used, n_slots);

	step();
	store_free(vq, head, vq->ring.free_head);
	step();
	store_used(vq, used, vq->used);
	step();
	write_used(vq);
	step();
	if (unlikely(vq->map->log))
		mark_descs(vq, vq->used, n_slots);
	clear_marks(vq);
	store_free(vq, head, head);
	step();
	store_used(vq, used, used);
	step();
	vq->ledger->used_idx = used;
	vq->ring.free_head = head;
	vq->used = used;
	vq->ring.live_slots -= n_slots;
	vq->since_call += n_slots;
}

/* --- Notifications --- */

bool packed_call_due(struct virtq *vq)
{
	uint32_t wish;
	uint16_t flags, event;

	full_fence();
	wish = guest_load(vq->ring.driver);
	flags = (uint16_t)(wish >> 16);
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !vq->event_idx || !vq->call_known ||
		vq->since_call >= vq->size)
		return true;
	event = wish & 0x7fff;
	if ((wish ^ vq->used) & POS_WRAP) /* of the lap before */
		event = (uint16_t)(event - vq->size);
	return (uint16_t)((vq->used & ~POS_WRAP) - event - 1) < vq->since_call;
}

static void write_event(struct virtq *vq, uint32_t wish)
{
	guest_store(vq->ring.device, wish);
	map_mark_dirty(vq->map, vq->ring.device_gpa, sizeof(wish));
}

void packed_kick_off(struct virtq *vq)
{
	write_event(vq, (uint32_t)VRING_PACKED_EVENT_FLAG_DISABLE << 16);
}

bool packed_kick_on(struct virtq *vq)
{
	uint32_t wish = (uint32_t)VRING_PACKED_EVENT_FLAG_ENABLE << 16;

	if (vq->event_idx)
		wish = vq->parsed | (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << 16;
	write_event(vq, wish);
	full_fence();
	return pos_available((uint16_t)(guest_load_acquire(pos_words(vq, vq->parsed) + 1) >> 48),
		vq->parsed);
}
