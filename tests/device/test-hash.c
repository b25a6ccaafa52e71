/*
 * The hash that a device reports with each frame, on the wire. Its header is 8 bytes longer than
 * the tests' library knows, so the frames here begin with these. Expected values are those of
 * Microsoft's verification suite; tests/unit/test-net-hash.c has them all.
 */
#include <arpa/inet.h>
#include <string.h>

#include "control.h"
#include "transfer.h"

#define WAIT_MS 5000
#define TYPES 0x1ffu
#define KEY_BYTES 40
#define FRAME_BYTES 90
#define HASH_CONFIG 2
#define HASH (VU_BIT(NET_F_HASH_REPORT))

enum { NONE, IPV4, TCPV4, UDPV4, IPV6, TCPV6, UDPV6 };

struct report {
	uint32_t value;
	uint16_t type, padding;
};

static struct net *const n = &control_net;

static const uint8_t key[KEY_BYTES] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
	0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77,
	0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa };

static const struct vector {
	const char *from, *to;
	uint16_t from_port, to_port;
	uint32_t addresses, all;
} vectors[2] = {
	{ "66.9.149.187", "161.142.100.80", 2794, 1766, 0x323e8fc2, 0x51ccc178 },
	{ "3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x2cc18cd5, 0x40207d3d },
};

static void open_device(int i, uint64_t features)
{
	struct net_profile p =
		control_layout(i, features | (i & 2 ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0));

	p.protocol = VU_BIT(VU_PF_RESET_DEVICE) | VU_BIT(VU_PF_CONFIG) | VU_BIT(VU_PF_DEVICE_STATE);
	control_open(&p);
}

static void close_device(void)
{
	control_stop();
	control_close();
}

/* --- Commands --- */

struct config {
	uint8_t bytes[13 + 255];
	uint32_t n_bytes;
};

static struct config make_config(uint32_t types, uint8_t n_key)
{
	struct config c = { .n_bytes = 13u + n_key };

	memcpy(c.bytes, &types, sizeof(types));
	c.bytes[12] = n_key;
	memcpy(c.bytes + 13, key, n_key < KEY_BYTES ? n_key : KEY_BYTES);
	return c;
}

static void set_types(uint8_t want, uint32_t types, uint8_t n_key)
{
	struct config c = make_config(types, n_key);

	control_expect(want, CTRL_MQ, HASH_CONFIG, c.bytes, c.n_bytes);
}

/* --- Frames --- */

static void make_frame(uint8_t *frame, int version, uint8_t protocol)
{
	const struct vector *v = &vectors[version];
	uint16_t ports[2] = { htons(v->from_port), htons(v->to_port) };
	size_t n_address = version ? 16 : 4;
	uint8_t *ip = frame + 14, *from = ip + (version ? 8 : 12);

	net_frame_make(frame, FRAME_BYTES, 1);
	frame[12] = version ? 0x86 : 0x08;
	frame[13] = version ? 0xdd : 0x00;
	memset(ip, 0, FRAME_BYTES - 14);
	ip[0] = version ? 0x60 : 0x45;
	ip[version ? 6 : 9] = protocol;
	ck_assert_int_eq(inet_pton(version ? AF_INET6 : AF_INET, v->from, from), 1);
	ck_assert_int_eq(inet_pton(version ? AF_INET6 : AF_INET, v->to, from + n_address), 1);
	memcpy(from + 2 * n_address, ports, sizeof(ports));
}

/* What is reported with a frame; a device that reports nothing has no such part of a header. */
static struct report echo(const uint8_t *frame)
{
	static uint8_t sent[sizeof(struct report) + FRAME_BYTES], got[NET_FRAME_MAX];
	struct report report;
	uint32_t n_got;

	memset(sent, 0xee, sizeof(report)); /* of no meaning */
	memcpy(sent + sizeof(report), frame, FRAME_BYTES);
	rig_ok(net_send(n, 0, sent, sizeof(sent)), n->why);
	rig_ok(net_recv(n, 0, got, &n_got, WAIT_MS), n->why);
	rig_ok(net_drain_tx(n, 0, WAIT_MS), n->why);
	ck_assert_uint_eq(n_got, sizeof(sent));
	ck_assert_mem_eq(got + sizeof(report) + 12, frame + 12, FRAME_BYTES - 12);
	memcpy(&report, got, sizeof(report));
	ck_assert_uint_eq(report.padding, 0);
	return report;
}

static void expect(int version, uint8_t protocol, uint16_t type, uint32_t value)
{
	uint8_t frame[FRAME_BYTES];
	struct report report;

	make_frame(frame, version, protocol);
	report = echo(frame);
	ck_assert_msg(report.type == type && report.value == value, "type %u, value 0x%x",
		report.type, report.value);
}

static void expect_all_types(void)
{
	for (int version = 0; version < 2; version++) {
		uint16_t ip = version ? IPV6 : IPV4;

		expect(version, 6, ip + 1, vectors[version].all);
		expect(version, 17, ip + 2, vectors[version].all);
		expect(version, 1, ip, vectors[version].addresses);
	}
}

static void expect_nothing(void)
{
	expect(0, 6, NONE, 0);
	expect(1, 17, NONE, 0);
}

/* uses: net:HASH_REPORT */
START_TEST(test_hash_is_reported_as_the_driver_asked)
{
	uint8_t other[FRAME_BYTES] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };

	open_device(_i, HASH);
	expect_nothing();
	set_types(CTRL_OK, TYPES, KEY_BYTES);
	expect_all_types();
	ck_assert_uint_eq(echo(other).type, NONE);
	set_types(CTRL_OK, 1 << (IPV4 - 1) | 1 << (UDPV6 - 1), KEY_BYTES);
	expect(0, 6, IPV4, vectors[0].addresses);
	expect(1, 17, UDPV6, vectors[1].all);
	expect(1, 6, NONE, 0);
	set_types(CTRL_OK, 0, 0);
	expect_nothing();
	close_device();
}
END_TEST

