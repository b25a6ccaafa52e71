/*
 * What a driver has set by the control ring leaves one session with the device's state, and enters
 * the next one: a VMM that connects resets the device, so nothing of it is there but for the state.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "transfer.h"

#define FILTERS                                                                                    \
	(VU_BIT(NET_F_NOTF_COAL) | VU_BIT(NET_F_VQ_NOTF_COAL) | VU_BIT(NET_F_CTRL_RX) |            \
		VU_BIT(NET_F_CTRL_RX_EXTRA) | VU_BIT(NET_F_CTRL_VLAN) |                            \
		VU_BIT(NET_F_CTRL_MAC_ADDR))
#define OFFLOADS (VU_BIT(VU_NET_F_GUEST_CSUM) | VU_BIT(NET_F_GUEST_TSO4))

static struct net *const n = &control_net;
static uint8_t state[VU_STATE_MAX];
static size_t n_state;

static struct net_profile profile(int i)
{
	struct net_profile p = control_layout(i,
		FILTERS | OFFLOADS | VU_BIT(NET_F_CTRL_GUEST_OFFLOADS) |
			VU_BIT(VU_NET_F_MRG_RXBUF));

	p.protocol = VU_BIT(VU_PF_DEVICE_STATE) | VU_BIT(VU_PF_CONFIG);
	return p;
}

/* One address besides the driver's new one, one group, one VLAN, no offloads. */
static void set_everything(void)
{
	struct control_table t = { .n_bytes = 0 };
	uint16_t vlan = 7;
	uint64_t none = 0;
	uint32_t coalesce[2] = { 12, 3456 };

	control_expect(CTRL_OK, CTRL_NOTF_COAL, 0, coalesce, sizeof(coalesce));
	control_set_promisc(0);
	control_add_macs(&t, mac_other, 1);
	control_add_macs(&t, mac_group, 1);
	control_expect(CTRL_OK, CTRL_MAC, 0, t.bytes, t.n_bytes);
	control_expect(CTRL_OK, CTRL_VLAN, 0, &vlan, 2);
	control_expect(CTRL_OK, CTRL_MAC, 1, mac_third, 6);
	control_expect(CTRL_OK, CTRL_OFFLOADS, 0, &none, 8);
}

/* Of the transmit rings, not of the receive rings. */
static bool coalescing_is_set(void)
{
	uint32_t got[2];

	for (uint16_t i = 0; i < 2; i++) {
		uint16_t index[2] = { i, 0 };

		ck_assert_uint_eq(control_ask(CTRL_NOTF_COAL, 3, index, 4, got, sizeof(got)),
			CTRL_OK);
		if (got[0] != (i ? 12 : 0) || got[1] != (i ? 3456 : 0))
			return false;
	}
	return true;
}

static bool everything_is_set(void)
{
	return coalescing_is_set() && control_passes(mac_other, VLAN_NONE, mac_broadcast) &&
		control_passes(mac_group, 7, mac_broadcast) &&
		control_passes(mac_third, VLAN_NONE, mac_broadcast) &&
		!control_passes(mac_own, VLAN_NONE, mac_broadcast) &&
		!control_passes(mac_other, 8, mac_broadcast) &&
		!control_passes(mac_group2, VLAN_NONE, mac_broadcast);
}

static void save(int i)
{
	struct net_profile p = profile(i);

	control_open(&p);
	set_everything();
	ck_assert(everything_is_set());
	control_stop();
	rig_ok(vu_save_state(&n->c, state, &n_state), n->c.why);
}

START_TEST(test_settings_are_in_force_after_a_load)
{
	save(_i);
	control_negotiate_anew();
	rig_ok(vu_load_state(&n->c, state, n_state), n->c.why);
	control_wake();
	ck_assert(everything_is_set());
	control_await_config(0, mac_third, 6);
	control_set_promisc(1);
	ck_assert(control_passes(mac_own, VLAN_NONE, mac_broadcast));
	control_stop();
	control_close();
}
END_TEST

START_TEST(test_without_a_load_they_are_not)
{
	save(_i);
	control_negotiate_anew();
	control_wake();
	ck_assert(control_passes(mac_own, VLAN_NONE, mac_broadcast));
	control_stop();
	control_close();
}
END_TEST

START_TEST(test_worker_killed_after_the_load_has_them)
{
	save(_i);
	control_negotiate_anew();
	rig_ok(vu_load_state(&n->c, state, n_state), n->c.why);
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	control_wake();
	ck_assert(everything_is_set());
	control_stop();
	control_close();
}
END_TEST

/* crosvm sets features before it loads, QEMU loads before it sets any. */
START_TEST(test_load_before_features_are_set)
{
	save(_i);
	control_connect_anew();
	rig_ok(vu_hello(&n->c, VU_BIT(VU_PF_DEVICE_STATE) | VU_BIT(VU_PF_CONFIG)), n->c.why);
	rig_ok(vu_load_state(&n->c, state, n_state), n->c.why);
	rig_ok(vu_set_features(&n->c, n->p.features), n->c.why);
	control_wake();
	ck_assert(everything_is_set());
	control_stop();
	control_close();
}
END_TEST

/* --- Where the guest is now --- */

