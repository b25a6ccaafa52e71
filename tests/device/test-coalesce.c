/*
 * Notifications that the driver has held back: by number, by time, over everything that happens to
 * a ring meanwhile. The device may notify early, and a machine that is slow makes its time pass: a
 * case in which no notification must come is tried until it took less than that time.
 */
#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "lib/patience.h"

#define WAIT_MS 5000
#define FRAME_BYTES 60
#define LONGEST_MS 1000 /* of what the driver asks for */
#define TRIES 20
#define EVER UINT32_MAX
#define COALESCE (VU_BIT(NET_F_NOTF_COAL) | VU_BIT(NET_F_VQ_NOTF_COAL))

enum { TX_SET, RX_SET, VQ_SET, VQ_GET };

struct coalesce {
	uint32_t max_packets, max_usecs;
};

struct coalesce_ring {
	uint16_t index, reserved;
	struct coalesce coalesce;
};

static struct net *const n = &control_net;

static struct net_profile profile(int i, uint64_t features)
{
	return control_layout(i, features | (i & 2 ? VU_BIT(VU_F_EVENT_IDX) : 0));
}

static void close_device(void)
{
	control_stop();
	control_close();
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* --- Commands --- */

static void set_kind(uint8_t number, uint32_t max_packets, uint32_t max_usecs)
{
	struct coalesce coalesce = { max_packets, max_usecs };

	control_expect(CTRL_OK, CTRL_NOTF_COAL, number, &coalesce, sizeof(coalesce));
}

static void set_both(uint32_t max_packets, uint32_t max_usecs)
{
	set_kind(TX_SET, max_packets, max_usecs);
	set_kind(RX_SET, max_packets, max_usecs);
}

static void set_ring(uint8_t want, uint16_t index, uint32_t max_packets, uint32_t max_usecs)
{
	struct coalesce_ring ring = { index, 0xbeef, { max_packets, max_usecs } };

	control_expect(want, CTRL_NOTF_COAL, VQ_SET, &ring, sizeof(ring));
}

static void expect_ring(uint16_t index, uint32_t max_packets, uint32_t max_usecs)
{
	uint16_t designated[2] = { index, 0xbeef };
	struct coalesce got;

	ck_assert_uint_eq(control_ask(CTRL_NOTF_COAL, VQ_GET, designated, sizeof(designated), &got,
				  sizeof(got)),
		CTRL_OK);
	ck_assert_msg(got.max_packets == max_packets && got.max_usecs == max_usecs,
		"ring %u has %u packets and %u us", index, got.max_packets, got.max_usecs);
}

static void expect_none(uint16_t index)
{
	uint16_t designated[2] = { index, 0 };
	struct coalesce got;

	ck_assert_uint_eq(control_ask(CTRL_NOTF_COAL, VQ_GET, designated, sizeof(designated), &got,
				  sizeof(got)),
		CTRL_ERR);
	ck_assert(!got.max_packets && !got.max_usecs);
}

/* --- Frames and calls --- */

/* One used buffer of the receive ring, which is posted again; no call is waited for. */
static void take_frame(void)
{
	struct ring_seg seg = { 0, n->p.buf_bytes, true };
	struct ring *r = &n->rings[0];
	struct ring_used used;

	rig_ok(ring_poll(r, WAIT_MS), "no frame came");
	ck_assert_msg(ring_reap(r, &used) == 1, "%s", r->fault);
	seg.gpa = (uint64_t)(uintptr_t)used.cookie;
	rig_ok(ring_post(r, &seg, 1, used.cookie), r->fault);
	ring_kick(r);
}

/* There and back again: both rings have published that many chains. */
static void echo(unsigned int n_frames)
{
	uint8_t frame[FRAME_BYTES];

	for (unsigned int i = 0; i < n_frames; i++) {
		net_frame_make(frame, sizeof(frame), i);
		rig_ok(net_send(n, 0, frame, sizeof(frame)), n->why);
		take_frame();
		rig_ok(ring_poll(&n->rings[1], WAIT_MS), "a frame was not sent");
	}
}

/* A notification is wanted of whatever is published next. */
static void want_calls(void)
{
	rig_ok(net_drain_tx(n, 0, WAIT_MS), n->why);
	for (uint16_t i = 0; i < 2; i++) {
		(void)ring_drain_calls(&n->rings[i]);
		ring_want_calls(&n->rings[i], true);
	}
}

static void await_call(uint16_t index)
{
	struct pollfd p = { .fd = n->rings[index].call_fd, .events = POLLIN };

	ck_assert_msg(poll(&p, 1, test_ms(WAIT_MS)) == 1, "ring %u was never called", index);
}

/* The first call of a ring is made in any case, so that is over. */
static void open_device(int i)
{
	struct net_profile p = profile(i, COALESCE);

	p.protocol = VU_BIT(VU_PF_RESET_DEVICE);
	control_open(&p);
	want_calls();
	echo(1);
	await_call(0);
	await_call(1);
}

static uint64_t calls(void)
{
	return ring_drain_calls(&n->rings[0]) + ring_drain_calls(&n->rings[1]);
}

/* `max` chains bring one call for each ring, and one less brings none. */
static void expect_calls_after(unsigned int max)
{
	for (int i = 0; i < TRIES; i++) {
		double begin;
		uint64_t early;

		want_calls();
		set_both(0, 0); /* nothing is owed from before */
		set_both(max, EVER);
		want_calls();
		begin = now_ms();
		echo(max - 1);
		early = calls();
		if (now_ms() - begin >= LONGEST_MS)
			continue;
		ck_assert_msg(early == 0, "%u chains brought %lu calls", max - 1,
			(unsigned long)early);
		echo(1);
		await_call(0);
		await_call(1);
		if (now_ms() - begin >= LONGEST_MS)
			continue;
		ck_assert_uint_eq(calls(), 2);
		return;
	}
	ck_abort_msg("this machine is too slow");
}

/* --- By number, by time --- */

/* uses: net:NOTF_COAL */
START_TEST(test_calls_come_after_so_many_chains)
{
	open_device(_i);
	expect_calls_after(2);
	expect_calls_after(16);
	expect_calls_after(100);
	close_device();
}
END_TEST

START_TEST(test_call_comes_when_its_time_is_over)
{
	double begin;

	open_device(_i);
	set_both(1000, 50000);
	for (int i = 0; i < 3; i++) {
		want_calls();
		begin = now_ms();
		echo(1 + (unsigned int)i);
		await_call(0);
		await_call(1);
		ck_assert_msg(now_ms() - begin >= 50, "it came after %.1f ms", now_ms() - begin);
	}
	close_device();
}
END_TEST

/* Either number alone holds nothing back. */
START_TEST(test_one_number_alone_holds_nothing_back)
{
	open_device(_i);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < TRIES; k++) {
			double begin;

			set_both(i ? 0 : 1000, i ? EVER : 0);
			want_calls();
			begin = now_ms();
			echo(1);
			await_call(0);
			await_call(1);
			if (now_ms() - begin < LONGEST_MS)
				break;
			ck_assert_int_lt(k, TRIES - 1);
		}
	}
	close_device();
}
END_TEST

