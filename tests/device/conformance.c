/*
 * The driver-level run against the device: every way to post buffers in both layouts, sizes from 2
 * to 32768, with the indices going round several times. `echo` gives each frame back, so one pump
 * proves transmit and receive, order, lengths, and that nothing else in guest memory was touched.
 */
#include <string.h>

#include "rig.h"

static struct net n;

static uint64_t offered(void)
{
	struct vu_client c;
	uint64_t features;

	rig_hello(&c, 0);
	features = c.features;
	vu_close(&c);
	return features;
}

/* false if the device does not offer what the profile asks for */
static bool run(const struct net_profile *p, uint32_t n_frames, uint32_t n_bytes)
{
	if (p->features & ~offered())
		return false;
	rig_open(&n, p);
	rig_ok(net_pump(&n, 0, n_frames, n_bytes), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_stop_ring(&n, i), n.why);
	rig_ok(net_check(&n), n.why);
	net_close(&n);
	return true;
}

enum {
	WAY_DIRECT,
	WAY_CHAINED,
	WAY_INDIRECT,
	N_WAYS,
};

static void set_way(struct net_profile *p, int way)
{
	p->tx_segs = way == WAY_DIRECT ? 1 : 3;
	p->rx_segs = way == WAY_DIRECT ? 1 : 2;
	p->indirect = way == WAY_INDIRECT;
	if (way == WAY_INDIRECT)
		p->features |= VU_BIT(VU_F_INDIRECT);
}

/* the number of a combination taken apart: layout, event index, mergeable, in order, way */
/* covers: G8 */
/* uses: net:RING_PACKED net:EVENT_IDX net:IN_ORDER net:INDIRECT_DESC net:MRG_RXBUF */
START_TEST(test_every_combination)
{
	struct net_profile p = { .ring_size = 64 };
	bool mergeable = _i & 4;

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	p.features |= _i & 2 ? VU_BIT(VU_F_EVENT_IDX) : 0;
	p.features |= mergeable ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0;
	p.features |= _i & 8 ? VU_BIT(VU_F_IN_ORDER) : 0;
	set_way(&p, _i / 16);
	p.buf_bytes = mergeable ? 300 : 2048;
	/* mergeable frames lie in five buffers, so the ring goes round as often */
	run(&p, 1000, 1400);
}
END_TEST

START_TEST(test_frame_lengths)
{
	struct net_profile p = { .features = VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(VU_F_INDIRECT),
		.tx_bytes = NET_FRAME_MAX + NET_HDR_BYTES,
		.ring_size = 256 };
	static const uint32_t lengths[] = { 18, 59, 60, 61, 64, 1499, 1500, 1514, 1518, 2035, 2036,
		2037, 4084, 9000, 65000 };

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	rig_open(&n, &p);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		rig_ok(net_pump(&n, 0, 20, lengths[i]), n.why);
	net_close(&n);
}
END_TEST

/* covers: G6 */
START_TEST(test_header_and_frame_cut_into_many_descriptors)
{
	struct net_profile p = { .tx_segs = (uint16_t)(_i / 2),
		.rx_segs = (uint16_t)(_i / 2),
		.ring_size = 128,
		.buf_bytes = 160,
		.tx_bytes = 160 };

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	/* 60 + 12 bytes over up to 30 descriptors: the header alone lies in five of them */
	run(&p, 200, 60);
}
END_TEST

START_TEST(test_split_sizes)
{
	struct net_profile p = { .ring_size = (uint16_t)(1u << (_i / 2)) };

	p.features |= _i & 1 ? VU_BIT(VU_F_EVENT_IDX) : 0;
	run(&p, 3u * p.ring_size + 17, 200);
}
END_TEST

/* covers: G8 */
START_TEST(test_packed_sizes)
{
	static const uint16_t sizes[] = { 2, 3, 4, 5, 7, 8, 16, 33, 64, 100, 255, 256, 512, 1000,
		1023, 1024 };
	struct net_profile p = { .features = VU_BIT(VU_F_PACKED), .ring_size = sizes[_i / 2] };

	p.features |= _i & 1 ? VU_BIT(VU_F_EVENT_IDX) : 0;
	run(&p, 3u * p.ring_size + 17, 200);
}
END_TEST

START_TEST(test_largest_ring_goes_round_twice)
{
	struct net_profile p = { .ring_size = 32768, .buf_bytes = 256, .tx_bytes = 256 };

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	run(&p, 70000, 60);
}
END_TEST

