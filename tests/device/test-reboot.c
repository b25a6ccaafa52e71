/*
 * The whole product dies at once under load, and everything that it kept is gone. A front-end that
 * has kept the in-flight region connects to the new one, hands it back, and starts its rings as
 * they are, with a base that is no more than a guess. Every buffer must come back exactly once: the
 * rings in the tests' library see to that. Of the frames, the batch in hand may be lost or
 * repeated, and no more.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/patience.h"
#include "lib/run.h"
#include "net.h"
#include "rig.h"
#include "suite.h"

#define INFLIGHT VU_BIT(VU_PF_INFLIGHT_SHMFD)
#define BATCH 64 /* frames that a worker takes in one turn */
#define FRAME_BYTES 300

static struct suite suite;
static struct net n;
static struct vu_inflight area;
static int inflight_fd;
static uint32_t lost_base; /* what the front-end says of packed rings */
static uint32_t n_sent, next_due, n_lost, n_repeated;

/* --- The front-end --- */

/* The driver's ring as it is; where it stands, the front-end does not know. */
static void start_ring(uint16_t index, uint32_t base)
{
	struct ring *r = &n.rings[index];
	struct vu_addr addr;

	ring_addr(r, &addr);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, index, r->cfg.size), n.c.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, index, base), n.c.why);
	rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, index, r->call_fd), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, index, r->kick_fd), n.c.why);
}

static uint32_t guess(uint16_t index)
{
	return n.p.features & VU_BIT(VU_F_PACKED) ? lost_base : n.rings[index].next_used;
}

static void connect_again(void)
{
	vu_close(&n.c);
	n.c = (struct vu_client)VU_CLIENT_NULL;
	rig_ok(vu_connect(&n.c, suite_socket(&suite, "net0")), n.c.why);
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	if (inflight_fd >= 0)
		rig_ok(vu_set_inflight(&n.c, &area, inflight_fd), n.c.why);
	/* first of all: a transmit ring that runs and is not enabled is emptied, as the
	 * specification wants */
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(net_enable(&n, i, true), n.why);
	for (uint16_t i = 0; i < 2; i++)
		start_ring(i, guess(i));
}

static void open_first(uint64_t features)
{
	struct net_profile p = { .features = features, .protocol = INFLIGHT, .ring_size = 256 };

	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, suite_socket(&suite, "net0")), n.c.why);
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	area = (struct vu_inflight){ .n_queues = 2, .queue_size = 256 };
	rig_ok(vu_get_inflight(&n.c, &area, &inflight_fd), n.c.why);
	rig_ok(vu_set_inflight(&n.c, &area, inflight_fd), n.c.why);
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(net_start_ring(&n, i), n.why);
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(net_enable(&n, i, true), n.why);
	rig_ok(net_fill(&n, 0), n.why);
}

/* --- Traffic --- */

static void send_one(void)
{
	uint8_t frame[FRAME_BYTES];

	net_frame_make(frame, sizeof(frame), n_sent++);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
}

static uint32_t seq_of(const uint8_t *frame)
{
	return (uint32_t)frame[14] << 24 | (uint32_t)frame[15] << 16 | (uint32_t)frame[16] << 8 |
		frame[17];
}

static void receive_one(void)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes, seq;

	rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
	ck_assert_uint_eq(n_bytes, FRAME_BYTES);
	seq = seq_of(frame);
	ck_assert_msg(net_frame_is_echo(frame, n_bytes, seq), "a frame came back changed");
	ck_assert_uint_lt(seq, n_sent);
	if (seq < next_due) {
		n_repeated++;
		return;
	}
	n_lost += seq - next_due;
	next_due = seq + 1;
}

/* Until the last frame has come back. Nothing overtakes, so all before it have. */
static void settle(void)
{
	send_one();
	while (next_due < n_sent)
		receive_one();
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
}

static void *kill_all(void *data)
{
	struct timespec delay = { 0, *(long *)data };

	nanosleep(&delay, NULL);
	return (void *)(intptr_t)suite_kill_all(&suite);
}

