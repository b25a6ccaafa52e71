/*
 * What both ring layouts have in common: the window, the staging of used entries, the life of a ring.
 *
 * The window lies between what was parsed and what was taken. A device looks ahead in it (are there
 * buffers enough for a large frame?) without owning anything: dropping the window is as if it had
 * never looked. Taking makes a chain ours: it is entered into the in-flight region first, and the
 * position in the ledger moves after that, so that a reader of the ledger never counts a chain as taken
 * that nobody knows of. Publishing is the reverse: the region names the batch, then the driver sees
 * it, then the region forgets it; a death in between is told from the ring itself (recovery in split.c
 * and packed.c).
 */
#include "virtq/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static int judge_setup(const struct virtq_setup *setup)
{
	if (setup->size == 0 || setup->size > VIRTQ_SIZE_MAX)
		return VIRTQ_E_SIZE;
	if (!setup->packed && !is_power_of_2(setup->size))
		return VIRTQ_E_SIZE;
	if (!setup->packed)
		return setup->base > UINT16_MAX ? VIRTQ_E_BASE : 0;
	if ((setup->base & 0x7fff) >= setup->size || (setup->base >> 16 & 0x7fff) >= setup->size)
		return VIRTQ_E_BASE;
	return 0;
}

static int allocate(struct virtq *vq)
{
	uint32_t n = vq->size;

	vq->mask = 1;
	while (vq->mask < n)
		vq->mask <<= 1;
	vq->mask--;
	vq->chains = calloc(n, sizeof(*vq->chains));
	vq->free_chains = calloc(n, sizeof(*vq->free_chains));
	vq->window = calloc((size_t)vq->mask + 1, sizeof(*vq->window));
	vq->busy = calloc(n, 1);
	vq->resubmit = calloc(n, sizeof(*vq->resubmit));
	vq->staged = calloc(n, sizeof(*vq->staged));
	if (!vq->chains || !vq->free_chains || !vq->window || !vq->busy || !vq->resubmit || !vq->staged)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		vq->free_chains[i] = (uint16_t)(n - 1 - i);
	vq->n_free = n;
	return 0;
}

int virtq_start(struct virtq **ret_vq, const struct virtq_setup *setup, struct map *map,
	struct ledger_queue *slot, void *inflight)
{
	struct virtq *vq;
	int r = judge_setup(setup);

	if (r != 0)
		return r;
	vq = calloc(1, sizeof(*vq));
	if (!vq)
		return -ENOMEM;
	vq->setup = *setup;
	vq->size = setup->size;
	vq->map = map;
	vq->slot = slot;
	vq->inflight = inflight;
	vq->used_wrap = vq->taken_wrap = vq->parsed_wrap = true;
	r = allocate(vq);
	if (r == 0)
		r = setup->packed ? packed_map(vq) : split_map(vq);
	if (r == 0)
		r = setup->packed ? packed_start(vq) : split_start(vq);
	if (r != 0) {
		virtq_stop(vq);
		return r;
	}
	*ret_vq = vq;
	return 0;
}

struct virtq *virtq_stop(struct virtq *vq)
{
	if (!vq)
		return NULL;
	for (uint32_t i = 0; vq->chains && i < vq->size; i++)
		free(vq->chains[i].many);
	free(vq->chains);
	free(vq->free_chains);
	free(vq->window);
	free(vq->busy);
	free(vq->resubmit);
	free(vq->staged);
	free(vq);
	return NULL;
}

static void forget_window(struct virtq *vq)
{
	while (vq->window_len) {
		uint16_t i = vq->window[vq->window_head & vq->mask];

		vq->busy[vq->chains[i].pub.id] = 0;
		vq->free_chains[vq->n_free++] = i;
		vq->window_head++;
		vq->window_len--;
	}
	vq->window_slots = 0;
	vq->resubmit_parsed = vq->resubmit_taken;
	vq->parsed = vq->taken;
	vq->parsed_wrap = vq->taken_wrap;
}

