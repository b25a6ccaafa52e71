/*
 * How a ring starts: anew from a base (begin), where a former worker of ours left it (recover), or
 * where another device left it, as a region tells that the VMM has kept (adopt).
 *
 * The ledger's start_id decides. It is cleared before a region is laid out and set afterwards, so a
 * death in between leaves a ring that is still new.
 *
 * Recovery derives everything from the ring and the in-flight region. The positions in the ledger
 * are there for readers, and are written anew. The VMM shares the region, so recovery copies it,
 * checks the whole copy, and only then corrects the region in place. A successor would make each
 * correction again, so a death here costs nothing. No VMM ever sees the ledger itself.
 *
 * While there is a dirty log, all that is written here counts as written by the former worker, and
 * is marked when the ring has started (virtq.c). A successor does so again.
 *
 * An adopted region is right where the VMM's base may be wrong: a VMM that lost its back-end can
 * only guess where the ring stood. The region knows nothing of a driver that has begun the ring
 * anew since. Such a ring has nothing in flight and does not fit the region; it begins at the base.
 *
 * Split: see the head of split.c. Counters are dealt anew, oldest first, so the order is right at
 *        any moment.
 *
 * Packed: a batch that was not published may have left used descriptors in the ring slots behind
 * its first one, whose flags are written last. The driver would take them for published as soon as
 * the first one is used. So all slots between the used and the available position are made to look
 * unused.
 */
#include "virtq/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "virtq/packed-pos.h"
#include "virtq/place.h"

static void ledger_begin(struct virtq *vq)
{
	vq->ledger->start_id = 0;
	step();
	vq->ledger->size = (uint16_t)vq->size;
	vq->ledger->packed = vq->packed;
	vq->ledger->broken = 0;
}

static void ledger_positions(struct virtq *vq)
{
	vq->parsed = vq->taken;
	vq->ledger->avail_idx = vq->taken;
	vq->ledger->used_idx = vq->used;
	step();
	vq->ledger->start_id = vq->setup.start_id;
}

/* A private copy of the region; NULL: no memory. */
static void *copy_region(const struct virtq *vq, const void *region)
{
	size_t n = inflight_bytes(vq->size, vq->packed);
	void *copy = malloc(n);

	if (copy)
		memcpy(copy, region, n);
	atomic_signal_fence(memory_order_seq_cst);
	return copy;
}

static int by_counter(const void *a, const void *b, void *data)
{
	const uint64_t *counters = data;
	uint16_t x = *(const uint16_t *)a, y = *(const uint16_t *)b;

	if (counters[x] != counters[y])
		return counters[x] < counters[y] ? -1 : 1;
	return (x > y) - (x < y);
}

static int sort_again(struct virtq *vq, uint64_t *counters)
{
	qsort_r(vq->again, vq->n_again, sizeof(*vq->again), by_counter, counters);
	vq->counter = vq->n_again;
	vq->call_known = false;
	vq->since_call = 1; /* the former worker may have died before it called the driver */
	return 0;
}

#define CLEAR_BY_PAGE 65536 /* smaller regions are written */

/* A region is as long as its ring, however little of it is used. So a large one gives its whole
 * pages back to the system; where that is impossible, since the file has no holes or there is no
 * file, the region is written. */
static void clear_region(void *region, size_t n)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)region;
	size_t first = align_up(at, page) - at, last = (at + n) % page;

	if (n < CLEAR_BY_PAGE ||
		madvise((uint8_t *)region + first, n - first - last, MADV_REMOVE) < 0) {
		memset(region, 0, n);
		return;
	}
	memset(region, 0, first);
	memset((uint8_t *)region + n - last, 0, last);
}

/* --- Split --- */

int split_begin(struct virtq *vq)
{
	struct inflight_split *region = vq->split.region;

	if (vq->setup.base > UINT16_MAX)
		return VIRTQ_E_BASE;
	ledger_begin(vq);
	vq->used = guest_load_acquire(&vq->split.used[1]);
	vq->place = split_find_place(vq, (uint16_t)vq->setup.base);
	vq->taken = vq->place == VIRTQ_FOUND ? vq->used : (uint16_t)vq->setup.base;
	vq->ledger->skew = (uint16_t)(vq->taken - vq->used);
	region->version = 0;
	step();
	clear_region(region, sizeof(*region) + vq->size * sizeof(region->desc[0]));
	region->desc_num = (uint16_t)vq->size;
	region->used_idx = vq->used;
	step();
	region->version = INFLIGHT_VERSION;
	vq->since_call = vq->used != 0;
	ledger_positions(vq);
	return 0;
}