/* A guest that asks for more than an hour gets its call within a second or so. */
/* covers: G9 */
START_TEST(test_time_has_a_limit)
{
	double begin;

	open_device(_i);
	set_both(EVER, EVER);
	expect_ring(0, EVER, EVER);
	want_calls();
	begin = now_ms();
	echo(3);
	await_call(0);
	await_call(1);
	ck_assert(now_ms() - begin >= LONGEST_MS);
	close_device();
}
END_TEST

/* --- Suppression --- */

START_TEST(test_call_that_is_not_wanted_is_not_owed)
{
	struct pollfd p[2] = { { .events = POLLIN }, { .events = POLLIN } };

	open_device(_i);
	set_both(1000, 20000);
	want_calls();
	for (uint16_t i = 0; i < 2; i++) {
		ring_want_calls(&n->rings[i], false);
		p[i].fd = n->rings[i].call_fd;
	}
	echo(5);
	rig_ok(net_drain_tx(n, 0, WAIT_MS), n->why);
	for (uint16_t i = 0; i < 2; i++)
		ring_want_calls(&n->rings[i], true);
	ck_assert_int_eq(poll(p, 2, 60), 0);
	echo(1);
	await_call(0);
	await_call(1);
	close_device();
}
END_TEST

/* It was wanted when the first chain was published, and is not when it is due. */
START_TEST(test_call_that_is_not_wanted_any_more_is_not_made)
{
	struct pollfd p = { .events = POLLIN };
	int i = 0;

	open_device(_i);
	p.fd = n->rings[0].call_fd;
	for (; i < TRIES; i++) {
		double begin;

		set_both(0, 0);
		set_both(1000, 100000);
		want_calls();
		begin = now_ms();
		echo(1);
		/* by position the driver says where it is, else that it wants none */
		ring_want_calls(&n->rings[0], _i & 2);
		if (now_ms() - begin < 100)
			break;
	}
	ck_assert_int_lt(i, TRIES);
	await_call(1); /* of the other ring, which came second */
	ck_assert_int_eq(poll(&p, 1, 60), 0);
	close_device();
}
END_TEST

