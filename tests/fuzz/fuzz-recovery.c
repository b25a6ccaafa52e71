/*
 * A ring resumes from a ledger, an in-flight region and ring memory that a compromised worker, a
 * VMM and a guest may have filled with anything. It resumes or is refused; no chain is in the
 * window twice; a second start finds exactly what the first one found; and what was returned is no
 * longer in flight.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/check.h"
#include "guest.h"
#include "input.h"
#include "virtq/inflight-layout.h"

#define DESC_AT 0x0
#define AVAIL_AT 0x1000
#define USED_AT 0x2000

struct ring {
	struct guest *guest;
	struct virtq_setup setup;
	struct ledger_queue ledger;
	void *inflight;
};

/** struct outcome - what a start led to */
struct outcome {
	int r;
	uint32_t base;
	int n; /* chains in the window, or broken */
	uint16_t ids[GUEST_RING_SIZE_MAX];
};

static const bool none[GUEST_RING_SIZE_MAX];

static void look(struct ring *ring, struct virtq *vq, struct outcome *ret)
{
	ret->base = virtq_base(vq);
	ret->n = virtq_fill(vq, ring->setup.size);
	guest_check_window(vq, ring->guest, none);
	for (int i = 0; i < ret->n; i++)
		ret->ids[i] = virtq_window(vq, (unsigned int)i)->id;
}

static struct virtq *start(struct ring *ring, struct outcome *ret)
{
	struct virtq *vq = NULL;

	*ret = (struct outcome){ 0 };
	ret->r = virtq_start(&vq, &ring->setup, ring->guest->map, &ring->ledger, ring->inflight);
	check(ret->r >= 0);
	if (ret->r == 0)
		look(ring, vq, ret);
	return vq;
}

/* Nothing but the dead one's own corrections has changed, and none where it was refused. */
static void check_same(const struct outcome *a, const struct outcome *b)
{
	check(a->r == b->r && a->base == b->base && a->n == b->n);
	check(memcmp(a->ids, b->ids, sizeof(a->ids)) == 0);
}

static void give_all_back(struct virtq *vq)
{
	unsigned int n = virtq_window_len(vq);
	const struct virtq_chain *chains[GUEST_RING_SIZE_MAX];

	for (unsigned int i = 0; i < n; i++)
		chains[i] = virtq_window(vq, i);
	virtq_take(vq, n);
	for (unsigned int i = 0; i < n; i++)
		virtq_complete(vq, chains[i], 1);
	virtq_publish(vq);
}

static void serve(struct ring *ring, struct virtq *vq)
{
	struct outcome after;
	uint32_t base;

	give_all_back(vq);
	base = virtq_base(vq);
	virtq_stop(vq);
	vq = start(ring, &after);
	check(after.r == 0 && after.base == base);
	virtq_stop(vq);
}

static void set_up(struct ring *ring, struct input *in)
{
	uint8_t how = input_u8(in);
	bool packed = how & 1;

	*ring = (struct ring){ .guest = guest_memory() };
	ring->setup = (struct virtq_setup){ .packed = packed,
		.event_idx = how & 2,
		.indirect = true,
		.desc = GUEST_UVA(DESC_AT),
		.avail = GUEST_UVA(AVAIL_AT),
		.used = GUEST_UVA(USED_AT),
		.start_id = 1,
		.inflight_id = how & 4 ? 7 : 0 };
	ring->setup.size = guest_ring_size(input_u8(in), packed);
	ring->setup.base = input_u32(in);
	ring->ledger.start_id = how & 8 ? 0 : 1;
	ring->ledger.inflight_id = how & 16 ? 7 : 0;
	ring->ledger.size = (uint16_t)(how & 32 ? input_u16(in) : ring->setup.size);
	ring->ledger.packed = how & 64 ? !packed : packed;
	ring->ledger.avail_idx = input_u16(in);
	ring->ledger.used_idx = input_u16(in);
	ring->ledger.skew = input_u16(in);
}

/* Version and size are what a region is refused by at once. */
static void make_region(struct ring *ring, struct input *in)
{
	size_t n = inflight_bytes(ring->setup.size, ring->setup.packed);
	struct inflight_split *region = ring->inflight = aligned_alloc(64, n);
	uint8_t wrong = input_u8(in);

	check(region);
	input_bytes(in, region, n);
	region->version = wrong == 1 ? region->version : INFLIGHT_VERSION;
	region->desc_num = wrong == 2 ? region->desc_num : (uint16_t)ring->setup.size;
}

static void make_ring(struct ring *ring, struct input *in)
{
	uint8_t *mem = ring->guest->mem;

	if (!ring->setup.packed) {
		input_bytes(in, mem + USED_AT, 4);
		input_bytes(in, mem + AVAIL_AT, 4 + 2 * ring->setup.size);
	}
	input_bytes(in, mem + DESC_AT, 16 * ring->setup.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	struct outcome first, second;
	struct ring ring;
	struct virtq *vq;

	set_up(&ring, &in);
	make_region(&ring, &in);
	make_ring(&ring, &in);
	virtq_stop(start(&ring, &first));
	vq = start(&ring, &second);
	check_same(&first, &second);
	if (vq)
		serve(&ring, vq);
	free(ring.inflight);
	return 0;
}
