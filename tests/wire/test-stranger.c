/*
 * Descriptors behind which somebody else decides how long a call takes, with each message that
 * takes one and with one that takes none: the message is refused, and nobody waits. A FUSE server
 * that is silent and a TCP peer that does not read stand for all of them; both would hold whoever
 * closes last, or looks, for longer than any test lasts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/stranger.h"
#include "rig.h"

#define LINGER_S 600
#define WANT (~VU_BIT(VU_PF_INBAND))

static const struct {
	uint32_t request, size;
} rows[] = {
	{ VU_SET_MEM_TABLE, 40 },
	{ VU_SET_VRING_KICK, 8 },
	{ VU_SET_VRING_CALL, 8 },
	{ VU_SET_VRING_ERR, 8 },
	{ VU_SET_BACKEND_REQ_FD, 0 },
	{ VU_SET_INFLIGHT_FD, 24 },
	{ VU_ADD_MEM_REG, 40 },
	{ VU_REM_MEM_REG, 40 },
	{ VU_SET_STATUS, 8 },
};

#define N_ROWS ((int)(sizeof(rows) / sizeof(rows[0])))

static struct vu_client c;
static int far_end[2];

static int lingering(void)
{
	return stranger_linger(LINGER_S, far_end);
}

/* The other side has gone: there is nothing left to wait for. */
static void end_lingering(void)
{
	close(far_end[0]);
	close(far_end[1]);
}

/* Should it be the last there is, then it is the end of a process that closes it: that does not
 * wait for a peer. */
static void let_go(int fd)
{
	int pair[2], status;
	pid_t pid;
	char byte;

	ck_assert_int_eq(pipe(pair), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		close(pair[1]);
		_exit(read(pair[0], &byte, 1) != 0);
	}
	close(fd);
	close(pair[0]);
	close(pair[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

static void put(int socket, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)"x", 1 };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);

	*cmsg = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
	};
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	ck_assert_int_eq(sendmsg(socket, &hdr, 0), 1);
}

/* A socket in which a lingering connection lies that nobody else has; its other end is closed, or
 * *ret_other. */
static int filled_socket(int *ret_other)
{
	int pair[2], fd = lingering();

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	put(pair[1], fd);
	let_go(fd);
	if (ret_other)
		*ret_other = pair[1];
	else
		close(pair[1]);
	return pair[0];
}

/* @last: nobody else has it, but for the message */
static int say(int i, int fd, bool last)
{
	struct {
		uint32_t n, pad;
		struct vu_region region;
	} body = { .n = 1, .region = { 0, 1 << 20, UINT64_C(0x7f0000000000), 0 } };
	struct vu_header head = { rows[i].request, VU_VERSION | VU_NEED_REPLY, rows[i].size };
	uint64_t zero[3] = { 0 };
	bool memory = rows[i].size == 40;
	int r = vu_send(&c, &head, memory ? (const void *)&body : (const void *)zero, &fd, 1);

	if (last)
		let_go(fd);
	return r ? r : vu_recv_ack(&c, rows[i].request);
}

/* The session goes on, and so do all others. */
static void check_others(void)
{
	rig_ok(vu_get_features(&c), c.why);
	rig_check_witness();
	vu_close(&c);
	rig_check_net0();
}

/* The session ends with whatever still lingers, and holds nobody. */
static void leave(void)
{
	vu_close(&c);
	rig_check_witness();
	rig_check_net0();
	end_lingering();
}

/* First of all: later lines are left out when there are too many. */
/* covers: M8 */
START_TEST(test_refusal_names_message_kind_and_rule)
{
	rig_hello(&c, WANT);
	ck_assert_int_eq(say(1, lingering(), true), VU_E_REFUSED);
	ck_assert(suite_logged(&rig,
		"message SET_VRING_KICK (12) of the VMM refused: its descriptor is a socket of "
		"another family than AF_UNIX (2); memory files, eventfds, pipes and AF_UNIX sockets are taken"));
	check_others();
	end_lingering();
}
END_TEST

/* covers: M8 */
START_TEST(test_file_of_a_silent_server_is_refused)
{
	struct stranger *stranger = stranger_fuse();

	if (!stranger)
		return;
	rig_hello(&c, WANT);
	stranger_hang(stranger, true);
	ck_assert_int_eq(say(_i, stranger_fd(stranger), false), VU_E_REFUSED);
	check_others();
	stranger_free(stranger);
}
END_TEST

/* What is in the message is the last there is of it: whoever takes the message out of the socket
 * would wait. */
/* covers: M8 */
START_TEST(test_lingering_connection_is_refused)
{
	int fd = lingering();

	rig_hello(&c, WANT);
	ck_assert_int_eq(say(_i, fd, true), VU_E_REFUSED);
	check_others();
	end_lingering();
}
END_TEST

