/*
 * Framing, intake of descriptors, and the steps of a reply that is sent once: over a socketpair,
 * with bytes cut and glued in every way.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/run.h"
#include "replay.h"
#include "wire.h"

static int ours, theirs;
static struct message msg;
static const char *text;
static struct replay replay;

/* The lowest free number: what is closed again leaves it as it was. */
static int lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void set_up(void)
{
	int pair[2];

	signal(SIGPIPE, SIG_IGN);
	unsetenv("NOTIFY_SOCKET");
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
	ours = pair[0];
	theirs = pair[1];
	replay = (struct replay)REPLAY_NULL;
	ck_assert_int_eq(replay_open(&replay, "net0"), 0);
}

static void tear_down(void)
{
	wire_drop(&msg);
	replay_close(&replay);
	close(ours);
	close(theirs);
}

static void put(const void *bytes, size_t n, size_t n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 253)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)bytes, n };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd = eventfd(0, EFD_CLOEXEC);

	if (n_fds) {
		struct cmsghdr *cmsg;

		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(fd));
	}
	ck_assert_int_eq(sendmsg(theirs, &hdr, 0), n);
	close(fd);
}

static size_t make(uint8_t *buf, uint32_t request, uint32_t size)
{
	struct header header = { request, HEADER_VERSION, size };

	memcpy(buf, &header, sizeof(header));
	memset(buf + sizeof(header), (int)request, size);
	return sizeof(header) + size;
}

static void put_message(uint32_t request, uint32_t size, size_t n_fds)
{
	uint8_t buf[1024];

	put(buf, make(buf, request, size), n_fds);
}

static int peek(void)
{
	int r = wire_peek(ours, 0, &msg, &text);

	/* all that are in sight are harmless */
	return r == 0 && msg.fds_in_sight ? wire_take_fds(ours, &msg, SIZE_MAX, &text) : r;
}

START_TEST(test_message_is_whole_and_stays_in_the_socket)
{
	int there, lowest = lowest_fd();

	put_message(SET_VRING_CALL, 8, 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(peek(), 0);
		ck_assert_uint_eq(msg.header.request, SET_VRING_CALL);
		ck_assert_uint_eq(msg.payload.bytes[7], SET_VRING_CALL);
		ck_assert_uint_eq(msg.n_fds, 1);
		ck_assert(!msg.doubtful_fds);
		ck_assert(fcntl(msg.fds[0], F_GETFD) & FD_CLOEXEC);
		wire_drop(&msg);
		ck_assert_int_eq(lowest_fd(), lowest);
	}
	ck_assert_int_eq(ioctl(ours, FIONREAD, &there), 0);
	ck_assert_int_eq(there, 20);
}
END_TEST

/* covers: M5 */
START_TEST(test_byte_by_byte_with_descriptors_on_the_first)
{
	uint8_t buf[64];
	size_t n = make(buf, SET_MEM_TABLE, 40);

	ck_assert_int_eq(peek(), WIRE_E_PARTIAL);
	for (size_t i = 0; i < n; i++) {
		put(buf + i, 1, i == 0 ? 2 : 0);
		ck_assert_int_eq(peek(), i == n - 1 ? 0 : WIRE_E_PARTIAL);
	}
	ck_assert_uint_eq(msg.n_fds, 2);
	ck_assert_int_eq(memcmp(msg.payload.bytes, buf + 12, 40), 0);
}
END_TEST

