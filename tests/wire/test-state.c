/*
 * Transfers of the device's state that are begun, or go, in a way they should not: each is refused
 * in form, the device goes on, and the next transfer is as good as any. In the end processes die in
 * the middle of one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/run.h"
#include "rig.h"
#include "transfer.h"

static struct net n;
static uint8_t state[VU_STATE_MAX], other[VU_STATE_MAX];
static size_t n_state;

/* --- A device to save --- */

static void open_stopped(void)
{
	struct net_profile p = { .protocol = VU_BIT(VU_PF_DEVICE_STATE) };

	rig_open_stopped(&n, &p);
	ck_assert(n.c.acked_protocol & VU_BIT(VU_PF_DEVICE_STATE));
}

/* Rings have run, and are stopped: the device is suspended. */
static void open_suspended(void)
{
	open_stopped();
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	rig_stop_rings(&n);
}

static void restart_rings(void)
{
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_start_ring(&n, i), n.why);
}

/* The device serves, and its state can be saved and loaded. */
static void finish(void)
{
	restart_rings();
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	rig_stop_rings(&n);
	rig_ok(vu_save_state(&n.c, state, &n_state), n.c.why);
	rig_ok(vu_load_state(&n.c, state, n_state), n.c.why);
	restart_rings();
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	rig_end(&n);
}

static void make_pipe(int pair[2])
{
	ck_assert_int_eq(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
}

static void expect_set(uint64_t want, uint32_t direction, uint32_t phase, int fd)
{
	uint64_t got = 0;

	rig_ok(vu_set_device_state(&n.c, direction, phase, fd, &got), n.c.why);
	ck_assert_uint_eq(got, want);
}

static void expect_check(uint64_t want)
{
	uint64_t got = 2;

	rig_ok(vu_check_device_state(&n.c, &got), n.c.why);
	ck_assert_uint_eq(got, want);
}

/* --- Begun wrongly --- */

/* covers: M24 */
START_TEST(test_unknown_words_are_refused)
{
	int pair[2];

	open_suspended();
	make_pipe(pair);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 1, pair[1]);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, UINT32_MAX, pair[1]);
	expect_set(VU_STATE_REFUSED, 2, 0, pair[1]);
	expect_set(VU_STATE_REFUSED, UINT32_MAX, 0, pair[1]);
	expect_check(1);
	close(pair[0]);
	close(pair[1]);
	finish();
}
END_TEST

/* covers: M24 */
START_TEST(test_descriptor_that_is_no_fitting_end_is_refused)
{
	int pair[2], event = eventfd(0, EFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);

	open_suspended();
	make_pipe(pair);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, -1);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, pair[0]);
	expect_set(VU_STATE_REFUSED, VU_STATE_LOAD, 0, pair[1]);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, event);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, n.g.regions[0].fd);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, null);
	expect_check(1);
	close(event);
	close(null);
	close(pair[0]);
	close(pair[1]);
	finish();
}
END_TEST

/* covers: M24 */
START_TEST(test_running_device_is_neither_saved_nor_loaded)
{
	int pair[2];

	open_stopped();
	rig_start_rings(&n);
	make_pipe(pair);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, pair[1]);
	expect_set(VU_STATE_REFUSED, VU_STATE_LOAD, 0, pair[0]);
	rig_ok(net_stop_ring(&n, 0), n.why);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, pair[1]);
	rig_ok(net_stop_ring(&n, 1), n.why);
	close(pair[0]);
	close(pair[1]);
	finish();
}
END_TEST

START_TEST(test_not_negotiated_is_refused)
{
	struct net_profile p = { 0 };
	int pair[2];

	rig_open_stopped(&n, &p);
	make_pipe(pair);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, pair[1]);
	expect_check(1);
	close(pair[0]);
	close(pair[1]);
	net_close(&n);
}
END_TEST

