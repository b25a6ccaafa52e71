/*
 * The control ring as a driver uses it, and abuses it: what it receives. What a setting does is
 * shown by frames from the network.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control.h"

#define OWN_MAC_TEXT "52:54:00:12:34:01"

enum {
	PROMISC = 1 << 0,
	ALLMULTI = 1 << 1,
	ALLUNI = 1 << 2,
	NOMULTI = 1 << 3,
	NOUNI = 1 << 4,
	NOBCAST = 1 << 5,
	N_MODES = 6,
};

#define FILTERS (VU_BIT(NET_F_CTRL_RX) | VU_BIT(NET_F_CTRL_RX_EXTRA))

static void set_modes(unsigned int modes)
{
	for (unsigned int i = 0; i < N_MODES; i++) {
		uint8_t on = modes >> i & 1;

		control_expect(CTRL_OK, CTRL_RX, (uint8_t)i, &on, 1);
	}
}

/* --- Receive modes --- */

static const struct mode_row {
	unsigned int modes;
	const uint8_t *to;
	bool passes;
} mode_rows[] = {
	{ 0, mac_own, true },
	{ 0, mac_other, false },
	{ 0, mac_group, false },
	{ 0, mac_broadcast, true },
	{ PROMISC, mac_other, true },
	{ PROMISC, mac_group, true },
	{ ALLMULTI, mac_group, true },
	{ ALLMULTI, mac_other, false },
	{ ALLUNI, mac_other, true },
	{ ALLUNI, mac_group, false },
	{ NOMULTI, mac_group, false },
	{ NOMULTI | ALLMULTI, mac_group, false },
	{ NOMULTI, mac_own, true },
	{ NOMULTI, mac_broadcast, true },
	{ NOUNI, mac_own, false },
	{ NOUNI | ALLUNI, mac_other, false },
	{ NOUNI | ALLMULTI, mac_group, true },
	{ NOUNI, mac_broadcast, true },
	{ NOBCAST, mac_broadcast, false },
	{ NOBCAST, mac_own, true },
	{ NOBCAST | ALLMULTI, mac_broadcast, false },
};

/* uses: net:CTRL_VQ net:CTRL_RX net:CTRL_RX_EXTRA */
START_TEST(test_each_mode_lets_its_frames_in)
{
	struct net_profile p = control_layout(_i, FILTERS);

	control_open(&p);
	for (size_t i = 0; i < sizeof(mode_rows) / sizeof(mode_rows[0]); i++) {
		const struct mode_row *row = &mode_rows[i];

		set_modes(row->modes);
		ck_assert_msg(control_passes(row->to, VLAN_NONE,
				      row->modes & NOBCAST ? mac_own : mac_broadcast) ==
				row->passes,
			"row %zu", i);
	}
	control_stop();
	control_close();
}
END_TEST

START_TEST(test_driver_that_says_nothing_hears_everything)
{
	struct net_profile p = control_layout(_i, FILTERS);

	control_open(&p);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_group, VLAN_NONE, mac_broadcast));
	set_modes(0);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
	/* and the next one too */
	control_open(&p);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* covers: G12 */
