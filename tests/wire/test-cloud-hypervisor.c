/*
 * The order in which Cloud Hypervisor speaks: need_reply on everything once REPLY_ACK is there, the
 * number of all rings before the first address, base behind address, all rings enabled at the end,
 * memory added while rings run, queues counted one by one, and a reconnection that does not ask
 * for the protocol features again.
 */
#include <string.h>
#include <unistd.h>

#include "rig.h"

#define CH_PF                                                                                      \
	(VU_BIT(VU_PF_MQ) | VU_BIT(VU_PF_MEM_SLOTS) | VU_BIT(VU_PF_REPLY_ACK) |                    \
		VU_BIT(VU_PF_INFLIGHT_SHMFD) | VU_BIT(VU_PF_LOG_SHMFD) |                           \
		VU_BIT(VU_PF_DEVICE_STATE) | VU_BIT(VU_PF_CONFIG))
#define N_QUEUES 4
#define CONFIG_BYTES 17 /* mac, status, pairs, mtu, speed, duplex */

static struct net n;

static void from_here_on_need_reply(void)
{
	n.c.ack = n.c.acked_protocol & VU_BIT(VU_PF_REPLY_ACK);
	n.c.ack_gets = n.c.ack;
}

static void construct(uint64_t features)
{
	struct net_profile p = { .features = features | VU_BIT(VU_F_VERSION_1) |
			VU_BIT(VU_F_PROTOCOL_FEATURES),
		.n_pairs = N_QUEUES / 2,
		.lax = rig.peer };
	uint64_t n_queues;

	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(vu_hello(&n.c, CH_PF), n.c.why);
	from_here_on_need_reply();
	n.p.features &= n.c.features;
	rig_ok(vu_get_u64(&n.c, VU_GET_QUEUE_NUM, &n_queues), n.c.why);
	ck_assert_uint_ge(n_queues, N_QUEUES);
}

static void setup(void)
{
	rig_ok(vu_set_features(&n.c, n.p.features), n.c.why);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, i, n.rings[i].cfg.size), n.c.why);
	for (uint16_t i = 0; i < n.n_rings; i++) {
		struct ring *r = &n.rings[i];
		struct vu_addr addr;

		ring_addr(r, &addr);
		rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, i, ring_base(r)), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, i, r->call_fd), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, i, r->kick_fd), n.c.why);
	}
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_enable(&n, i, true), n.why);
}

static void start(void)
{
	construct(VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VU_F_IN_ORDER) |
		VU_BIT(VU_F_INDIRECT));
	rig_ok(net_make_rings(&n), n.why);
	setup();
	for (uint16_t pair = 0; pair < N_QUEUES / 2; pair++)
		rig_ok(net_fill(&n, pair), n.why);
}

static void pump(uint32_t n_frames)
{
	for (uint16_t pair = 0; pair < N_QUEUES / 2; pair++)
		rig_ok(net_pump(&n, pair, n_frames, 400), n.why);
}

static void reset(void)
{
	for (uint16_t i = 0; i < n.n_rings; i++) {
		rig_ok(net_enable(&n, i, false), n.why);
		rig_ok(net_stop_ring(&n, i), n.why);
	}
}

START_TEST(test_config_is_as_long_as_it_reads)
{
	struct vu_config_head head = { 0, CONFIG_BYTES, 1 };
	uint8_t bytes[256] = { 0 };

	construct(0);
	if (n.c.acked_protocol & VU_BIT(VU_PF_CONFIG)) {
		ck_assert_msg(!vu_get_config(&n.c, &head, bytes),
			"GET_CONFIG of %d bytes is refused: no device can be made", CONFIG_BYTES);
		ck_assert_int_eq(bytes[8] | bytes[9] << 8, N_QUEUES / 2);
	}
	net_close(&n);
}
END_TEST

/* covers: M26 */
START_TEST(test_start_pause_resume_reset)
{
	uint8_t frame[100], back[NET_FRAME_MAX];
	uint32_t n_bytes;

	start();
	pump(300);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_enable(&n, i, false), n.why);
	/* paused rings transmit into nothing */
	net_frame_make(frame, sizeof(frame), 7);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_enable(&n, i, true), n.why);
	pump(300);
	net_frame_make(frame, sizeof(frame), 8);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	rig_ok(net_recv(&n, 0, back, &n_bytes, 5000), n.why);
	ck_assert(net_frame_is_echo(back, n_bytes, 8));
	reset();
	net_close(&n);
}
END_TEST

START_TEST(test_memory_added_while_rings_run)
{
	struct vu_region more = { UINT64_C(1) << 32, 16 << 20, UINT64_C(0x7e0000000000), 0 };

	start();
	pump(100);
	ck_assert_int_eq(guest_add_region(&n.g, &more), 0);
	if (n.c.acked_protocol & VU_BIT(VU_PF_MEM_SLOTS))
		rig_ok(vu_add_mem_reg(&n.c, &more, n.g.regions[1].fd), n.c.why);
	else
		rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < n.n_free_tx[1]; i++) {
		n.free_tx[1][i] = guest_alloc_in(&n.g, 1, 2048, 1);
		ck_assert(n.free_tx[1][i]);
	}
	pump(600);
	reset();
	net_close(&n);
}
END_TEST

START_TEST(test_reconnection_goes_on_from_the_used_index)
{
	start();
	for (int i = 0; i < 10; i++) {
		uint64_t pf = n.c.acked_protocol;

		pump(100);
		vu_close(&n.c);
		n.c.ack = n.c.ack_gets = false;
		rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
		rig_ok(vu_set(&n.c, VU_SET_OWNER, NULL, 0, -1), n.c.why);
		rig_ok(vu_get_features(&n.c), n.c.why);
		rig_ok(vu_set_protocol_features(&n.c, pf), n.c.why);
		from_here_on_need_reply();
		setup();
		for (uint16_t k = 0; k < n.n_rings; k++)
			ring_kick_always(&n.rings[k]);
	}
	pump(100);
	reset();
	net_close(&n);
}
END_TEST

START_TEST(test_driver_reset_and_again)
{
	start();
	for (int i = 0; i < 5; i++) {
		pump(50);
		reset();
		for (uint16_t k = 0; k < n.n_rings; k++)
			rig_ok(net_renew_ring(&n, k), n.why);
		setup();
		rig_ok(net_fill(&n, 0), n.why);
		rig_ok(net_fill(&n, 1), n.why);
	}
	pump(50);
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "cloud-hypervisor");

	tcase_add_test(tc, test_config_is_as_long_as_it_reads);
	tcase_add_test(tc, test_start_pause_resume_reset);
	tcase_add_test(tc, test_memory_added_while_rings_run);
	tcase_add_test(tc, test_reconnection_goes_on_from_the_used_index);
	tcase_add_test(tc, test_driver_reset_and_again);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("cloud-hypervisor", &net0, add);
}
