/*
 * A VMM that asks while somebody of the suite is dead and nobody restarts him: it gets the right
 * answer, or waits, and goes on when he is back. It sees time pass and nothing else.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"

#define QUIET_MS 150
#define AWAY_MS 6500 /* more than a question waits */

static struct net n;

static struct net_profile layout(int i)
{
	struct net_profile p = { .features = i & 1 ? VU_BIT(VU_F_PACKED) : 0 };

	return p;
}

/* who wants an acknowledgement asks for one: from here on messages promise nothing */
static void open_session(const struct net_profile *p)
{
	rig_open(&n, p);
	n.c.ack = false;
}

/* kills the worker as often as it is there */
static pid_t start_killer(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		(void)suite_kill_worker(&rig, "net0");
		poll(NULL, 0, 2);
	}
}

static void stop_killer(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void check_all_is_well(void)
{
	rig_finish(&n);
	rig_check_witness();
}

/* --- The worker --- */

START_TEST(test_position_is_right_without_a_worker)
{
	struct net_profile p = layout(_i);

	open_session(&p);
	rig_ok(net_pump(&n, 0, 333, 200), n.why);
	rig_ok(suite_kill_for_good(&rig, "net", "net0"), rig.why);
	/* both answers are compared with where the driver stands */
	rig_restart_rings(&n);
	suite_go_on(&rig);
	check_all_is_well();
}
END_TEST

/* It was started by nobody yet: it stands where the VMM put it, whatever an older life of it has
 * left. */
START_TEST(test_ring_begun_without_a_worker_stands_where_it_was_put)
{
	struct net_profile p = layout(_i);
	uint32_t want = _i & 1 ? 0x00050005 : 77, base = 0;

	open_session(&p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	rig_ok(suite_kill_for_good(&rig, "net", "net0"), rig.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, 1, want), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, 1, n.rings[1].kick_fd), n.c.why);
	rig_ok(vu_get_vring_base(&n.c, 1, &base), n.c.why);
	ck_assert_uint_eq(base, want);
	rig_ok(net_start_ring(&n, 1), n.why);
	suite_go_on(&rig);
	check_all_is_well();
}
END_TEST

/* However long it was away: a message that promises an effect has it soon after. */
START_TEST(test_worker_that_is_back_is_heard_of)
{
	struct net_profile p = layout(_i);

	rig_open(&n, &p);
	for (int round = 0; round < 12; round++) {
		rig_ok(suite_kill_for_good(&rig, "net", "net0"), rig.why);
		poll(NULL, 0, 40 * round);
		suite_go_on(&rig);
		rig_ok(vu_set_features(&n.c, n.c.acked), n.c.why);
		rig_ok(net_pump(&n, 0, 10, 200), n.why);
	}
	check_all_is_well();
}
END_TEST

/* A host without processor time needs that long to start a process. */
START_TEST(test_change_waits_for_a_worker_that_is_away_for_long)
{
	struct net_profile p = layout(0);
	int err_fd = eventfd(0, EFD_CLOEXEC);
	pid_t helper;

	rig_open(&n, &p);
	rig_ok(suite_kill_for_good(&rig, "net", "net0"), rig.why);
	helper = fork();
	if (helper == 0) {
		poll(NULL, 0, AWAY_MS);
		suite_go_on(&rig);
		_exit(0);
	}
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_ERR, 1, err_fd), n.c.why);
	rig_ok(net_pump(&n, 0, 10, 200), n.why);
	waitpid(helper, NULL, 0);
	close(err_fd);
	check_all_is_well();
}
END_TEST

/* Whenever the worker is started again it dies at once, and memory, which was dead, never sees it
 * live. */
START_TEST(test_position_is_right_without_worker_behind_memory)
{
	struct net_profile p = layout(_i);
	pid_t killer;

	open_session(&p);
	rig_ok(net_pump(&n, 0, 222, 200), n.why);
	rig_ok(suite_kill_for_good(&rig, "memory", NULL), rig.why);
	rig_ok(net_pump(&n, 0, 111, 200), n.why);
	rig_ok(suite_kill_for_good(&rig, "net", "net0"), rig.why);
	killer = start_killer();
	suite_go_on(&rig);
	rig_stop_rings(&n);
	stop_killer(killer);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_start_ring(&n, i), n.why);
	check_all_is_well();
}
END_TEST