START_TEST(test_mode_that_was_not_negotiated_is_refused)
{
	struct net_profile p = control_layout(0, VU_BIT(NET_F_CTRL_RX));
	uint8_t on = 1, off = 0;

	control_open(&p);
	for (unsigned int i = 2; i < N_MODES; i++)
		control_expect(CTRL_ERR, CTRL_RX, (uint8_t)i, &on, 1);
	control_expect(CTRL_OK, CTRL_RX, 0, &off, 1);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_expect(CTRL_OK, CTRL_RX, 1, &on, 1);
	ck_assert(control_passes(mac_group, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* --- Addresses --- */

static void add_made_up(struct control_table *t, uint32_t count, uint8_t first)
{
	memcpy(t->bytes + t->n_bytes, &count, 4);
	t->n_bytes += 4;
	for (uint32_t i = 0; i < count; i++, t->n_bytes += 6) {
		const uint8_t mac[6] = { first, 0, 0, 7, (uint8_t)(i >> 8), (uint8_t)i };

		memcpy(t->bytes + t->n_bytes, mac, 6);
	}
}

static void set_table(uint8_t want, const struct control_table *t)
{
	control_expect(want, CTRL_MAC, 0, t->bytes, t->n_bytes);
}

START_TEST(test_address_table_lets_in_who_is_listed)
{
	struct net_profile p = control_layout(_i, FILTERS);
	struct control_table t = { .n_bytes = 0 };
	uint8_t two[12];

	control_open(&p);
	control_set_promisc(0);
	memcpy(two, mac_third, 6);
	memcpy(two + 6, mac_other, 6);
	control_add_macs(&t, two, 2);
	control_add_macs(&t, mac_group, 1);
	set_table(CTRL_OK, &t);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_third, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_own, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_group, VLAN_NONE, mac_broadcast));
	ck_assert(!control_passes(mac_group2, VLAN_NONE, mac_broadcast));
	t.n_bytes = 0;
	control_add_macs(&t, NULL, 0);
	control_add_macs(&t, NULL, 0);
	set_table(CTRL_OK, &t);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(!control_passes(mac_group, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_own, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* More than the device has room for: rather a frame too many than one too few, of that kind
 * alone. */
/* covers: G12 */
START_TEST(test_long_table_lets_its_kind_in)
{
	struct net_profile p = control_layout(_i, FILTERS);
	struct control_table t = { .n_bytes = 0 };

	control_open(&p);
	control_set_promisc(0);
	add_made_up(&t, 600, 2);
	control_add_macs(&t, mac_group, 1);
	set_table(CTRL_OK, &t);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_group, VLAN_NONE, mac_broadcast));
	ck_assert(!control_passes(mac_group2, VLAN_NONE, mac_broadcast));
	t.n_bytes = 0;
	control_add_macs(&t, mac_third, 1);
	add_made_up(&t, 600, 3);
	set_table(CTRL_OK, &t);
	ck_assert(!control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_third, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_group2, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* covers: G12 */
START_TEST(test_table_that_lies_changes_nothing)
{
	struct net_profile p = control_layout(_i, FILTERS);
	static const uint32_t lies[] = { 2, 3, 0x2aaaaaab, 0x80000000, 0xffffffff };
	struct control_table t = { .n_bytes = 0 };

	control_open(&p);
	control_set_promisc(0);
	control_add_macs(&t, mac_other, 1);
	control_add_macs(&t, mac_group, 1);
	set_table(CTRL_OK, &t);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		t.n_bytes = 0;
		control_add_macs(&t, mac_third, 1);
		control_add_macs(&t, mac_group2, 1);
		memcpy(t.bytes + (i & 1 ? 10 : 0), &lies[i], 4);
		set_table(CTRL_ERR, &t);
	}
	t.n_bytes = 0;
	control_add_macs(&t, mac_third, 1);
	set_table(CTRL_ERR, &t); /* the second table is missing */
	control_add_macs(&t, mac_group2, 1);
	t.bytes[t.n_bytes++] = 0;
	set_table(CTRL_ERR, &t); /* one byte too many */
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(control_passes(mac_group, VLAN_NONE, mac_broadcast));
	ck_assert(!control_passes(mac_third, VLAN_NONE, mac_broadcast));
	ck_assert(!control_passes(mac_group2, VLAN_NONE, mac_broadcast));
	control_close();
}
END_TEST

/* uses: net:CTRL_MAC_ADDR protocol:CONFIG */
START_TEST(test_address_of_its_own_can_be_changed)
{
	struct net_profile p = control_layout(_i, FILTERS | VU_BIT(NET_F_CTRL_MAC_ADDR));

	p.protocol = VU_BIT(VU_PF_CONFIG);
	control_open(&p);
	control_set_promisc(0);
	control_expect(CTRL_OK, CTRL_MAC, 1, mac_other, 6);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	ck_assert(!control_passes(mac_own, VLAN_NONE, mac_broadcast));
	control_await_config(0, mac_other, 6);
	control_expect(CTRL_ERR, CTRL_MAC, 1, mac_group, 6);
	control_expect(CTRL_ERR, CTRL_MAC, 1, mac_third, 5);
	control_expect(CTRL_ERR, CTRL_MAC, 2, mac_third, 6);
	ck_assert(control_passes(mac_other, VLAN_NONE, mac_broadcast));
	control_close();
	/* it was that driver's */
	p.features &= ~VU_BIT(NET_F_CTRL_MAC_ADDR);
	control_open(&p);
	control_await_config(0, mac_own, 6);
	control_expect(CTRL_ERR, CTRL_MAC, 1, mac_other, 6);
	control_close();
}
END_TEST

/* Neither is its ring kicked, nor does it lack an answer. */
START_TEST(test_ring_without_a_kick_descriptor_is_polled)
{
	struct net_profile p = control_layout(_i, FILTERS);
	uint16_t index = 2;

	control_open(&p);
	for (int round = 0; round < 3; round++) {
		rig_ok(vu_set_vring_fd(&control_net.c, VU_SET_VRING_KICK, index, -1),
			control_net.c.why);
		control_set_promisc(0);
		control_set_promisc(1);
		rig_ok(vu_set_vring_fd(&control_net.c, VU_SET_VRING_KICK, index,
			       control_net.rings[index].kick_fd),
			control_net.c.why);
		control_set_promisc(0);
	}
	control_close();
}
END_TEST

/* What the driver has set is gone with it, while the VMM's session goes on. */
START_TEST(test_reset_takes_back_what_the_driver_has_set)
{
	struct net_profile p = control_layout(_i, FILTERS | VU_BIT(NET_F_CTRL_MAC_ADDR));

	p.protocol = VU_BIT(VU_PF_CONFIG) | VU_BIT(VU_PF_RESET_DEVICE);
	control_open(&p);
	control_set_promisc(0);
	control_expect(CTRL_OK, CTRL_MAC, 1, mac_other, 6);
	control_await_config(0, mac_other, 6);
	rig_ok(vu_set(&control_net.c, VU_RESET_DEVICE, NULL, 0, -1), control_net.c.why);
	control_await_config(0, mac_own, 6);
	control_close();
}
END_TEST

/* --- VLANs --- */

static void set_vlan(uint8_t want, uint8_t number, uint16_t vlan)
{
	control_expect(want, CTRL_VLAN, number, &vlan, sizeof(vlan));
}

/* uses: net:CTRL_VLAN */
START_TEST(test_tagged_frames_pass_where_their_vlan_was_added)
{
	struct net_profile p = control_layout(_i, VU_BIT(NET_F_CTRL_VLAN));
	static const uint16_t vlans[] = { 1, 31, 32, 100, 4094 };

	control_open(&p);
	ck_assert(control_passes(mac_own, 0, mac_broadcast)); /* a priority, and no VLAN */
	for (size_t i = 0; i < sizeof(vlans) / sizeof(vlans[0]); i++) {
		ck_assert(!control_passes(mac_own, vlans[i], mac_broadcast));
		set_vlan(CTRL_OK, 0, vlans[i]);
		ck_assert(control_passes(mac_own, vlans[i], mac_broadcast));
		ck_assert(!control_passes(mac_own, vlans[i] - 1 ? vlans[i] - 1 : 2, mac_broadcast));
		set_vlan(CTRL_OK, 1, vlans[i]);
		ck_assert(!control_passes(mac_own, vlans[i], mac_broadcast));
	}
	set_vlan(CTRL_ERR, 0, 4096);
	set_vlan(CTRL_ERR, 2, 5);
	control_expect(CTRL_ERR, CTRL_VLAN, 0, "\1", 1);
	control_expect(CTRL_ERR, CTRL_VLAN, 0, "\1\0\0\0", 4);
	ck_assert(!control_passes(mac_own, 1, mac_broadcast));
	control_close();
}
END_TEST

START_TEST(test_promiscuous_lets_every_vlan_in)
{
	struct net_profile p = control_layout(_i, FILTERS | VU_BIT(NET_F_CTRL_VLAN));

	control_open(&p);
	ck_assert(control_passes(mac_own, 7,
		mac_broadcast)); /* a driver that has said nothing yet */
	for (int round = 0; round < 2; round++) {
		control_set_promisc(0);
		ck_assert(!control_passes(mac_own, 7, mac_broadcast));
		set_vlan(CTRL_OK, 0, 8);
		ck_assert(control_passes(mac_own, 8, mac_broadcast));
		ck_assert(!control_passes(mac_other, 8, mac_broadcast));
		control_set_promisc(1);
		ck_assert(control_passes(mac_own, 7, mac_broadcast));
		ck_assert(control_passes(mac_other, 7, mac_broadcast));
		set_vlan(CTRL_OK, 1, 8);
	}
	control_close();
}
END_TEST

START_TEST(test_tags_are_the_drivers_where_vlans_were_not_negotiated)
{
	struct net_profile p = control_layout(0, FILTERS);

	control_open(&p);
	ck_assert(control_passes(mac_own, 77, mac_broadcast));
	set_vlan(CTRL_ERR, 0, 77);
	control_close();
}
END_TEST

/* --- All --- */

static void add_filters(Suite *suite)
{
	TCase *tc = rig_case(suite, "filters");

	tcase_add_checked_fixture(tc, wire_open, wire_close);
	tcase_add_loop_test(tc, test_each_mode_lets_its_frames_in, 0, 2);
	tcase_add_loop_test(tc, test_driver_that_says_nothing_hears_everything, 0, 2);
	tcase_add_test(tc, test_mode_that_was_not_negotiated_is_refused);
	tcase_add_loop_test(tc, test_address_table_lets_in_who_is_listed, 0, 2);
	tcase_add_loop_test(tc, test_long_table_lets_its_kind_in, 0, 2);
	tcase_add_loop_test(tc, test_table_that_lies_changes_nothing, 0, 2);
	tcase_add_loop_test(tc, test_address_of_its_own_can_be_changed, 0, 2);
	tcase_add_loop_test(tc, test_ring_without_a_kick_descriptor_is_polled, 0, 2);
	tcase_add_loop_test(tc, test_reset_takes_back_what_the_driver_has_set, 0, 2);
	tcase_add_loop_test(tc, test_tagged_frames_pass_where_their_vlan_was_added, 0, 2);
	tcase_add_loop_test(tc, test_promiscuous_lets_every_vlan_in, 0, 2);
	tcase_add_test(tc, test_tags_are_the_drivers_where_vlans_were_not_negotiated);
}

static void add(Suite *suite)
{
	add_filters(suite);
	control_add_effects(suite);
}

int main(void)
{
	struct suite_device net0 = {
		.backend = "tap", .tap = CONTROL_TAP, .queue_pairs = 2, .mac = OWN_MAC_TEXT
	};

	return control_main("control", &net0, add);
}