/* The last batch was published, but its marks may still be set: all of it is walked. */
static int split_finish_batch(struct virtq *vq, struct inflight_split *copy)
{
	struct inflight_split *region = vq->split.region;
	uint16_t used = guest_load_acquire(&vq->split.used[1]), head = copy->last_batch_head;
	uint16_t n = (uint16_t)(used - copy->used_idx);

	if (n > vq->size)
		return VIRTQ_E_BROKEN;
	for (uint16_t i = 0; i < n; i++, head = copy->desc[head].next)
		if (head >= vq->size)
			return VIRTQ_E_BROKEN;
	for (head = copy->last_batch_head; n; n--, head = copy->desc[head].next) {
		copy->desc[head].inflight = 0;
		region->desc[head].inflight = 0;
		step();
	}
	region->used_idx = used;
	step();
	vq->used = used;
	return 0;
}

static int split_go_on(struct virtq *vq, struct inflight_split *copy)
{
	_cleanup_free_ uint64_t *counters = calloc(vq->size, sizeof(*counters));
	int r;

	if (!counters)
		return -ENOMEM;
	if (copy->version != INFLIGHT_VERSION || copy->desc_num != vq->size)
		return VIRTQ_E_BROKEN;
	r = split_finish_batch(vq, copy);
	if (r != 0)
		return r;
	for (uint32_t i = 0; i < vq->size; i++) {
		counters[i] = copy->desc[i].counter;
		if (copy->desc[i].inflight)
			vq->again[vq->n_again++] = (uint16_t)i;
	}
	sort_again(vq, counters);
	for (uint32_t i = 0; i < vq->n_again; i++) {
		vq->split.region->desc[vq->again[i]].counter = i;
		step();
	}
	vq->split.last_batch_head = copy->last_batch_head;
	vq->taken = (uint16_t)(vq->used + vq->n_again + vq->ledger->skew);
	ledger_positions(vq);
	return 0;
}

int split_recover(struct virtq *vq)
{
	_cleanup_free_ struct inflight_split *copy = copy_region(vq, vq->split.region);

	return copy ? split_go_on(vq, copy) : -ENOMEM;
}

/* Nothing is in flight, and the used index is none that the region could have come to. */
static bool split_is_another_life(const struct virtq *vq, const struct inflight_split *copy)
{
	uint16_t used = guest_load_acquire(&vq->split.used[1]);

	for (uint32_t i = 0; i < vq->size; i++)
		if (copy->desc[i].inflight)
			return false;
	return (uint16_t)(used - copy->used_idx) > vq->size;
}

int split_adopt(struct virtq *vq)
{
	_cleanup_free_ struct inflight_split *copy = copy_region(vq, vq->split.region);

	if (!copy)
		return -ENOMEM;
	if (copy->version == 0 || split_is_another_life(vq, copy))
		return split_begin(vq);
	ledger_begin(vq);
	vq->ledger->skew = 0;
	return split_go_on(vq, copy);
}

/* --- Packed --- */

/* Whether the driver has never seen a used descriptor. At slot 0 with a wrap counter of 0 it would
 * have seen some. So if it has not, a front-end that gives base 0 does not know of wrap counters,
 * which begin at 1. */
static bool is_untouched(const struct virtq *vq)
{
	for (uint16_t i = 0; i < vq->size; i++)
		if (guest_load(pos_words(vq, i) + 1) >> 48 & DESC_F_USED)
			return false;
	return true;
}

/* Older front-ends give only the available half of a base; nothing is in flight then. */
static int packed_base(struct virtq *vq)
{
	uint32_t base = vq->setup.base;
	uint16_t found = 0;

	if (base == 0 && is_untouched(vq))
		base = POS_WRAP;
	vq->taken = (uint16_t)base;
	vq->used = base >> 16 ? (uint16_t)(base >> 16) : vq->taken;
	if ((vq->taken & ~POS_WRAP) >= vq->size || (vq->used & ~POS_WRAP) >= vq->size ||
		packed_distance(vq, vq->used, vq->taken) > vq->size)
		return VIRTQ_E_BASE;
	vq->place = packed_find_place(vq, vq->used, &found);
	if (vq->place == VIRTQ_FOUND)
		vq->used = found;
	if (vq->place == VIRTQ_FOUND || vq->in_order)
		vq->taken = vq->used;
	return 0;
}

