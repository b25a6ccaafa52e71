/*
 * A ring of either layout in the memory of a hostile driver, which may write anything between any
 * two calls of the device. Every chain must lie in guest memory, no buffer may be in the device's
 * hands twice, and a restarted device must get the chains that its predecessor took and did not
 * return, in order.
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

enum { F_AVAIL = 1 << 7, F_USED = 1 << 15 };

struct ring {
	struct guest *guest;
	struct virtq_setup setup;
	struct ledger_queue ledger;
	void *inflight;
	struct virtq *vq;                                     /* NULL: it is broken */
	const struct virtq_chain *taken[GUEST_RING_SIZE_MAX]; /* by this device */
	unsigned int n_taken, n_staged;
	bool is_taken[GUEST_RING_SIZE_MAX];   /* by id; until it is published */
	uint16_t flying[GUEST_RING_SIZE_MAX]; /* ids in flight, whoever took them; oldest first */
	unsigned int n_flying;
	uint16_t staged[GUEST_RING_SIZE_MAX]; /* ids */
	bool is_known;                        /* the last start succeeded */
	uint16_t used;                        /* split: what the driver was told last */
	uint16_t driver_at; /* split: its index; packed: slot and wrap counter (bit 15) */
};

static uint16_t load_u16(const struct ring *ring, uint32_t at)
{
	uint16_t x;

	memcpy(&x, ring->guest->mem + at, sizeof(x));
	return x;
}

static void store_u16(const struct ring *ring, uint32_t at, uint16_t x)
{
	memcpy(ring->guest->mem + at, &x, sizeof(x));
}

/* --- The device starts, also in place of one that died --- */

static bool used_is_as_told(const struct ring *ring)
{
	return ring->setup.packed || load_u16(ring, USED_AT + 2) == ring->used;
}

static void start(struct ring *ring, bool again)
{
	bool sound = again && ring->is_known && used_is_as_told(ring);
	int r = virtq_start(&ring->vq, &ring->setup, ring->guest->map, &ring->ledger,
		ring->inflight);

	check(r >= 0);
	check(!sound || r == 0);
	ring->is_known = r == 0;
	if (!ring->is_known)
		ring->vq = NULL;
	if (!sound)
		ring->n_flying = 0;
	ring->used = load_u16(ring, USED_AT + 2);
	ring->n_taken = ring->n_staged = 0;
	memset(ring->is_taken, 0, sizeof(ring->is_taken));
}

/* What was in the predecessor's hands comes first. */
static void check_order(struct ring *ring)
{
	unsigned int n = virtq_window_len(ring->vq);

	for (unsigned int i = 0; i < n && ring->n_taken + ring->n_staged + i < ring->n_flying; i++)
		check(virtq_window(ring->vq, i)->id ==
			ring->flying[ring->n_taken + ring->n_staged + i]);
}

/* Whether all that fly are in this device's hands, so that it may take others. */
static bool has_all_flying(const struct ring *ring)
{
	return ring->n_taken + ring->n_staged >= ring->n_flying;
}

/* --- The device's calls --- */

static void break_off(struct ring *ring)
{
	ring->vq = virtq_stop(ring->vq);
}

static void fill(struct ring *ring, uint8_t n)
{
	if (virtq_fill(ring->vq, n) < 0) {
		check(virtq_window_len(ring->vq) == 0 && virtq_error(ring->vq));
		break_off(ring);
		return;
	}
	guest_check_window(ring->vq, ring->guest, ring->is_taken);
	check_order(ring);
}

static void take(struct ring *ring, uint8_t dice)
{
	unsigned int n = dice % (virtq_window_len(ring->vq) + 1);

	for (unsigned int i = 0; i < n; i++) {
		const struct virtq_chain *chain = virtq_window(ring->vq, i);

		if (has_all_flying(ring))
			ring->flying[ring->n_flying++] = chain->id;
		ring->taken[ring->n_taken++] = chain;
		ring->is_taken[chain->id] = true;
	}
	virtq_take(ring->vq, n);
}

/* Any of them: a device may complete them in any order. */
static void complete(struct ring *ring, uint8_t dice, uint32_t n_bytes)
{
	const struct virtq_chain *chain;

	if (ring->n_taken == 0)
		return;
	chain = ring->taken[dice % ring->n_taken];
	ring->taken[dice % ring->n_taken] = ring->taken[ring->n_taken - 1];
	ring->n_taken--;
	ring->staged[ring->n_staged++] = chain->id;
	for (unsigned int i = chain->n_out; !chain->bad && i < chain->n_out + chain->n_in; i++)
		memset(chain->iov[i].iov_base, 0xee, MIN(chain->iov[i].iov_len, (size_t)4));
	virtq_complete(ring->vq, chain, n_bytes);
}

static void land(struct ring *ring, uint16_t id)
{
	unsigned int i = 0;

	while (i < ring->n_flying && ring->flying[i] != id)
		i++;
	check(i < ring->n_flying);
	ring->n_flying--;
	memmove(&ring->flying[i], &ring->flying[i + 1],
		(ring->n_flying - i) * sizeof(ring->flying[0]));
	ring->is_taken[id] = false;
}

