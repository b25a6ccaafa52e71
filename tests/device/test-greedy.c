/*
 * Guests and VMMs that would have the worker work, or wait, for ever: rings that feed themselves,
 * chains that hold no frame, kicks without an end, calls that block. Other rings and the other
 * device go on, every message is answered, no process dies, and nothing spins where there is
 * nothing to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"

#define CTRL 4 /* the control ring of two pairs */
#define SIZE 64
#define WATCH_MS 150
#define FULL (UINT64_MAX - 1)

static struct net n;
static struct ring greedy;

static void open_session(bool packed, uint64_t features)
{
	struct net_profile p = { .n_pairs = 2, .ring_size = SIZE };

	p.features = features | (packed ? VU_BIT(VU_F_PACKED) : 0) | VU_BIT(VU_F_INDIRECT) |
		VU_BIT(VU_NET_F_MQ) | VU_BIT(VU_NET_F_CTRL_VQ);
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
}

static int64_t ns(clockid_t clock)
{
	struct timespec t;

	ck_assert_int_eq(clock_gettime(clock, &t), 0);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* It may work for a moment, but not all the time. */
static void check_at_rest(const char *what)
{
	clockid_t clock = -1;
	int64_t wall, cpu;

	ck_assert_int_eq(clock_getcpuclockid(suite_pid(&rig, "net", "net0"), &clock), 0);
	wall = ns(CLOCK_MONOTONIC);
	cpu = ns(clock);
	sleep_ms(WATCH_MS);
	wall = ns(CLOCK_MONOTONIC) - wall;
	cpu = ns(clock) - cpu;
	ck_assert_msg(2 * cpu < wall, "%s: %lld ms of processor time in %lld ms", what,
		(long long)cpu / 1000000, (long long)wall / 1000000);
}

static void start(struct ring *r)
{
	struct vu_addr addr;

	ring_addr(r, &addr);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, r->cfg.index, r->cfg.size), n.c.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, r->cfg.index, ring_base(r)), n.c.why);
	rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, r->cfg.index, r->call_fd), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, r->cfg.index, r->kick_fd), n.c.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, r->cfg.index, 1), n.c.why);
}

static void stop(uint16_t index)
{
	uint32_t base;

	rig_ok(vu_get_vring_base(&n.c, index, &base), n.c.why);
}

static void send_frame(uint16_t pair)
{
	uint8_t frame[200];

	net_frame_make(frame, sizeof(frame), 9);
	rig_ok(net_send(&n, pair, frame, sizeof(frame)), n.why);
}

/* The ring that was another's becomes a ring of an honest driver again. */
static void honest_again(uint16_t index)
{
	if (index == CTRL)
		return;
	for (uint16_t i = 0; i < 2; i++) {
		if (i != index)
			stop(i);
		rig_ok(net_renew_ring(&n, i), n.why);
		rig_ok(net_start_ring(&n, i), n.why);
	}
	rig_ok(net_fill(&n, 0), n.why);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
}

/* --- Rings that do not end --- */

static const uint16_t rings[] = { 0, 1, CTRL };

/* Its used ring lies on its available ring: each entry given back makes one more available. */
/* covers: G12 G16 */
START_TEST(test_ring_that_feeds_itself)
{
	struct ring_config cfg = { .index = rings[_i], .size = SIZE };
	uint64_t at, buffer;

	open_session(false, 0);
	stop(cfg.index);
	cfg.desc = guest_alloc(&n.g, 16 * SIZE, 16);
	cfg.avail = cfg.used = at = guest_alloc(&n.g, 6 + 8 * SIZE, 16);
	buffer = guest_alloc(&n.g, 8, 8);
	ck_assert_int_eq(ring_init(&greedy, &n.g, &cfg), 0);
	for (uint16_t i = 0; i < SIZE; i++) {
		greedy.desc[i] = (struct ring_desc){ buffer, 8, RING_DESC_WRITE, 0 };
		((uint16_t *)guest_at(&n.g, at, 4 + 2 * SIZE))[2 + i] = i * 7 % SIZE;
	}
	((uint16_t *)guest_at(&n.g, at, 4))[1] = 1;
	start(&greedy);
	if (cfg.index == 0)
		send_frame(0);
	ring_kick_always(&greedy);
	rig_ok(net_pump(&n, 1, 100, 200), n.why);
	if (cfg.index == CTRL)
		check_at_rest("a control ring that feeds itself");
	rig_ok(vu_get_features(&n.c), n.c.why);
	stop(cfg.index);
	honest_again(cfg.index);
	ring_deinit(&greedy);
	net_close(&n);
}
END_TEST

static atomic_bool flooding;

/* A driver that posts again whatever comes back, and never waits. */
static void *flood(void *data)
{
	struct ring_used used;

	while (atomic_load(&flooding)) {
		while (ring_reap(&greedy, &used) == 1)
			;
		while (ring_post(&greedy, data, 1, NULL) == 0)
			;
		ring_kick_always(&greedy);
	}
	return NULL;
}

