/*
 * The order in which crosvm speaks: need_reply is never set, SET_FEATURES comes at activation only,
 * a ring is enabled right after its kick, and sleep and reset are the same messages. A snapshot is
 * taken asleep, and restored into processes that have never been activated.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "transfer.h"

#define CROSVM_PF                                                                                  \
	(VU_BIT(VU_PF_CONFIG) | VU_BIT(VU_PF_MQ) | VU_BIT(VU_PF_BACKEND_REQ) |                     \
		VU_BIT(VU_PF_DEVICE_STATE) | VU_BIT(VU_PF_SHMEM) | VU_BIT(VU_PF_REPLY_ACK))
/* device bits 0-23, INDIRECT is not among crosvm's own, EVENT_IDX and VERSION_1 are */
#define CROSVM_FEATURES                                                                            \
	(VU_BIT(VU_NET_F_CSUM) | VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(VU_F_EVENT_IDX) |             \
		VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES))

static struct net n;

static void connect_to(const char *path)
{
	uint64_t n_queues;

	rig_ok(vu_connect(&n.c, path), n.c.why);
	rig_ok(vu_hello(&n.c, CROSVM_PF), n.c.why);
	n.c.ack = false;
	if (n.c.acked_protocol & VU_BIT(VU_PF_BACKEND_REQ))
		rig_ok(vu_set_backend_channel(&n.c), n.c.why);
	rig_ok(vu_get_u64(&n.c, VU_GET_QUEUE_NUM, &n_queues), n.c.why);
	ck_assert_uint_ge(n_queues, 1);
}

static void construct(uint64_t features)
{
	struct net_profile p = {
		.features = features & CROSVM_FEATURES, .no_ack = true, .lax = rig.peer
	};

	rig_ok(net_init(&n, &p), n.why);
	connect_to(rig_socket());
	rig_ok(net_make_rings(&n), n.why);
}

/* one field at a time, whether or not CONFIG was acked */
static void read_config(void)
{
	static const struct vu_config_head fields[] = { { 0, 6, 1 }, { 6, 2, 1 }, { 8, 2, 1 },
		{ 10, 2, 1 }, { 0, 1, 1 }, { 5, 1, 1 } };
	uint8_t bytes[256];

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		int r = vu_get_config(&n.c, &fields[i], bytes);

		ck_assert_msg(r == 0 ||
				(r == VU_E_REFUSED && !(n.c.acked_protocol & VU_BIT(VU_PF_CONFIG))),
			"field at %u: %d", fields[i].offset, r);
	}
}

static void activate(uint64_t features)
{
	if (n.c.acked != features)
		rig_ok(vu_set_features(&n.c, features), n.c.why);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++) {
		struct ring *r = &n.rings[i];
		struct vu_addr addr;

		ring_addr(r, &addr);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, i, r->cfg.size), n.c.why);
		rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, i, ring_base(r)), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, i, r->call_fd), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, i, r->kick_fd), n.c.why);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, i, 1), n.c.why);
	}
}

static void rest(void)
{
	for (uint16_t i = 0; i < n.n_rings; i++) {
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, i, 0), n.c.why);
		rig_ok(net_stop_ring(&n, i), n.why);
		ck_assert_uint_le(ring_base(&n.rings[i]), UINT16_MAX);
	}
}

/*
 * Nothing is acknowledged, so the driver may be ahead of the last SET_VRING_ENABLE, and what a
 * disabled ring transmits is dropped: probe until frames come back.
 */
static void settle(void)
{
	static uint32_t seq = 0x80000000;
	uint8_t frame[60], back[NET_FRAME_MAX];
	uint32_t n_bytes;
	int tries = 0;
	int r;

	do {
		n.why[0] = 0;
		net_frame_make(frame, sizeof(frame), ++seq);
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
		do {
			r = net_recv(&n, 0, back, &n_bytes, 20);
		} while (!r && !net_frame_is_echo(back, n_bytes, seq));
		ck_assert_msg(!r || r == -ETIMEDOUT, "%s", n.why);
	} while (r && ++tries < 250);
	ck_assert_msg(!r, "no frame comes back after activation");
}

START_TEST(test_construct_activate_sleep_wake_and_again)
{
	construct(UINT64_MAX);
	read_config();
	activate(n.p.features);
	rig_ok(net_fill(&n, 0), n.why);
	for (int i = 0; i < 10; i++) {
		settle();
		rig_ok(net_pump(&n, 0, 300, 200), n.why);
		rest();
		activate(n.p.features);
	}
	settle();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	read_config();
	rest();
	rig_ok(vu_expect_silence(&n.c, 20), n.c.why);
	net_close(&n);
}
END_TEST

START_TEST(test_constructed_and_never_activated)
{
	construct(UINT64_MAX);
	read_config();
	net_close(&n);
	rig_check_net0();
}
END_TEST

