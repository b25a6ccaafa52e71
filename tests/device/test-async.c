/*
 * A device that completes out of order from other threads (async.c), and what happens to the device
 * while it holds chains: pauses, memory that comes and goes, stops, and the worker's death. The
 * driver holds each buffer to coming back exactly once; here each answer is held to be its
 * request's.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "async.h"
#include "instead.h"
#include "lib/run.h"
#include "net.h"
#include "rig.h"
#include "suite.h"

#define SIZE 64
#define HOLD_US 300000
#define HOLD_MS (HOLD_US / 1000)
#define WAIT_MS 10000
#define TAKEN_US 5000000

static struct suite suite;
static struct net n;
static uint64_t next_id;
static unsigned int n_back; /* since a test looked */
static bool inverted;       /* one came back before an earlier one */
static uint64_t last_id;

struct request {
	uint64_t id, out, in;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void post_request(size_t region, uint16_t index, struct async_request request)
{
	struct request *r = calloc(1, sizeof(*r));
	struct ring_seg segs[2];

	ck_assert_ptr_nonnull(r);
	*r = (struct request){ ++next_id, guest_alloc_in(&n.g, region, sizeof(request), 8),
		guest_alloc_in(&n.g, region, sizeof(struct async_answer), 8) };
	ck_assert(r->out && r->in);
	request.id = r->id;
	memcpy(guest_at(&n.g, r->out, sizeof(request)), &request, sizeof(request));
	segs[0] = (struct ring_seg){ r->out, sizeof(request), false };
	segs[1] = (struct ring_seg){ r->in, sizeof(struct async_answer), true };
	rig_ok(ring_post(&n.rings[index], segs, 2, r), n.rings[index].fault);
	(void)ring_kick(&n.rings[index]);
}

static void post_in(size_t region, uint16_t index, uint32_t delay_us)
{
	post_request(region, index, (struct async_request){ .delay_us = delay_us });
}

static void post(uint16_t index, uint32_t delay_us)
{
	post_in(0, index, delay_us);
}

static void take_back(struct ring *ring, const struct ring_used *used)
{
	struct request *r = used->cookie;
	struct async_answer answer;

	ck_assert_uint_eq(used->len, sizeof(answer));
	memcpy(&answer, guest_at(&n.g, r->in, sizeof(answer)), sizeof(answer));
	ck_assert_msg(answer.id == (r->id ^ ASYNC_MAGIC),
		"ring %u: request %llu was answered with %llx", ring->cfg.index,
		(unsigned long long)r->id, (unsigned long long)answer.id);
	inverted |= r->id < last_id;
	last_id = r->id;
	n_back++;
	free(r);
}

/* what is there now */
static void reap(uint16_t index)
{
	struct ring *ring = &n.rings[index];
	struct ring_used used;
	int r;

	while ((r = ring_reap(ring, &used)) == 1)
		take_back(ring, &used);
	rig_ok(r, ring->fault);
}

/* until all are back */
static void reap_all(uint16_t index)
{
	struct ring *ring = &n.rings[index];

	reap(index);
	while (ring_in_flight(ring)) {
		rig_ok(ring_poll(ring, WAIT_MS), ring->fault);
		reap(index);
	}
	rig_ok(ring_check(ring), ring->fault);
}

/* _i: bit 0 packed */
static void open_session(int i)
{
	struct net_profile p = { .ring_size = SIZE, .protocol = VU_BIT(VU_PF_MEM_SLOTS) };

	p.features = i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, suite_socket(&suite, "net0")), n.c.why);
	n.c.timeout_ms = WAIT_MS;
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t k = 0; k < 2; k++) {
		rig_ok(net_start_ring(&n, k), n.why);
		rig_ok(net_enable(&n, k, true), n.why);
	}
	n_back = 0;
	inverted = false;
	last_id = 0;
}

/* The answer is where the driver stands, and all it has posted is back. */
static void stop(uint16_t index)
{
	uint32_t base;

	rig_ok(vu_get_vring_base(&n.c, index, &base), n.c.why);
	reap(index);
	ck_assert_uint_eq(ring_in_flight(&n.rings[index]), 0);
	ck_assert_uint_eq(base, ring_base(&n.rings[index]));
}