int virtq_remap(struct virtq *vq)
{
	forget_window(vq);
	return vq->setup.packed ? packed_map(vq) : split_map(vq);
}

uint32_t virtq_base(const struct virtq *vq)
{
	if (!vq->setup.packed)
		return vq->taken;
	return vq->taken | (uint32_t)vq->taken_wrap << 15 | (uint32_t)vq->used << 16 |
		(uint32_t)vq->used_wrap << 31;
}

int virtq_fill(struct virtq *vq, unsigned int n)
{
	bool packed = vq->setup.packed;

	while (vq->window_len < n && vq->n_free) {
		int r = packed ? packed_parse(vq) : split_parse(vq);

		if (r < 0) {
			forget_window(vq);
			return r;
		}
		if (r == 0)
			break;
	}
	return (int)MIN(vq->window_len, n);
}

struct virtq_chain *virtq_window(struct virtq *vq, unsigned int i)
{
	return &vq->chains[vq->window[(vq->window_head + i) & vq->mask]].pub;
}

unsigned int virtq_window_len(const struct virtq *vq)
{
	return vq->window_len;
}

bool virtq_all_posted(const struct virtq *vq)
{
	return vq->window_slots >= vq->size;
}

/* As the ledger holds it: one store, so that no reader sees half a position. */
static uint16_t position(const struct virtq *vq, uint16_t idx, bool wrap)
{
	return vq->setup.packed ? (uint16_t)(idx | wrap << 15) : idx;
}

void virtq_take(struct virtq *vq, unsigned int n)
{
	bool packed = vq->setup.packed;

	check(n <= vq->window_len);
	for (unsigned int i = 0; i < n; i++) {
		struct chain *chain = &vq->chains[vq->window[vq->window_head & vq->mask]];

		if (chain->recovered)
			vq->resubmit_taken++;
		else if (packed)
			packed_take(vq, chain);
		else
			split_take(vq, chain);
		vq->window_slots -= chain->pub.n_slots;
		vq->window_head++;
		vq->window_len--;
	}
	ledger_order();
	vq->slot->avail_idx = position(vq, vq->taken, vq->taken_wrap);
}

void virtq_complete(struct virtq *vq, const struct virtq_chain *pub, uint32_t n_bytes)
{
	const struct chain *chain = (const struct chain *)pub;

	check(vq->n_staged < vq->size);
	vq->staged[vq->n_staged++] = (struct staged){ .len = n_bytes, .id = pub->id,
		.n_slots = pub->n_slots, .entry = chain->entry };
	vq->staged_slots += vq->setup.packed ? pub->n_slots : 1;
	vq->busy[pub->id] = 0;
	vq->free_chains[vq->n_free++] = (uint16_t)(chain - vq->chains);
	vq->slot->counters.chains++;
}

void virtq_publish(struct virtq *vq)
{
	if (vq->n_staged == 0)
		return;
	if (vq->setup.packed)
		packed_publish(vq);
	else
		split_publish(vq);
	vq->since_call += vq->staged_slots;
	vq->n_staged = 0;
	vq->staged_slots = 0;
	vq->slot->used_idx = position(vq, vq->used, vq->used_wrap);
}

bool virtq_call_due(struct virtq *vq)
{
	bool due;

	if (vq->since_call == 0)
		return false;
	due = vq->setup.packed ? packed_call_due(vq) : split_call_due(vq);
	/* the event index is compared with what the driver was last told of, whether it wanted it or not */
	vq->since_call = 0;
	vq->call_valid = true;
	return due;
}

void virtq_kick_off(struct virtq *vq)
{
	if (vq->setup.packed)
		packed_kick_off(vq);
	else
		split_kick_off(vq);
}

bool virtq_kick_on(struct virtq *vq)
{
	return vq->setup.packed ? packed_kick_on(vq) : split_kick_on(vq);
}

const char *virtq_error(const struct virtq *vq)
{
	return vq->error ?: "the ring is in order";
}

struct ledger_counters *virtq_counters(struct virtq *vq)
{
	return &vq->slot->counters;
}
