/*
 * The form of messages: sizes, versions, flags, descriptors where none belong, unknown numbers,
 * bytes that come one by one or all at once, and connections that end at any point. A wrong
 * message fails alone or ends its own session; it never ends a process, never disturbs another
 * device, and the next session on the same socket works.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "forms.h"
#include "rig.h"

static struct vu_client c;

static const uint8_t junk[4096];

/* the session goes on and the next reply is ours, or this session alone has ended */
static void ended_or_goes_on(struct vu_client *client)
{
	struct vu_header ask = { VU_GET_FEATURES, VU_VERSION, 0 };
	struct vu_msg msg;
	int r = vu_send(client, &ask, NULL, NULL, 0);

	for (int i = 0; i < 3 && !r; i++) {
		r = vu_recv(client, &msg);
		if (r)
			break;
		vu_msg_deinit(&msg);
		ck_assert_uint_eq(msg.head.flags, VU_REPLY_FLAGS);
		if (msg.head.request == VU_GET_FEATURES)
			break;
	}
	ck_assert_msg(!r || r == -ECONNRESET, "%d %s", r, client->why);
	vu_close(client);
	rig_check_net0();
}

/* covers: M3 M19 M22 M24 M28 */
START_TEST(test_size_that_is_wrong_fails_alone)
{
	const struct form *f = &forms[_i];
	uint32_t sizes[3] = { f->size + 1, f->size ? f->size - 1 : 2, f->size ? 0 : 4000 };

	for (int k = 0; k < 3; k++) {
		struct vu_header head = { f->request, VU_VERSION | VU_NEED_REPLY, sizes[k] };

		rig_hello(&c, ~VU_BIT(VU_PF_INBAND));
		rig_ok(vu_send(&c, &head, junk, NULL, 0), c.why);
		ended_or_goes_on(&c);
	}
}
END_TEST

/* covers: M3 */
START_TEST(test_huge_size_ends_that_session_alone)
{
	static const uint32_t sizes[] = { 0xffffffff, 0x80000000, 0x7fffffff, 65536 };
	uint32_t request = (uint32_t)_i;

	for (int k = 0; k < 4; k++) {
		struct vu_header head = { request, VU_VERSION | VU_NEED_REPLY, sizes[k] };

		rig_hello(&c, 0);
		rig_ok(vu_send_raw(&c, &head, sizeof(head), NULL, 0), c.why);
		/* the last one might still be skipped byte by byte, which is as good */
		c.timeout_ms = k < 3 ? 5000 : 20;
		ck_assert(!vu_expect_close(&c) || k == 3);
		vu_close(&c);
	}
	rig_check_net0();
}
END_TEST

/* covers: M22 M24 */
START_TEST(test_all_zero_payload_fails_alone)
{
	const struct form *f = &forms[_i];
	struct vu_header head = { f->request, VU_VERSION | (f->replies ? 0 : VU_NEED_REPLY),
		f->size };

	rig_hello(&c, ~VU_BIT(VU_PF_INBAND));
	rig_ok(vu_send(&c, &head, junk, NULL, 0), c.why);
	ended_or_goes_on(&c);
}
END_TEST

/* covers: M19 M22 */
START_TEST(test_payload_of_ones_fails_alone)
{
	const struct form *f = &forms[_i];
	struct vu_header head = { f->request, VU_VERSION | (f->replies ? 0 : VU_NEED_REPLY),
		f->size };
	uint8_t ones[64];

	memset(ones, 0xff, sizeof(ones));
	rig_hello(&c, ~VU_BIT(VU_PF_INBAND));
	rig_ok(vu_send(&c, &head, ones, NULL, 0), c.why);
	ended_or_goes_on(&c);
}
END_TEST

