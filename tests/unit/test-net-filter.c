/* Which frames a guest receives that has set up its filters. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "filter.h"
#include "lib/run.h"

static const uint8_t own[6] = { 0x52, 0x54, 0, 0, 0, 1 };

enum { OWN, LISTED, OTHER, GROUP, OTHER_GROUP, BROADCAST, _KINDS };

static const uint8_t macs[_KINDS][6] = {
	[OWN] = { 0x52, 0x54, 0, 0, 0, 1 },
	[LISTED] = { 0x52, 0x54, 0, 0, 0, 2 },
	[OTHER] = { 0x52, 0x54, 0, 0, 0, 3 },
	[GROUP] = { 0x33, 0x33, 0, 0, 0, 1 },
	[OTHER_GROUP] = { 0x33, 0x33, 0, 0, 0, 2 },
	[BROADCAST] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
};

static struct net_state state;

static void set_up(void)
{
	state_reset(&state, own);
	state.modes = 0;
	state.n_uni = state.n_multi = 1;
	memcpy(state.macs[0], macs[LISTED], 6);
	memcpy(state.macs[1], macs[GROUP], 6);
}

static bool wants(const uint8_t *mac)
{
	uint8_t head[FILTER_HEAD_BYTES] = { 0 };

	memcpy(head, mac, 6);
	return filter_wants(&state, head, sizeof(head), true, false);
}

static bool wants_tagged_for(const uint8_t *mac, uint8_t vlan)
{
	uint8_t head[FILTER_HEAD_BYTES] = { [12] = 0x81, [15] = vlan };

	memcpy(head, mac, 6);
	return filter_wants(&state, head, sizeof(head), true, true);
}

#define B(kind) (1u << (kind))
#define ALL (B(_KINDS) - 1)
#define NORMAL (B(OWN) | B(LISTED) | B(GROUP) | B(BROADCAST))

static const struct {
	unsigned int modes;
	unsigned int wanted; /* kinds of address */
} rows[] = {
	{ 0, NORMAL },
	{ B(NET_RX_PROMISC), ALL },
	{ B(NET_RX_ALLMULTI), NORMAL | B(OTHER_GROUP) },
	{ B(NET_RX_ALLUNI), NORMAL | B(OTHER) },
	{ B(NET_RX_NOMULTI), NORMAL & ~B(GROUP) },
	{ B(NET_RX_NOUNI), B(GROUP) | B(BROADCAST) },
	{ B(NET_RX_NOBCAST), NORMAL & ~B(BROADCAST) },
	{ B(NET_RX_ALLMULTI) | B(NET_RX_NOMULTI), NORMAL & ~B(GROUP) },
	{ B(NET_RX_ALLUNI) | B(NET_RX_NOUNI), B(GROUP) | B(BROADCAST) },
	{ B(NET_RX_NOUNI) | B(NET_RX_NOMULTI) | B(NET_RX_NOBCAST), 0 },
	{ B(NET_RX_PROMISC) | B(NET_RX_NOUNI) | B(NET_RX_NOMULTI) | B(NET_RX_NOBCAST), ALL },
};

START_TEST(test_each_mode_lets_its_addresses_in)
{
	state.modes = (uint8_t)rows[_i].modes;
	for (unsigned int kind = 0; kind < _KINDS; kind++)
		ck_assert_int_eq(wants(macs[kind]), rows[_i].wanted >> kind & 1);
}
END_TEST

START_TEST(test_driver_that_sets_nothing_receives_everything)
{
	state_reset(&state, own);
	for (unsigned int kind = 0; kind < _KINDS; kind++)
		ck_assert(wants(macs[kind]) && wants_tagged_for(macs[kind], 7));
}
END_TEST

START_TEST(test_table_that_was_too_long_lets_all_of_its_kind_in)
{
	state.n_uni = state.n_multi = 0;
	state.uni_overflow = 1;
	ck_assert(wants(macs[OTHER]) && !wants(macs[OTHER_GROUP]));
	state.uni_overflow = 0;
	state.multi_overflow = 1;
	ck_assert(!wants(macs[OTHER]) && wants(macs[OTHER_GROUP]));
}
END_TEST

START_TEST(test_tables_are_apart)
{
	/* a group that stands in the table of single addresses is none that the driver joined */
	memcpy(state.macs[0], macs[OTHER_GROUP], 6);
	ck_assert(!wants(macs[OTHER_GROUP]));
	memcpy(state.macs[1], macs[OTHER], 6);
	ck_assert(!wants(macs[OTHER]));
}
END_TEST

START_TEST(test_every_entry_of_full_tables_counts)
{
	uint8_t mac[6] = { 0x52, 0x55 };

	state.n_uni = NET_MACS_MAX;
	state.n_multi = 0;
	for (unsigned int i = 0; i < NET_MACS_MAX; i++) {
		mac[5] = (uint8_t)i;
		memcpy(state.macs[i], mac, 6);
	}
	for (unsigned int i = 0; i < 256; i++) {
		mac[5] = (uint8_t)i;
		ck_assert_int_eq(wants(mac), i < NET_MACS_MAX);
	}
}
END_TEST