/* covers: G11 G16 */
START_TEST(test_ring_that_is_never_empty)
{
	struct ring_config cfg = { .index = rings[1 + _i / 2],
		.size = SIZE,
		.packed = _i & 1,
		.base = _i & 1 ? 0x8000 : 0 };
	struct ring_seg seg = { .len = 8, .write = true };
	pthread_t thread;

	open_session(_i & 1, 0);
	stop(cfg.index);
	seg.gpa = guest_alloc(&n.g, 8, 8);
	ck_assert_int_eq(ring_init(&greedy, &n.g, &cfg), 0);
	start(&greedy);
	atomic_store(&flooding, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, flood, &seg), 0);
	for (int i = 0; i < 5; i++) {
		rig_ok(net_pump(&n, 1, 50, 200), n.why);
		rig_ok(vu_get_features(&n.c), n.c.why);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, cfg.index, (uint32_t)(~i & 1)),
			n.c.why);
	}
	stop(cfg.index);
	atomic_store(&flooding, false);
	pthread_join(thread, NULL);
	honest_again(cfg.index);
	ring_deinit(&greedy);
	net_close(&n);
}
END_TEST

/* --- Receive chains that are of no use --- */

static const struct shape {
	const char *what;
	uint32_t n_segs; /* in a table, where they are more than one */
	uint32_t len;    /* of each */
	bool readable;
	bool plain_only; /* with mergeable buffers it is an ordinary one */
} shapes[] = {
	{ "no byte", 1, 0, false, false },
	{ "a header", 1, NET_HDR_BYTES, false, false },
	{ "less than a frame", 1, 40, false, true },
	{ "readable", 1, 2000, true, false },
	{ "1000 bytes one by one", 1000, 1, false, false },
	{ "1024 bytes one by one", 1024, 1, false, false },
	{ "1100 bytes one by one", 1100, 1, false, false },
	{ "nothing a thousand times", 1000, 0, false, false },
};

#define N_SHAPES ((int)(sizeof(shapes) / sizeof(shapes[0])))

static void make_table(uint64_t table, const struct shape *shape, uint64_t buffer, bool packed)
{
	struct ring_desc *d = guest_at(&n.g, table, 16 * (uint64_t)shape->n_segs);

	for (uint16_t i = 0; i < shape->n_segs; i++) {
		uint16_t flags = shape->readable ? 0 : RING_DESC_WRITE;

		d[i] = (struct ring_desc){ buffer, shape->len, 0, 0 };
		if (packed) {
			d[i].b = flags;
		} else {
			d[i].a = flags | (i + 1u < shape->n_segs ? RING_DESC_NEXT : 0);
			d[i].b = (uint16_t)(i + 1);
		}
	}
}

static void post_table(uint64_t table, uint32_t n_segs, bool packed)
{
	for (uint16_t i = 0; i < SIZE; i++) {
		struct ring_desc d = { table, 16 * n_segs, RING_DESC_INDIRECT, 0 };

		if (packed) {
			d.a = i;
			d.b = RING_DESC_INDIRECT | RING_DESC_AVAIL;
		}
		greedy.desc[i] = d;
		if (!packed)
			greedy.avail[2 + i] = i;
	}
	if (!packed)
		__atomic_store_n(&greedy.avail[1], SIZE, __ATOMIC_RELEASE);
}

/* _i: bit 0 packed, bit 1 mergeable. A frame waits for buffers, and all that there are are such. */
/* covers: G11 */
START_TEST(test_receive_chains_of_no_use_are_given_back_or_wait)
{
	const struct shape *shape = &shapes[_i / 4];
	struct ring_config cfg = {
		.index = 0, .size = SIZE, .packed = _i & 1, .base = _i & 1 ? 0x8000 : 0
	};
	uint64_t table, buffer;

	if (shape->plain_only && _i & 2)
		return;
	open_session(_i & 1, _i & 2 ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0);
	stop(0);
	table = guest_alloc(&n.g, 16 * (uint64_t)shape->n_segs, 16);
	buffer = guest_alloc(&n.g, 2048, 16);
	make_table(table, shape, buffer, _i & 1);
	ck_assert_int_eq(ring_init(&greedy, &n.g, &cfg), 0);
	post_table(table, shape->n_segs, _i & 1);
	start(&greedy);
	for (int i = 0; i < 3; i++)
		send_frame(0);
	rig_ok(net_pump(&n, 1, 50, 200), n.why);
	check_at_rest(shape->what);
	stop(0);
	honest_again(0);
	ring_deinit(&greedy);
	net_close(&n);
}
END_TEST

/* --- Descriptors --- */

