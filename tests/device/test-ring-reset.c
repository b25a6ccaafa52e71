/*
 * One ring is reset and set up anew while the others go on, as VIRTIO_F_RING_RESET has it and as
 * any VMM may do without it: GET_VRING_BASE, then another size, other addresses and the first
 * position; no SET_VRING_ENABLE, since a stop leaves that as it is. Nothing is written to the
 * former ring or its buffers from the answer on, whenever the worker is killed.
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

#define PAIR 1 /* the one whose rings are reset; pair 0 goes on */
#define SIZE_MAX_ 256
#define LAST_SEQ 1000000

static struct net n;

enum kill {
	KILL_NEVER,
	KILL_BEFORE,  /* the ring is stopped */
	KILL_STOPPED, /* the ring does not run */
	KILL_STARTED, /* and nothing is posted yet */
	N_KILLS,
};

static void kill_worker(enum kill when, enum kill now)
{
	if (when == now)
		rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
}

/* --- What was the ring's --- */

/** struct former - a copy of all that a ring and its buffers were when it was stopped */
struct former {
	struct ring_config cfg;
	uint64_t *bufs;
	uint16_t n_bufs;
	uint32_t buf_bytes;
	uint8_t *copy; /* descriptors, used area, then the buffers */
};

static size_t used_bytes(const struct former *f)
{
	return f->cfg.packed ? 4 : 6 + 8 * (size_t)f->cfg.size;
}

static size_t copy_all(const struct former *f, uint8_t *to)
{
	size_t n_desc = 16 * (size_t)f->cfg.size, at = n_desc + used_bytes(f);

	if (to) {
		memcpy(to, guest_at(&n.g, f->cfg.desc, n_desc), n_desc);
		memcpy(to + n_desc, guest_at(&n.g, f->cfg.used, used_bytes(f)), used_bytes(f));
	}
	for (uint16_t i = 0; i < f->n_bufs; i++, at += f->buf_bytes)
		if (to)
			memcpy(to + at, guest_at(&n.g, f->bufs[i], f->buf_bytes), f->buf_bytes);
	return at;
}

static void remember(struct former *f, uint16_t index)
{
	*f = (struct former){ .cfg = n.rings[index].cfg,
		.bufs = n.bufs[index],
		.n_bufs = n.n_bufs[index],
		.buf_bytes = index & 1 ? n.p.tx_bytes : n.p.buf_bytes };
	f->copy = malloc(copy_all(f, NULL));
	ck_assert_ptr_nonnull(f->copy);
	(void)copy_all(f, f->copy);
}

static void check_untouched(struct former *f)
{
	size_t n_bytes = copy_all(f, NULL);
	uint8_t *now = malloc(n_bytes);

	ck_assert_ptr_nonnull(now);
	(void)copy_all(f, now);
	ck_assert_msg(memcmp(now, f->copy, n_bytes) == 0, "ring %u was written to after its reset",
		f->cfg.index);
	free(now);
	free(f->copy);
	free(f->bufs);
}

/* --- Reset --- */

/* New buffers, too: a driver gives the former ones to somebody else. */
static void make_anew(uint16_t index, uint16_t size)
{
	n.p.ring_size = size;
	n.bufs[index] = NULL;
	n.n_bufs[index] = 0;
	rig_ok(net_renew_ring(&n, index), n.why);
	if (index & 1)
		free(n.free_tx[index / 2]);
	rig_ok(net_make_bufs(&n, index), "no memory for buffers");
}

static void post_frame(uint32_t seq)
{
	uint8_t frame[200];

	net_frame_make(frame, sizeof(frame), seq);
	rig_ok(net_send(&n, PAIR, frame, sizeof(frame)), n.why);
}

/* What came in for a receive ring that is being reset is lost, as the frames of a ring without
 * buffers are; or it comes into the new ring, and is no concern of ours. */
static void drop_leftovers(void)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	post_frame(LAST_SEQ);
	do
		rig_ok(net_recv(&n, PAIR, frame, &n_bytes, 5000), n.why);
	while (!net_frame_is_echo(frame, n_bytes, LAST_SEQ));
}

static void reset_ring(uint16_t index, uint16_t size, enum kill when)
{
	struct former former;

	kill_worker(when, KILL_BEFORE);
	rig_ok(net_stop_ring(&n, index), n.why);
	remember(&former, index);
	if (index % 2 == 0) {
		for (uint32_t i = 0; i < 5; i++)
			post_frame(i); /* for a ring that is not there */
	}
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	kill_worker(when, KILL_STOPPED);
	make_anew(index, size);
	rig_ok(net_start_ring(&n, index), n.why);
	kill_worker(when, KILL_STARTED);
	if (index % 2 == 0)
		rig_ok(net_fill(&n, PAIR), n.why);
	drop_leftovers();
	rig_ok(net_pump(&n, PAIR, 600, 200), n.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	check_untouched(&former);
}

static void open_two_pairs(int i)
{
	struct net_profile p = { .n_pairs = 2, .ring_size = SIZE_MAX_, .buf_bytes = 512 };

	p.features = VU_BIT(VU_NET_F_MQ) | (i & 1 ? VU_BIT(VU_F_PACKED) : 0) |
		(i & 2 ? VU_BIT(VU_F_IN_ORDER) | VU_BIT(VU_F_EVENT_IDX) : 0);
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(net_pump(&n, PAIR, 100, 200), n.why);
}

/* _i: bit 0 packed, bit 1 in order and with event index */
/* covers: G15 */
START_TEST(test_a_ring_is_reset_while_the_others_go_on)
{
	static const uint16_t sizes[] = { 64, 256, 16, 128 };

	open_two_pairs(_i);
	for (unsigned int round = 0; round < 8; round++)
		reset_ring((uint16_t)(2 * PAIR + round % 2), sizes[round / 2 % 4], KILL_NEVER);
	rig_end(&n);
}
END_TEST

/* covers: G15 */
START_TEST(test_a_ring_is_reset_whenever_the_worker_dies)
{
	open_two_pairs(_i);
	for (enum kill when = KILL_BEFORE; when < N_KILLS; when++)
		for (unsigned int i = 0; i < 2; i++)
			reset_ring((uint16_t)(2 * PAIR + i), when % 2 ? 64 : 128, when);
	rig_end(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "ring reset");

	tcase_add_loop_test(tc, test_a_ring_is_reset_while_the_others_go_on, 0, 4);
	tc = rig_kills_case(suite);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_a_ring_is_reset_whenever_the_worker_dies, 0, 4);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("ring-reset", &net0, add);
}