/* How often the worker has slept. */
static unsigned long sleeps(void)
{
	char path[64], line[128];
	glob_t tasks;
	unsigned long sum = 0, one;

	snprintf(path, sizeof(path), "/proc/%d/task/*/status", suite_pid(&rig, "net", "net0"));
	ck_assert_int_eq(glob(path, 0, NULL, &tasks), 0);
	for (size_t i = 0; i < tasks.gl_pathc; i++) {
		FILE *f = fopen(tasks.gl_pathv[i], "re");

		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &one) == 1)
				sum += one;
		if (f)
			fclose(f);
	}
	globfree(&tasks);
	return sum;
}

START_TEST(test_nothing_ticks_while_nothing_is_owed)
{
	unsigned long before;

	open_device(_i);
	set_both(1000, 500);
	for (int i = 0; i < 2; i++) {
		want_calls();
		if (i)
			for (uint16_t k = 0; k < 2; k++)
				ring_want_calls(&n->rings[k], false);
		echo(3);
		if (!i) {
			await_call(0);
			await_call(1);
		}
		before = sleeps();
		poll(NULL, 0, 100);
		ck_assert_uint_lt(sleeps() - before, 20);
	}
	close_device();
}
END_TEST

/* --- What happens meanwhile --- */

/* Calls that are held back for as long as possible come at once. */
static void expect_calls_by(void (*act)(void))
{
	for (int i = 0; i < TRIES; i++) {
		double begin;

		set_both(0, 0);
		set_both(1000, EVER);
		want_calls();
		begin = now_ms();
		echo(10);
		act();
		await_call(0);
		await_call(1);
		if (now_ms() - begin < LONGEST_MS)
			return;
	}
	ck_abort_msg("the calls came too late, or this machine is too slow");
}

static void take_back(void)
{
	set_both(0, 0);
}

static void ask_for_less(void)
{
	set_both(8, EVER);
}

static void kill_worker(void)
{
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
}

static void stop_and_start(void)
{
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(net_stop_ring(n, i), n->why);
		ck_assert_uint_ge(ring_drain_calls(&n->rings[i]), 1);
		rig_ok(net_start_ring(n, i), n->why);
		rig_ok(net_enable(n, i, true), n->why);
	}
}

START_TEST(test_change_brings_what_is_owed)
{
	open_device(_i);
	expect_calls_by(take_back);
	expect_calls_by(ask_for_less);
	close_device();
}
END_TEST

START_TEST(test_ring_that_stops_brings_what_is_owed)
{
	open_device(_i);
	expect_calls_by(stop_and_start);
	expect_ring(0, 1000, EVER);
	expect_calls_after(16);
	close_device();
}
END_TEST