static void close_session(void)
{
	for (uint16_t i = 0; i < 2; i++) {
		reap_all(i);
		stop(i);
	}
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}

/* Until the device holds so many of ring 1: the rings have a thread each. */
static void until_held(unsigned int n_chains)
{
	post_request(0, 0, (struct async_request){ .delay_us = TAKEN_US, .n_held = n_chains });
	reap_all(0);
}

/* Both rings move while ring 1 is held. */
static void post_held(unsigned int n_chains)
{
	for (unsigned int i = 0; i < n_chains; i++)
		post(1, HOLD_US + 1000 * (n_chains - i));
	until_held(n_chains);
}

START_TEST(test_completions_come_out_of_order)
{
	open_session(_i);
	for (uint32_t i = 0; i < 24; i++)
		post(i & 1, (24 - i) * 2000);
	reap_all(0);
	reap_all(1);
	ck_assert_uint_eq(n_back, 24);
	ck_assert(inverted);
	close_session();
}
END_TEST

/* Descriptors and enabling, of either ring. */
START_TEST(test_pauses_wait_for_no_chain)
{
	uint64_t begin;
	int call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	open_session(_i);
	begin = now_ms();
	post_held(8);
	for (int k = 0; k < 4; k++) {
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 0,
			       k & 1 ? n.rings[0].call_fd : call_fd),
			n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 1,
			       k & 1 ? n.rings[1].call_fd : call_fd),
			n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, 1, n.rings[1].kick_fd), n.c.why);
		rig_ok(net_enable(&n, 0, k & 1), n.why);
	}
	post(0, 0);
	reap_all(0);
	if (now_ms() - begin < HOLD_MS) /* else the machine was too slow to tell */
		ck_assert(!ring_has_used(&n.rings[1]));
	reap_all(1);
	ck_assert_uint_eq(n_back, 10);
	close(call_fd);
	close_session();
}
END_TEST

/* A disabled ring takes nothing more; what it had taken comes back. */
START_TEST(test_disabled_ring_gives_back_what_it_holds)
{
	open_session(_i);
	post_held(8);
	rig_ok(net_enable(&n, 1, false), n.why);
	reap_all(1);
	post(1, 0);
	ck_assert_int_eq(ring_poll(&n.rings[1], 100), -ETIMEDOUT);
	rig_ok(net_enable(&n, 1, true), n.why);
	close_session();
	ck_assert_uint_eq(n_back, 10);
}
END_TEST

START_TEST(test_memory_that_comes_waits_for_no_chain)
{
	struct vu_region at = {
		.gpa = UINT64_C(1) << 40, .size = 1 << 20, .uva = UINT64_C(0x7e0000000000)
	};
	uint64_t begin;

	open_session(_i);
	begin = now_ms();
	post_held(8);
	rig_ok(guest_add_region(&n.g, &at), "region");
	rig_ok(vu_add_mem_reg(&n.c, &n.g.regions[1].at, n.g.regions[1].fd), n.c.why);
	post_in(1, 0, 0);
	reap_all(0);
	if (now_ms() - begin < HOLD_MS)
		ck_assert(!ring_has_used(&n.rings[1]));
	/* held in the one that goes: it goes when they are back */
	reap_all(1);
	for (int i = 0; i < 4; i++)
		post_in(1, 1, HOLD_US / 2);
	until_held(4);
	rig_ok(vu_rem_mem_reg(&n.c, &n.g.regions[1].at, -1), n.c.why);
	reap(1);
	ck_assert_uint_eq(ring_in_flight(&n.rings[1]), 0);
	ck_assert_uint_eq(n_back, 15);
	post(1, 0);
	close_session();
}
END_TEST

