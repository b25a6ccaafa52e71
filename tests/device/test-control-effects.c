/*
 * Offloads, queue pairs, announcements, commands that are wrong, and a worker that dies.
 */
#include <poll.h>
#include <string.h>

#include "lib/patience.h"
#include "control.h"

#define WAIT_MS 5000
#define N_FLOWS 64
#define FILTERS (VU_BIT(NET_F_CTRL_RX) | VU_BIT(NET_F_CTRL_RX_EXTRA))

static struct net *const n = &control_net;

/* --- Offloads --- */

#define TSO_FRAME (54 + 4000)
#define GSO_BYTES 1000

static void put_be16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static unsigned int sum16(const uint8_t *at, size_t n_bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n_bytes; i += 2)
		sum += (uint32_t)at[i] << 8 | at[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Ethernet and IPv4; the protocol's ports are the flow */
static void make_ip(uint8_t *frame, size_t n_bytes, uint8_t protocol, uint16_t flow)
{
	static const uint8_t from[6] = { 2, 0, 0, 0, 0, 0x77 },
			     addresses[8] = { 10, 0, 0, 1, 10, 0, 0, 2 };

	memset(frame, 0, n_bytes);
	memcpy(frame, mac_own, 6);
	memcpy(frame + 6, from, 6);
	put_be16(frame + 12, 0x0800);
	frame[14] = 0x45;
	put_be16(frame + 16, (unsigned int)n_bytes - 14);
	frame[22] = 64;
	frame[23] = protocol;
	memcpy(frame + 26, addresses, 8);
	put_be16(frame + 24, ~sum16(frame + 14, 20));
	put_be16(frame + 34, 1000U + flow);
	put_be16(frame + 36, 2000);
}

/* how many frames 4000 bytes of TCP reach the driver as */
static unsigned int n_segments(void)
{
	static uint8_t frame[TSO_FRAME], got[NET_FRAME_MAX];
	unsigned int n_frames = 0;
	uint32_t left = 4000, n_got;

	make_ip(frame, sizeof(frame), 6, 0);
	frame[46] = 5 << 4;
	frame[47] = 0x10;
	put_be16(frame + 50, sum16(frame + 26, 8) + 6 + 4020); /* of the pseudo header */
	wire_send_tso4(frame, sizeof(frame), GSO_BYTES);
	for (; left; n_frames++, left -= n_got - 54) {
		rig_ok(net_recv(n, 0, got, &n_got, WAIT_MS), n->why);
		ck_assert_uint_gt(n_got, 54);
		ck_assert_uint_le(n_got - 54, left);
	}
	return n_frames;
}

/* uses: net:CTRL_GUEST_OFFLOADS */
START_TEST(test_offloads_can_be_taken_back_and_given_again)
{
	uint64_t all = VU_BIT(VU_NET_F_GUEST_CSUM) | VU_BIT(NET_F_GUEST_TSO4), none = 0;
	struct net_profile p = control_layout(_i,
		all | VU_BIT(NET_F_CTRL_GUEST_OFFLOADS) | VU_BIT(VU_NET_F_MRG_RXBUF));

	control_open(&p);
	ck_assert_uint_eq(n_segments(), 1);
	control_expect(CTRL_OK, CTRL_OFFLOADS, 0, &none, 8);
	ck_assert_uint_eq(n_segments(), 4);
	control_expect(CTRL_OK, CTRL_OFFLOADS, 0, &all, 8);
	ck_assert_uint_eq(n_segments(), 1);
	control_stop();
	control_close();
}
END_TEST

/* covers: G12 */
START_TEST(test_offloads_that_were_not_negotiated_are_refused)
{
	uint64_t all = VU_BIT(VU_NET_F_GUEST_CSUM) | VU_BIT(NET_F_GUEST_TSO4), none = 0;
	uint64_t ufo = all | VU_BIT(NET_F_GUEST_UFO), more = all | VU_BIT(VU_F_VERSION_1);
	struct net_profile p = control_layout(0,
		all | VU_BIT(NET_F_CTRL_GUEST_OFFLOADS) | VU_BIT(VU_NET_F_MRG_RXBUF));

	control_open(&p);
	control_expect(CTRL_ERR, CTRL_OFFLOADS, 0, &ufo, 8);
	control_expect(CTRL_ERR, CTRL_OFFLOADS, 0, &more, 8);
	control_expect(CTRL_ERR, CTRL_OFFLOADS, 0, &none, 4);
	control_expect(CTRL_ERR, CTRL_OFFLOADS, 1, &none, 8);
	ck_assert_uint_eq(n_segments(), 1);
	control_close();
	p.features &= ~VU_BIT(NET_F_CTRL_GUEST_OFFLOADS);
	control_open(&p);
	control_expect(CTRL_ERR, CTRL_OFFLOADS, 0, &none, 8);
	ck_assert_uint_eq(n_segments(), 1);
	control_close();
}
END_TEST

/* --- Hash --- */

/* Of the network's frames, too: the first published value (test-hash.c). The library takes what the
 * header is longer for a part of the frame. */
START_TEST(test_frames_of_the_network_are_hashed)
{
	static const uint8_t addresses[12] = { 66, 9, 149, 187, 161, 142, 100, 80, 10, 234, 6,
		230 };
	static const uint8_t key[40] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
		0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4,
		0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
		0x01, 0xfa };
	struct net_profile p = control_layout(_i, VU_BIT(NET_F_HASH_REPORT));
	uint8_t config[53] = { [0] = 2, [12] = sizeof(key) };
	static uint8_t frame[80], got[NET_FRAME_MAX];
	uint32_t n_got;

	control_open(&p);
	memcpy(config + 13, key, sizeof(key));
	control_expect(CTRL_OK, CTRL_MQ, 2, config, sizeof(config));
	make_ip(frame, sizeof(frame), 6, 0);
	memcpy(frame + 26, addresses, sizeof(addresses));
	wire_send(frame, sizeof(frame));
	rig_ok(net_recv(n, 0, got, &n_got, WAIT_MS), n->why);
	ck_assert_uint_eq(n_got, 8 + sizeof(frame));
	ck_assert_mem_eq(got, "\x78\xc1\xcc\x51\2\0\0\0", 8);
	ck_assert_mem_eq(got + 8, frame, sizeof(frame));
	control_stop();
	control_close();
}
END_TEST

