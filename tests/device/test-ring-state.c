/*
 * Started and stopped, enabled and disabled: what a ring does in each state, and that nothing is
 * lost or repeated on the way from one to the other.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

#define QUIET_MS 60 /* how long nothing must happen */

static struct net n;
static const struct net_profile plain = { 0 };

static struct net_profile layout(int i)
{
	struct net_profile p = { .features = i & 1 ? VU_BIT(VU_F_PACKED) : 0 };

	return p;
}

static void send_frames(uint32_t from, uint32_t count)
{
	uint8_t frame[200];

	for (uint32_t i = from; i < from + count; i++) {
		net_frame_make(frame, sizeof(frame), i);
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	}
}

static void expect_frames(uint32_t from, uint32_t count)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	for (uint32_t i = from; i < from + count; i++) {
		rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
		ck_assert_msg(net_frame_is_echo(frame, n_bytes, i), "frame %u is another", i);
	}
}

static void expect_quiet(uint16_t index)
{
	poll(NULL, 0, QUIET_MS);
	ck_assert_msg(!ring_has_used(&n.rings[index]), "ring %u used a buffer", index);
}

static void start_both(void)
{
	rig_ok(net_start_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 1), n.why);
}

/* either of the two rings, disabled, is enough for nothing to come back; what was sent is
 * consumed */
static void nothing_passes_while_disabled(int number, uint16_t ring)
{
	struct net_profile p = layout(number);

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 20, 200), n.why);
	rig_ok(net_enable(&n, ring, false), n.why);
	send_frames(1000, 50);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	expect_quiet(0);
	rig_ok(net_enable(&n, ring, true), n.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}

START_TEST(test_disabled_transmit_is_consumed_and_dropped)
{
	nothing_passes_while_disabled(_i, 1);
}
END_TEST

START_TEST(test_disabled_receive_gets_nothing)
{
	nothing_passes_while_disabled(_i, 0);
}
END_TEST

/* covers: M14 */
START_TEST(test_stop_and_start_lose_and_repeat_nothing)
{
	struct net_profile p = layout(_i);
	uint32_t at = 0;

	rig_open(&n, &p);
	for (int round = 0; round < 30; round++) {
		send_frames(at, 37);
		/* the frames are somewhere between the rings when transmit is stopped */
		rig_ok(net_stop_ring(&n, 1), n.why);
		at += 37;
		rig_ok(net_start_ring(&n, 1), n.why);
		rig_ok(net_drain_tx(&n, 0, 5000), n.why);
		expect_frames(at - 37, 37);
		rig_restart_rings(&n);
	}
	rig_end(&n);
}
END_TEST

START_TEST(test_stopped_ring_is_left_alone)
{
	struct net_profile p = layout(_i);

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 20, 200), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	send_frames(500, 10);
	ring_kick_always(&n.rings[1]);
	expect_quiet(1);
	rig_ok(net_start_ring(&n, 1), n.why);
	expect_frames(500, 10);
	rig_ok(net_stop_ring(&n, 0), n.why);
	send_frames(600, 10);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	expect_quiet(0);
	net_close(&n);
}
END_TEST

START_TEST(test_what_waits_is_served_without_a_kick)
{
	struct net_profile p = layout(_i);

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 20, 200), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	/* no kick at all: the device has to look when it starts */
	n.rings[1].cfg.event_idx = false;
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t kicks;

		send_frames(i, 1);
		while (read(n.rings[1].kick_fd, &kicks, sizeof(kicks)) > 0)
			;
	}
	rig_ok(net_start_ring(&n, 1), n.why);
	expect_frames(0, 5);
	net_close(&n);
}
END_TEST

START_TEST(test_receive_needs_no_kick)
{
	struct net_profile p = layout(_i);

	rig_open_stopped(&n, &p);
	start_both();
	rig_ok(net_enable(&n, 0, true), n.why);
	rig_ok(net_enable(&n, 1, true), n.why);
	for (uint16_t i = 0; i < 16; i++) {
		struct ring_seg seg = { n.bufs[0][i], n.p.buf_bytes, true };

		rig_ok(ring_post(&n.rings[0], &seg, 1, (void *)(uintptr_t)seg.gpa),
			n.rings[0].fault);
	}
	send_frames(0, 16);
	expect_frames(0, 16);
	net_close(&n);
}
END_TEST

