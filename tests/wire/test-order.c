/*
 * Messages that are right by themselves and come at a wrong time: in any order, twice, for a ring
 * that runs, in two halves with a death in between, or against what both sides have agreed on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rig.h"

#define MIB UINT64_C(0x100000)
#define N_SHUFFLES 24
#define N_STEPS 17

static struct net n;
static uint32_t dice;

static uint32_t roll(uint32_t below)
{
	dice = dice * 1664525 + 1013904223;
	return (dice >> 8) % below;
}

static struct net_profile layout(int i)
{
	struct net_profile p = { .features = i & 1 ? VU_BIT(VU_F_PACKED) : 0, .lax = rig.peer };

	return p;
}

/* --- Any order --- */

static int say_features(void)
{
	uint64_t features = n.p.features | VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES);

	return vu_set_features(&n.c, features);
}

static int say_memory(void)
{
	struct vu_region regions[GUEST_MAX_REGIONS];
	int fds[GUEST_MAX_REGIONS];
	size_t n_regions = guest_table(&n.g, regions, fds);

	return vu_set_mem_table(&n.c, regions, fds, n_regions);
}

/* One of the messages that set up two rings; whatever the answer is, it is one. */
static int say_step(uint32_t step)
{
	uint16_t index = step & 1;
	struct ring *r = &n.rings[index];
	struct vu_addr addr;
	uint32_t base;

	ring_addr(r, &addr);
	switch (step / 2) {
	case 0:
		return vu_set_state(&n.c, VU_SET_VRING_NUM, index, r->cfg.size);
	case 1:
		return vu_set_state(&n.c, VU_SET_VRING_BASE, index, ring_base(r));
	case 2:
		return vu_set_vring_addr(&n.c, &addr);
	case 3:
		return vu_set_vring_fd(&n.c, VU_SET_VRING_ERR, index, r->err_fd);
	case 4:
		return vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, index, r->call_fd);
	case 5:
		return vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, index, r->kick_fd);
	case 6:
		return vu_set_state(&n.c, VU_SET_VRING_ENABLE, index, 1);
	case 7:
		return index ? say_memory() : say_features();
	default:
		return vu_get_vring_base(&n.c, (uint16_t)roll(2), &base);
	}
}

/* Some of them twice, some not at all. */
static void say_shuffled(void)
{
	uint32_t order[N_STEPS] = { 0 };

	for (uint32_t i = 0; i < N_STEPS; i++) {
		uint32_t k = roll(i + 1);

		order[i] = order[k];
		order[k] = i;
	}
	for (uint32_t i = 0; i < N_STEPS; i++)
		for (uint32_t times = (roll(4) + 1) / 2; times; times--) {
			int r = say_step(order[i]);

			ck_assert_msg(r == 0 || r == VU_E_REFUSED, "step %u: %d %s", order[i], r,
				n.c.why);
		}
}

/* covers: M14 */
START_TEST(test_messages_of_rings_in_any_order)
{
	struct net_profile p = layout(_i);
	uint32_t base;

	dice = (uint32_t)_i;
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(vu_hello(&n.c, VU_BIT(VU_PF_REPLY_ACK)), n.c.why);
	n.c.ack = true;
	rig_ok(net_make_rings(&n), n.why);
	say_shuffled();
	/* whatever came of it: from here on in good order */
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(vu_get_vring_base(&n.c, i, &base), n.c.why);
	rig_ok(say_features(), n.c.why);
	rig_ok(net_set_memory(&n), n.why);
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	net_close(&n);
}
END_TEST

/* --- What was agreed on --- */

/* covers: M15 */
START_TEST(test_layout_of_running_rings_stays)
{
	static const unsigned int layouts[] = { VU_F_PACKED, VU_F_EVENT_IDX, VU_F_INDIRECT,
		VU_F_IN_ORDER };
	struct net_profile p = layout(_i);
	uint64_t acked;

	rig_open(&n, &p);
	acked = n.c.acked;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		ck_assert_int_eq(vu_set_features(&n.c, acked ^ VU_BIT(layouts[i])), VU_E_REFUSED);
		rig_ok(net_pump(&n, 0, 40, 200), n.why);
	}
	/* without bit 30 all rings are enabled, and these are */
	rig_ok(vu_set_features(&n.c, acked & ~VU_BIT(VU_F_PROTOCOL_FEATURES)), n.c.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(net_stop_ring(&n, i), n.why);
	net_close(&n);
}
END_TEST

