/*
 * What a VMM handed over, and no session uses any more, is kept by nobody: not after 200 sessions
 * of all kinds, and not after kills at each step of one. What the keeper holds open is listed, kind
 * by kind, and must be the same as before.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define SESSIONS 200
#define SETTLE_MS test_ms(10000)
#define MIB UINT64_C(0x100000)

static struct net n;
static char *held;
static int extra_fd, n_extra;

/* --- One session, step by step --- */

static void more_memory(bool add)
{
	struct vu_region region = { (4096 + 16 * (uint64_t)n_extra) * MIB, MIB,
		UINT64_C(0x10000000000) + 16 * MIB * (uint64_t)n_extra, 0 };

	if (add && n_extra < 4) {
		rig_ok(vu_add_mem_reg(&n.c, &region, extra_fd), n.c.why);
		n_extra++;
	} else if (!add && n_extra > 0) {
		n_extra--;
		region.gpa -= 16 * MIB;
		region.uva -= 16 * MIB;
		rig_ok(vu_rem_mem_reg(&n.c, &region, -1), n.c.why);
	}
}

static void another(uint32_t request, uint16_t index)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	rig_ok(vu_set_vring_fd(&n.c, request, index, fd), n.c.why);
	close(fd);
}

static void inflight(bool set)
{
	struct vu_inflight area = { .n_queues = 2, .queue_size = 256 };
	int fd;

	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	if (set)
		rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	close(fd);
}

static void connect_step(void)
{
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	n.c.timeout_ms = 20000;
}
static void negotiate_step(void)
{
	rig_ok(net_negotiate(&n), n.why);
}
static void channel_step(void)
{
	rig_ok(vu_set_backend_channel(&n.c), n.c.why);
}
static void rings_step(void)
{
	rig_ok(net_make_rings(&n), n.why);
}
static void memory_step(void)
{
	rig_ok(net_set_memory(&n), n.why);
}
static void add_step(void)
{
	more_memory(true);
}
static void remove_step(void)
{
	more_memory(false);
}
static void get_inflight_step(void)
{
	inflight(false);
}
static void set_inflight_step(void)
{
	inflight(true);
}
static void call_step(void)
{
	another(VU_SET_VRING_CALL, 1);
}
static void err_step(void)
{
	another(VU_SET_VRING_ERR, 0);
}
static void start_step(void)
{
	rig_start_rings(&n);
}
static void pump_step(void)
{
	rig_ok(net_pump(&n, 0, 20, 200), n.why);
}
static void kick_step(void)
{
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, 1, n.rings[1].kick_fd), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 1, n.rings[1].call_fd), n.c.why);
}
static void stop_step(void)
{
	rig_stop_rings(&n);
}

static void (*const steps[])(void) = {
	connect_step,
	negotiate_step,
	channel_step,
	channel_step,
	rings_step,
	memory_step,
	add_step,
	add_step,
	remove_step,
	get_inflight_step,
	set_inflight_step,
	call_step,
	err_step,
	start_step,
	pump_step,
	kick_step,
	memory_step,
	remove_step,
	add_step,
	pump_step,
	stop_step,
	set_inflight_step,
};

#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

static void begin(uint64_t features)
{
	struct net_profile p = { .features = features,
		.protocol = VU_BIT(VU_PF_INFLIGHT_SHMFD) | VU_BIT(VU_PF_MEM_SLOTS) |
			VU_BIT(VU_PF_BACKEND_REQ) | VU_BIT(VU_PF_STATUS) };

	n_extra = 0;
	rig_ok(net_init(&n, &p), n.why);
}

/* --- What is held --- */

static void settle(const char *what)
{
	char *now = suite_held(&rig);

	for (int ms = 0; strcmp(now, held) != 0 && ms < SETTLE_MS; ms += 10) {
		struct timespec tick = { 0, 10000000 };

		nanosleep(&tick, NULL);
		free(now);
		now = suite_held(&rig);
	}
	ck_assert_msg(!strcmp(now, held), "%s: the keeper holds\n%snot\n%s", what, now, held);
	free(now);
}

static void kill_one(const char *role)
{
	if (strcmp(role, "net") != 0)
		rig_ok(suite_kill(&rig, role), rig.why);
	else
		rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
}

/* With a kill of each everything is there that will be: timers, notes on restarts. No VMM has come
 * yet, but the witness's. */
static void set_up(void)
{
	extra_fd = memfd_create("extra", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(ftruncate(extra_fd, MIB), 0);
	kill_one("frontend");
	kill_one("memory");
	kill_one("net");
	held = suite_held(&rig);
	for (int same = 0; same < 20; same++) {
		struct timespec tick = { 0, 20000000 };
		char *now;

		nanosleep(&tick, NULL);
		now = suite_held(&rig);
		if (strcmp(now, held) != 0)
			same = 0;
		free(held);
		held = now;
	}
	ck_assert_msg(strstr(held, "\n1 x /memfd:guest "), "more than the witness's memory:\n%s",
		held);
	ck_assert_ptr_null(strstr(held, "memfd:extra"));
	ck_assert_ptr_null(strstr(held, "memfd:bulkhead-inflight"));
}

static void tear_down(void)
{
	close(extra_fd);
	free(held);
}

/* covers: M20 M27 */
START_TEST(test_sessions_of_all_kinds_leave_nothing)
{
	srand48(5);
	for (int i = 0; i < SESSIONS; i++) {
		size_t n_steps = 1 + (size_t)lrand48() % N_STEPS;

		begin(lrand48() & 1 ? VU_BIT(VU_F_PACKED) : 0);
		for (size_t k = 0; k < n_steps; k++)
			steps[k]();
		n.c.ack = lrand48() & 1;
		net_close(&n);
	}
	settle("after all sessions");
	printf("# %d sessions, and the keeper holds what it held before\n", SESSIONS);
	rig_check_witness();
}
END_TEST

/* _i: who */
START_TEST(test_kills_at_each_step_leave_nothing)
{
	static const char *const roles[] = { "frontend", "memory", "net" };
	char what[80];

	for (size_t at = 0; at <= N_STEPS; at++) {
		begin(at & 1 ? VU_BIT(VU_F_PACKED) : 0);
		for (size_t k = 0; k < N_STEPS; k++) {
			if (k == at)
				kill_one(roles[_i]);
			/* every other session ends where the kill was */
			if (k == at && at & 2)
				break;
			steps[k]();
		}
		if (at == N_STEPS)
			kill_one(roles[_i]);
		net_close(&n);
		snprintf(what, sizeof(what), "%s killed before step %zu", roles[_i], at);
		settle(what);
	}
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("stale");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, test_sessions_of_all_kinds_leave_nothing);
	tcase_add_loop_test(tc, test_kills_at_each_step_leave_nothing, 0, 3);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("stale", &net0, add);
}
