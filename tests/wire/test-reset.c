/*
 * The device is reset under its rings, by each message that can: RESET_DEVICE, SET_STATUS 0 and, as
 * far as it may still do anything, RESET_OWNER. What the VMM has handed over stays: it says none of
 * that again.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define STATUS_DRIVER_OK 0xf

static struct net n;

/* _i: bit 0: packed rings; bit 1: nothing is acknowledged */
static struct net_profile layout(int i)
{
	return (struct net_profile){ .features = i & 1 ? VU_BIT(VU_F_PACKED) : 0,
		.protocol =
			VU_BIT(VU_PF_RESET_DEVICE) | VU_BIT(VU_PF_STATUS) | VU_BIT(VU_PF_MEM_SLOTS),
		.no_ack = i & 2 };
}

static void open_running(int i)
{
	struct net_profile p = layout(i);

	rig_open(&n, &p);
	ck_assert(n.c.acked_protocol & VU_BIT(VU_PF_RESET_DEVICE));
	rig_ok(vu_set_u64(&n.c, VU_SET_STATUS, STATUS_DRIVER_OK), n.c.why);
	rig_ok(net_pump(&n, 0, 77, 200), n.why);
}

static void say_reset(void)
{
	rig_ok(vu_set(&n.c, VU_RESET_DEVICE, NULL, 0, -1), n.c.why);
}

static void say_status_0(void)
{
	rig_ok(vu_set_u64(&n.c, VU_SET_STATUS, 0), n.c.why);
}

static uint64_t status(void)
{
	uint64_t value;

	rig_ok(vu_get_u64(&n.c, VU_GET_STATUS, &value), n.c.why);
	return value;
}

/* Nothing of memory, owner, features, call or err is said again; nor, unless it is to, where a ring
 * begins. */
static void set_up_again(bool with_base)
{
	n.p.base = n.p.features & VU_BIT(VU_F_PACKED) ? 0x8000 : 0;
	for (uint16_t i = 0; i < n.n_rings; i++) {
		int call_fd = n.rings[i].call_fd, err_fd = n.rings[i].err_fd;
		struct ring *r = &n.rings[i];
		struct vu_addr addr;

		r->call_fd = r->err_fd = -1;
		rig_ok(net_renew_ring(&n, i), n.why);
		ck_assert_int_ge(dup2(call_fd, r->call_fd), 0);
		ck_assert_int_ge(dup2(err_fd, r->err_fd), 0);
		close(call_fd);
		close(err_fd);
		ring_addr(r, &addr);
		rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
		if (with_base)
			rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, i, ring_base(r)), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, i, r->kick_fd), n.c.why);
	}
	n.n_sent[0] = n.n_received[0] = 0;
}

static void enable_all(void)
{
	bool ack = n.c.ack;

	n.c.ack = true;
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_enable(&n, i, true), n.why);
	n.c.ack = ack;
	rig_ok(net_fill(&n, 0), n.why);
}

static void finish(void)
{
	enable_all();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_stop_rings(&n);
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}

/* What the driver posts is taken by nobody, and was left by whoever had the ring. */
static void check_nothing_is_served(void)
{
	uint8_t frame[100];

	net_frame_make(frame, sizeof(frame), 1);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	ck_assert_int_eq(ring_poll(&n.rings[1], 100), -ETIMEDOUT);
}

/* --- RESET_DEVICE --- */

/* uses: protocol:RESET_DEVICE */
START_TEST(test_reset_stops_all_rings_and_begins_anew)
{
	uint32_t base;

	open_running(_i);
	say_reset();
	ck_assert_uint_eq(status(), 0);
	check_nothing_is_served();
	for (uint16_t i = 0; i < n.n_rings; i++) {
		rig_ok(vu_get_vring_base(&n.c, i, &base), n.c.why);
		ck_assert_uint_eq(base, _i & 1 ? 0x80008000 : 0);
	}
	/* each is disabled as well: started, it drops what the driver sends */
	set_up_again(_i & 4);
	finish();
}
END_TEST

START_TEST(test_rings_are_disabled_by_a_reset)
{
	uint8_t frame[100], back[NET_FRAME_MAX];
	uint32_t n_bytes;

	open_running(_i);
	say_reset();
	set_up_again(true);
	rig_ok(net_fill(&n, 0), n.why);
	net_frame_make(frame, sizeof(frame), 1);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	rig_ok(net_drain_tx(&n, 0, test_ms(5000)), n.why);
	ck_assert_int_lt(net_recv(&n, 0, back, &n_bytes, 50), 0);
	net_close(&n);
}
END_TEST

START_TEST(test_reset_may_be_repeated_and_come_at_any_time)
{
	struct net_profile p = layout(_i);

	rig_open_stopped(&n, &p);
	say_reset();
	say_reset();
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_start_ring(&n, i), n.why);
	enable_all();
	for (int round = 0; round < 10; round++) {
		rig_ok(net_pump(&n, 0, 20, 200), n.why);
		say_reset();
		if (round & 1)
			say_reset();
		set_up_again(round & 2);
		enable_all();
	}
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

