/*
 * A VMM that is replaced under a running guest: another process takes over the connection, the
 * channel for our requests, guest memory, notifiers and the in-flight region, by SCM_RIGHTS, and
 * the first one ends. Nothing is said anew, and nothing of it is seen in the rings.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define FDS_MAX 32

static struct net n;
static struct vu_inflight area = { .n_queues = 2, .queue_size = 256 };
static int inflight_fd = -1;

/* --- Hand-over --- */

/* all that a VMM holds for its device */
static size_t list_fds(int **ret_list)
{
	size_t n_fds = 0;

	ret_list[n_fds++] = &n.c.fd;
	ret_list[n_fds++] = &n.c.back_fd;
	ret_list[n_fds++] = &inflight_fd;
	for (size_t i = 0; i < n.g.n_regions; i++)
		ret_list[n_fds++] = &n.g.regions[i].fd;
	for (uint16_t i = 0; i < n.n_rings; i++) {
		ret_list[n_fds++] = &n.rings[i].kick_fd;
		ret_list[n_fds++] = &n.rings[i].call_fd;
		ret_list[n_fds++] = &n.rings[i].err_fd;
	}
	return n_fds;
}

static void hand_over(int into)
{
	int *list[FDS_MAX];
	size_t n_fds = list_fds(list);

	for (size_t i = 0; i < n_fds; i++)
		rig_pass_fd(into, *list[i]);
}

/* It has nothing of them but what it is given. */
static void take_over(int from)
{
	int *list[FDS_MAX];
	size_t n_fds = list_fds(list);

	for (size_t i = 0; i < n_fds; i++)
		close(*list[i]);
	for (size_t i = 0; i < n_fds; i++)
		*list[i] = rig_take_fd(from);
}

/* --- The two VMMs --- */

static void begin(int i)
{
	struct net_profile p = { .features = i & 1 ? VU_BIT(VU_F_PACKED) : 0,
		.protocol = VU_BIT(VU_PF_INFLIGHT_SHMFD) | VU_BIT(VU_PF_BACKEND_REQ) |
			VU_BIT(VU_PF_MEM_SLOTS) | VU_BIT(VU_PF_STATUS) };

	rig_open_stopped(&n, &p);
	rig_ok(vu_set_backend_channel(&n.c), n.c.why);
	rig_ok(vu_get_inflight(&n.c, &area, &inflight_fd), n.c.why);
	rig_ok(vu_set_inflight(&n.c, &area, inflight_fd), n.c.why);
	rig_start_rings(&n);
	rig_ok(vu_set_u64(&n.c, VU_SET_STATUS, 0xf), n.c.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
}

static void kill_one(int which)
{
	n.c.timeout_ms = test_ms(30000);
	switch (which) {
	case 1:
		rig_ok(suite_kill(&rig, "frontend"), rig.why);
		break;
	case 2:
		rig_ok(suite_kill(&rig, "memory"), rig.why);
		break;
	case 3:
		rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
		break;
	default:
		break;
	}
}

/* The device is the successor's, although the process that connected is gone. */
static void expect_third_sent_away(void)
{
	struct vu_client c = VU_CLIENT_NULL;

	rig_ok(vu_connect(&c, rig_socket()), c.why);
	rig_ok(vu_expect_close(&c), c.why);
	vu_close(&c);
}

/* Traffic first: the rings run whoever holds the connection. */
static void go_on(int victim, bool early)
{
	struct vu_region more = { UINT64_C(1) << 32, 16 << 20, UINT64_C(0x7e0000000000), 0 };
	uint64_t status;

	if (early)
		kill_one(victim);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_ok(vu_get_u64(&n.c, VU_GET_STATUS, &status), n.c.why);
	ck_assert_uint_eq(status, 0xf);
	if (!early)
		kill_one(victim);
	expect_third_sent_away();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	ck_assert_int_eq(guest_add_region(&n.g, &more), 0);
	rig_ok(vu_add_mem_reg(&n.c, &more, n.g.regions[1].fd), n.c.why);
	rig_finish(&n);
}

static void await(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The first VMM has ended when the second one says its first word: that waits for a byte. */
static void replace(int i, int victim, bool early)
{
	int fds[2], gone[2];
	pid_t first, second = -1;

	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gone), 0);
	first = fork();
	if (first == 0) {
		begin(i);
		second = fork();
		if (second == 0) {
			char byte;

			take_over(fds[1]);
			ck_assert_int_eq(read(gone[1], &byte, 1), 1);
			go_on(victim, early);
			_exit(0);
		}
		hand_over(fds[0]);
		ck_assert_int_eq(write(gone[1], &second, sizeof(second)), sizeof(second));
		_exit(0);
	}
	await(first);
	ck_assert_int_eq(read(gone[0], &second, sizeof(second)), sizeof(second));
	ck_assert_int_eq(write(gone[0], "x", 1), 1);
	await(second);
	rig_check_net0();
}

START_TEST(test_successor_goes_on)
{
	replace(_i, 0, false);
}
END_TEST

/* _i: bit 0: packed; bit 1: somebody dies before the successor has said a word; the rest: who */
START_TEST(test_successor_goes_on_whoever_dies)
{
	replace(_i, 1 + _i / 4, _i & 2);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "successor"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_successor_goes_on, 0, 2);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_successor_goes_on_whoever_dies, 0, 12);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("successor", &net0, add);
}