/* covers: M2 */
START_TEST(test_unknown_request_is_refused_and_the_session_goes_on)
{
	static const uint32_t unknown[] = { 0, 46, 47, 1000, 0x7fffffff, 0xffffffff };
	struct vu_header head = { unknown[_i], VU_VERSION | VU_NEED_REPLY, 8 };

	rig_hello(&c, 0);
	rig_ok(vu_send(&c, &head, junk, NULL, 0), c.why);
	ck_assert_int_eq(vu_recv_ack(&c, unknown[_i]), VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M1 */
START_TEST(test_wrong_version_or_flags_fail_alone)
{
	static const uint32_t flags[] = { 0, 2, 3, VU_VERSION | VU_REPLY, VU_VERSION | 0x10,
		VU_VERSION | 0x80000000 };
	struct vu_header head = { VU_SET_OWNER, flags[_i], 0 };

	rig_hello(&c, 0);
	rig_ok(vu_send(&c, &head, NULL, NULL, 0), c.why);
	ended_or_goes_on(&c);
}
END_TEST

/* covers: M7 */
START_TEST(test_descriptors_where_none_belong_are_closed)
{
	static const size_t counts[] = { 1, 8, 9, 100, 253 };
	const struct form *f = &forms[_i];
	int fds[253];

	fds[0] = eventfd(0, EFD_CLOEXEC);
	for (int i = 1; i < 253; i++)
		fds[i] = fds[0];
	for (int k = 0; k < 5; k++) {
		struct vu_header head = { f->request, VU_VERSION | VU_NEED_REPLY, f->size };

		rig_hello(&c, ~VU_BIT(VU_PF_INBAND));
		rig_ok(vu_send(&c, &head, junk, fds, counts[k]), c.why);
		ended_or_goes_on(&c);
	}
	close(fds[0]);
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

/* covers: M7 */
START_TEST(test_descriptor_on_the_payload_fails_alone)
{
	struct vu_header head = { VU_SET_VRING_CALL, VU_VERSION | VU_NEED_REPLY, 8 };
	uint64_t index = 0;
	int fd = eventfd(0, EFD_CLOEXEC);

	rig_hello(&c, 0);
	rig_ok(vu_send_raw(&c, &head, sizeof(head), NULL, 0), c.why);
	rig_ok(vu_send_raw(&c, &index, sizeof(index), &fd, 1), c.why);
	close(fd);
	ended_or_goes_on(&c);
}
END_TEST

/* covers: M5 */
START_TEST(test_one_byte_per_send)
{
	uint64_t features = VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES);
	struct vu_header head = { VU_SET_FEATURES, VU_VERSION | VU_NEED_REPLY, 8 };
	uint8_t bytes[20];

	memcpy(bytes, &head, 12);
	memcpy(bytes + 12, &features, 8);
	rig_hello(&c, 0);
	for (size_t i = 0; i < sizeof(bytes); i++)
		rig_ok(vu_send_raw(&c, bytes + i, 1, NULL, 0), c.why);
	rig_ok(vu_recv_ack(&c, VU_SET_FEATURES), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M5 */
START_TEST(test_descriptor_on_the_first_of_many_sends)
{
	struct vu_header head = { VU_SET_VRING_CALL, VU_VERSION | VU_NEED_REPLY, 8 };
	int fd = eventfd(0, EFD_CLOEXEC);
	uint8_t bytes[20] = { 0 };

	memcpy(bytes, &head, 12);
	rig_hello(&c, 0);
	rig_ok(vu_send_raw(&c, bytes, 1, &fd, 1), c.why);
	rig_ok(vu_send_raw(&c, bytes + 1, 13, NULL, 0), c.why);
	rig_ok(vu_send_raw(&c, bytes + 14, 6, NULL, 0), c.why);
	rig_ok(vu_recv_ack(&c, VU_SET_VRING_CALL), c.why);
	close(fd);
	vu_close(&c);
}
END_TEST

/* covers: M6 */
START_TEST(test_many_messages_in_one_send)
{
	struct vu_header get = { VU_GET_FEATURES, VU_VERSION, 0 };
	struct vu_header set = { VU_SET_OWNER, VU_VERSION | VU_NEED_REPLY, 0 };
	struct vu_msg msg;
	uint8_t bytes[24 * 20];

	for (size_t i = 0; i < 20; i++) {
		memcpy(bytes + 24 * i, &get, 12);
		memcpy(bytes + 24 * i + 12, &set, 12);
	}
	rig_hello(&c, 0);
	rig_ok(vu_send_raw(&c, bytes, sizeof(bytes), NULL, 0), c.why);
	for (int i = 0; i < 20; i++) {
		rig_ok(vu_recv_reply(&c, VU_GET_FEATURES, 8, &msg), c.why);
		rig_ok(vu_recv_ack(&c, VU_SET_OWNER), c.why);
	}
	vu_close(&c);
}
END_TEST

/* covers: M6 */
START_TEST(test_second_message_carries_the_descriptor)
{
	struct vu_header get = { VU_GET_FEATURES, VU_VERSION, 0 };
	struct vu_header call = { VU_SET_VRING_CALL, VU_VERSION | VU_NEED_REPLY, 8 };
	int fd = eventfd(0, EFD_CLOEXEC);
	uint8_t bytes[20] = { 0 };
	struct vu_msg msg;

	memcpy(bytes, &call, 12);
	rig_hello(&c, 0);
	/* both lie in the socket when the back-end wakes */
	rig_ok(vu_send_raw(&c, &get, 12, NULL, 0), c.why);
	rig_ok(vu_send_raw(&c, bytes, 20, &fd, 1), c.why);
	rig_ok(vu_recv_reply(&c, VU_GET_FEATURES, 8, &msg), c.why);
	rig_ok(vu_recv_ack(&c, VU_SET_VRING_CALL), c.why);
	close(fd);
	vu_close(&c);
}
END_TEST

/* covers: M4 */
START_TEST(test_half_a_message_stalls_nobody)
{
	struct vu_header head = { VU_SET_FEATURES, VU_VERSION, 8 };
	uint8_t bytes[20] = { 0 };

	memcpy(bytes, &head, sizeof(head));
	rig_hello(&c, 0);
	rig_ok(vu_send_raw(&c, bytes, (size_t)_i, NULL, 0), c.why);
	rig_check_witness();
	vu_close(&c);
	rig_check_net0();
}
END_TEST

/* the whole opening as bytes: cut anywhere, the connection ends there */
/* covers: M27 */
START_TEST(test_connection_ends_at_every_point_of_the_opening)
{
	static struct net n;
	struct net_profile p = { .features = VU_BIT(VU_NET_F_MRG_RXBUF) };
	int steps = _i;
	int at = 0;

	p.lax = rig.peer;
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	if (at++ < steps)
		rig_ok(net_negotiate(&n), n.why);
	if (at++ < steps) {
		rig_ok(net_make_rings(&n), n.why);
		rig_ok(net_set_memory(&n), n.why);
	}
	for (uint16_t i = 0; i < n.n_rings && at++ < steps; i++)
		rig_ok(net_start_ring(&n, i), n.why);
	for (uint16_t i = 0; i < n.n_rings && at++ < steps; i++)
		rig_ok(net_enable(&n, i, true), n.why);
	if (at++ < steps)
		rig_ok(net_fill(&n, 0), n.why);
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* covers: M27 */
START_TEST(test_connection_ends_under_traffic)
{
	static struct net n;
	struct net_profile p = { .features = VU_BIT(VU_NET_F_MRG_RXBUF) };
	uint8_t frame[1000];

	for (int round = 0; round < 10; round++) {
		rig_open(&n, &p);
		for (uint32_t i = 0; i < 100; i++) {
			net_frame_make(frame, sizeof(frame), i);
			rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
		}
		net_close(&n);
	}
	rig_check_net0();
}
END_TEST

/* covers: M27 */
START_TEST(test_second_client_is_turned_away_or_waits)
{
	static struct net n;
	struct net_profile p = { 0 };
	struct vu_client second = VU_CLIENT_NULL;
	struct vu_header head = { VU_GET_FEATURES, VU_VERSION, 0 };
	struct vu_msg msg;
	int r;

	rig_open(&n, &p);
	second.timeout_ms = 300;
	r = vu_connect(&second, rig_socket());
	if (!r)
		r = vu_send(&second, &head, NULL, NULL, 0);
	if (!r)
		r = vu_recv(&second, &msg);
	ck_assert_msg(r == -ECONNRESET || r == -ETIMEDOUT || r == -ECONNREFUSED,
		"a second client was served: %d", r);
	rig_ok(net_pump(&n, 0, 50, 100), n.why);
	vu_close(&second);
	rig_ok(net_pump(&n, 0, 50, 100), n.why);
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* covers: M27 */
START_TEST(test_connect_storm)
{
	for (int i = 0; i < 200; i++) {
		struct vu_client one = VU_CLIENT_NULL;

		rig_ok(vu_connect(&one, rig_socket()), one.why);
		vu_close(&one);
	}
	rig_check_net0();
}
END_TEST

/* covers: M4 */
START_TEST(test_client_that_does_not_read_stalls_nobody)
{
	struct vu_header head = { VU_GET_FEATURES, VU_VERSION, 0 };
	int size = 4096;

	rig_hello(&c, 0);
	setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ 0, 200000 },
		sizeof(struct timeval));
	setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (int i = 0; i < 20000; i++) {
		if (vu_send(&c, &head, NULL, NULL, 0))
			break;
	}
	rig_check_witness();
	vu_close(&c);
	rig_check_net0();
}
END_TEST

START_TEST(test_random_bytes)
{
	uint32_t dice = 1 + (uint32_t)_i;
	uint8_t bytes[512];

	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < sizeof(bytes); i++) {
			dice = dice * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(dice >> 24);
		}
		/* a plausible header lets the rest be looked at */
		bytes[0] = bytes[0] % 48;
		memset(bytes + 1, 0, 3);
		memset(bytes + 4, 0, 8);
		bytes[4] = VU_VERSION;
		bytes[8] = bytes[12] % 64;
		rig_hello(&c, UINT64_MAX & ~VU_BIT(VU_PF_INBAND));
		vu_send_raw(&c, bytes, sizeof(bytes), NULL, 0);
		vu_close(&c);
	}
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "form");

	tcase_add_loop_test(tc, test_size_that_is_wrong_fails_alone, 0, N_FORMS);
	tcase_add_loop_test(tc, test_huge_size_ends_that_session_alone, 1, 46);
	tcase_add_loop_test(tc, test_all_zero_payload_fails_alone, 0, N_FORMS);
	tcase_add_loop_test(tc, test_payload_of_ones_fails_alone, 0, N_FORMS);
	tcase_add_loop_test(tc, test_unknown_request_is_refused_and_the_session_goes_on, 0, 6);
	tcase_add_loop_test(tc, test_wrong_version_or_flags_fail_alone, 0, 6);
	tcase_add_loop_test(tc, test_descriptors_where_none_belong_are_closed, 0, N_FORMS);
	tcase_add_test(tc, test_descriptor_on_the_payload_fails_alone);
	tcase_add_test(tc, test_one_byte_per_send);
	tcase_add_test(tc, test_descriptor_on_the_first_of_many_sends);
	tcase_add_test(tc, test_many_messages_in_one_send);
	tcase_add_test(tc, test_second_message_carries_the_descriptor);
	tcase_add_loop_test(tc, test_half_a_message_stalls_nobody, 1, 20);
	tcase_add_loop_test(tc, test_connection_ends_at_every_point_of_the_opening, 0, 8);
	tcase_add_test(tc, test_connection_ends_under_traffic);
	tcase_add_test(tc, test_second_client_is_turned_away_or_waits);
	tcase_add_test(tc, test_connect_storm);
	tcase_add_test(tc, test_client_that_does_not_read_stalls_nobody);
	tcase_add_loop_test(tc, test_random_bytes, 0, 8);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("form", &net0, add);
}