/* covers: M15 */
START_TEST(test_each_feature_that_is_not_offered_is_refused)
{
	struct net_profile p = layout(0);
	unsigned int n_refused = 0;

	rig_open(&n, &p);
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (n.c.features & VU_BIT(bit))
			continue;
		ck_assert_msg(vu_set_u64(&n.c, VU_SET_FEATURES, n.c.acked | VU_BIT(bit)) ==
				VU_E_REFUSED,
			"feature %u was accepted", bit);
		n_refused++;
	}
	ck_assert_uint_gt(n_refused, 0);
	rig_ok(net_pump(&n, 0, 40, 200), n.why);
	net_close(&n);
}
END_TEST

/* In-band notification and what else needs another feature are among them. */
/* covers: M16 */
START_TEST(test_each_protocol_feature_that_is_not_offered_is_refused)
{
	struct net_profile p = layout(0);
	unsigned int n_refused = 0;

	rig_open(&n, &p);
	for (unsigned int bit = 0; bit < 64; bit++) {
		uint64_t alone = VU_BIT(bit), more = n.c.acked_protocol | alone,
			 all = n.c.protocol | alone;

		if (n.c.protocol & alone)
			continue;
		ck_assert_int_eq(vu_set_u64(&n.c, VU_SET_PROTOCOL_FEATURES, alone), VU_E_REFUSED);
		ck_assert_int_eq(vu_set_u64(&n.c, VU_SET_PROTOCOL_FEATURES, more), VU_E_REFUSED);
		ck_assert_int_eq(vu_set_u64(&n.c, VU_SET_PROTOCOL_FEATURES, all), VU_E_REFUSED);
		n_refused++;
	}
	ck_assert_uint_gt(n_refused, 0);
	rig_ok(net_pump(&n, 0, 40, 200), n.why);
	net_close(&n);
}
END_TEST

