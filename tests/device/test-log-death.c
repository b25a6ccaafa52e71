/*
 * The dirty log when processes die: a successor marks what its predecessor wrote and did not mark,
 * and the log itself is found again.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/run.h"
#include "logged.h"

#define KILLS (getenv("BULKHEAD_FULL") ? 300 : 8)

static struct suite suite;

static void begin(int kind)
{
	struct suite_device device = { .name = "net0", .backend = "echo" };

	rig_ok(suite_start(&suite, &device, 1), suite.why);
	rig_ok(suite_wait_ready(&suite), suite.why);
	open_logged(suite_socket(&suite, "net0"), kind);
}

static void end(void)
{
	rig_ok(suite_stop(&suite), suite.why);
}

/* One that is just coming is waited for. */
static pid_t await_worker(void)
{
	pid_t pid = suite_pid(&suite, "net", NULL);

	for (int i = 0; pid < 0 && i < 5000; i++) {
		usleep(1000);
		pid = suite_pid(&suite, "net", NULL);
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

/* The worker dies at any moment, with frames half written and rings half published. Its successor
 * serves the rings; or the VMM stops them before it comes. _i: the kind, and bit 2: stops them */
/* covers: M19 P2 */
START_TEST(test_no_mark_is_lost_when_the_worker_dies)
{
	begin(_i & 3);
	srand48(_i);
	for (int k = 0; k < KILLS; k++) {
		pid_t pid = await_worker();

		send_frames(k % 3 ? 30 : 2, 19000);
		note_memory();
		start_rings();
		usleep((useconds_t)(lrand48() % 500));
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		if (!(_i & 4))
			rig_ok(net_drain_tx(&n, 0, 10000), n.why);
		stop_rings();
		(void)all_is_marked();
		nothing_else_is_marked();
		receive_frames();
	}
	close_logged();
	end();
}
END_TEST

/* It is memory that keeps the log's descriptor, and everybody finds it again. */
START_TEST(test_log_outlives_all_processes)
{
	static const char *const roles[] = { "memory", "frontend", "memory", "net" };

	begin(_i);
	start_rings();
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		rig_ok(suite_kill(&suite, roles[i]), suite.why);
		rig_ok(net_pump(&n, 0, 300, 1500), n.why);
		clear_log();
		rig_ok(net_pump(&n, 0, 300, 1500), n.why);
		ck_assert_uint_gt(n_marked(), 2);
	}
	/* off, and on again, by processes none of which has seen the message that brought it */
	set_log_all(false);
	clear_log();
	rig_ok(net_pump(&n, 0, 300, 1500), n.why);
	ck_assert_uint_eq(n_marked(), 0);
	set_log_all(true);
	rig_ok(net_pump(&n, 0, 300, 1500), n.why);
	ck_assert_uint_gt(n_marked(), 2);
	net_close(&n);
	drop_log();
	end();
}
END_TEST

static void add_tests(Suite *s)
{
	TCase *tc = tcase_create("log");

	tcase_set_timeout(tc, getenv("BULKHEAD_FULL") ? 600 : 60);
	tcase_add_loop_test(tc, test_no_mark_is_lost_when_the_worker_dies, 0, 8);
	tcase_add_loop_test(tc, test_log_outlives_all_processes, 0, 2);
	suite_add_tcase(s, tc);
}

int main(void)
{
	if (!getenv("BULKHEAD_BUILD") || getenv("BULKHEAD_TEST_PEER")) {
		printf("1..0 # SKIP it needs this product\n");
		return 0;
	}
	return run_main("log-death", add_tests);
}