/* _i: bit 0 packed. What is read of it does not empty it. */
/* covers: G17 */
START_TEST(test_kick_that_is_ready_for_ever)
{
	uint16_t index = rings[_i / 2];
	struct ring_config cfg = {
		.index = CTRL, .size = SIZE, .packed = _i & 1, .base = _i & 1 ? 0x8000 : 0
	};
	struct ring *r = index == CTRL ? &greedy : &n.rings[index];
	int fd = eventfd(1 << 30, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);

	open_session(_i & 1, 0);
	ck_assert_int_eq(ring_init(&greedy, &n.g, &cfg), 0);
	ck_assert_int_ge(dup2(fd, r->kick_fd), 0);
	close(fd);
	if (index == CTRL) {
		start(r);
	} else {
		rig_ok(net_stop_ring(&n, index), n.why);
		rig_ok(net_start_ring(&n, index), n.why);
	}
	check_at_rest("a kick that is ready for ever");
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(net_pump(&n, 1, 100, 200), n.why);
	stop(index);
	ring_deinit(&greedy);
	net_close(&n);
}
END_TEST

static void *storm(void *data)
{
	while (atomic_load(&flooding)) {
		/* not by the ring's own function, which counts: the test's other thread does,
		 * too */
		(void)!write(((const struct ring *)data)->kick_fd, &(uint64_t){ 1 },
			sizeof(uint64_t));
		sched_yield();
	}
	return NULL;
}

/* Other rings, and this one as well, are served meanwhile. */
/* covers: G9 G17 */
START_TEST(test_kicks_without_an_end)
{
	uint16_t index = rings[_i / 2];
	struct ring_config cfg = {
		.index = CTRL, .size = SIZE, .packed = _i & 1, .base = _i & 1 ? 0x8000 : 0
	};
	pthread_t thread;

	open_session(_i & 1, 0);
	ck_assert_int_eq(ring_init(&greedy, &n.g, &cfg), 0);
	if (index == CTRL)
		start(&greedy);
	atomic_store(&flooding, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, storm,
				 index == CTRL ? &greedy : &n.rings[index]),
		0);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(net_pump(&n, 1, 100, 200), n.why);
	rig_ok(vu_get_features(&n.c), n.c.why);
	stop(index);
	atomic_store(&flooding, false);
	pthread_join(thread, NULL);
	ring_deinit(&greedy);
	net_close(&n);
}
END_TEST

/* A call that waits for room in it is made in between: it is filled again. */
static void fill_and_block(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	uint64_t value;

	ck_assert_int_eq(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
	do {
		(void)!read(fd, &value, sizeof(value));
		value = FULL;
	} while (write(fd, &value, sizeof(value)) < 0 && errno == EAGAIN);
	ck_assert_int_eq(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
}

/* _i: bit 0 packed. Handed over as it should be, full and blocking later on: the flag is of the
 * open file. */
/* covers: G17 */
START_TEST(test_call_that_turns_into_one_that_blocks)
{
	uint16_t index = rings[_i / 2];
	struct ring_config cfg = {
		.index = CTRL, .size = SIZE, .packed = _i & 1, .base = _i & 1 ? 0x8000 : 0
	};
	struct ring *r = index == CTRL ? &greedy : &n.rings[index];
	struct ring_seg seg = { .len = 8, .write = true };
	uint64_t value;

	open_session(_i & 1, 0);
	seg.gpa = guest_alloc(&n.g, 8, 8);
	ck_assert_int_eq(ring_init(&greedy, &n.g, &cfg), 0);
	if (index == CTRL)
		start(r);
	ring_want_calls(r, true);
	for (int i = 0; i < 3; i++) {
		fill_and_block(r->call_fd);
		if (index == CTRL)
			ck_assert_int_eq(ring_post(r, &seg, 1, NULL), 0);
		else
			send_frame(0);
		ring_kick_always(r);
		rig_ok(ring_poll(r, 5000), r->fault);
		rig_ok(net_pump(&n, 1, 30, 200), n.why);
		rig_ok(vu_get_features(&n.c), n.c.why);
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, 3, 1), n.c.why);
	}
	/* emptied, it is what it was */
	ck_assert_int_eq(read(r->call_fd, &value, sizeof(value)), sizeof(value));
	ck_assert_int_eq(fcntl(r->call_fd, F_SETFL, fcntl(r->call_fd, F_GETFL) | O_NONBLOCK), 0);
	stop(index);
	ring_deinit(&greedy);
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "greedy");

	tcase_add_loop_test(tc, test_ring_that_feeds_itself, 0, 3);
	tcase_add_loop_test(tc, test_ring_that_is_never_empty, 0, 4);
	tcase_add_loop_test(tc, test_receive_chains_of_no_use_are_given_back_or_wait, 0,
		4 * N_SHAPES);
	tcase_add_loop_test(tc, test_kick_that_is_ready_for_ever, 0, 6);
	tcase_add_loop_test(tc, test_kicks_without_an_end, 0, 6);
	tcase_add_loop_test(tc, test_call_that_turns_into_one_that_blocks, 0, 6);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("greedy", &net0, add);
}