/* covers: M8 */
START_TEST(test_messages_that_nobody_reads_any_more_hold_nobody)
{
	const struct vu_header bad = { VU_SET_OWNER, 0, 0 },
			       next = { VU_SET_STATUS, VU_VERSION, 8 };
	uint64_t zero = 0;
	int fd = lingering();

	rig_hello(&c, WANT);
	rig_ok(vu_send_raw(&c, &bad, sizeof(bad), NULL, 0), c.why);
	(void)vu_send(&c, &next, &zero, &fd, 1);
	let_go(fd);
	ck_assert_int_eq(vu_expect_close(&c), 0);
	leave();
}
END_TEST

/* Also when it is the VMM that goes, with a message behind it that has not come whole. */
/* covers: M8 */
START_TEST(test_half_a_message_with_a_lingering_connection_holds_nobody)
{
	const struct vu_header head = { VU_SET_STATUS, VU_VERSION, 8 };
	int fd = lingering();

	rig_hello(&c, WANT);
	rig_ok(vu_send_raw(&c, &head, sizeof(head), &fd, 1), c.why);
	let_go(fd);
	leave();
}
END_TEST

/* covers: M8 M25 */
START_TEST(test_what_lies_in_the_channel_holds_nobody)
{
	const struct vu_header head = { VU_SET_BACKEND_REQ_FD, VU_VERSION | VU_NEED_REPLY, 0 };
	int fd = filled_socket(NULL);

	rig_hello(&c, WANT);
	/* its other end is closed, so that it is no connection any more, or it is one: either way
	 * nobody waits */
	(void)vu_send(&c, &head, NULL, &fd, 1);
	let_go(fd);
	(void)vu_recv_ack(&c, VU_SET_BACKEND_REQ_FD);
	rig_ok(vu_get_features(&c), c.why);
	leave();
}
END_TEST

/* covers: M8 M25 */
START_TEST(test_channel_that_is_filled_later_holds_nobody)
{
	const struct vu_header head = { VU_SET_BACKEND_REQ_FD, VU_VERSION | VU_NEED_REPLY, 0 };
	int pair[2], fd = lingering();

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	rig_hello(&c, WANT);
	rig_ok(vu_send(&c, &head, NULL, &pair[0], 1), c.why);
	rig_ok(vu_recv_ack(&c, VU_SET_BACKEND_REQ_FD), c.why);
	close(pair[0]);
	put(pair[1], fd);
	let_go(fd);
	close(pair[1]);
	leave();
}
END_TEST

/* _i: a message whose descriptor may be a socket, or may not */
/* covers: M8 */
START_TEST(test_socket_with_something_in_it_is_refused)
{
	int other, fd = filled_socket(&other);

	rig_hello(&c, WANT);
	ck_assert_int_eq(say(_i, fd, true),
		rows[_i].request == VU_SET_BACKEND_REQ_FD ? 0 : VU_E_REFUSED);
	let_go(other);
	rig_ok(vu_get_features(&c), c.why);
	leave();
}
END_TEST

/* covers: M8 */
START_TEST(test_hundred_in_a_row_hold_nobody)
{
	struct stranger *stranger = stranger_fuse();

	if (!stranger)
		return;
	rig_hello(&c, WANT);
	stranger_hang(stranger, true);
	for (int i = 0; i < 100; i++) {
		int r = say(i % N_ROWS, stranger_fd(stranger), false);

		/* where the end of a process waits for the server, the VMM is sent away at some
		 * time */
		ck_assert(r == VU_E_REFUSED || r == -ECONNRESET || r == -EPIPE);
		if (r != VU_E_REFUSED)
			break;
	}
	vu_close(&c);
	rig_check_witness();
	stranger_free(stranger);
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "stranger");

	tcase_add_test(tc, test_refusal_names_message_kind_and_rule);
	tcase_add_loop_test(tc, test_file_of_a_silent_server_is_refused, 0, N_ROWS);
	tcase_add_loop_test(tc, test_lingering_connection_is_refused, 0, N_ROWS);
	tcase_add_test(tc, test_messages_that_nobody_reads_any_more_hold_nobody);
	tcase_add_test(tc, test_half_a_message_with_a_lingering_connection_holds_nobody);
	tcase_add_test(tc, test_what_lies_in_the_channel_holds_nobody);
	tcase_add_test(tc, test_channel_that_is_filled_later_holds_nobody);
	tcase_add_loop_test(tc, test_socket_with_something_in_it_is_refused, 0, N_ROWS);
	tcase_add_test(tc, test_hundred_in_a_row_hold_nobody);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("stranger", &net0, add);
}