START_TEST(test_driver_resets_and_comes_back_with_fewer_features)
{
	construct(UINT64_MAX);
	for (int i = 0; i < 4; i++) {
		uint64_t features = n.p.features;

		activate(features);
		rig_ok(net_fill(&n, 0), n.why);
		settle();
		rig_ok(net_pump(&n, 0, 300, 200), n.why);
		rest();
		/* the next driver acks one optional bit less, and begins with rings of its own */
		if (i == 0)
			n.p.features &= ~VU_BIT(VU_NET_F_MRG_RXBUF);
		if (i == 1)
			n.p.features &= ~VU_BIT(VU_F_EVENT_IDX);
		if (i == 2)
			n.p.features |= VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(VU_F_EVENT_IDX);
		for (uint16_t k = 0; k < n.n_rings; k++)
			rig_ok(net_renew_ring(&n, k), n.why);
	}
	net_close(&n);
}
END_TEST

START_TEST(test_frames_sent_asleep_are_taken_on_waking)
{
	uint8_t frame[300];

	construct(UINT64_MAX);
	activate(n.p.features);
	rig_ok(net_fill(&n, 0), n.why);
	settle();
	rig_ok(net_pump(&n, 0, 30, 200), n.why);
	rest();
	for (uint32_t i = 0; i < 20; i++) {
		net_frame_make(frame, sizeof(frame), i);
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	}
	ring_kick_always(&n.rings[1]);
	activate(n.p.features);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	settle();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rest();
	net_close(&n);
}
END_TEST

START_TEST(test_one_call_descriptor_for_all_rings)
{
	construct(UINT64_MAX);
	close(n.rings[1].call_fd);
	n.rings[1].call_fd = dup(n.rings[0].call_fd);
	ring_want_calls(&n.rings[1], false);
	activate(n.p.features);
	rig_ok(net_fill(&n, 0), n.why);
	settle();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rest();
	net_close(&n);
}
END_TEST

/* --- Snapshots --- */

static uint8_t state[VU_STATE_MAX];
static size_t n_state;

/* 6. asleep: a pipe, the write end is given away and closed, the read end is read to its end */
static void snapshot(void)
{
	rig_ok(vu_save_state(&n.c, state, &n_state), n.c.why);
	ck_assert_uint_gt(n_state, 0);
}

/* 7. features, which are at last a part of those that are offered, then the state. The VMM has
 * signalled every kick descriptor by then. */
static void restore(void)
{
	for (uint16_t i = 0; i < n.n_rings; i++)
		ring_kick_always(&n.rings[i]);
	rig_ok(vu_get_features(&n.c), n.c.why);
	ck_assert_uint_eq(n.p.features & ~n.c.features, 0);
	rig_ok(vu_set_features(&n.c, n.p.features), n.c.why);
	rig_ok(vu_load_state(&n.c, state, n_state), n.c.why);
}

static void move_frames(void)
{
	settle();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
}

/* The sequences 1 3 4 3 4 6 3, in crosvm's own count, and 1 7 3 in another product. */
START_TEST(test_lifecycle_with_snapshot_and_restore)
{
	struct suite_device fresh = { .name = "net0", .backend = "echo", .queue_pairs = 2 };
	static struct suite other;

	construct(UINT64_MAX);
	activate(n.p.features);
	rig_ok(net_fill(&n, 0), n.why);
	move_frames();
	rest();
	activate(n.p.features);
	move_frames();
	rest();
	snapshot();
	activate(n.p.features);
	move_frames();
	rest();
	snapshot();
	vu_close(&n.c);
	n.c = (struct vu_client)VU_CLIENT_NULL;

	rig_ok(suite_start(&other, &fresh, 1), other.why);
	rig_ok(suite_wait_ready(&other), other.why);
	connect_to(suite_socket(&other, "net0"));
	restore();
	activate(n.p.features);
	move_frames();
	rest();
	rig_ok(vu_expect_silence(&n.c, 20), n.c.why);
	net_close(&n);
	rig_ok(suite_stop(&other), other.why);
}
END_TEST

/* Sleep is nothing then: no GET_VRING_BASE. */
START_TEST(test_snapshot_of_a_device_that_was_never_activated)
{
	construct(UINT64_MAX);
	read_config();
	snapshot();
	vu_close(&n.c);
	n.c = (struct vu_client)VU_CLIENT_NULL;
	connect_to(rig_socket());
	restore();
	activate(n.p.features);
	rig_ok(net_fill(&n, 0), n.why);
	move_frames();
	rest();
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "crosvm");

	tcase_add_test(tc, test_construct_activate_sleep_wake_and_again);
	tcase_add_test(tc, test_constructed_and_never_activated);
	tcase_add_test(tc, test_driver_resets_and_comes_back_with_fewer_features);
	tcase_add_test(tc, test_frames_sent_asleep_are_taken_on_waking);
	tcase_add_test(tc, test_one_call_descriptor_for_all_rings);
	tcase_add_test(tc, test_lifecycle_with_snapshot_and_restore);
	tcase_add_test(tc, test_snapshot_of_a_device_that_was_never_activated);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("crosvm", &net0, add);
}