static bool wants_tagged(uint16_t tag, size_t n)
{
	uint8_t head[FILTER_HEAD_BYTES] = { 0 };

	memcpy(head, own, 6);
	head[12] = 0x81;
	head[14] = (uint8_t)(tag >> 8);
	head[15] = (uint8_t)tag;
	return filter_wants(&state, head, n, true, true);
}

START_TEST(test_vlan_is_let_in_and_shut_out_again)
{
	static const uint16_t vlans[] = { 1, 31, 32, 100, 4095 };

	for (size_t i = 0; i < ARRAY_SIZE(vlans); i++) {
		ck_assert(!wants_tagged(vlans[i], FILTER_HEAD_BYTES));
		filter_set_vlan(&state, vlans[i], true);
		ck_assert(wants_tagged(vlans[i], FILTER_HEAD_BYTES));
		ck_assert(wants_tagged((uint16_t)(0xe000 | vlans[i]),
			FILTER_HEAD_BYTES)); /* priority */
		ck_assert(!wants_tagged(vlans[i] ^ 1, FILTER_HEAD_BYTES) || (vlans[i] ^ 1) == 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(vlans); i++) {
		filter_set_vlan(&state, vlans[i], false);
		ck_assert(!wants_tagged(vlans[i], FILTER_HEAD_BYTES));
	}
}
END_TEST

START_TEST(test_frame_without_vlan_passes)
{
	uint8_t head[FILTER_HEAD_BYTES] = { 0 };

	memcpy(head, own, 6);
	head[12] = 0x08;
	ck_assert(filter_wants(&state, head, sizeof(head), true, true));
	ck_assert(wants_tagged(0, FILTER_HEAD_BYTES));
	ck_assert(wants_tagged(0xe000, FILTER_HEAD_BYTES));
}
END_TEST

START_TEST(test_filters_not_negotiated_do_nothing)
{
	uint8_t head[FILTER_HEAD_BYTES] = { 0 };

	memcpy(head, macs[OTHER], 6);
	head[12] = 0x81;
	head[15] = 7;
	ck_assert(filter_wants(&state, head, sizeof(head), false, false));
	ck_assert(!filter_wants(&state, head, sizeof(head), true, false));
	ck_assert(!filter_wants(&state, head, sizeof(head), false, true));
}
END_TEST

START_TEST(test_frame_too_short_for_an_address_is_nobodys)
{
	ck_assert(!filter_wants(&state, own, 5, true, false));
	ck_assert(filter_wants(&state, own, 6, true, true));
}
END_TEST

/* Promiscuous is a mode of what CTRL_RX brings: without it there is none to be on. */
START_TEST(test_promiscuous_lets_every_vlan_in)
{
	uint8_t head[FILTER_HEAD_BYTES] = { [12] = 0x81, [15] = 7 };

	memcpy(head, macs[OTHER], 6);
	for (unsigned int others = 0; others < 1 << _NET_RX_MODE_N; others++) {
		state.modes = (uint8_t)(others | B(NET_RX_PROMISC));
		ck_assert(filter_wants(&state, head, sizeof(head), true, true));
		ck_assert(!filter_wants(&state, head, sizeof(head), false, true));
		state.modes = (uint8_t)(others & ~B(NET_RX_PROMISC));
		ck_assert(!filter_wants(&state, head, sizeof(head), true, true));
	}
}
END_TEST

/* No other mode lets in a frame of a VLAN that was not asked for, and a VLAN lets in no other
 * address. */
START_TEST(test_address_and_vlan_both_count)
{
	filter_set_vlan(&state, 7, true);
	for (unsigned int row = 0; row < ARRAY_SIZE(rows); row++) {
		state.modes = (uint8_t)rows[row].modes;
		for (unsigned int kind = 0; kind < _KINDS; kind++) {
			ck_assert_int_eq(wants_tagged_for(macs[kind], 7),
				rows[row].wanted >> kind & 1);
			ck_assert_int_eq(wants_tagged_for(macs[kind], 8),
				!!(rows[row].modes & B(NET_RX_PROMISC)));
		}
	}
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("net-filter");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_loop_test(tc, test_each_mode_lets_its_addresses_in, 0, ARRAY_SIZE(rows));
	tcase_add_test(tc, test_driver_that_sets_nothing_receives_everything);
	tcase_add_test(tc, test_table_that_was_too_long_lets_all_of_its_kind_in);
	tcase_add_test(tc, test_tables_are_apart);
	tcase_add_test(tc, test_every_entry_of_full_tables_counts);
	tcase_add_test(tc, test_vlan_is_let_in_and_shut_out_again);
	tcase_add_test(tc, test_frame_without_vlan_passes);
	tcase_add_test(tc, test_filters_not_negotiated_do_nothing);
	tcase_add_test(tc, test_frame_too_short_for_an_address_is_nobodys);
	tcase_add_test(tc, test_promiscuous_lets_every_vlan_in);
	tcase_add_test(tc, test_address_and_vlan_both_count);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("net-filter", add_tests);
}