/* covers: M6 */
START_TEST(test_descriptors_of_a_later_message_are_doubtful)
{
	put_message(GET_FEATURES, 0, 0);
	put_message(GET_STATUS, 0, 0);
	put_message(SET_VRING_CALL, 8, 1);
	ck_assert_int_eq(peek(), 0);
	ck_assert(msg.n_fds == 0 || msg.doubtful_fds);
	wire_drop(&msg);
	ck_assert_int_eq(replay_consume(&replay, ours, &msg), 0);
	ck_assert_int_eq(peek(), 0);
	ck_assert(msg.n_fds == 0 || msg.doubtful_fds);
	wire_drop(&msg);
	ck_assert_int_eq(replay_consume(&replay, ours, &msg), 0);
	ck_assert_int_eq(peek(), 0);
	ck_assert_uint_eq(msg.header.request, SET_VRING_CALL);
	ck_assert_uint_eq(msg.n_fds, 1);
	ck_assert(!msg.doubtful_fds);
}
END_TEST

/* covers: M7 */
START_TEST(test_too_many_descriptors_are_closed)
{
	static const size_t counts[] = { 9, 100, 253 };
	int lowest = lowest_fd();

	put_message(GET_FEATURES, 0, counts[_i]);
	ck_assert_int_eq(peek(), 0);
	ck_assert(msg.too_many_fds);
	ck_assert_uint_eq(msg.n_fds, FDS_MAX);
	wire_drop(&msg);
	ck_assert_int_eq(lowest_fd(), lowest);
}
END_TEST

/* covers: M1 M3 */
START_TEST(test_what_is_no_message_is_told)
{
	struct header headers[] = { { 1, 0, 0 }, { 1, 2, 0 }, { 1, 3, 0 }, { 1, 1, SKIP_MAX + 1 },
		{ 1, 1, UINT32_MAX } };

	put(&headers[_i], sizeof(headers[_i]), 1);
	ck_assert_int_eq(peek(), WIRE_E_FRAMING);
	ck_assert(text && *text);
	ck_assert_uint_eq(msg.n_fds, 0);
}
END_TEST

START_TEST(test_peer_that_goes_is_told_after_its_last_whole_message)
{
	uint8_t buf[64];

	put_message(GET_FEATURES, 0, 0);
	put(buf, make(buf, SET_FEATURES, 8) - 1, 0);
	shutdown(theirs, SHUT_RDWR);
	ck_assert_int_eq(peek(), 0);
	ck_assert_int_eq(replay_consume(&replay, ours, &msg), 0);
	ck_assert_int_eq(peek(), WIRE_E_CLOSED);
}
END_TEST

START_TEST(test_long_payload_is_taken_out_whole)
{
	static uint8_t buf[12 + SKIP_MAX];

	put(buf, make(buf, 1000, SKIP_MAX), 0);
	put_message(GET_FEATURES, 0, 0);
	ck_assert_int_eq(peek(), 0);
	ck_assert(msg.too_long);
	ck_assert_int_eq(replay_consume(&replay, ours, &msg), 0);
	ck_assert_int_eq(peek(), 0);
	ck_assert_uint_eq(msg.header.request, GET_FEATURES);
}
END_TEST

/* --- Steps: what is found after a death at each of them --- */

static void expect_reply_once(void)
{
	struct header header;
	uint64_t value;

	ck_assert_int_eq(replay_send(&replay, ours), 0);
	ck_assert_int_eq(recv(theirs, &header, sizeof(header), 0), sizeof(header));
	ck_assert_uint_eq(header.flags, 5);
	ck_assert_int_eq(recv(theirs, &value, sizeof(value), 0), sizeof(value));
	ck_assert_uint_eq(value, 77);
	ck_assert_int_eq(recv(theirs, &value, sizeof(value), 0), -1);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_IDLE);
}

/* covers: P6 */
START_TEST(test_death_at_each_step)
{
	uint64_t value = 77;

	put_message(GET_STATUS, 0, 0);
	put_message(GET_FEATURES, 0, 0);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_IDLE);
	ck_assert_int_eq(peek(), 0);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_IDLE);
	ck_assert_int_eq(peek(), 0);
	ck_assert_int_eq(replay_begin(ours, &msg), 0);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_AGAIN);
	ck_assert_int_eq(peek(), 0);
	ck_assert_uint_eq(msg.header.request, GET_STATUS);
	ck_assert_int_eq(replay_begin(ours, &msg), 0);
	ck_assert_int_eq(replay_stage(&replay, GET_STATUS, &value, sizeof(value)), 0);
	if (_i == 0)
		ck_assert_int_eq(replay_consume(&replay, ours, &msg), 0);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_SEND);
	expect_reply_once();
	ck_assert_int_eq(peek(), 0);
	ck_assert_uint_eq(msg.header.request, GET_FEATURES);
}
END_TEST