static void send_from(const uint8_t *mac)
{
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x88, 0xb5 };
	uint8_t got[NET_FRAME_MAX];

	memcpy(frame + 6, mac, 6);
	rig_ok(net_send(n, 0, frame, sizeof(frame)), n->why);
	ck_assert_uint_eq(wire_recv(got, sizeof(got)), sizeof(frame));
	ck_assert_mem_eq(got + 6, mac, 6);
	rig_ok(net_drain_tx(n, 0, 5000), n->why);
}

/* A VMM that stops a device resets it, too. */
static void save_after_sending(int i)
{
	struct net_profile p = profile(i);

	p.protocol |= VU_BIT(VU_PF_STATUS);
	control_open(&p);
	send_from(mac_third);
	send_from(mac_other);
	control_stop();
	rig_ok(vu_set_u64(&n->c, VU_SET_STATUS, 0), n->c.why);
	rig_ok(vu_save_state(&n->c, state, &n_state), n->c.why);
	control_negotiate_anew();
}

/* The network learns of it when the state is there, and what is sent to the guest waits then. */
static void load_after_sending(int i)
{
	save_after_sending(i);
	rig_ok(vu_load_state(&n->c, state, n_state), n->c.why);
	wire_expect_rarp(mac_other);
}

/* And with the first ring, before the driver speaks, and once: what comes next is the driver's. */
START_TEST(test_address_is_announced_when_the_driver_goes_on)
{
	load_after_sending(_i);
	control_wake();
	wire_expect_rarp(mac_other);
	send_from(mac_other);
	control_stop();
	control_wake();
	send_from(mac_other);
	control_close();
}
END_TEST

START_TEST(test_worker_killed_after_the_load_announces_it)
{
	load_after_sending(_i);
	rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	control_wake();
	wire_expect_rarp(mac_other);
	send_from(mac_other);
	control_close();
}
END_TEST

/* A migration that fails: the other host may have announced it. */
START_TEST(test_driver_that_goes_on_after_a_save_is_announced)
{
	struct net_profile p = profile(_i);

	control_open(&p);
	send_from(mac_other);
	control_stop();
	rig_ok(vu_save_state(&n->c, state, &n_state), n->c.why);
	control_wake();
	wire_expect_rarp(mac_other);
	send_from(mac_other);
	control_close();
}
END_TEST

START_TEST(test_another_session_announces_nothing)
{
	load_after_sending(_i);
	control_negotiate_anew();
	control_wake();
	send_from(mac_third);
	control_close();
}
END_TEST

/* A save changes nothing: the device goes on. */
START_TEST(test_device_goes_on_after_a_save)
{
	save(_i);
	for (uint16_t i = 0; i < n->n_rings; i++)
		rig_ok(net_start_ring(n, i), n->why);
	ck_assert(everything_is_set());
	control_stop();
	control_close();
}
END_TEST

static double ms_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) * 1e3 +
		(double)(now.tv_nsec - from->tv_nsec) / 1e6;
}

START_TEST(test_time_of_save_and_load_is_printed)
{
	double saved = 1e9, loaded = 1e9;

	save(_i);
	for (int i = 0; i < 10; i++) {
		struct timespec from;
		double ms;

		clock_gettime(CLOCK_MONOTONIC, &from);
		rig_ok(vu_save_state(&n->c, state, &n_state), n->c.why);
		ms = ms_since(&from);
		saved = ms < saved ? ms : saved;
		clock_gettime(CLOCK_MONOTONIC, &from);
		rig_ok(vu_load_state(&n->c, state, n_state), n->c.why);
		ms = ms_since(&from);
		loaded = ms < loaded ? ms : loaded;
	}
	fprintf(stderr, "# a net device of %zu bytes: saved in %.2f ms, loaded in %.2f ms\n",
		n_state, saved, loaded);
	control_close();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "state");

	tcase_add_checked_fixture(tc, wire_open, wire_close);
	tcase_add_loop_test(tc, test_settings_are_in_force_after_a_load, 0, 2);
	tcase_add_loop_test(tc, test_without_a_load_they_are_not, 0, 2);
	tcase_add_loop_test(tc, test_load_before_features_are_set, 0, 2);
	tcase_add_loop_test(tc, test_device_goes_on_after_a_save, 0, 2);
	tcase_add_loop_test(tc, test_address_is_announced_when_the_driver_goes_on, 0, 2);
	tcase_add_loop_test(tc, test_driver_that_goes_on_after_a_save_is_announced, 0, 2);
	tcase_add_loop_test(tc, test_another_session_announces_nothing, 0, 2);
	tcase_add_test(tc, test_time_of_save_and_load_is_printed);
	tc = rig_kills_case(suite);
	tcase_add_checked_fixture(tc, wire_open, wire_close);
	tcase_add_loop_test(tc, test_worker_killed_after_the_load_has_them, 0, 2);
	tcase_add_loop_test(tc, test_worker_killed_after_the_load_announces_it, 0, 2);
}

int main(void)
{
	struct suite_device net0 = {
		.backend = "tap", .tap = CONTROL_TAP, .queue_pairs = 2, .mac = "52:54:00:12:34:01"
	};

	return control_main("state", &net0, add);
}