static void publish(struct ring *ring)
{
	virtq_publish(ring->vq);
	if (ring->n_staged == 0)
		return;
	for (unsigned int i = 0; i < ring->n_staged; i++)
		land(ring, ring->staged[i]);
	ring->used = (uint16_t)(ring->used + ring->n_staged);
	ring->n_staged = 0;
	check(used_is_as_told(ring));
}

static void notify(struct ring *ring, uint8_t dice)
{
	if (dice & 1)
		(void)virtq_call_due(ring->vq);
	if (dice & 2)
		virtq_kick_off(ring->vq);
	if (dice & 4)
		(void)virtq_kick_on(ring->vq);
	(void)virtq_all_posted(ring->vq);
	(void)virtq_is_blank(ring->vq);
	(void)virtq_base(ring->vq);
}

/* Taken chains stay; those of the window do not. */
static void remap(struct ring *ring)
{
	check(virtq_remap(ring->vq) == 0);
	check(virtq_window_len(ring->vq) == 0);
}

/* --- The driver --- */

static void write_desc(struct ring *ring, uint32_t at, struct input *in, uint16_t or_flags)
{
	uint64_t addr = input_u16(in);
	uint32_t len = input_u16(in);
	uint16_t flags = input_u16(in), link = input_u16(in);

	if (flags & 1 << 14)
		addr = input_u64(in);
	if (flags & 1 << 13)
		len = input_u32(in);
	flags = (uint16_t)((flags & ~(F_AVAIL | F_USED)) | or_flags);
	if (at + 16 > GUEST_BYTES)
		return;
	memcpy(ring->guest->mem + at, &addr, 8);
	memcpy(ring->guest->mem + at + 8, &len, 4);
	store_u16(ring, at + 12, ring->setup.packed ? link : flags);
	store_u16(ring, at + 14, ring->setup.packed ? flags : link);
}

static void post_split(struct ring *ring, struct input *in)
{
	uint16_t head = input_u16(in);

	store_u16(ring, AVAIL_AT + 4 + 2 * (ring->driver_at & (ring->setup.size - 1)), head);
	store_u16(ring, AVAIL_AT + 2, ++ring->driver_at);
}

static void post_packed(struct ring *ring, struct input *in)
{
	uint32_t slot = ring->driver_at & 0x7fff;

	write_desc(ring, DESC_AT + 16 * slot, in, ring->driver_at & 0x8000 ? F_AVAIL : F_USED);
	ring->driver_at = (uint16_t)(slot + 1 < ring->setup.size ? ring->driver_at + 1
								 : ~ring->driver_at & 0x8000);
}

static void scribble(struct ring *ring, struct input *in)
{
	uint16_t at = input_u16(in);
	size_t n = MIN((size_t)input_u8(in), (size_t)(GUEST_BYTES - at));
	const uint8_t *bytes = input_view(in, n, &n);

	memcpy(ring->guest->mem + at, bytes, n);
}

static bool drive(struct ring *ring, uint8_t what, struct input *in)
{
	switch (what) {
	case 0:
		write_desc(ring, input_u16(in), in, 0);
		return true;
	case 1:
		(ring->setup.packed ? post_packed : post_split)(ring, in);
		return true;
	case 2:
		scribble(ring, in);
		return true;
	default:
		return false;
	}
}

/* --- An input --- */

static void serve(struct ring *ring, uint8_t what, struct input *in)
{
	uint8_t dice = input_u8(in);

	switch (what) {
	case 3:
		fill(ring, dice);
		return;
	case 4:
		take(ring, dice);
		return;
	case 5:
		complete(ring, dice, input_u16(in));
		return;
	case 6:
		publish(ring);
		return;
	case 7:
		notify(ring, dice);
		return;
	default:
		remap(ring);
	}
}

static void step(struct ring *ring, struct input *in)
{
	uint8_t what = input_u8(in) % 10;

	if (drive(ring, what, in))
		return;
	if (what == 8) {
		break_off(ring);
		start(ring, true);
		return;
	}
	if (ring->vq)
		serve(ring, what, in);
}

static void set_up(struct ring *ring, struct input *in)
{
	uint8_t how = input_u8(in);

	*ring = (struct ring){ .guest = guest_memory() };
	ring->setup = (struct virtq_setup){ .packed = how & 1,
		.event_idx = how & 2,
		.indirect = how & 4,
		.reads_only = how & 8,
		.desc = GUEST_UVA(DESC_AT),
		.avail = GUEST_UVA(AVAIL_AT),
		.used = GUEST_UVA(USED_AT),
		.start_id = 1,
		.base = how & 1 ? 0x80008000 : 0 };
	ring->setup.size = guest_ring_size(input_u8(in), ring->setup.packed);
	ring->driver_at = ring->setup.packed ? 0x8000 : 0;
	/* exactly as long as promised, so that sanitizers see a byte too many */
	ring->inflight = aligned_alloc(64, inflight_bytes(ring->setup.size, ring->setup.packed));
	check(ring->inflight);
	memset(ring->inflight, 0x5a, inflight_bytes(ring->setup.size, ring->setup.packed));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	struct ring ring;

	set_up(&ring, &in);
	start(&ring, false);
	while (in.n)
		step(&ring, &in);
	virtq_stop(ring.vq);
	free(ring.inflight);
	return 0;
}