/* The same memory as one region, and as two: all of it is mapped anew. */
static void set_memory(bool halves)
{
	struct vu_region regions[2] = { n.g.regions[0].at, n.g.regions[0].at };
	int fds[2] = { n.g.regions[0].fd, n.g.regions[0].fd };

	if (halves) {
		regions[0].size = regions[1].size /= 2;
		regions[1].gpa += regions[0].size;
		regions[1].uva += regions[0].size;
		regions[1].offset += regions[0].size;
	}
	rig_ok(vu_set_mem_table(&n.c, regions, fds, halves ? 2 : 1), n.c.why);
}

START_TEST(test_memory_that_goes_waits_for_its_chains)
{
	open_session(_i);
	for (int k = 0; k < 3; k++) {
		post_held(8);
		set_memory(k % 2 == 0);
		reap(1);
		ck_assert_uint_eq(ring_in_flight(&n.rings[1]), 0);
		post(0, 1000);
		post(1, 1000);
		reap_all(0);
		reap_all(1);
	}
	close_session();
	ck_assert_uint_eq(n_back, 3 * 11);
}
END_TEST

START_TEST(test_stop_waits_for_its_chains)
{
	open_session(_i);
	for (int k = 0; k < 3; k++) {
		post_held(8);
		stop(1);
		post(0, 0);
		reap_all(0);
		rig_ok(net_start_ring(&n, 1), n.why);
		rig_ok(net_enable(&n, 1, true), n.why);
		post(1, 0);
		reap_all(1);
	}
	close_session();
	ck_assert_uint_eq(n_back, 3 * 11);
}
END_TEST

static void *kill_later(void *data)
{
	usleep(50000);
	return suite_kill(&suite, "async") ? data : NULL;
}

/* _i: bit 0 packed; the worker dies while it holds chains, or while memory or the stop of a ring
 * waits for them */
START_TEST(test_death_loses_and_doubles_nothing)
{
	int what = _i / 2;
	pthread_t killer;
	void *failed;

	open_session(_i);
	for (int k = 0; k < 3; k++) {
		post_held(8);
		for (uint32_t i = 0; i < 20; i++)
			post(0, i * 5000);
		ck_assert_int_eq(pthread_create(&killer, NULL, kill_later, &n), 0);
		if (what == 1)
			set_memory(k % 2 == 0);
		if (what == 2)
			stop(1);
		pthread_join(killer, &failed);
		ck_assert_ptr_null(failed);
		if (what == 2) {
			rig_ok(net_start_ring(&n, 1), n.why);
			rig_ok(net_enable(&n, 1, true), n.why);
		}
		reap_all(0);
		reap_all(1);
	}
	ck_assert_uint_eq(n_back, 3 * 29);
	close_session();
}
END_TEST

static void add(Suite *s)
{
	TCase *tc = tcase_create("async");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_completions_come_out_of_order, 0, 2);
	tcase_add_loop_test(tc, test_pauses_wait_for_no_chain, 0, 2);
	tcase_add_loop_test(tc, test_disabled_ring_gives_back_what_it_holds, 0, 2);
	tcase_add_loop_test(tc, test_memory_that_comes_waits_for_no_chain, 0, 2);
	tcase_add_loop_test(tc, test_memory_that_goes_waits_for_its_chains, 0, 2);
	tcase_add_loop_test(tc, test_stop_waits_for_its_chains, 0, 2);
	tcase_add_loop_test(tc, test_death_loses_and_doubles_nothing, 0, 6);
	suite_add_tcase(s, tc);
}

static int run(void)
{
	struct suite_device net0 = { .name = "net0", .backend = "echo" };
	int r = suite_start(&suite, &net0, 1) ?: suite_wait_ready(&suite);

	if (!r)
		r = run_main("async", add);
	r = suite_stop(&suite) ?: r;
	if (r)
		fprintf(stderr, "async: %s\n", suite.why);
	return r != 0;
}

int main(void)
{
	char dir[] = "/tmp/bh-async-XXXXXX";
	const char *build = getenv("BULKHEAD_BUILD");
	int r;

	if (!build || getenv("BULKHEAD_TEST_PEER")) {
		printf("1..0 # SKIP it needs this product\n");
		return 0;
	}
	if (instead_open(dir, build, "tests/device/bulkhead-async") < 0)
		return 1;
	r = run();
	instead_close(dir);
	return r;
}