/* The first one goes on, and is concluded; the second one has had no effect. covers: M24 */
START_TEST(test_second_transfer_before_the_first_is_concluded_is_refused)
{
	int pair[2], second[2];
	size_t n_bytes;

	open_suspended();
	make_pipe(pair);
	make_pipe(second);
	expect_set(VU_STATE_TAKEN, VU_STATE_SAVE, 0, pair[1]);
	expect_set(VU_STATE_REFUSED, VU_STATE_SAVE, 0, second[1]);
	expect_set(VU_STATE_REFUSED, VU_STATE_LOAD, 0, second[0]);
	close(pair[1]);
	close(second[1]);
	rig_ok(vu_read_all(second[0], other, &n_bytes, 5000), "the second pipe");
	ck_assert_uint_eq(n_bytes, 0);
	rig_ok(vu_read_all(pair[0], state, &n_state, 5000), "the first pipe");
	ck_assert_uint_gt(n_state, 0);
	expect_check(0);
	expect_check(1);
	close(pair[0]);
	close(second[0]);
	finish();
}
END_TEST

/* --- What comes in is no state --- */

static void expect_no_load(const uint8_t *buf, size_t n_bytes)
{
	int r = vu_load_state(&n.c, buf, n_bytes);

	ck_assert_msg(r == VU_E_REFUSED, "%zu bytes: %d %s", n_bytes, r, n.c.why);
}

/* covers: M24 */
START_TEST(test_garbage_is_refused)
{
	open_suspended();
	rig_ok(vu_save_state(&n.c, state, &n_state), n.c.why);
	expect_no_load(state, 0);
	expect_no_load(state, 1);
	expect_no_load(state, 27);
	expect_no_load(state, n_state - 1);
	memcpy(other, state, n_state);
	expect_no_load(other, n_state + 1);
	for (size_t at = 0; at < n_state; at += 7) {
		memcpy(other, state, n_state);
		other[at] ^= 0x10;
		expect_no_load(other, n_state);
	}
	memset(other, 0xff, sizeof(other));
	expect_no_load(other, 4096);
	finish();
}
END_TEST

/* Who reads knows when to stop. covers: M24 */
START_TEST(test_endless_stream_is_refused)
{
	struct pollfd p;
	int pair[2];
	ssize_t got;

	open_suspended();
	make_pipe(pair);
	expect_set(VU_STATE_TAKEN, VU_STATE_LOAD, 0, pair[0]);
	close(pair[0]);
	p = (struct pollfd){ .fd = pair[1], .events = POLLOUT };
	do {
		ck_assert_int_eq(poll(&p, 1, 10000), 1);
		got = write(pair[1], other, sizeof(other));
	} while (got > 0 || errno == EAGAIN);
	ck_assert_int_eq(errno, EPIPE);
	expect_check(1);
	close(pair[1]);
	finish();
}
END_TEST

/* --- A transfer that stands still --- */

static void ask_features(void)
{
	rig_ok(vu_get_features(&n.c), n.c.why);
}

/* All other messages are answered, and CHECK when the VMM closes its end. covers: M24 */
START_TEST(test_peer_that_never_reads_holds_up_nobody)
{
	int pair[2];
	uint64_t value;

	open_suspended();
	make_pipe(pair);
	while (write(pair[1], other, 4096) > 0)
		;
	expect_set(VU_STATE_TAKEN, VU_STATE_SAVE, 0, pair[1]);
	close(pair[1]);
	for (int i = 0; i < 20; i++)
		ask_features();
	rig_ok(vu_send_check(&n.c), n.c.why);
	rig_check_witness();
	close(pair[0]);
	rig_ok(vu_recv_check(&n.c, &value), n.c.why);
	ck_assert_uint_eq(value, 1);
	finish();
}
END_TEST

/* Neither read nor closed: the transfer ends by itself. covers: M24 */
START_TEST(test_transfer_that_stands_still_ends)
{
	int pair[2];
	uint64_t value;

	open_suspended();
	make_pipe(pair);
	while (write(pair[1], other, 4096) > 0)
		;
	expect_set(VU_STATE_TAKEN, VU_STATE_SAVE, 0, pair[1]);
	n.c.timeout_ms = 50000;
	rig_ok(vu_send_check(&n.c), n.c.why);
	rig_ok(vu_recv_check(&n.c, &value), n.c.why);
	ck_assert_uint_eq(value, 1);
	close(pair[0]);
	close(pair[1]);
	finish();
}
END_TEST