/* covers: M13 */
START_TEST(test_base_near_the_end)
{
	struct net_profile p = { .base_set = true, .base = (uint16_t)(65530 + _i % 6) };

	if (_i >= 6) {
		p.features |= VU_BIT(VU_F_PACKED);
		p.base = (uint16_t)((253 + _i % 3) | (_i % 2 ? 0x8000 : 0));
	}
	run(&p, 1000, 100);
}
END_TEST

/* covers: G1 */
START_TEST(test_index_goes_round_65536)
{
	struct net_profile p = { .ring_size = 1024, .base_set = true, .base = 60000 };

	p.features |= _i & 1 ? VU_BIT(VU_F_EVENT_IDX) : 0;
	run(&p, 70000, 60);
}
END_TEST

START_TEST(test_every_pair_moves_its_own_frames)
{
	struct net_profile p = { .features = VU_BIT(VU_NET_F_MRG_RXBUF), .n_pairs = 2 };

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	rig_open(&n, &p);
	for (int round = 0; round < 20; round++) {
		rig_ok(net_pump(&n, 0, 50, 300), n.why);
		rig_ok(net_pump(&n, 1, 50, 700), n.why);
	}
	net_close(&n);
}
END_TEST

START_TEST(test_suppressed_calls_do_not_come)
{
	struct net_profile p = { .ring_size = 128 };

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	p.features |= _i & 2 ? VU_BIT(VU_F_EVENT_IDX) : 0;
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 10, 100), n.why);
	for (int i = 0; i < 2; i++) {
		ring_want_calls(&n.rings[i], false);
		ring_drain_calls(&n.rings[i]);
	}
	/* split with event index: the far away event comes nearer, so stay below the ring's turn */
	rig_ok(net_pump(&n, 0, 2000, 100), n.why);
	ck_assert_uint_eq(ring_drain_calls(&n.rings[0]), 0);
	ck_assert_uint_eq(ring_drain_calls(&n.rings[1]), 0);
	for (int i = 0; i < 2; i++)
		ring_want_calls(&n.rings[i], true);
	rig_ok(net_pump(&n, 0, 200, 100), n.why);
	ck_assert_uint_gt(n.rings[0].n_calls, 0);
	net_close(&n);
}
END_TEST

START_TEST(test_event_index_saves_calls)
{
	struct net_profile p = { .features = VU_BIT(VU_F_EVENT_IDX) };
	uint8_t frame[100];

	p.features |= _i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 10, 100), n.why);
	/* armed once, 50 frames: one call for the first of them, none for the others */
	ring_drain_calls(&n.rings[0]);
	n.rings[0].n_calls = 0;
	ring_want_calls(&n.rings[0], true);
	for (uint32_t i = 0; i < 50; i++) {
		net_frame_make(frame, sizeof(frame), i);
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
		rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	}
	for (uint32_t i = 0; i < 50; i++) {
		uint8_t back[NET_FRAME_MAX];
		uint32_t n_bytes;

		n.rings[0].want_calls = false; /* look without arming again */
		rig_ok(ring_poll(&n.rings[0], 5000), n.rings[0].fault);
		rig_ok(net_recv(&n, 0, back, &n_bytes, 5000), n.why);
		ck_assert(net_frame_is_echo(back, n_bytes, i));
	}
	ring_drain_calls(&n.rings[0]);
	ck_assert_uint_eq(n.rings[0].n_calls, 1);
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "conformance");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_every_combination, 0, 16 * N_WAYS);
	tcase_add_loop_test(tc, test_frame_lengths, 0, 2);
	tcase_add_loop_test(tc, test_header_and_frame_cut_into_many_descriptors, 2, 61);
	tcase_add_loop_test(tc, test_split_sizes, 2, 22);
	tcase_add_loop_test(tc, test_packed_sizes, 0, 32);
	tcase_add_loop_test(tc, test_largest_ring_goes_round_twice, 0, 2);
	tcase_add_loop_test(tc, test_base_near_the_end, 0, 12);
	tcase_add_loop_test(tc, test_index_goes_round_65536, 0, 2);
	tcase_add_loop_test(tc, test_every_pair_moves_its_own_frames, 0, 2);
	tcase_add_loop_test(tc, test_suppressed_calls_do_not_come, 0, 4);
	tcase_add_loop_test(tc, test_event_index_saves_calls, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("conformance", &net0, add);
}