int packed_begin(struct virtq *vq)
{
	struct inflight_packed *region = vq->ring.region;
	int r = packed_base(vq);

	if (r != 0)
		return r;
	ledger_begin(vq);
	vq->ring.live_slots = packed_distance(vq, vq->used, vq->taken);
	vq->ledger->skew = (uint16_t)vq->ring.live_slots;
	region->version = 0;
	step();
	clear_region(region, sizeof(*region) + vq->size * sizeof(region->desc[0]));
	for (uint32_t i = 0; i < vq->size; i++)
		vq->ring.next[i] = region->desc[i].next = (uint16_t)(i + 1);
	region->desc_num = (uint16_t)vq->size;
	store_used(vq, vq->used, vq->used);
	step();
	region->version = INFLIGHT_VERSION;
	vq->since_call = vq->used != POS_WRAP;
	ledger_positions(vq);
	return 0;
}

/* Find out which of the present and the committed state is true. */
static int packed_choose_state(struct virtq *vq, const struct inflight_packed *copy)
{
	const struct inflight_packed_used *used = &copy->used;
	uint16_t now = (uint16_t)(used->idx | (used->wrap ? POS_WRAP : 0));
	uint16_t old = (uint16_t)(used->old_idx | (used->old_wrap ? POS_WRAP : 0));
	bool published;

	if (used->idx >= vq->size || used->old_idx >= vq->size || copy->free.head > vq->size ||
		copy->free.old_head > vq->size)
		return VIRTQ_E_BROKEN;
	published = now != old &&
		!pos_available((uint16_t)(guest_load_acquire(pos_words(vq, old) + 1) >> 48), old);
	vq->used = published ? now : old;
	vq->ring.free_head = published ? copy->free.head : copy->free.old_head;
	return 0;
}

/* Walk the free list. Adds the number of its entries to *count. */
static int packed_walk_free(struct virtq *vq, const struct inflight_packed *copy, uint8_t *owned,
	uint32_t *count)
{
	for (uint16_t e = vq->ring.free_head; e < vq->size; e = copy->desc[e].next, ++*count) {
		if (owned[e])
			return VIRTQ_E_BROKEN;
		owned[e] = 1;
	}
	return 0;
}

/* One chain's entries. */
static int packed_walk_chain(struct virtq *vq, const struct inflight_packed *copy, uint16_t head,
	uint8_t *owned)
{
	uint16_t n = copy->desc[head].num, e = head;

	if (n == 0)
		return VIRTQ_E_BROKEN;
	for (uint16_t i = 0; i < n; i++, e = copy->desc[e].next) {
		const struct inflight_packed_desc *desc = e < vq->size ? &copy->desc[e] : NULL;

		if (!desc || owned[e])
			return VIRTQ_E_BROKEN;
		owned[e] = 1;
		vq->ring.again[e] = (struct desc){ desc->addr, desc->len, desc->flags, desc->id };
	}
	vq->ring.again_num[head] = n;
	vq->again[vq->n_again++] = head;
	return 0;
}

/* Every entry is free, or in one chain; *ret_slots: how many are in chains. */
static int packed_divide(struct virtq *vq, const struct inflight_packed *copy, uint32_t *ret_slots)
{
	_cleanup_free_ uint8_t *owned = calloc(vq->size, 1);
	uint32_t n_free = 0, n_slots = 0;
	int r;

	if (!owned)
		return -ENOMEM;
	r = packed_walk_free(vq, copy, owned, &n_free);
	if (r != 0)
		return r;
	for (uint32_t e = 0; e < vq->size; e++) {
		vq->ring.next[e] = vq->ring.again_next[e] = copy->desc[e].next;
		if (!copy->desc[e].inflight || owned[e])
			continue;
		r = packed_walk_chain(vq, copy, (uint16_t)e, owned);
		if (r != 0)
			return r;
		n_slots += copy->desc[e].num;
	}
	*ret_slots = n_slots;
	return n_free + n_slots == vq->size ? 0 : VIRTQ_E_BROKEN;
}

static void packed_hide_unpublished(struct virtq *vq)
{
	uint16_t pos = vq->used;

	for (uint32_t i = 0; i < vq->ring.live_slots; i++, pos = pos_advance(vq, pos, 1)) {
		uint64_t *words = pos_words(vq, pos), used = (uint64_t)DESC_F_USED << 48;
		uint64_t word1 = guest_load(words + 1);
		uint16_t wrap = pos & POS_WRAP ? DESC_F_AVAIL | DESC_F_USED : 0;

		if ((word1 >> 48 & (DESC_F_AVAIL | DESC_F_USED)) != wrap)
			continue;
		guest_store(words + 1, word1 ^ used);
		step();
	}
}