/* --- Queue pairs --- */

static void set_pairs(uint8_t want, uint16_t pairs)
{
	control_expect(want, CTRL_MQ, 0, &pairs, sizeof(pairs));
}

/* frames of many flows; how many of them came to the second pair */
static unsigned int n_on_second_pair(void)
{
	static uint8_t frame[80], got[NET_FRAME_MAX];
	unsigned int n_frames[2] = { 0, 0 };
	uint32_t n_got;

	for (uint16_t i = 0; i < N_FLOWS; i++) {
		make_ip(frame, sizeof(frame), 17, i);
		put_be16(frame + 38, sizeof(frame) - 34);
		wire_send(frame, sizeof(frame));
	}
	for (int ms = 0; n_frames[0] + n_frames[1] < N_FLOWS;) {
		uint16_t pair = ring_has_used(&n->rings[2]) ? 1 : 0;

		if (!ring_has_used(&n->rings[2 * pair])) {
			ck_assert_msg(ms < test_ms(WAIT_MS), "of %d frames only %u and %u came",
				N_FLOWS, n_frames[0], n_frames[1]);
			poll(NULL, 0, 5);
			ms += 5;
			continue;
		}
		rig_ok(net_recv(n, pair, got, &n_got, WAIT_MS), n->why);
		ck_assert_uint_eq(n_got, sizeof(frame));
		n_frames[pair]++;
	}
	return n_frames[1];
}