START_TEST(test_driver_without_buffers_is_called)
{
	uint8_t frame[FRAME_BYTES];
	struct net_profile p = profile(_i, COALESCE);
	double begin;
	int i = 0;

	p.rx_segs = 2; /* fewer buffers than the ring has entries */
	control_open(&p);
	for (; i < TRIES; i++) {
		unsigned int n_posted = ring_in_flight(&n->rings[0]);

		set_both(0, 0);
		set_kind(RX_SET, EVER, EVER);
		want_calls();
		begin = now_ms();
		for (unsigned int k = 0; k <= n_posted; k++) {
			net_frame_make(frame, sizeof(frame), k);
			rig_ok(net_send(n, 0, frame, sizeof(frame)), n->why);
		}
		await_call(0);
		for (unsigned int k = 0; k <= n_posted; k++)
			take_frame();
		if (now_ms() - begin < LONGEST_MS)
			break;
	}
	ck_assert_int_lt(i, TRIES);
	close_device();
}
END_TEST

/* --- Whose setting counts --- */

/* The example of the specification. */
/* uses: net:VQ_NOTF_COAL */
START_TEST(test_last_command_counts_for_each_ring)
{
	struct net_profile p = profile(_i, COALESCE | VU_BIT(VU_NET_F_MQ));

	p.n_pairs = 2;
	control_open(&p);
	for (uint16_t i = 0; i < 4; i++)
		expect_ring(i, 0, 0);
	set_kind(RX_SET, 10, 1);
	set_ring(CTRL_OK, 0, 20, 2);
	expect_ring(0, 20, 2);
	expect_ring(2, 10, 1);
	set_ring(CTRL_OK, 1, 30, 3);
	expect_ring(3, 0, 0);
	set_kind(TX_SET, 40, 4);
	expect_ring(1, 40, 4);
	expect_ring(3, 40, 4);
	expect_ring(0, 20, 2);
	close_device();
}
END_TEST

/* covers: G12 */
START_TEST(test_ring_that_is_not_one_of_frames_is_refused)
{
	struct net_profile p = profile(_i, COALESCE | VU_BIT(VU_NET_F_MQ));
	static const uint16_t wrong[] = { 4, 5, 127, 128, 0x7fff, 0xffff };

	p.n_pairs = 2;
	control_open(&p);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		set_ring(CTRL_ERR, wrong[i], 1, 1);
		expect_none(wrong[i]);
	}
	rig_ok(net_enable(n, 3, false), n->why);
	set_ring(CTRL_ERR, 3, 1, 1);
	rig_ok(net_enable(n, 3, true), n->why);
	set_ring(CTRL_OK, 3, 1, 1);
	rig_ok(net_stop_ring(n, 2), n->why);
	expect_none(2);
	control_close();
	p = profile(_i, COALESCE);
	control_open(&p); /* without MQ there is one pair, and the third ring is this one */
	set_ring(CTRL_ERR, 2, 1, 1);
	expect_none(3);
	close_device();
}
END_TEST

/* What was held back for a ring of frames is not for the control ring, when it has that number. */
START_TEST(test_ring_that_becomes_the_control_ring_is_called_at_once)
{
	struct net_profile p = profile(_i, COALESCE | VU_BIT(VU_NET_F_MQ));

	p.n_pairs = 2;
	control_open(&p);
	set_both(1000, EVER);
	rig_ok(vu_set_features(&n->c, n->c.acked & ~VU_BIT(VU_NET_F_MQ)), n->c.why);
	close_device();
	p = profile(_i, COALESCE);
	control_open(&p);
	for (int i = 0; i < 3; i++)
		expect_ring(0, 0, 0);
	close_device();
}
END_TEST