/* --- Memory --- */

/* Accepted, and then nobody is there who could remember it. */
START_TEST(test_vmm_that_comes_without_memory_waits_for_it)
{
	struct net_profile p = layout(_i);
	struct vu_header head = { VU_GET_FEATURES, VU_VERSION, 0 };
	struct vu_msg msg;

	rig_ok(suite_kill_for_good(&rig, "memory", NULL), rig.why);
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(vu_send(&n.c, &head, NULL, NULL, 0), n.c.why);
	rig_ok(vu_expect_silence(&n.c, QUIET_MS), n.c.why);
	suite_go_on(&rig);
	rig_ok(vu_recv_reply(&n.c, VU_GET_FEATURES, 8, &msg), n.c.why);
	vu_msg_deinit(&msg);
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++) {
		rig_ok(net_start_ring(&n, i), n.why);
		rig_ok(net_enable(&n, i, true), n.why);
	}
	rig_ok(net_fill(&n, 0), n.why);
	check_all_is_well();
}
END_TEST

/* Frames need nobody but the worker; a message waits. */
/* covers: P3 */
START_TEST(test_vmm_that_runs_without_memory_goes_on)
{
	struct net_profile p = layout(_i);
	struct vu_header head = { VU_GET_VRING_BASE, VU_VERSION, 8 };
	struct vu_state state = { 0, 0 };
	struct vu_msg msg;

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(suite_kill_for_good(&rig, "memory", NULL), rig.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_ok(vu_send(&n.c, &head, &state, NULL, 0), n.c.why);
	rig_ok(vu_expect_silence(&n.c, QUIET_MS), n.c.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	suite_go_on(&rig);
	rig_ok(vu_recv_reply(&n.c, VU_GET_VRING_BASE, 8, &msg), n.c.why);
	ck_assert_uint_eq(msg.body.state.num, ring_base(&n.rings[0]));
	vu_msg_deinit(&msg);
	rig_ok(net_start_ring(&n, 0), n.why);
	check_all_is_well();
}
END_TEST

/* --- The frontend --- */

START_TEST(test_vmm_that_comes_without_a_frontend_waits_for_it)
{
	struct net_profile p = layout(_i);

	rig_ok(suite_kill_for_good(&rig, "frontend", NULL), rig.why);
	rig_ok(net_init(&n, &p), n.why);
	net_close(&n);
	suite_go_on(&rig);
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(suite_kill_for_good(&rig, "frontend", NULL), rig.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	suite_go_on(&rig);
	rig_restart_rings(&n);
	check_all_is_well();
}
END_TEST

static void go_on(void)
{
	suite_go_on(&rig);
}

/* who runs is not compared after these */
static void add(Suite *suite)
{
	TCase *tc = tcase_create("dead");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, go_on, NULL);
	tcase_add_loop_test(tc, test_position_is_right_without_a_worker, 0, 2);
	tcase_add_loop_test(tc, test_worker_that_is_back_is_heard_of, 0, 2);
	tcase_add_test(tc, test_change_waits_for_a_worker_that_is_away_for_long);
	tcase_add_loop_test(tc, test_ring_begun_without_a_worker_stands_where_it_was_put, 0, 2);
	tcase_add_loop_test(tc, test_position_is_right_without_worker_behind_memory, 0, 2);
	tcase_add_loop_test(tc, test_vmm_that_comes_without_memory_waits_for_it, 0, 2);
	tcase_add_loop_test(tc, test_vmm_that_runs_without_memory_goes_on, 0, 2);
	tcase_add_loop_test(tc, test_vmm_that_comes_without_a_frontend_waits_for_it, 0, 2);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("dead", &net0, add);
}