/* uses: net:MQ */
START_TEST(test_frames_come_to_the_pairs_that_the_driver_uses)
{
	struct net_profile p = control_layout(_i, VU_BIT(VU_NET_F_MQ));

	p.n_pairs = 2;
	control_open(&p);
	ck_assert_uint_eq(n_on_second_pair(), 0);
	set_pairs(CTRL_OK, 2);
	ck_assert_uint_gt(n_on_second_pair(), 0);
	set_pairs(CTRL_ERR, 0);
	set_pairs(CTRL_ERR, 3);
	set_pairs(CTRL_ERR, 0x8000);
	control_expect(CTRL_ERR, CTRL_MQ, 0, "\1", 1);
	control_expect(CTRL_ERR, CTRL_MQ, 1, "\1\0", 2); /* receive steering */
	ck_assert_uint_gt(n_on_second_pair(), 0);
	set_pairs(CTRL_OK, 1);
	ck_assert_uint_eq(n_on_second_pair(), 0);
	set_pairs(CTRL_OK, 2);
	ck_assert_uint_gt(n_on_second_pair(), 0);
	control_stop();
	control_close();
}
END_TEST

/* --- Announcement --- */

static void send_rarp(const uint8_t *mac)
{
	uint8_t payload[8] = { 0 };

	memcpy(payload, mac, 6);
	rig_ok(vu_set(&n->c, VU_SEND_RARP, payload, sizeof(payload), -1), n->c.why);
}

/* The driver announces itself; for one that cannot, the device does. */
/* uses: net:GUEST_ANNOUNCE net:STATUS protocol:RARP protocol:BACKEND_REQ */
START_TEST(test_announcement_is_seen_by_network_and_driver)
{
	struct net_profile p =
		control_layout(_i, VU_BIT(VU_NET_F_STATUS) | VU_BIT(NET_F_GUEST_ANNOUNCE));
	struct vu_msg msg;

	p.protocol = VU_BIT(VU_PF_RARP) | VU_BIT(VU_PF_CONFIG) | VU_BIT(VU_PF_BACKEND_REQ);
	control_open(&p);
	rig_ok(vu_set_backend_channel(&n->c), n->c.why);
	control_await_config(6, "\1\0", 2);
	send_rarp(mac_own);
	wire_expect_rarp(mac_own);
	rig_ok(vu_backend_request(&n->c, 0, &msg), "the driver was not told");
	ck_assert_uint_eq(msg.head.request, 2);
	vu_msg_deinit(&msg);
	control_await_config(6, "\3\0", 2);
	control_expect(CTRL_ERR, CTRL_ANNOUNCE, 1, NULL, 0);
	control_await_config(6, "\3\0", 2);
	control_expect(CTRL_OK, CTRL_ANNOUNCE, 0, NULL, 0);
	control_await_config(6, "\1\0", 2);
	control_close();
}
END_TEST

START_TEST(test_device_announces_a_driver_that_cannot)
{
	struct net_profile p = control_layout(0, VU_BIT(VU_NET_F_STATUS));

	p.protocol = VU_BIT(VU_PF_RARP) | VU_BIT(VU_PF_CONFIG);
	control_open(&p);
	send_rarp(mac_third);
	wire_expect_rarp(mac_third);
	send_rarp(mac_other);
	wire_expect_rarp(mac_other);
	control_await_config(6, "\1\0", 2);
	control_expect(CTRL_ERR, CTRL_ANNOUNCE, 0, NULL, 0);
	control_close();
}
END_TEST

/* --- Malformed commands --- */