START_TEST(test_reset_that_is_wrong_leaves_rings_running)
{
	struct net_profile p = { .protocol = _i ? VU_BIT(VU_PF_RESET_DEVICE) : 0 };
	uint64_t payload = 0;

	rig_open(&n, &p);
	if (_i) {
		ck_assert_int_eq(vu_set(&n.c, VU_RESET_DEVICE, &payload, sizeof(payload), -1),
			VU_E_REFUSED);
		ck_assert_int_eq(vu_set(&n.c, VU_RESET_DEVICE, NULL, 0, n.rings[0].call_fd),
			VU_E_REFUSED);
	} else { /* not negotiated */
		ck_assert_int_eq(vu_set(&n.c, VU_RESET_DEVICE, NULL, 0, -1), VU_E_REFUSED);
	}
	rig_finish(&n);
}
END_TEST

/* --- SET_STATUS --- */

/* Where a ring stood is still known: some VMMs reset the device before they ask. */
START_TEST(test_status_0_stops_rings_where_they_stand)
{
	open_running(_i);
	ck_assert_uint_eq(status(), STATUS_DRIVER_OK);
	say_status_0();
	ck_assert_uint_eq(status(), 0);
	check_nothing_is_served();
	rig_stop_rings(&n);
	set_up_again(true);
	finish();
}
END_TEST

START_TEST(test_status_0_that_is_no_reset_changes_nothing)
{
	struct net_profile p = layout(_i);

	rig_open(&n, &p);
	say_status_0();
	rig_ok(net_pump(&n, 0, 77, 200), n.why);
	ck_assert_int_eq(vu_set_u64(&n.c, VU_SET_STATUS, 0x100), VU_E_REFUSED);
	rig_finish(&n);
}
END_TEST

/* --- RESET_OWNER --- */

START_TEST(test_reset_owner_disables_rings_and_takes_nothing)
{
	uint8_t frame[100];

	open_running(_i);
	rig_ok(vu_set(&n.c, VU_RESET_OWNER, NULL, 0, -1), n.c.why);
	ck_assert_uint_eq(status(), STATUS_DRIVER_OK);
	net_frame_make(frame, sizeof(frame), 1);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	rig_ok(net_drain_tx(&n, 0, test_ms(5000)), n.why);
	n.n_sent[0] = n.n_received[0];
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_enable(&n, i, true), n.why);
	rig_finish(&n);
}
END_TEST

/* --- Deaths --- */

static void kill_one(unsigned int which)
{
	static const char *const roles[] = { "frontend", "memory" };

	rig_ok(which < 2 ? suite_kill(&rig, roles[which]) : suite_kill_worker(&rig, "net0"),
		rig.why);
}

/* Somebody dies before the reset, or after it, or right when it was sent. */
START_TEST(test_reset_is_made_once_whoever_dies)
{
	struct vu_header head = { VU_RESET_DEVICE, VU_VERSION | VU_NEED_REPLY, 0 };

	open_running(_i);
	n.c.timeout_ms = test_ms(30000);
	for (unsigned int round = 0; round < 9; round++) {
		if (round / 3 == 0)
			kill_one(round % 3);
		rig_ok(vu_send(&n.c, &head, NULL, NULL, 0), n.c.why);
		if (round / 3 == 1)
			kill_one(round % 3);
		rig_ok(vu_recv_ack(&n.c, VU_RESET_DEVICE), n.c.why);
		if (round / 3 == 2)
			kill_one(round % 3);
		set_up_again(round & 1);
		enable_all();
		rig_ok(net_pump(&n, 0, 50, 200), n.why);
	}
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}
END_TEST

START_TEST(test_status_0_counts_whoever_dies)
{
	open_running(_i);
	n.c.timeout_ms = test_ms(30000);
	for (unsigned int round = 0; round < 3; round++) {
		say_status_0();
		kill_one(round);
		rig_stop_rings(&n);
		set_up_again(true);
		rig_ok(vu_set_u64(&n.c, VU_SET_STATUS, STATUS_DRIVER_OK), n.c.why);
		enable_all();
		rig_ok(net_pump(&n, 0, 50, 200), n.why);
	}
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "reset"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_reset_stops_all_rings_and_begins_anew, 0, 8);
	tcase_add_loop_test(tc, test_rings_are_disabled_by_a_reset, 0, 2);
	tcase_add_loop_test(tc, test_reset_may_be_repeated_and_come_at_any_time, 0, 4);
	tcase_add_loop_test(tc, test_reset_that_is_wrong_leaves_rings_running, 0, 2);
	tcase_add_loop_test(tc, test_status_0_stops_rings_where_they_stand, 0, 4);
	tcase_add_loop_test(tc, test_status_0_that_is_no_reset_changes_nothing, 0, 2);
	tcase_add_loop_test(tc, test_reset_owner_disables_rings_and_takes_nothing, 0, 2);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_reset_is_made_once_whoever_dies, 0, 2);
	tcase_add_loop_test(deaths, test_status_0_counts_whoever_dies, 0, 2);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("reset", &net0, add);
}