/* The VMM goes while CHECK waits, or before it asks: whoever comes next begins anew. */
START_TEST(test_vmm_that_goes_cancels_its_transfer)
{
	int pair[2];

	for (int i = 0; i < 4; i++) {
		open_suspended();
		make_pipe(pair);
		expect_set(VU_STATE_TAKEN, i & 1, 0, pair[!(i & 1)]);
		close(pair[!(i & 1)]);
		if (i & 2)
			rig_ok(vu_send_check(&n.c), n.c.why);
		net_close(&n);
		close(pair[i & 1]);
	}
	open_suspended();
	finish();
}
END_TEST

/* --- Positions --- */

/* Where the VMM sets no base, the state's counts: rings go on without SET_VRING_BASE. */
START_TEST(test_positions_come_with_the_state)
{
	static struct vu_client fresh = VU_CLIENT_NULL;
	uint32_t base;

	open_suspended();
	rig_ok(vu_save_state(&n.c, state, &n_state), n.c.why);
	vu_close(&n.c);
	rig_ok(vu_connect(&fresh, rig_socket()), fresh.why);
	rig_ok(vu_hello(&fresh, VU_BIT(VU_PF_DEVICE_STATE)), fresh.why);
	rig_ok(vu_set_state(&fresh, VU_SET_VRING_BASE, 1, 7), fresh.why);
	rig_ok(vu_load_state(&fresh, state, n_state), fresh.why);
	rig_ok(vu_get_vring_base(&fresh, 0, &base), fresh.why);
	ck_assert_uint_eq(base, ring_base(&n.rings[0]));
	rig_ok(vu_get_vring_base(&fresh, 1, &base), fresh.why);
	ck_assert_uint_eq(base, 7);
	vu_close(&fresh);
	net_close(&n);
}
END_TEST

static void ctl_line(char *line, size_t n_line, const char *verb)
{
	snprintf(line, n_line,
		"%s/procs/ctl/bulkheadctl --runtime-dir=%s/run %s guest:net0 %s/image >&2",
		getenv("BULKHEAD_BUILD"), rig.dir, verb, rig.dir);
}

static int ctl(const char *verb)
{
	char line[512];

	ctl_line(line, sizeof(line), verb);
	return system(line);
}

static void forget_image(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/image", rig.dir);
	unlink(path);
}

/* The operator's load moves rings as well, and is refused while one runs, or no VMM is there. */
START_TEST(test_operator_saves_and_loads)
{
	uint32_t base;

	open_stopped();
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	ck_assert_int_eq(ctl("snapshot"), 0);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	ck_assert_int_ne(ctl("restore"), 0);
	rig_stop_rings(&n);
	ck_assert_int_eq(ctl("restore"), 0);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	ck_assert_uint_eq(base, ring_base(&n.rings[0]) - 50);
	restart_rings();
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	rig_end(&n);
	ck_assert_int_ne(ctl("restore"), 0);
	forget_image();
}
END_TEST

/* Until the frontend knows where the rings go on, a VMM that asks would hear their former place. */
START_TEST(test_operators_load_ends_with_the_frontend)
{
	pid_t frontend;
	char line[512];
	uint32_t base;
	FILE *restore;
	int end;

	open_suspended();
	ck_assert_int_eq(ctl("snapshot"), 0);
	restart_rings();
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	rig_stop_rings(&n);
	frontend = suite_pid(&rig, "frontend", NULL);
	ck_assert_int_eq(kill(frontend, SIGSTOP), 0);
	ctl_line(line, sizeof(line), "restore");
	restore = popen(line, "re");
	ck_assert_ptr_nonnull(restore);
	end = fileno(restore);
	ck_assert_int_eq(poll(&(struct pollfd){ .fd = end, .events = POLLIN }, 1, 1000), 0);
	ck_assert_int_eq(kill(frontend, SIGCONT), 0);
	ck_assert_int_eq(pclose(restore), 0);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	ck_assert_uint_eq(base, ring_base(&n.rings[0]) - 50);
	finish();
	forget_image();
}
END_TEST

