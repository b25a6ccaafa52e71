/*
 * Where a ring stands when the VMM does not know: if its back-end died without answering
 * GET_VRING_BASE, the VMM gives a base that it remembers, or none. The ring itself shows its
 * position.
 *
 * Split: the used index is in the ring. A base is ahead of it by what is in flight, and by no more
 *        than the ring's size.
 *
 * Packed: driver and device both write a descriptor's flags with AVAIL at the value of the present
 * lap. So the driver stands where AVAIL changes, and the value tells its lap. The slots before that
 * place are available, back to where the device stands. But the device leaves all descriptors of a
 * chain but the first as they were, so those of the last used chain look available as well. They
 * carry that chain's buffer id. The chain that the driver posted next may carry the same id; but
 * where chains have several descriptors, other used chains have left such slots behind, too, and
 * that tells the two cases apart. All this relies on a device that completes in order, as ours
 * does.
 *
 * In order (VIRTIO_F_IN_ORDER) a used descriptor may stand for a batch, and the slots of all its
 * chains but the first look available. The used descriptor has the id of the batch's last chain.
 * Drivers that use this layout in order take the number of a chain's first slot as its id, so that
 * id tells where the batch ends. If ids are others, or the driver has come round to the used
 * descriptor since, the ring does not tell; but no batch reaches from one lap into the next. And
 * what is in flight cannot be left out: a ring goes on where it was used last, whatever the base
 * says.
 *
 * A base that the ring does not contradict is taken, and a ring that nobody has written to
 * contradicts none. A base at slot 0 is likely to be a guess; it is taken only if the ring shows
 * just that position.
 */
#include "virtq/place.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "virtq/packed-pos.h"

/** struct picture - one look at a packed ring; the guest may write meanwhile */
struct picture {
	uint16_t *flags, *ids; /* of each slot; one allocation with the next */
	uint16_t *written;     /* whether it ever had a buffer */
	uint16_t driver;       /* where the driver stands */
	uint32_t n_avail;      /* slots before that that look available, one behind the other */
};

static uint16_t slot_of(uint16_t pos)
{
	return pos & (uint16_t)~POS_WRAP;
}

static bool looks_available(const struct picture *picture, uint32_t slot)
{
	uint16_t flags = picture->flags[slot];

	return !(flags & DESC_F_AVAIL) != !(flags & DESC_F_USED);
}

static uint16_t back(const struct virtq *vq, uint16_t pos, uint32_t n)
{
	uint32_t slot = pos & ~POS_WRAP;

	if (slot >= n)
		return (uint16_t)(pos - n);
	return (uint16_t)((slot + vq->size - n) | (~pos & POS_WRAP));
}

/* False: AVAIL changes in more than one place, so the driver is just writing a chain. */
static bool find_driver(const struct virtq *vq, struct picture *picture)
{
	uint16_t first = picture->flags[0] & DESC_F_AVAIL;
	uint32_t at = 1;

	while (at < vq->size && (picture->flags[at] & DESC_F_AVAIL) == first)
		at++;
	for (uint32_t i = at; i < vq->size; i++)
		if ((picture->flags[i] & DESC_F_AVAIL) == first)
			return false;
	if (at == vq->size)
		picture->driver = first ? 0 : POS_WRAP;
	else
		picture->driver = (uint16_t)(at | (first ? POS_WRAP : 0));
	return true;
}

static bool take_picture(const struct virtq *vq, struct picture *picture)
{
	for (uint32_t i = 0; i < vq->size; i++) {
		uint64_t word = guest_load_acquire(pos_words(vq, (uint16_t)i) + 1);

		picture->ids[i] = (uint16_t)(word >> 32);
		picture->flags[i] = (uint16_t)(word >> 48);
		picture->written[i] = guest_load(pos_words(vq, (uint16_t)i)) != 0;
	}
	if (!find_driver(vq, picture))
		return false;
	for (picture->n_avail = 0; picture->n_avail < vq->size; picture->n_avail++)
		if (!looks_available(picture,
			    back(vq, picture->driver, picture->n_avail + 1) & ~POS_WRAP))
			break;
	return true;
}

#define NO_ID UINT32_MAX
#define SINGLES_MIN 16 /* used slots that show it; in a small ring half of all */

/* Whether chains have one descriptor each: then no used chain has left a slot behind that looks
 * available. */
static bool are_singles(const struct virtq *vq, const struct picture *picture)
{
	uint32_t n_used = 0;

	for (uint32_t n = picture->n_avail + 1; n <= vq->size; n++) {
		uint16_t slot = back(vq, picture->driver, n) & (uint16_t)~POS_WRAP;

		if (looks_available(picture, slot))
			return false;
		n_used += picture->written[slot];
	}
	return n_used >= MIN((uint32_t)SINGLES_MIN, (vq->size + 1) / 2);
}