/* covers: G12 */
START_TEST(test_command_that_is_wrong_changes_no_setting)
{
	uint8_t bytes[16] = { 0 }, head[2] = { CTRL_NOTF_COAL, VQ_GET };
	struct control_piece get[2] = { { head, 2 }, { bytes, 4 } };
	struct net_profile p = profile(_i, COALESCE);

	open_device(_i);
	set_both(7, 70);
	for (uint32_t n_bytes = 0; n_bytes <= sizeof(bytes); n_bytes++) {
		if (n_bytes != 8) {
			control_expect(CTRL_ERR, CTRL_NOTF_COAL, TX_SET, bytes, n_bytes);
			control_expect(CTRL_ERR, CTRL_NOTF_COAL, RX_SET, bytes, n_bytes);
		}
		if (n_bytes != 12)
			control_expect(CTRL_ERR, CTRL_NOTF_COAL, VQ_SET, bytes, n_bytes);
		control_expect(CTRL_ERR, CTRL_NOTF_COAL, 4, bytes, n_bytes);
	}
	for (uint32_t n_in = 1; n_in <= sizeof(struct coalesce); n_in++)
		ck_assert_uint_eq(control_chain(get, 2, n_in), CTRL_ERR);
	get[1].n_bytes = 12;
	ck_assert_uint_eq(control_chain(get, 2, 1), CTRL_ERR);
	expect_ring(0, 7, 70);
	expect_ring(1, 7, 70);
	control_close();
	for (int i = 0; i < 2; i++) { /* each of the two features alone */
		p.features &= ~COALESCE;
		p.features |= VU_BIT(i ? NET_F_NOTF_COAL : NET_F_VQ_NOTF_COAL);
		control_open(&p);
		control_expect(i ? CTRL_OK : CTRL_ERR, CTRL_NOTF_COAL, TX_SET, bytes, 8);
		control_expect(i ? CTRL_ERR : CTRL_OK, CTRL_NOTF_COAL, VQ_SET, bytes, 12);
		control_close();
	}
}
END_TEST

START_TEST(test_reset_takes_the_settings_back)
{
	open_device(_i);
	set_both(7, 70);
	set_ring(CTRL_OK, 0, 8, 80);
	rig_ok(vu_set(&n->c, VU_RESET_DEVICE, NULL, 0, -1), n->c.why);
	control_close();
	open_device(_i);
	expect_ring(0, 0, 0);
	expect_ring(1, 0, 0);
	close_device();
}
END_TEST

/* --- A worker that dies --- */

START_TEST(test_next_worker_calls_at_once_and_goes_on)
{
	open_device(_i);
	expect_calls_by(kill_worker);
	expect_ring(0, 1000, EVER);
	expect_ring(1, 1000, EVER);
	set_ring(CTRL_OK, 0, 16, EVER);
	kill_worker();
	expect_ring(0, 16, EVER);
	expect_ring(1, 1000, EVER);
	expect_calls_after(16);
	close_device();
}
END_TEST

/* --- All --- */

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "coalesce");

	tcase_add_loop_test(tc, test_calls_come_after_so_many_chains, 0, 4);
	tcase_add_loop_test(tc, test_call_comes_when_its_time_is_over, 2, 4);
	tcase_add_loop_test(tc, test_one_number_alone_holds_nothing_back, 0, 1);
	tcase_add_loop_test(tc, test_time_has_a_limit, 0, 1);
	tcase_add_loop_test(tc, test_call_that_is_not_wanted_is_not_owed, 0, 4);
	tcase_add_loop_test(tc, test_call_that_is_not_wanted_any_more_is_not_made, 2, 4);
	tcase_add_loop_test(tc, test_nothing_ticks_while_nothing_is_owed, 1, 2);
	tcase_add_loop_test(tc, test_change_brings_what_is_owed, 3, 4);
	tcase_add_loop_test(tc, test_ring_that_stops_brings_what_is_owed, 2, 4);
	tcase_add_loop_test(tc, test_driver_without_buffers_is_called, 2, 4);
	tcase_add_loop_test(tc, test_last_command_counts_for_each_ring, 0, 1);
	tcase_add_loop_test(tc, test_ring_that_is_not_one_of_frames_is_refused, 0, 1);
	tcase_add_loop_test(tc, test_ring_that_becomes_the_control_ring_is_called_at_once, 0, 2);
	tcase_add_loop_test(tc, test_command_that_is_wrong_changes_no_setting, 1, 2);
	tcase_add_loop_test(tc, test_reset_takes_the_settings_back, 0, 1);
	tc = rig_kills_case(suite);
	tcase_add_loop_test(tc, test_next_worker_calls_at_once_and_goes_on, 2, 4);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("coalesce", &net0, add);
}