/* covers: P6 */
START_TEST(test_message_half_taken_out_is_taken_out)
{
	uint8_t buf[64], byte;
	size_t n = make(buf, SET_VRING_CALL, 8);

	put(buf, 1, 1);
	put(buf + 1, n - 1, 0);
	put_message(GET_FEATURES, 0, 0);
	ck_assert_int_eq(peek(), 0);
	ck_assert_int_eq(replay_begin(ours, &msg), 0);
	wire_drop(&msg);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_AGAIN);
	ck_assert_int_eq(peek(), 0);
	ck_assert_int_eq(replay_begin(ours, &msg), 0);
	ck_assert_int_eq(recv(ours, &byte, 1, 0), 1);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_IDLE);
	wire_drop(&msg);
	ck_assert_int_eq(peek(), 0);
	ck_assert_uint_eq(msg.header.request, GET_FEATURES);
}
END_TEST

/* covers: P6 */
START_TEST(test_batch_half_taken_out_is_taken_out)
{
	size_t first = sizeof(struct header), n;

	put_message(GET_STATUS, 0, 0);
	/* what is not there yet is what the former process did not get to */
	n = first + _i * (sizeof(struct header) + 8);
	ck_assert_int_eq(replay_consume_first(ours, n), _i ? -EAGAIN : 0);
	for (int i = 0; i < _i; i++)
		put_message(SET_STATUS, 8, 0);
	put_message(GET_FEATURES, 0, 0);
	ck_assert_int_eq(replay_resume(&replay, ours), REPLAY_IDLE);
	ck_assert_int_eq(peek(), 0);
	ck_assert_uint_eq(msg.header.request, GET_FEATURES);
}
END_TEST

START_TEST(test_reply_waits_for_a_slow_reader)
{
	uint8_t big[2000];
	struct header header;
	size_t n = 0;

	memset(big, 0, sizeof(big));
	while (replay_stage(&replay, GET_STATUS, big, 2000) == 0 && replay_send(&replay, ours) == 0)
		n++;
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_uint_gt(n, 1);
	for (size_t i = 0; i <= n; i++) {
		(void)replay_send(&replay, ours);
		ck_assert_int_eq(recv(theirs, &header, sizeof(header), 0), sizeof(header));
		ck_assert_uint_eq(header.size, 2000);
		ck_assert_int_eq(recv(theirs, big, 2000, MSG_WAITALL), 2000);
	}
	ck_assert_int_eq(replay_send(&replay, ours), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("wire");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_message_is_whole_and_stays_in_the_socket);
	tcase_add_test(tc, test_byte_by_byte_with_descriptors_on_the_first);
	tcase_add_test(tc, test_descriptors_of_a_later_message_are_doubtful);
	tcase_add_loop_test(tc, test_too_many_descriptors_are_closed, 0, 3);
	tcase_add_loop_test(tc, test_what_is_no_message_is_told, 0, 5);
	tcase_add_test(tc, test_peer_that_goes_is_told_after_its_last_whole_message);
	tcase_add_test(tc, test_long_payload_is_taken_out_whole);
	tcase_add_loop_test(tc, test_death_at_each_step, 0, 2);
	tcase_add_test(tc, test_message_half_taken_out_is_taken_out);
	tcase_add_loop_test(tc, test_batch_half_taken_out_is_taken_out, 0, 3);
	tcase_add_test(tc, test_reply_waits_for_a_slow_reader);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("wire", add_tests);
}