/* covers: G12 */
START_TEST(test_command_that_does_not_exist_is_refused)
{
	struct net_profile p = control_layout(_i, FILTERS | VU_BIT(NET_F_CTRL_VLAN));
	static const uint8_t classes[] = { 6, 7, 64, 128, 255 }, numbers[] = { 6, 7, 128, 255 };
	uint8_t on = 1;

	control_open(&p);
	control_set_promisc(0);
	for (size_t i = 0; i < sizeof(classes); i++)
		for (size_t k = 0; k < sizeof(numbers); k++)
			control_expect(CTRL_ERR, classes[i], numbers[k], &on, 1);
	for (uint8_t class = 0; class < 6; class ++)
		for (size_t k = 0; k < sizeof(numbers); k++)
			control_expect(CTRL_ERR, class, numbers[k], &on, 1);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* covers: G12 */
START_TEST(test_command_of_a_wrong_length_is_refused)
{
	struct net_profile p = control_layout(_i, FILTERS);
	static const uint8_t two[2] = { 1, 1 };
	uint8_t head[2] = { CTRL_RX, 0 }, two_is_no_bit = 2;
	struct control_piece half = { head, 1 };

	control_open(&p);
	control_set_promisc(0);
	ck_assert_uint_eq(control_chain(NULL, 0, 1), CTRL_ERR);
	ck_assert_uint_eq(control_chain(&half, 1, 1), CTRL_ERR);
	control_expect(CTRL_ERR, CTRL_RX, 0, NULL, 0);
	control_expect(CTRL_ERR, CTRL_RX, 0, two, 2);
	control_expect(CTRL_ERR, CTRL_RX, 0, &two_is_no_bit, 1);
	control_expect(CTRL_ERR, CTRL_MAC, 0, NULL, 0);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_set_promisc(1);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* A command that cannot be answered is not obeyed either, and costs nothing but itself. */
/* covers: G12 */
START_TEST(test_command_without_a_place_for_the_answer_is_dropped)
{
	struct net_profile p = control_layout(_i, FILTERS);
	uint8_t head[2] = { CTRL_RX, 0 }, on = 1, answer = 0x77;
	struct control_piece out[3] = { { head, 2 }, { &on, 1 }, { &answer, 1 } };

	control_open(&p);
	control_set_promisc(0);
	ck_assert_uint_eq(control_chain(out, 2, 0), CONTROL_NONE);
	ck_assert_uint_eq(control_chain(out, 3, 0),
		CONTROL_NONE); /* the byte is there, and read-only */
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert_uint_eq(control_chain(out, 2, 1), CTRL_OK);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* covers: G12 */
START_TEST(test_command_may_be_cut_anywhere)
{
	struct net_profile p = control_layout(_i, FILTERS | VU_BIT(VU_F_INDIRECT));
	uint8_t class = CTRL_RX, number = 0, off = 0;
	struct control_piece out[3] = { { &class, 1 }, { &number, 1 }, { &off, 1 } };
	uint8_t table[14] = { 1, 0, 0, 0 };
	uint8_t head[3] = { CTRL_MAC, 0, 1 };
	struct control_piece cut[4] = { { head, 3 }, { table + 1, 4 }, { table + 5, 2 },
		{ table + 7, 7 } };

	p.indirect = _i & 2;
	control_open(&p);
	ck_assert_uint_eq(control_chain(out, 3, 1), CTRL_OK);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	memcpy(table + 4, mac_other, 6);
	ck_assert_uint_eq(control_chain(cut, 4, 16),
		CTRL_OK); /* and more room than an answer needs */
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* --- A worker that dies --- */

static void set_vlan_7(void)
{
	uint16_t vlan = 7;

	control_expect(CTRL_OK, CTRL_VLAN, 0, &vlan, sizeof(vlan));
}

START_TEST(test_settings_outlive_the_worker)
{
	uint64_t offloads = VU_BIT(VU_NET_F_GUEST_CSUM) | VU_BIT(NET_F_GUEST_TSO4), none = 0;
	struct net_profile p = control_layout(_i,
		FILTERS | offloads | VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(NET_F_CTRL_VLAN) |
			VU_BIT(NET_F_CTRL_MAC_ADDR) | VU_BIT(NET_F_CTRL_GUEST_OFFLOADS));
	struct control_table t = { .n_bytes = 0 };

	p.protocol = VU_BIT(VU_PF_CONFIG);
	control_open(&p);
	control_set_promisc(0);
	control_add_macs(&t, mac_other, 1);
	control_add_macs(&t, mac_group, 1);
	control_expect(CTRL_OK, CTRL_MAC, 0, t.bytes, t.n_bytes);
	set_vlan_7();
	control_expect(CTRL_OK, CTRL_MAC, 1, mac_third, 6);
	control_expect(CTRL_OK, CTRL_OFFLOADS, 0, &none, 8);
	for (int round = 0; round < 3; round++) {
		rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
		ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
		ck_assert(control_passes(mac_group, 7, mac_broadcast));
		ck_assert(control_passes(mac_third, VLAN_NONE, mac_broadcast));
		ck_assert(!control_passes(mac_own, VLAN_NONE, mac_broadcast));
		ck_assert(!control_passes(mac_other, 8, mac_broadcast));
		ck_assert(!control_passes(mac_group2, VLAN_NONE, mac_broadcast));
		control_set_promisc(1);
		ck_assert_uint_eq(n_segments(), 4);
		control_set_promisc(0);
		control_await_config(0, mac_third, 6);
	}
	control_stop();
	control_close();
}
END_TEST

START_TEST(test_pairs_in_use_outlive_the_worker)
{
	struct net_profile p = control_layout(_i, VU_BIT(VU_NET_F_MQ));

	p.n_pairs = 2;
	control_open(&p);
	set_pairs(CTRL_OK, 2);
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	ck_assert_uint_gt(n_on_second_pair(), 0);
	set_pairs(CTRL_OK, 1);
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	ck_assert_uint_eq(n_on_second_pair(), 0);
	control_close();
}
END_TEST

START_TEST(test_command_sent_to_a_dead_worker_is_obeyed_by_the_next)
{
	struct net_profile p = control_layout(_i, FILTERS);
	uint8_t command[3] = { CTRL_RX, 0, 0 };
	struct control_piece out = { command, sizeof(command) };

	control_open(&p);
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	control_post(&out, 1, 1);
	ck_assert_uint_eq(control_wait(1), CTRL_OK);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* --- All --- */

static void add_others(Suite *suite)
{
	TCase *tc = rig_case(suite, "others");

	tcase_add_checked_fixture(tc, wire_open, wire_close);
	tcase_add_loop_test(tc, test_offloads_can_be_taken_back_and_given_again, 0, 2);
	tcase_add_test(tc, test_offloads_that_were_not_negotiated_are_refused);
	tcase_add_loop_test(tc, test_frames_of_the_network_are_hashed, 0, 2);
	tcase_add_loop_test(tc, test_frames_come_to_the_pairs_that_the_driver_uses, 0, 2);
	tcase_add_loop_test(tc, test_announcement_is_seen_by_network_and_driver, 0, 2);
	tcase_add_test(tc, test_device_announces_a_driver_that_cannot);
	tcase_add_loop_test(tc, test_command_that_does_not_exist_is_refused, 0, 2);
	tcase_add_loop_test(tc, test_command_of_a_wrong_length_is_refused, 0, 2);
	tcase_add_loop_test(tc, test_command_without_a_place_for_the_answer_is_dropped, 0, 2);
	tcase_add_loop_test(tc, test_command_may_be_cut_anywhere, 0, 4);
}

static void add_kills(Suite *suite)
{
	TCase *tc = rig_kills_case(suite);

	tcase_add_checked_fixture(tc, wire_open, wire_close);
	tcase_add_loop_test(tc, test_settings_outlive_the_worker, 0, 2);
	tcase_add_loop_test(tc, test_pairs_in_use_outlive_the_worker, 0, 2);
	tcase_add_loop_test(tc, test_command_sent_to_a_dead_worker_is_obeyed_by_the_next, 0, 2);
}

void control_add_effects(Suite *suite)
{
	add_others(suite);
	add_kills(suite);
}