START_TEST(test_configuration_says_what_can_be_asked_for)
{
	open_device(_i, HASH);
	control_await_config(17, "\x28\0\0\xff\1\0\0", 7);
	close_device();
}
END_TEST

/* covers: G12 */
START_TEST(test_command_that_is_wrong_changes_no_hash)
{
	open_device(_i, HASH);
	set_types(CTRL_OK, TYPES, KEY_BYTES);
	set_types(CTRL_ERR, TYPES, KEY_BYTES + 1);
	set_types(CTRL_ERR, TYPES, 255);
	set_types(CTRL_ERR, TYPES, 0);
	set_types(CTRL_ERR, TYPES + 1, KEY_BYTES);
	set_types(CTRL_ERR, UINT32_MAX, KEY_BYTES);
	for (uint32_t n_bytes = 0; n_bytes < 13 + KEY_BYTES + 4; n_bytes++) {
		struct config c = make_config(TYPES, KEY_BYTES);

		if (n_bytes != c.n_bytes)
			control_expect(CTRL_ERR, CTRL_MQ, HASH_CONFIG, c.bytes, n_bytes);
	}
	expect_all_types();
	control_close();
	open_device(_i, 0);
	set_types(CTRL_ERR, TYPES, KEY_BYTES);
	close_device();
}
END_TEST

START_TEST(test_frames_without_the_feature_have_a_short_header)
{
	uint8_t frame[FRAME_BYTES], got[NET_FRAME_MAX];
	uint32_t n_got;

	open_device(_i, 0);
	make_frame(frame, 0, 6);
	rig_ok(net_send(n, 0, frame, sizeof(frame)), n->why);
	rig_ok(net_recv(n, 0, got, &n_got, WAIT_MS), n->why);
	ck_assert_uint_eq(n_got, sizeof(frame));
	rig_ok(net_drain_tx(n, 0, WAIT_MS), n->why);
	close_device();
}
END_TEST

/* covers: G6 */
START_TEST(test_header_may_be_cut_anywhere)
{
	struct net_profile p = control_layout(_i, HASH);

	p.tx_segs = 10;
	p.rx_segs = 12;
	p.buf_bytes = 120;
	control_open(&p);
	set_types(CTRL_OK, TYPES, KEY_BYTES);
	expect_all_types();
	close_device();
}
END_TEST

START_TEST(test_reset_takes_the_hash_back)
{
	open_device(_i, HASH);
	set_types(CTRL_OK, TYPES, KEY_BYTES);
	rig_ok(vu_set(&n->c, VU_RESET_DEVICE, NULL, 0, -1), n->c.why);
	control_close();
	open_device(_i, HASH);
	expect_nothing();
	close_device();
}
END_TEST

START_TEST(test_hash_moves_with_the_state)
{
	static uint8_t state[VU_STATE_MAX];
	size_t n_state;

	open_device(_i, HASH);
	set_types(CTRL_OK, TYPES, KEY_BYTES);
	control_stop();
	rig_ok(vu_save_state(&n->c, state, &n_state), n->c.why);
	control_negotiate_anew();
	rig_ok(vu_load_state(&n->c, state, n_state), n->c.why);
	control_wake();
	expect_all_types();
	control_stop();
	control_negotiate_anew();
	control_wake();
	expect_nothing();
	close_device();
}
END_TEST

START_TEST(test_hash_outlives_the_worker)
{
	open_device(_i, HASH);
	set_types(CTRL_OK, TYPES, KEY_BYTES);
	for (int round = 0; round < 2; round++) {
		rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
		expect_all_types();
	}
	set_types(CTRL_OK, 0, 0);
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	expect_nothing();
	close_device();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "hash");

	tcase_add_loop_test(tc, test_hash_is_reported_as_the_driver_asked, 0, 4);
	tcase_add_loop_test(tc, test_configuration_says_what_can_be_asked_for, 0, 1);
	tcase_add_loop_test(tc, test_command_that_is_wrong_changes_no_hash, 0, 2);
	tcase_add_loop_test(tc, test_frames_without_the_feature_have_a_short_header, 0, 4);
	tcase_add_loop_test(tc, test_header_may_be_cut_anywhere, 0, 2);
	tcase_add_loop_test(tc, test_reset_takes_the_hash_back, 0, 1);
	tcase_add_loop_test(tc, test_hash_moves_with_the_state, 0, 2);
	tc = rig_kills_case(suite);
	tcase_add_loop_test(tc, test_hash_outlives_the_worker, 0, 4);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 1 };

	return rig_main("hash", &net0, add);
}
