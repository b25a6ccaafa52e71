/*
 * The device that is there to be copied: what it is given comes back empty, whoever dies meanwhile.
 */
#include <stdint.h>

#include "rig.h"

#define SIZE 64

static struct net n;

/* a readable and a writable buffer */
static void post(uint16_t index)
{
	struct ring_seg segs[2] = { { .len = 100 }, { .len = 200, .write = true } };

	segs[0].gpa = guest_alloc(&n.g, segs[0].len, 8);
	segs[1].gpa = guest_alloc(&n.g, segs[1].len, 8);
	ck_assert(segs[0].gpa && segs[1].gpa);
	rig_ok(ring_post(&n.rings[index], segs, 2, NULL), n.rings[index].fault);
	(void)ring_kick(&n.rings[index]);
}

static void reap_all(uint16_t index)
{
	struct ring *ring = &n.rings[index];
	struct ring_used used;

	while (ring_in_flight(ring)) {
		rig_ok(ring_poll(ring, 10000), ring->fault);
		while (ring_reap(ring, &used) == 1)
			ck_assert_uint_eq(used.len, 0);
		ck_assert_msg(!ring->fault[0], "%s", ring->fault);
	}
	rig_ok(ring_check(ring), ring->fault);
}

/* _i: bit 0 packed, bit 1 the worker dies again and again, bit 2 all other features of rings */
/* uses: null:RING_PACKED null:EVENT_IDX null:INDIRECT_DESC null:IN_ORDER null:VERSION_1 */
START_TEST(test_all_comes_back_empty)
{
	struct net_profile p = { .ring_size = SIZE, .features = _i & 1 ? VU_BIT(VU_F_PACKED) : 0 };

	if (_i & 4) {
		p.features |=
			VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VU_F_INDIRECT) | VU_BIT(VU_F_IN_ORDER);
		p.indirect = true;
	}
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(net_start_ring(&n, i), n.why);
		rig_ok(net_enable(&n, i, true), n.why);
	}
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int k = 0; k < SIZE; k++)
			post(k & 1);
		if (_i & 2 && round % 8 == 0)
			rig_ok(suite_kill(&rig, "null"), rig.why);
		reap_all(0);
		reap_all(1);
	}
	rig_ok(net_check(&n), n.why);
	net_close(&n);
	suite_remember(&rig);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("null");

	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, test_all_comes_back_empty, 0, 8);
}

int main(void)
{
	struct suite_device net0 = { .type = "null" };

	return rig_main("null", &net0, add);
}
