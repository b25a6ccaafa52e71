/*
 * The memory manager is away for longer than anybody would wait: stopped, or dead and not started
 * again. Messages that need it wait in the VMM's socket, each device for itself, and all of them
 * arrive, in order and once. What needs no memory is answered meanwhile. With BULKHEAD_FULL=1 it is
 * away for 20 s.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/run.h"
#include "rig.h"

#define AWAY_MS 7000 /* longer than any of the suite's own limits for memory */
#define AWAY_FULL_MS 20000
#define PATIENCE_MS 60000

static struct net busy, idle;
static struct vu_client asking; /* for a region in flight, which only memory has */

static int away_ms(void)
{
	return getenv("BULKHEAD_FULL") ? AWAY_FULL_MS : AWAY_MS;
}

static void send_away(bool dead)
{
	if (dead)
		rig_ok(suite_kill_for_good(&rig, "memory", NULL), rig.why);
	else
		ck_assert_int_eq(kill(suite_pid(&rig, "memory", NULL), SIGSTOP), 0);
}

static void bring_back(bool dead)
{
	if (dead)
		suite_go_on(&rig);
	else
		ck_assert_int_eq(kill(suite_pid(&rig, "memory", NULL), SIGCONT), 0);
}

/* A message that carries a new call descriptor: from then on the ring interrupts there. */
static void replace_call(struct net *n, uint16_t index, bool need_reply)
{
	struct vu_header head = { VU_SET_VRING_CALL, VU_VERSION | (need_reply ? VU_NEED_REPLY : 0),
		8 };
	uint64_t value = index;

	close(n->rings[index].call_fd);
	n->rings[index].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(n->rings[index].call_fd, 0);
	rig_ok(vu_send(&n->c, &head, &value, &n->rings[index].call_fd, 1), n->c.why);
}

static void say_features(struct net *n, bool need_reply)
{
	struct vu_header head = { VU_SET_FEATURES, VU_VERSION | (need_reply ? VU_NEED_REPLY : 0),
		8 };

	rig_ok(vu_send(&n->c, &head, &n->c.acked, NULL, 0), n->c.why);
}

/* What needs no memory is answered soon: whoever waits for memory waits alone. */
static void ask_idle(void)
{
	uint64_t features = idle.c.features;

	rig_ok(vu_get_features(&idle.c), idle.c.why);
	ck_assert_uint_eq(idle.c.features, features);
}

static void open_all(void)
{
	struct net_profile p = { 0 };

	rig_ok(net_open(&busy, suite_socket(&rig, "net0"), &p), busy.why);
	rig_ok(net_open(&idle, suite_socket(&rig, "net1"), &p), idle.why);
	asking = (struct vu_client)VU_CLIENT_NULL;
	rig_ok(vu_connect(&asking, suite_socket(&rig, "net2")), asking.why);
	rig_ok(vu_hello(&asking, VU_BIT(VU_PF_INFLIGHT_SHMFD)), asking.why);
	busy.c.timeout_ms = idle.c.timeout_ms = asking.timeout_ms = PATIENCE_MS;
	rig_ok(net_pump(&busy, 0, 50, 200), busy.why);
	rig_ok(net_pump(&idle, 0, 50, 200), idle.why);
}

static void ask_region(void)
{
	struct vu_inflight area = { .n_queues = 2, .queue_size = 64 };
	struct vu_header head = { VU_GET_INFLIGHT_FD, VU_VERSION, sizeof(area) };

	rig_ok(vu_send(&asking, &head, &area, NULL, 0), asking.why);
}

static void take_region(void)
{
	struct vu_msg msg;

	rig_ok(vu_recv_reply(&asking, VU_GET_INFLIGHT_FD, sizeof(struct vu_inflight), &msg),
		asking.why);
	ck_assert_uint_eq(msg.n_fds, 1);
	vu_msg_deinit(&msg);
	vu_close(&asking);
}

/* covers: P3 */
START_TEST(test_messages_wait_for_a_memory_that_is_away)
{
	bool dead = _i;

	open_all();
	send_away(dead);
	ask_region();
	replace_call(&busy, 0, false);
	replace_call(&busy, 1, true);
	say_features(&busy, true);
	replace_call(&busy, 1, false);
	replace_call(&busy, 0, true);
	for (int ms = 0; ms < away_ms(); ms += 500) {
		ask_idle();
		poll(NULL, 0, 500);
	}
	rig_ok(vu_expect_silence(&busy.c, 10), busy.c.why);
	replace_call(&idle, 0, true); /* waits behind the other device's */
	bring_back(dead);
	rig_ok(vu_recv_ack(&busy.c, VU_SET_VRING_CALL), busy.c.why);
	rig_ok(vu_recv_ack(&busy.c, VU_SET_FEATURES), busy.c.why);
	rig_ok(vu_recv_ack(&busy.c, VU_SET_VRING_CALL), busy.c.why);
	rig_ok(vu_expect_silence(&busy.c, 10), busy.c.why);
	rig_ok(vu_recv_ack(&idle.c, VU_SET_VRING_CALL), idle.c.why);
	take_region();
	rig_finish(&busy);
	rig_finish(&idle);
}
END_TEST

/* The record is committed, but its worker comes to it only when there is nobody any more who has
 * the descriptors. */
/* covers: P3 */
START_TEST(test_worker_waits_for_descriptors)
{
	struct net_profile p = { 0 };
	bool dead = _i;

	rig_ok(net_open(&busy, suite_socket(&rig, "net0"), &p), busy.why);
	busy.c.timeout_ms = PATIENCE_MS;
	rig_ok(net_pump(&busy, 0, 50, 200), busy.why);
	ck_assert_int_eq(kill(suite_pid(&rig, "net", "net0"), SIGSTOP), 0);
	replace_call(&busy, 0, false);
	replace_call(&busy, 1, false);
	poll(NULL, 0, 500); /* the commits */
	send_away(dead);
	ck_assert_int_eq(kill(suite_pid(&rig, "net", "net0"), SIGCONT), 0);
	poll(NULL, 0, away_ms());
	bring_back(dead);
	rig_finish(&busy);
}
END_TEST

static void add(Suite *tests)
{
	TCase *tc = tcase_create("away");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_messages_wait_for_a_memory_that_is_away, 0, 2);
	tcase_add_loop_test(tc, test_worker_waits_for_descriptors, 0, 2);
	suite_add_tcase(tests, tc);
}

static int serve(void)
{
	int n_failed;

	if (suite_wait_ready(&rig))
		return 1;
	n_failed = run_suite("away", add);
	/* failed cases stand in the lines; an exit status would hide them */
	return getenv("CK_TAP_LOG_FILE_NAME") ? 0 : n_failed;
}

int main(void)
{
	const struct suite_device devices[] = { { .name = "net0", .backend = "echo" },
		{ .name = "net1", .backend = "echo" }, { .name = "net2", .backend = "echo" } };
	int n_failed = 1, e = suite_start(&rig, devices, 3);

	if (!e) {
		n_failed = serve();
		e = suite_stop(&rig);
	}
	if (e)
		fprintf(stderr, "away: %s\n", rig.why);
	return n_failed || e ? 1 : 0;
}