/* covers: M26 */
START_TEST(test_acknowledgements_end_with_their_feature)
{
	struct vu_client c;
	struct vu_header owner = { VU_SET_OWNER, VU_VERSION | VU_NEED_REPLY, 0 };

	rig_hello(&c, 0);
	rig_ok(vu_set_protocol_features(&c, 0), c.why);
	/* the next to be heard is the answer to the question: both messages before it are
	 * acknowledged to nobody */
	rig_ok(vu_send(&c, &owner, NULL, NULL, 0), c.why);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* --- Configuration space --- */

/* size as the message says, and bytes that come with it */
static const struct {
	uint32_t size, n_bytes;
} config_rows[] = { { 12, 8 }, { 4, 12 }, { 0, 0 }, { 0, 12 }, { 12, 0 }, { 256, 24 }, { 257, 257 },
	{ 0xffffffff, 12 }, { 4096, 24 } };

/* covers: M23 */
START_TEST(test_config_of_another_length_than_its_payload)
{
	uint32_t n_bytes = config_rows[_i].n_bytes;
	uint8_t body[sizeof(struct vu_config_head) + 300] = { 0 };
	struct vu_config_head head = { 0, config_rows[_i].size, 0 };
	struct vu_header get = { VU_GET_CONFIG, VU_VERSION, (uint32_t)sizeof(head) + n_bytes };
	struct vu_header set = { VU_SET_CONFIG, VU_VERSION | VU_NEED_REPLY, get.size };
	struct vu_client c;
	struct vu_msg msg;

	memcpy(body, &head, sizeof(head));
	rig_hello(&c, VU_BIT(VU_PF_CONFIG));
	ck_assert(c.acked_protocol & VU_BIT(VU_PF_CONFIG));
	rig_ok(vu_send(&c, &get, body, NULL, 0), c.why);
	rig_ok(vu_recv_reply(&c, VU_GET_CONFIG, 0, &msg),
		c.why); /* no payload: there is no such range */
	rig_ok(vu_send(&c, &set, body, NULL, 0), c.why);
	ck_assert_int_eq(vu_recv_ack(&c, VU_SET_CONFIG), VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* --- Memory under a ring --- */

/* Ring 1 of pair 0 and nothing else lies in the second region. */
static void move_ring(const struct vu_region *second)
{
	struct ring *r = &n.rings[1];
	struct ring_config cfg = r->cfg;

	ck_assert_int_eq(guest_add_region(&n.g, second), 0);
	rig_ok(vu_add_mem_reg(&n.c, second, n.g.regions[1].fd), n.c.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	cfg.base = (uint16_t)ring_base(r);
	ring_deinit(r);
	cfg.desc = guest_alloc_in(&n.g, 1, 16 * cfg.size, 4096);
	cfg.avail = guest_alloc_in(&n.g, 1, 6 + 2 * cfg.size, 4);
	cfg.used = guest_alloc_in(&n.g, 1, 6 + 8 * cfg.size, 4);
	ck_assert(cfg.desc && cfg.avail && cfg.used);
	ck_assert_int_eq(ring_init(r, &n.g, &cfg), 0);
	rig_ok(net_start_ring(&n, 1), n.why);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
}

/* _i & 2: with the whole table, not by one */
static void take_away(const struct vu_region *region, bool with_table)
{
	struct vu_region regions[GUEST_MAX_REGIONS];
	int fds[GUEST_MAX_REGIONS];

	if (!with_table) {
		rig_ok(vu_rem_mem_reg(&n.c, region, -1), n.c.why);
		return;
	}
	ck_assert_uint_eq(guest_table(&n.g, regions, fds), 2);
	rig_ok(vu_set_mem_table(&n.c, regions, fds, 1), n.c.why);
}

/* covers: M18 G14 */
START_TEST(test_memory_of_a_running_ring_is_taken_away)
{
	struct vu_region second = { 4096 * MIB, MIB, UINT64_C(0x10000000000), 0 };
	struct net_profile p = layout(_i);
	uint32_t base;

	p.n_pairs = 2;
	p.protocol = VU_BIT(VU_PF_MEM_SLOTS);
	rig_open(&n, &p);
	move_ring(&second);
	take_away(&second, _i & 2);
	ring_kick_always(&n.rings[1]);
	rig_ok(ring_wait_err(&n.rings[1], 5000), "no word of what has happened to the ring");
	ck_assert_int_eq(ring_wait_err(&n.rings[0], 0), -ETIMEDOUT);
	rig_ok(net_pump(&n, 1, 100, 200), n.why);
	/* and when it is there again the ring can be, too */
	rig_ok(vu_get_vring_base(&n.c, 1, &base), n.c.why);
	rig_ok(vu_add_mem_reg(&n.c, &second, n.g.regions[1].fd), n.c.why);
	rig_ok(net_start_ring(&n, 1), n.why);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	net_close(&n);
}
END_TEST

/* Both regions are there and meet in user addresses; a ring lies in one of them. */
/* covers: M12 */
START_TEST(test_ring_over_two_regions_is_refused)
{
	struct vu_region second = { 4096 * MIB, MIB, 0, 0 };
	struct net_profile p = layout(_i);
	struct vu_addr addr, over;

	p.protocol = VU_BIT(VU_PF_MEM_SLOTS);
	rig_open(&n, &p);
	rig_ok(net_stop_ring(&n, 1), n.why);
	second.uva = n.g.regions[0].at.uva + n.g.regions[0].at.size;
	ck_assert_int_eq(guest_add_region(&n.g, &second), 0);
	rig_ok(vu_add_mem_reg(&n.c, &second, n.g.regions[1].fd), n.c.why);
	ring_addr(&n.rings[1], &addr);
	for (int part = 0; part < (p.features ? 1 : 3); part++) {
		over = addr;
		*(part == 0 ? &over.desc : part == 1 ? &over.avail : &over.used) = second.uva - 16;
		ck_assert_msg(vu_set_vring_addr(&n.c, &over) == VU_E_REFUSED,
			"part %d was accepted", part);
	}
	rig_ok(net_start_ring(&n, 1), n.why);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	net_close(&n);
}
END_TEST

/* --- Messages that are there together --- */

static void signal_frontend(int number)
{
	ck_assert_int_eq(kill(suite_pid(&rig, "frontend", NULL), number), 0);
}

/* Both rings are set up without a single answer; in between comes what is refused. */
static void say_burst(void)
{
	struct vu_header unknown = { 99, VU_VERSION, 3 };

	n.c.ack = false;
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, 77, 256), n.c.why);
		rig_ok(net_start_ring(&n, i), n.why);
		rig_ok(vu_send(&n.c, &unknown, "abc", NULL, 0), n.c.why);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, i, 2), n.c.why);
		rig_ok(net_enable(&n, i, true), n.why);
	}
	n.c.ack = true;
}

