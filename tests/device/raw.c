#include <sched.h>
#include <string.h>

#include "raw.h"

#define TICK_MS 2
#define N_GLANCES 1000 /* before the first tick: most chains are back at once */

static void put_split(struct ring *r, const struct raw_desc *descs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		r->desc[i] = (struct ring_desc){ descs[i].gpa, descs[i].len, descs[i].flags,
			descs[i].link };
		r->shadow[i] = r->desc[i];
	}
	raw_put_head(r, 0, false);
}

void raw_put_head(struct ring *r, uint16_t head, bool later)
{
	r->avail[2 + r->next_avail % r->cfg.size] = head;
	r->next_avail++;
	if (!later)
		__atomic_store_n(&r->avail[1], r->next_avail, __ATOMIC_RELEASE);
}

/* The first descriptor's flags come last: with them the chain is there. */
void raw_put_marked(struct ring *r, const struct raw_desc *descs, size_t n, uint16_t turned)
{
	struct ring_desc *first = &r->desc[r->next_avail];
	uint16_t first_flags = 0;

	for (size_t i = 0; i < n; i++) {
		struct ring_desc *d = &r->desc[r->next_avail];
		uint16_t flags =
			descs[i].flags | (r->avail_wrap ? RING_DESC_AVAIL : RING_DESC_USED);

		d->addr = descs[i].gpa;
		d->len = descs[i].len;
		d->a = descs[i].link;
		if (i)
			d->b = flags ^ turned;
		else
			first_flags = flags ^ turned;
		if (++r->next_avail == r->cfg.size) {
			r->next_avail = 0;
			r->avail_wrap = !r->avail_wrap;
		}
	}
	__atomic_store_n(&first->b, first_flags, __ATOMIC_RELEASE);
}

void raw_put(struct ring *r, const struct raw_desc *descs, size_t n)
{
	if (r->cfg.packed)
		raw_put_marked(r, descs, n, 0);
	else
		put_split(r, descs, n);
}

/* Packed chains come back in one slot each, somewhere behind the first: that one is enough. */
static bool came_back(const struct ring *r)
{
	uint16_t flags;

	if (!r->cfg.packed)
		return __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE) == r->next_avail;
	flags = __atomic_load_n(&r->desc[r->next_used].b, __ATOMIC_ACQUIRE);
	return !(flags & RING_DESC_AVAIL) == !(flags & RING_DESC_USED) &&
		!(flags & RING_DESC_USED) == !r->used_wrap;
}

enum raw_end raw_wait(struct ring *r, int timeout_ms)
{
	for (int i = 0; i < N_GLANCES && !came_back(r); i++)
		sched_yield();
	for (int ms = 0; ms <= timeout_ms; ms += TICK_MS) {
		if (came_back(r))
			return RAW_BACK;
		if (!ring_wait_err(r, TICK_MS))
			return came_back(r) ? RAW_BACK : RAW_STOPPED;
	}
	return RAW_NOTHING;
}

void raw_settle(struct ring *r)
{
	r->next_used = r->next_avail;
	r->used_wrap = r->avail_wrap;
}
