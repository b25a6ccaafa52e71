/*
 * Rings that are set up anew though nobody asked where they stand: Linux' own front-end disables
 * them when its driver is removed, and sends the new set-up when the driver is back, in an order of
 * its own.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rig.h"

#define N_STEPS 5 /* NUM, BASE, ADDR, CALL, KICK */
#define N_ORDERS 120
#define ROUNDS 15

static struct net n;

static struct net_profile layout(bool packed)
{
	struct net_profile p = { .features = packed ? VU_BIT(VU_F_PACKED) : 0 };

	return p;
}

/* The order with this number: which step comes when. */
static void make_order(unsigned int number, uint8_t *ret_steps)
{
	uint8_t left[N_STEPS] = { 0, 1, 2, 3, 4 };

	for (unsigned int i = 0, n_left = N_STEPS; n_left; i++, n_left--) {
		unsigned int at = number % n_left;

		number /= n_left;
		ret_steps[i] = left[at];
		memmove(&left[at], &left[at + 1], n_left - at - 1);
	}
}

static int take_step(uint16_t index, uint8_t step)
{
	struct ring *r = &n.rings[index];
	struct vu_addr addr;

	ring_addr(r, &addr);
	switch (step) {
	case 0:
		return vu_set_state(&n.c, VU_SET_VRING_NUM, index, r->cfg.size);
	case 1:
		return vu_set_state(&n.c, VU_SET_VRING_BASE, index, ring_base(r));
	case 2:
		return vu_set_vring_addr(&n.c, &addr);
	case 3:
		return vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, index, r->call_fd);
	default:
		return vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, index, r->kick_fd);
	}
}

/* Frames are on their way, and buffers lie in the ring, when it is disabled. */
static void send_some(void)
{
	uint8_t frame[200];

	for (uint32_t i = 0; i < 20; i++) {
		net_frame_make(frame, sizeof(frame), i);
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	}
}

/* Done when it is acknowledged, even by who asks for that with nothing else: what is sent to a ring
 * that is still disabled is lost, and who has disabled one frees it. */
static void enable(bool on)
{
	bool ack = n.c.ack;

	n.c.ack = true;
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_enable(&n, i, on), n.why);
	n.c.ack = ack;
}

/* What the driver had is gone, and overwritten: who looks there again sees what is no ring. */
static void set_up_anew(unsigned int order)
{
	uint8_t steps[N_STEPS];

	make_order(order, steps);
	n.p.base = (uint16_t)(order % 100) | (n.p.features & VU_BIT(VU_F_PACKED) ? 0x8000 : 0);
	for (uint16_t i = 0; i < n.n_rings; i++) {
		rig_ok(net_renew_ring(&n, i), n.why);
		for (unsigned int k = 0; k < N_STEPS; k++)
			rig_ok(take_step(i, steps[k]), n.c.why);
	}
	enable(true);
	n.n_sent[0] = n.n_received[0] = 0;
	rig_ok(net_fill(&n, 0), n.why);
}

START_TEST(test_disabled_ring_is_set_up_anew_in_any_order)
{
	struct net_profile p = layout(_i & 1);

	p.no_ack = _i & 2;
	rig_open(&n, &p);
	enable(true);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		rig_ok(net_pump(&n, 0, 50, 200), n.why);
		if (_i & 4)
			send_some();
		enable(false);
		set_up_anew((unsigned int)_i * ROUNDS + round);
	}
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}
END_TEST

/* Said once more, a set-up is no new one: the ring goes on where it stood, with any part of it
 * said. */
START_TEST(test_ring_goes_on_where_it_stood_without_a_base)
{
	static const uint8_t said[][3] = { { 0 }, { 2 }, { 0, 2 }, { 4, 0, 2 }, { 3, 4 } };
	static const uint8_t n_said[] = { 1, 1, 2, 3, 2 };
	struct net_profile p = layout(_i & 1);

	rig_open(&n, &p);
	for (size_t k = 0; k < sizeof(n_said); k++) {
		rig_ok(net_pump(&n, 0, 77, 200), n.why);
		enable(false);
		for (uint16_t i = 0; i < n.n_rings; i++)
			for (uint8_t j = 0; j < n_said[k]; j++)
				rig_ok(take_step(i, said[k][j]), n.c.why);
		enable(true);
	}
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_stop_ring(&n, i), n.why);
	net_close(&n);
}
END_TEST

START_TEST(test_ring_that_waits_to_be_enabled_can_be_stopped)
{
	struct net_profile p = layout(_i & 1);
	uint32_t base;

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	enable(false);
	rig_ok(take_step(0, 0), n.c.why);
	rig_ok(net_stop_ring(&n, 0), n.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, 1, 7), n.c.why);
	rig_ok(vu_get_vring_base(&n.c, 1, &base), n.c.why);
	ck_assert_uint_eq(base, 7);
	set_up_anew(0);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	net_close(&n);
}
END_TEST

static int try_step(uint16_t index, uint8_t step, uint16_t size, uint32_t shift)
{
	struct ring *r = &n.rings[index];
	struct vu_addr addr;

	ring_addr(r, &addr);
	addr.used += shift;
	if (step == 0)
		return vu_set_state(&n.c, VU_SET_VRING_NUM, index, size);
	return step == 1 ? vu_set_state(&n.c, VU_SET_VRING_BASE, index, 0)
			 : vu_set_vring_addr(&n.c, &addr);
}

START_TEST(test_enabled_ring_stays_as_it_is)
{
	struct net_profile p = layout(_i & 1);

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	for (uint8_t step = 0; step < 3; step++)
		ck_assert_int_eq(try_step(0, step, 128, 4096), VU_E_REFUSED);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	net_close(&n);
}
END_TEST

/* Others of the suite die meanwhile: what is held is in the record. */
START_TEST(test_set_up_goes_on_over_deaths)
{
	static const char *const roles[] = { "frontend", "net", "memory" };
	struct net_profile p = layout(_i & 1);

	rig_open(&n, &p);
	for (unsigned int round = 0; round < 6; round++) {
		rig_ok(net_pump(&n, 0, 50, 200), n.why);
		enable(false);
		if (round & 1)
			rig_ok(take_step(0, 1), n.c.why);
		rig_ok(strcmp(roles[round / 2], "net") ? suite_kill(&rig, roles[round / 2])
						       : suite_kill_worker(&rig, "net0"),
			rig.why);
		set_up_anew(17 * round);
	}
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "anew"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_disabled_ring_is_set_up_anew_in_any_order, 0,
		N_ORDERS / ROUNDS);
	tcase_add_loop_test(tc, test_ring_goes_on_where_it_stood_without_a_base, 0, 2);
	tcase_add_loop_test(tc, test_ring_that_waits_to_be_enabled_can_be_stopped, 0, 2);
	tcase_add_loop_test(tc, test_enabled_ring_stays_as_it_is, 0, 2);
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_set_up_goes_on_over_deaths, 0, 2);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("anew", &net0, add);
}