static int packed_allocate_again(struct virtq *vq)
{
	vq->ring.again = calloc(vq->size, sizeof(*vq->ring.again));
	vq->ring.again_next = calloc(vq->size, sizeof(*vq->ring.again_next));
	vq->ring.again_num = calloc(vq->size, sizeof(*vq->ring.again_num));
	return vq->ring.again && vq->ring.again_next && vq->ring.again_num ? 0 : -ENOMEM;
}

static int packed_deal_counters(struct virtq *vq, const struct inflight_packed *copy)
{
	_cleanup_free_ uint64_t *counters = calloc(vq->size, sizeof(*counters));

	if (!counters)
		return -ENOMEM;
	for (uint32_t e = 0; e < vq->size; e++)
		counters[e] = copy->desc[e].counter;
	sort_again(vq, counters);
	for (uint32_t i = 0; i < vq->n_again; i++) {
		vq->ring.region->desc[vq->again[i]].counter = i;
		step();
	}
	return 0;
}

/* Make present and committed state say the same. An entry on the free list is not in flight,
 * whatever its mark says. */
static void packed_finish_batch(struct virtq *vq, const struct inflight_packed *copy)
{
	store_free(vq, vq->ring.free_head, vq->ring.free_head);
	step();
	store_used(vq, vq->used, vq->used);
	step();
	for (uint32_t e = vq->ring.free_head; e < vq->size; e = copy->desc[e].next) {
		if (!copy->desc[e].inflight)
			continue;
		vq->ring.region->desc[e].inflight = 0;
		step();
	}
}

static int packed_go_on(struct virtq *vq, const struct inflight_packed *copy)
{
	uint32_t n_slots = 0;
	int r;

	if (packed_allocate_again(vq) < 0)
		return -ENOMEM;
	if (copy->version != INFLIGHT_VERSION || copy->desc_num != vq->size)
		return VIRTQ_E_BROKEN;
	r = packed_choose_state(vq, copy);
	if (r != 0)
		return r;
	r = packed_divide(vq, copy, &n_slots);
	if (r != 0)
		return r;
	vq->ring.live_slots = n_slots + vq->ledger->skew;
	if (vq->ring.live_slots > vq->size)
		return VIRTQ_E_BROKEN;
	packed_finish_batch(vq, copy);
	packed_hide_unpublished(vq);
	r = packed_deal_counters(vq, copy);
	if (r != 0)
		return r;
	vq->taken = pos_advance(vq, vq->used, vq->ring.live_slots);
	ledger_positions(vq);
	return 0;
}

int packed_recover(struct virtq *vq)
{
	_cleanup_free_ struct inflight_packed *copy = copy_region(vq, vq->ring.region);

	return copy ? packed_go_on(vq, copy) : -ENOMEM;
}

/* Whether the ring is as a driver begins it: what it made available so far, and then zeros. */
static bool is_as_begun(const struct virtq *vq)
{
	const uint16_t both = DESC_F_AVAIL | DESC_F_USED;
	uint16_t seen, last = DESC_F_AVAIL;

	for (uint16_t i = 0; i < vq->size; i++, last = seen) {
		seen = guest_load(pos_words(vq, i) + 1) >> 48 & both;
		if (seen & DESC_F_USED || (seen && !last))
			return false;
	}
	return true;
}

/* Nothing is in flight, and the ring has just begun, while the region tells of what was used. A
 * ring that has been used all round looks so too, where a lap begins: behind a last chain that lay
 * across the end. */
static bool packed_is_another_life(const struct virtq *vq, const struct inflight_packed *copy)
{
	uint16_t last = copy->free.head, idx = copy->used.idx;

	for (uint32_t i = 0; i < vq->size; i++)
		if (copy->desc[i].inflight)
			return false;
	if (copy->used.wrap && (idx == 0 || (last < vq->size && idx < copy->desc[last].num)))
		return false;
	return is_as_begun(vq);
}

int packed_adopt(struct virtq *vq)
{
	_cleanup_free_ struct inflight_packed *copy = copy_region(vq, vq->ring.region);

	if (!copy)
		return -ENOMEM;
	if (copy->version == 0 || packed_is_another_life(vq, copy))
		return packed_begin(vq);
	ledger_begin(vq);
	vq->ledger->skew = 0;
	return packed_go_on(vq, copy);
}