/* covers: G15 */
START_TEST(test_features_change_between_two_drivers)
{
	static const uint64_t features[] = {
		0,
		VU_BIT(VU_F_PACKED),
		VU_BIT(VU_NET_F_MRG_RXBUF),
		VU_BIT(VU_F_PACKED) | VU_BIT(VU_F_EVENT_IDX),
		VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VU_F_INDIRECT),
		VU_BIT(VU_F_PACKED) | VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(VU_F_INDIRECT),
		0,
	};
	uint64_t base = VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES);

	rig_open(&n, &plain);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		rig_ok(net_pump(&n, 0, 300, 200), n.why);
		rig_stop_rings(&n);
		n.p.features = features[i];
		n.p.base = features[i] & VU_BIT(VU_F_PACKED) ? 0x8000 : 0;
		n.p.indirect = features[i] & VU_BIT(VU_F_INDIRECT);
		rig_ok(vu_set_features(&n.c, base | features[i]), n.c.why);
		rig_ok(net_renew_ring(&n, 0), n.why);
		rig_ok(net_renew_ring(&n, 1), n.why);
		start_both();
		rig_ok(net_fill(&n, 0), n.why);
	}
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

/* covers: G15 */
START_TEST(test_one_pair_may_start_before_the_other)
{
	struct net_profile p = { .n_pairs = 2 };

	rig_open_stopped(&n, &p);
	for (uint16_t pair = 0; pair < 2; pair++) {
		for (unsigned i = 2U * pair; i < 2U * pair + 2; i++) {
			rig_ok(net_start_ring(&n, (uint16_t)i), n.why);
			rig_ok(net_enable(&n, (uint16_t)i, true), n.why);
		}
		rig_ok(net_fill(&n, pair), n.why);
		rig_ok(net_pump(&n, 0, 100, 200), n.why);
	}
	rig_ok(net_pump(&n, 1, 100, 200), n.why);
	/* and stop while the other goes on */
	rig_ok(net_stop_ring(&n, 0), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	rig_ok(net_pump(&n, 1, 100, 200), n.why);
	net_close(&n);
}
END_TEST

/* covers: G11 */
START_TEST(test_receive_ring_empty_for_long_and_goes_on)
{
	struct net_profile p = layout(_i);

	p.ring_size = 8;
	rig_open(&n, &p);
	/* twice what the receive ring holds: the surplus is dropped or waits, none is damaged */
	send_frames(0, 16);
	rig_ok(ring_wait(&n.rings[0], 5000), n.rings[0].fault);
	expect_frames(0, 8);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}
END_TEST

START_TEST(test_worker_killed_goes_on_by_itself)
{
	struct net_profile p = layout(_i);

	if (rig.peer)
		return;
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(suite_kill(&rig, "net"), rig.why);
	/* idle rings: a kill may cost nothing but time */
	rig_ok(net_pump(&n, 0, 1000, 200), n.why);
	rig_ok(vu_get_features(&n.c), n.c.why);
	rig_end(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "ring state");

	tcase_add_loop_test(tc, test_disabled_transmit_is_consumed_and_dropped, 0, 2);
	tcase_add_loop_test(tc, test_disabled_receive_gets_nothing, 0, 2);
	tcase_add_loop_test(tc, test_stop_and_start_lose_and_repeat_nothing, 0, 2);
	tcase_add_loop_test(tc, test_stopped_ring_is_left_alone, 0, 2);
	tcase_add_loop_test(tc, test_what_waits_is_served_without_a_kick, 0, 2);
	tcase_add_loop_test(tc, test_receive_needs_no_kick, 0, 2);
	tcase_add_test(tc, test_features_change_between_two_drivers);
	tcase_add_test(tc, test_one_pair_may_start_before_the_other);
	tcase_add_loop_test(tc, test_receive_ring_empty_for_long_and_goes_on, 0, 2);
}

static void add_kills(Suite *suite)
{
	TCase *tc = rig_kills_case(suite);

	tcase_add_loop_test(tc, test_worker_killed_goes_on_by_itself, 0, 2);
}

static void add_all(Suite *suite)
{
	add(suite);
	add_kills(suite);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("ring-state", &net0, add_all);
}
