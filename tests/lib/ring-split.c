/*
 * The split layout. In order, descriptors are used one after the other around the table, as the
 * specification requires; otherwise they come from a shuffled stack, to catch a back-end that
 * confuses ring positions with descriptor numbers.
 */
#include <errno.h>

#include "ring-priv.h"

static uint16_t take_desc(struct ring *r)
{
	uint16_t id;

	r->n_free_desc--;
	if (!r->cfg.in_order)
		return r->free_ids[--r->n_free_ids];
	id = r->next_desc;
	r->next_desc = (uint16_t)((id + 1) % r->cfg.size);
	return id;
}

static void write_desc(struct ring *r, uint16_t i, const struct ring_desc *d)
{
	r->shadow[i] = *d;
	r->desc[i] = *d;
}

static void publish(struct ring *r, uint16_t head)
{
	r->avail[2 + r->next_avail % r->cfg.size] = head;
	r->next_avail++;
	r->added++;
	__atomic_store_n(&r->avail[1], r->next_avail, __ATOMIC_RELEASE);
}

static int post_indirect(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t head)
{
	uint64_t table = ring_fill_table(r, head, segs, n);
	struct ring_desc d = { table, 16u * n, RING_DESC_INDIRECT, 0 };

	if (!table)
		return -ENOSPC;
	write_desc(r, head, &d);
	return 0;
}

static void post_chain(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t head)
{
	uint16_t at = head;

	for (uint16_t i = 0; i < n; i++) {
		bool more = i + 1 < n;
		struct ring_desc d = { segs[i].gpa, segs[i].len, 0, 0 };

		d.a = (segs[i].write ? RING_DESC_WRITE : 0) | (more ? RING_DESC_NEXT : 0);
		d.b = more ? take_desc(r) : 0;
		write_desc(r, at, &d);
		at = d.b;
	}
}

int split_post(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t *ret_id)
{
	uint16_t n_desc = r->cfg.indirect ? 1 : n;
	uint16_t head;

	if (n_desc > r->n_free_desc)
		return -ENOSPC;
	head = take_desc(r);
	r->bufs[head].n_desc = n_desc;
	if (!r->cfg.indirect)
		post_chain(r, segs, n, head);
	else if (post_indirect(r, segs, n, head))
		return -ENOSPC;
	publish(r, head);
	*ret_id = head;
	return 0;
}

bool split_has_used(const struct ring *r)
{
	return __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE) != r->next_used;
}

int split_next_used(struct ring *r, uint16_t *ret_id, uint32_t *ret_len)
{
	uint16_t n = (uint16_t)(__atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE) - r->next_used);
	const uint32_t *elem = (const void *)&r->used[2 + 4 * (r->next_used % r->cfg.size)];

	if (n > ring_in_flight(r))
		return ring_fault(r, "used index is %u ahead, %u are in flight", n,
			ring_in_flight(r));
	if (elem[0] >= r->cfg.size)
		return ring_fault(r, "used id %u of %u", elem[0], r->cfg.size);
	*ret_id = (uint16_t)elem[0];
	*ret_len = elem[1];
	return 0;
}

void split_release(struct ring *r, uint16_t id)
{
	uint16_t at = id;

	for (uint16_t i = 0; i < r->bufs[id].n_desc; i++) {
		if (!r->cfg.in_order)
			r->free_ids[r->n_free_ids++] = at;
		at = r->shadow[at].b;
	}
	r->n_free_desc += r->bufs[id].n_desc;
	r->next_used++;
}

bool split_needs_kick(struct ring *r)
{
	const uint16_t *avail_event = &r->used[2 + 4 * r->cfg.size];
	uint16_t event;

	if (!r->cfg.event_idx)
		return !(__atomic_load_n(&r->used[0], __ATOMIC_RELAXED) & 1);
	event = __atomic_load_n(avail_event, __ATOMIC_RELAXED);
	return (uint16_t)(r->next_avail - event - 1) < r->added;
}

void split_arm(struct ring *r)
{
	uint16_t *used_event = &r->avail[2 + r->cfg.size];

	if (r->cfg.event_idx)
		__atomic_store_n(used_event, (uint16_t)(r->next_used - !r->want_calls),
			__ATOMIC_RELAXED);
	else
		__atomic_store_n(&r->avail[0], r->want_calls ? 0 : 1, __ATOMIC_RELAXED);
}

uint32_t split_base(const struct ring *r)
{
	return r->next_used;
}
