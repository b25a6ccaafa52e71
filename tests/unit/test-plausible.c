/* What a memory manager may say of its guest: the most of everything passes, and one more, or one
 * twice, does not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "config/config.h"
#include "config/roles.h"
#include "ctl/plausible.h"
#include "lib/run.h"
#include "virtio/vhost-user.h"

#define PEERS (ROLES_PER_GUEST + 2 * CONFIG_DEVICES_MAX)
#define FEW 80

static char names[PEERS + 1][16];
static Bh__GetStatusReply status;
static Bh__PeerStatus peers[PEERS + 1], *peer_list[PEERS + 1];
static Bh__DeviceStatus devices[CONFIG_DEVICES_MAX + 1], *device_list[CONFIG_DEVICES_MAX + 1];
static Bh__Desired desired;
static Bh__Observed observed;
static Bh__Ring rings[VHOST_USER_MAX_QUEUES + 1], *ring_list[VHOST_USER_MAX_QUEUES + 1];
static Bh__RingState states[VHOST_USER_MAX_QUEUES + 1], *state_list[VHOST_USER_MAX_QUEUES + 1];
static Bh__QueueCounters counters[VHOST_USER_MAX_QUEUES + 1],
	*counter_list[VHOST_USER_MAX_QUEUES + 1];
static Bh__Figure figures[FEW], *figure_list[FEW];
static Bh__Pauses pauses[FEW], *pause_list[FEW];
static uint64_t limits[FEW], counts[FEW];

static void set_up_rings(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		bh__ring__init(ring_list[i] = &rings[i]);
		bh__ring_state__init(state_list[i] = &states[i]);
		bh__queue_counters__init(counter_list[i] = &counters[i]);
		rings[i].index = states[i].index = counters[i].index = (uint32_t)i;
		counters[i].drops = figure_list;
		counters[i].n_drops = 16;
	}
	bh__desired__init(&desired);
	desired.rings = ring_list;
	desired.n_rings = VHOST_USER_MAX_QUEUES;
	bh__observed__init(&observed);
	observed.rings = state_list;
	observed.n_rings = VHOST_USER_MAX_QUEUES;
	observed.figures = figure_list;
	observed.n_figures = 64;
}

static void set_up_lists(void)
{
	for (size_t i = 0; i < FEW; i++) {
		bh__figure__init(figure_list[i] = &figures[i]);
		bh__pauses__init(pause_list[i] = &pauses[i]);
		figures[i].name = pauses[i].cause = names[i];
		limits[i] = i;
		pauses[i].limit_us = limits;
		pauses[i].counts = counts;
		pauses[i].n_limit_us = 64;
		pauses[i].n_counts = 65;
	}
}

static void set_up_device(Bh__DeviceStatus *device, char *name)
{
	bh__device_status__init(device);
	device->name = name;
	device->desired = &desired;
	device->observed = &observed;
	device->counters = counter_list;
	device->n_counters = VHOST_USER_MAX_QUEUES;
	device->pauses = pause_list;
	device->n_pauses = 16;
}

static void set_up(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		snprintf(names[i], sizeof(names[i]), "n%zu", i);
	set_up_rings();
	set_up_lists();
	bh__get_status_reply__init(&status);
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
		bh__peer_status__init(peer_list[i] = &peers[i]);
		peers[i].name = names[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		set_up_device(device_list[i] = &devices[i], names[i]);
	status.peers = peer_list;
	status.n_peers = PEERS;
	status.devices = device_list;
	status.n_devices = CONFIG_DEVICES_MAX;
}

/* Each line breaks one rule. */
#define BREAK(n, what)                                                                             \
	case n:                                                                                    \
		what;                                                                              \
		break

#define N_BROKEN 15

static bool break_rule(int n)
{
	switch (n) {
		BREAK(0, status.n_peers++);
		BREAK(1, status.n_devices++);
		BREAK(2, peers[9].name = names[3]);
		BREAK(3, devices[63].name = names[0]);
		BREAK(4, desired.n_rings++);
		BREAK(5, rings[200].index = 7);
		BREAK(6, rings[200].index = VHOST_USER_MAX_QUEUES);
		BREAK(7, observed.n_rings++);
		BREAK(8, observed.n_figures++);
		BREAK(9, devices[63].n_counters++);
		BREAK(10, counters[255].n_drops++);
		BREAK(11, figures[15].name = names[2]); /* a reason */
		BREAK(12, devices[63].n_pauses++);
		BREAK(13, pauses[15].cause = names[2]);
		BREAK(14, limits[63] = 62);
	default:
		return false;
	}
	return true;
}

START_TEST(test_the_most_of_everything_may_be_said)
{
	const char *wrong = plausible_status(&status);

	ck_assert_msg(!wrong, "%s", wrong);
	devices[0].desired = NULL;
	devices[1].observed = NULL;
	ck_assert(!plausible_status(&status));
}
END_TEST

START_TEST(test_each_rule_is_kept)
{
	ck_assert(break_rule(_i));
	ck_assert_ptr_nonnull(plausible_status(&status));
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("plausible");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, test_the_most_of_everything_may_be_said);
	tcase_add_loop_test(tc, test_each_rule_is_kept, 0, N_BROKEN);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("plausible", add_tests);
}