/* --- Deaths --- */

/* Whichever dies, the VMM gets one answer to each message, and the next transfer completes. */
static void kill_in_the_middle(const char *role, uint32_t direction)
{
	int pair[2];
	uint64_t value;

	open_suspended();
	rig_ok(vu_save_state(&n.c, state, &n_state), n.c.why);
	make_pipe(pair);
	if (direction == VU_STATE_SAVE)
		while (write(pair[1], other, 4096) > 0)
			;
	expect_set(VU_STATE_TAKEN, direction, 0, pair[direction == VU_STATE_SAVE]);
	close(pair[direction == VU_STATE_SAVE]);
	rig_ok(vu_send_check(&n.c), n.c.why);
	rig_ok(suite_kill(&rig, role), rig.why);
	if (direction == VU_STATE_LOAD && write(pair[1], state, n_state) < 0)
		ck_assert_int_eq(errno, EPIPE);
	close(pair[direction == VU_STATE_LOAD]);
	rig_ok(vu_recv_check(&n.c, &value), n.c.why);
	ck_assert_uint_le(value, 1);
	if (strcmp(role, "memory") == 0 || direction == VU_STATE_SAVE)
		ck_assert_uint_eq(value, 1);
	rig_ok(vu_expect_silence(&n.c, 20), n.c.why);
	finish();
}

static const char *const roles[] = { "frontend", "memory", "snapshot" };

START_TEST(test_death_in_a_save_fails_it_or_not_at_all)
{
	kill_in_the_middle(roles[_i], VU_STATE_SAVE);
}
END_TEST

START_TEST(test_death_in_a_load_fails_it_or_not_at_all)
{
	kill_in_the_middle(roles[_i], VU_STATE_LOAD);
}
END_TEST

static void add_wrongly(Suite *suite)
{
	TCase *tc = rig_case(suite, "wrongly");

	tcase_add_test(tc, test_unknown_words_are_refused);
	tcase_add_test(tc, test_descriptor_that_is_no_fitting_end_is_refused);
	tcase_add_test(tc, test_running_device_is_neither_saved_nor_loaded);
	tcase_add_test(tc, test_not_negotiated_is_refused);
	tcase_add_test(tc, test_second_transfer_before_the_first_is_concluded_is_refused);
	tcase_add_test(tc, test_garbage_is_refused);
	tcase_add_test(tc, test_endless_stream_is_refused);
	tcase_add_test(tc, test_peer_that_never_reads_holds_up_nobody);
	tcase_add_test(tc, test_vmm_that_goes_cancels_its_transfer);
	tcase_add_test(tc, test_positions_come_with_the_state);
	tcase_add_test(tc, test_operator_saves_and_loads);
	tcase_add_test(tc, test_operators_load_ends_with_the_frontend);
	if (getenv("BULKHEAD_FULL"))
		tcase_add_test(tc, test_transfer_that_stands_still_ends);
}

/* These end processes on purpose, so who runs is not compared after them. */
static void add(Suite *suite)
{
	TCase *tc;

	add_wrongly(suite);
	tc = tcase_create("deaths");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_death_in_a_save_fails_it_or_not_at_all, 0, 3);
	tcase_add_loop_test(tc, test_death_in_a_load_fails_it_or_not_at_all, 0, 3);
	suite_add_tcase(suite, tc);
}

/* "standby": a second instance of the worker hears of each transfer, and takes no step. */
int main(int argc, char **argv)
{
	struct suite_device net0 = { .backend = "echo", .standby = argc > 1 };

	signal(SIGPIPE, SIG_IGN);
	return rig_main("state", &net0, add);
}
