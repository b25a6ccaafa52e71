/*
 * Whose the device is. A VMM that is dead has it no longer, whoever holds its end of the
 * connection: we ourselves, for instance, because it was handed over in a message. One that has
 * given it to another process has it still.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"

/* --- A VMM that hands over its own end, and dies --- */

static void say_half(struct vu_client *c)
{
	struct vu_header head = { VU_SET_MEM_TABLE, VU_VERSION, 40 };

	rig_ok(vu_send_raw(c, &head, sizeof(head), &c->fd, 1), c->why);
}

static void say_notifier(struct vu_client *c, uint32_t request)
{
	rig_ok(vu_set_vring_fd(c, request, 0, c->fd), c->why);
	/* an answer, or the end: a socket that is handed over may be shut */
	(void)vu_get_features(c);
}

static void say_channel(struct vu_client *c)
{
	rig_ok(vu_set(c, VU_SET_BACKEND_REQ_FD, NULL, 0, c->fd), c->why);
	/* an answer, or the end: a socket that is handed over may be shut */
	(void)vu_get_features(c);
}

/* The connection lies in a socket, that one in another: the last one of the chain is handed
 * over. */
static void say_chain(struct vu_client *c)
{
	int fd = dup(c->fd), pair[2];

	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		rig_pass_fd(pair[0], fd);
		close(fd);
		close(pair[0]);
		fd = pair[1];
	}
	rig_ok(vu_set_vring_fd(c, VU_SET_VRING_CALL, 0, fd), c->why);
	/* an answer, or the end: a socket that is handed over may be shut */
	(void)vu_get_features(c);
}

/* It is put into what was handed over only after that was looked at. */
static void say_late(struct vu_client *c)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	rig_ok(vu_set_vring_fd(c, VU_SET_VRING_CALL, 0, pair[1]), c->why);
	/* an answer, or the end: a socket that is handed over may be shut */
	(void)vu_get_features(c);
	(void)vu_send_raw(&(struct vu_client){ .fd = pair[0] }, "x", 1, &c->fd,
		1); /* unless it is shut */
}

static void die_with(int how)
{
	struct vu_client c = VU_CLIENT_NULL;

	rig_ok(vu_connect(&c, rig_socket()), c.why);
	if (how == 0) {
		say_half(&c);
		_exit(0);
	}
	rig_ok(vu_hello(&c, VU_BIT(VU_PF_BACKEND_REQ)), c.why);
	switch (how) {
	case 1:
		say_notifier(&c, VU_SET_VRING_CALL);
		break;
	case 2:
		say_notifier(&c, VU_SET_VRING_KICK);
		break;
	case 3:
		say_channel(&c);
		break;
	case 4:
		say_chain(&c);
		break;
	default:
		say_late(&c);
		break;
	}
	_exit(0);
}

static void run(void (*vmm)(int how), int how)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		vmm(how);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* covers: M27 */
START_TEST(test_dead_vmm_keeps_no_device)
{
	run(die_with, _i);
	rig_check_net0();
}
END_TEST

START_TEST(test_dead_vmm_keeps_no_device_over_our_deaths)
{
	run(die_with, _i);
	rig_ok(suite_kill(&rig, "frontend"), rig.why);
	rig_ok(suite_kill(&rig, "memory"), rig.why);
	rig_check_net0();
}
END_TEST

/* --- A VMM that hands over to its successor, and ends --- */

static struct vu_client left = VU_CLIENT_NULL;
static int door[2];

static void leave_to_us(int how)
{
	struct vu_client c = VU_CLIENT_NULL;

	rig_ok(vu_connect(&c, rig_socket()), c.why);
	rig_ok(vu_hello(&c, 0), c.why);
	rig_pass_fd(door[0], c.fd);
	_exit(0);
}

static void expect_sent_away(void)
{
	struct vu_client c = VU_CLIENT_NULL;

	rig_ok(vu_connect(&c, rig_socket()), c.why);
	rig_ok(vu_expect_close(&c), c.why);
	vu_close(&c);
}

START_TEST(test_connection_that_was_passed_on_stays)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, door), 0);
	run(leave_to_us, 0);
	left = (struct vu_client)VU_CLIENT_NULL;
	left.fd = rig_take_fd(door[1]);
	rig_ok(vu_get_features(&left), left.why);
	expect_sent_away();
	if (_i) {
		rig_ok(suite_kill(&rig, "frontend"), rig.why);
		expect_sent_away();
	}
	rig_ok(vu_get_features(&left), left.why);
	vu_close(&left);
	rig_check_net0();
}
END_TEST

/* --- Who has said nothing --- */

/* covers: M27 */
START_TEST(test_silent_connection_makes_room)
{
	struct vu_client silent = VU_CLIENT_NULL;

	rig_ok(vu_connect(&silent, rig_socket()), silent.why);
	if (_i & 1)
		rig_ok(vu_expect_silence(&silent, 300), silent.why);
	if (_i & 2)
		rig_ok(suite_kill(&rig, "frontend"), rig.why);
	rig_check_net0();
	rig_ok(vu_expect_close(&silent), silent.why);
	vu_close(&silent);
}
END_TEST

START_TEST(test_idle_connection_makes_none)
{
	struct vu_client idle = VU_CLIENT_NULL;

	rig_ok(vu_connect(&idle, rig_socket()), idle.why);
	rig_ok(vu_get_features(&idle), idle.why);
	if (_i & 1)
		rig_ok(suite_kill(&rig, "frontend"), rig.why);
	expect_sent_away();
	rig_ok(vu_get_features(&idle), idle.why);
	vu_close(&idle);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "peer"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_dead_vmm_keeps_no_device, 0, 6);
	tcase_add_loop_test(tc, test_connection_that_was_passed_on_stays, 0, 1);
	tcase_add_loop_test(tc, test_silent_connection_makes_room, 0, 2);
	tcase_add_loop_test(tc, test_idle_connection_makes_none, 0, 1);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_dead_vmm_keeps_no_device_over_our_deaths, 0, 6);
	tcase_add_loop_test(deaths, test_connection_that_was_passed_on_stays, 1, 2);
	tcase_add_loop_test(deaths, test_silent_connection_makes_room, 2, 4);
	tcase_add_loop_test(deaths, test_idle_connection_makes_none, 1, 2);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("peer", &net0, add);
}