/* The last one's answer is the first to be heard, and all before it are in force by then. */
static void expect_service(void)
{
	rig_ok(net_enable(&n, 1, true), n.why);
	rig_ok(net_fill(&n, 0), n.why);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
}

START_TEST(test_burst_with_refusals_in_the_middle)
{
	struct net_profile p = layout(_i);

	rig_open_stopped(&n, &p);
	signal_frontend(SIGSTOP);
	say_burst();
	signal_frontend(SIGCONT);
	expect_service();
	rig_end(&n);
}
END_TEST

/* --- Deaths: between two halves of a message, between two messages --- */

static const size_t cuts[] = { 1, 7, 11, 12, 13, 19, 20 };

/* covers: P6 */
START_TEST(test_half_a_message_outlives_the_frontend)
{
	struct vu_header head = { VU_SET_VRING_CALL, VU_VERSION | VU_NEED_REPLY, 8 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	size_t cut = cuts[_i];
	uint8_t bytes[20] = { 0 };
	struct vu_client c;

	memcpy(bytes, &head, sizeof(head));
	rig_hello(&c, 0);
	rig_ok(vu_send_raw(&c, bytes, cut, &fd, 1), c.why);
	rig_ok(suite_kill(&rig, "frontend"), rig.why);
	if (cut < sizeof(bytes))
		rig_ok(vu_send_raw(&c, bytes + cut, sizeof(bytes) - cut, NULL, 0), c.why);
	/* answered, and once: the next to be heard is the answer to the next question */
	rig_ok(vu_recv_ack(&c, VU_SET_VRING_CALL), c.why);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
	close(fd);
	rig_check_witness();
}
END_TEST

/* covers: P6 */
START_TEST(test_messages_in_line_outlive_the_frontend)
{
	struct vu_header get = { VU_GET_FEATURES, VU_VERSION, 0 };
	struct vu_header set = { VU_SET_OWNER, VU_VERSION | VU_NEED_REPLY, 0 };
	struct vu_client c;
	struct vu_msg msg;

	rig_hello(&c, 0);
	for (int i = 0; i < 50; i++) {
		rig_ok(vu_send(&c, &get, NULL, NULL, 0), c.why);
		rig_ok(vu_send(&c, &set, NULL, NULL, 0), c.why);
		if (i % 10 == 5)
			rig_ok(suite_kill(&rig, "frontend"), rig.why);
	}
	for (int i = 0; i < 50; i++) {
		rig_ok(vu_recv_reply(&c, VU_GET_FEATURES, 8, &msg), c.why);
		rig_ok(vu_recv_ack(&c, VU_SET_OWNER), c.why);
	}
	vu_close(&c);
	rig_check_witness();
}
END_TEST

/* covers: P6 */
START_TEST(test_burst_outlives_the_frontend)
{
	struct net_profile p = layout(_i);

	rig_open_stopped(&n, &p);
	say_burst();
	rig_ok(suite_kill(&rig, "frontend"), rig.why);
	expect_service();
	net_close(&n);
	rig_check_witness();
}
END_TEST

static void add_kills(Suite *suite)
{
	TCase *tc = rig_kills_case(suite);

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_half_a_message_outlives_the_frontend, 0,
		sizeof(cuts) / sizeof(cuts[0]));
	tcase_add_test(tc, test_messages_in_line_outlive_the_frontend);
	tcase_add_loop_test(tc, test_burst_outlives_the_frontend, 0, 8);
}

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "order");

	tcase_add_loop_test(tc, test_messages_of_rings_in_any_order, 0, N_SHUFFLES);
	tcase_add_loop_test(tc, test_layout_of_running_rings_stays, 0, 2);
	tcase_add_test(tc, test_each_feature_that_is_not_offered_is_refused);
	tcase_add_test(tc, test_each_protocol_feature_that_is_not_offered_is_refused);
	tcase_add_test(tc, test_acknowledgements_end_with_their_feature);
	tcase_add_loop_test(tc, test_config_of_another_length_than_its_payload, 0,
		sizeof(config_rows) / sizeof(config_rows[0]));
	tcase_add_loop_test(tc, test_memory_of_a_running_ring_is_taken_away, 0, 4);
	tcase_add_loop_test(tc, test_ring_over_two_regions_is_refused, 0, 2);
	tcase_add_loop_test(tc, test_burst_with_refusals_in_the_middle, 0, 2);
	add_kills(suite);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("order", &net0, add);
}