/* Frames go out and come in until the product is gone, whatever is under way. */
static void run_until_killed(long after_ns)
{
	pthread_t killer;
	void *r;

	ck_assert_int_eq(pthread_create(&killer, NULL, kill_all, &after_ns), 0);
	while (pthread_tryjoin_np(killer, &r) != 0) {
		if (n_sent - next_due < 100 && n.n_free_tx[0])
			send_one();
		while (ring_has_used(&n.rings[0]))
			receive_one();
	}
	ck_assert_msg(!r, "%s", suite.why);
}

/* _i: bit 0 packed, bit 1 event index, bit 2 indirect */
/* covers: G15 P2 */
START_TEST(test_whole_product_dies_and_no_buffer_is_lost)
{
	struct suite_device device = { .name = "net0", .backend = "echo" };
	uint64_t features = (_i & 1 ? VU_BIT(VU_F_PACKED) : 0) |
		(_i & 2 ? VU_BIT(VU_F_EVENT_IDX) : 0) | (_i & 4 ? VU_BIT(VU_F_INDIRECT) : 0);

	rig_ok(suite_start(&suite, &device, 1), suite.why);
	rig_ok(suite_wait_ready(&suite), suite.why);
	open_first(features);
	n.p.indirect = n.rings[0].cfg.indirect = n.rings[1].cfg.indirect = _i & 4;
	srand48(_i);
	for (unsigned int i = 0; i < test_rounds(12); i++) {
		uint32_t lost = n_lost, repeated = n_repeated;

		run_until_killed(lrand48() % 3000000);
		rig_ok(suite_start_again(&suite), suite.why);
		connect_again();
		settle();
		rig_ok(net_check(&n), n.why);
		ck_assert_uint_le(n_lost - lost, BATCH);
		ck_assert_uint_le(n_repeated - repeated, BATCH);
	}
	rig_ok(net_stop_ring(&n, 0), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	printf("# %s%s%s: %u deaths of all, %u frames, %u lost, %u repeated, no buffer lost or repeated\n",
		_i & 1 ? "packed" : "split", _i & 2 ? ", event index" : "",
		_i & 4 ? ", indirect" : "", test_rounds(12), n_sent, n_lost, n_repeated);
	close(inflight_fd);
	net_close(&n);
	rig_ok(suite_stop(&suite), suite.why);
}
END_TEST

/* The front-end has kept nothing, not even where its rings stood, as QEMU with a network device:
 * the rings show it. _i: bit 0 packed, bit 1 a base of both halves */
START_TEST(test_whole_product_dies_and_rings_go_on_where_they_are)
{
	struct suite_device device = { .name = "net0", .backend = "echo" };

	rig_ok(suite_start(&suite, &device, 1), suite.why);
	rig_ok(suite_wait_ready(&suite), suite.why);
	open_first(_i & 1 ? VU_BIT(VU_F_PACKED) : 0);
	close(inflight_fd);
	inflight_fd = -1;
	lost_base = _i & 2 ? 0x80008000 : 0;
	for (int i = 0; i < 6; i++) {
		for (int k = 0; k < 40 + 30 * i; k++)
			settle();
		rig_ok(suite_kill_all(&suite), suite.why);
		rig_ok(suite_start_again(&suite), suite.why);
		connect_again();
	}
	settle();
	rig_ok(net_check(&n), n.why);
	if (_i & 1)
		ck_assert(suite_logged(&suite, "does not match the ring"));
	ck_assert(!suite_logged(&suite, "its memory is blank"));
	net_close(&n);
	rig_ok(suite_stop(&suite), suite.why);
}
END_TEST

static void add_tests(Suite *s)
{
	TCase *tc = tcase_create("reboot");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_whole_product_dies_and_no_buffer_is_lost, 0, 8);
	tcase_add_loop_test(tc, test_whole_product_dies_and_rings_go_on_where_they_are, 0, 4);
	suite_add_tcase(s, tc);
}

int main(void)
{
	if (!getenv("BULKHEAD_BUILD") || getenv("BULKHEAD_TEST_PEER")) {
		printf("1..0 # SKIP it needs this product\n");
		return 0;
	}
	return run_main("reboot", add_tests);
}
