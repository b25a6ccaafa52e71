/*
 * The packed layout. Buffer ids come from a shuffled stack and are unrelated to the slot, except in
 * order, where the id is the buffer's first slot.
 */
#include <errno.h>

#include "ring-priv.h"

static uint16_t avail_flags(const struct ring *r)
{
	return r->avail_wrap ? RING_DESC_AVAIL : RING_DESC_USED;
}

static void step(const struct ring *r, uint16_t *slot, bool *wrap, uint16_t by)
{
	*slot += by;
	if (*slot >= r->cfg.size) {
		*slot -= r->cfg.size;
		*wrap = !*wrap;
	}
}

/* the first slot's flags are written last: they make the whole chain available */
static void write_chain(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t id)
{
	uint16_t first = r->next_avail;
	uint16_t first_flags = 0;

	for (uint16_t i = 0; i < n; i++) {
		struct ring_desc *d = &r->desc[r->next_avail];
		uint16_t flags = avail_flags(r);

		flags |= (segs[i].write ? RING_DESC_WRITE : 0);
		flags |= (i + 1 < n ? RING_DESC_NEXT : 0);
		d->addr = segs[i].gpa;
		d->len = segs[i].len;
		d->a = id;
		if (i)
			d->b = flags;
		else
			first_flags = flags;
		step(r, &r->next_avail, &r->avail_wrap, 1);
	}
	__atomic_store_n(&r->desc[first].b, first_flags, __ATOMIC_RELEASE);
}

static int write_indirect(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t id)
{
	struct ring_desc *d = &r->desc[r->next_avail];
	uint16_t flags = avail_flags(r) | RING_DESC_INDIRECT;
	uint64_t table = ring_fill_table(r, id, segs, n);

	if (!table)
		return -ENOSPC;
	d->addr = table;
	d->len = 16u * n;
	d->a = id;
	step(r, &r->next_avail, &r->avail_wrap, 1);
	__atomic_store_n(&d->b, flags, __ATOMIC_RELEASE);
	return 0;
}

int packed_post(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t *ret_id)
{
	uint16_t n_desc = r->cfg.indirect ? 1 : n;
	uint16_t slot = r->next_avail;
	uint16_t id;

	if (n_desc > r->n_free_desc || !r->n_free_ids)
		return -ENOSPC;
	id = r->cfg.in_order ? slot : r->free_ids[r->n_free_ids - 1];
	if (!r->cfg.indirect)
		write_chain(r, segs, n, id);
	else if (write_indirect(r, segs, n, id))
		return -ENOSPC;
	r->n_free_ids--;
	r->n_free_desc -= n_desc;
	r->added += n_desc;
	r->bufs[id].n_desc = n_desc;
	r->bufs[id].slot = slot;
	*ret_id = id;
	return 0;
}

bool packed_has_used(const struct ring *r)
{
	uint16_t flags;
	bool avail, used;

	if (!ring_in_flight(r))
		return false;
	flags = __atomic_load_n(&r->desc[r->next_used].b, __ATOMIC_ACQUIRE);
	avail = flags & RING_DESC_AVAIL;
	used = flags & RING_DESC_USED;
	return avail == used && used == r->used_wrap;
}

int packed_next_used(struct ring *r, uint16_t *ret_id, uint32_t *ret_len)
{
	const struct ring_desc *d = &r->desc[r->next_used];

	/* without the write flag, the used descriptor's length is reserved */
	*ret_id = d->a;
	*ret_len = d->b & RING_DESC_WRITE ? d->len : 0;
	return 0;
}

void packed_release(struct ring *r, uint16_t id)
{
	if (!r->cfg.in_order)
		r->free_ids[r->n_free_ids] = id;
	r->n_free_ids++;
	r->n_free_desc += r->bufs[id].n_desc;
	step(r, &r->next_used, &r->used_wrap, r->bufs[id].n_desc);
}

bool packed_needs_kick(struct ring *r)
{
	uint32_t word = __atomic_load_n((const uint32_t *)(const void *)r->used, __ATOMIC_ACQUIRE);
	uint16_t off_wrap = word & 0xffff;
	uint16_t flags = (word >> 16) & 3;
	uint16_t event = off_wrap & 0x7fff;

	if (flags != 2)
		return flags == 0;
	if ((off_wrap >> 15) != r->avail_wrap)
		event -= r->cfg.size;
	return (uint16_t)(r->next_avail - event - 1) < r->added;
}

void packed_arm(struct ring *r)
{
	uint32_t off_wrap = r->next_used | ((uint32_t)r->used_wrap << 15);
	uint32_t flags = !r->want_calls ? 1 : r->cfg.event_idx ? 2 : 0;

	__atomic_store_n((uint32_t *)(void *)r->avail, off_wrap | flags << 16, __ATOMIC_RELEASE);
}

uint32_t packed_base(const struct ring *r)
{
	uint32_t half = r->next_used | ((uint32_t)r->used_wrap << 15);

	return half | half << 16;
}