/* Whether the slots from pos to the driver are whole chains, each with an id of its own; the first
 * chain's id. */
static bool are_chains(const struct virtq *vq, const struct picture *picture, uint16_t pos,
	uint16_t *ret_id)
{
	_cleanup_free_ uint8_t *seen = calloc(vq->size, 1);
	bool whole = true, first = true;

	for (uint32_t n = picture->n_avail; seen && n; n--, pos = pos_advance(vq, pos, 1)) {
		uint16_t slot = pos & (uint16_t)~POS_WRAP, id = picture->ids[slot];

		whole = !(picture->flags[slot] & VRING_DESC_F_NEXT);
		if (!whole)
			continue;
		if (id >= vq->size || seen[id])
			return false;
		seen[id] = 1;
		if (first)
			*ret_id = id;
		first = false;
	}
	return seen && whole;
}

/* As find_device(), in order. *ret_pos is where slots begin to look available: behind a used
 * descriptor, unless all of them do. */
static bool find_batch_end(const struct virtq *vq, const struct picture *picture, uint16_t *ret_pos)
{
	bool all = picture->n_avail == vq->size, by_slot = true; /* ids behind *ret_pos are right */
	uint16_t begin = *ret_pos, pos = begin, head = begin, used = slot_of(back(vq, begin, 1));
	uint32_t last = all ? NO_ID : picture->ids[used];
	bool ended = all ? slot_of(begin) == 0 : last == used;

	if (!all && !picture->written[used])
		return true; /* nothing was ever used */
	for (uint32_t n = picture->n_avail; n; n--) {
		uint16_t slot = slot_of(pos), id = picture->ids[slot];
		bool rest = head == begin && last == used; /* of the used chain itself */

		pos = pos_advance(vq, pos, 1);
		if (picture->flags[slot] & VRING_DESC_F_NEXT)
			continue;
		if (id == last && (rest || id == slot_of(head))) {
			*ret_pos = pos;
			ended = by_slot = true;
		} else {
			by_slot &= id == slot_of(head);
		}
		head = pos;
	}
	return ended && by_slot && head == pos;
}

/* Where the device stands; false: the ring does not tell. */
static bool find_device(const struct virtq *vq, const struct picture *picture, uint16_t *ret_pos)
{
	uint16_t pos = back(vq, picture->driver, picture->n_avail), id = 0, before;

	*ret_pos = pos;
	if (picture->n_avail == 0)
		return true;
	if (vq->in_order)
		return find_batch_end(vq, picture, ret_pos);
	if (!are_chains(vq, picture, pos, &id))
		return false;
	if (picture->n_avail == vq->size)
		return true;
	before = slot_of(back(vq, pos, 1));
	return id != picture->ids[before] || !picture->written[before] || are_singles(vq, picture);
}

static bool is_unwritten(const struct virtq *vq, const struct picture *picture)
{
	for (uint32_t i = 0; i < vq->size; i++)
		if (picture->written[i] || picture->flags[i])
			return false;
	return true;
}

enum virtq_place packed_find_place(const struct virtq *vq, uint16_t base, uint16_t *ret_pos)
{
	_cleanup_free_ uint16_t *all = calloc(3 * (size_t)vq->size, sizeof(*all));
	struct picture picture;

	if (!all)
		return VIRTQ_AS_TOLD;
	picture = (struct picture){
		.flags = all, .ids = all + vq->size, .written = all + 2 * (size_t)vq->size
	};
	/* a driver that is just writing a chain has moved on by the next look */
	for (int i = 0; i < 3; i++) {
		if (!take_picture(vq, &picture))
			continue;
		if (is_unwritten(vq, &picture))
			return VIRTQ_AS_TOLD;
		if ((base & ~POS_WRAP) &&
			packed_distance(vq, base, picture.driver) <= picture.n_avail)
			return VIRTQ_AS_TOLD;
		if (!find_device(vq, &picture, ret_pos))
			return VIRTQ_LOST;
		return *ret_pos == base ? VIRTQ_AS_TOLD : VIRTQ_FOUND;
	}
	return VIRTQ_AS_TOLD;
}

enum virtq_place split_find_place(const struct virtq *vq, uint16_t base)
{
	uint16_t avail = guest_load_acquire(&vq->split.avail[1]);

	uint16_t ahead = (uint16_t)(base - vq->used), most = vq->in_order ? 0 : (uint16_t)vq->size;

	if (ahead <= most || (uint16_t)(avail - vq->used) > vq->size)
		return VIRTQ_AS_TOLD;
	return VIRTQ_FOUND;
}
