/*
 * The ring messages: number, address, base, kick, call, err, enable, each with a good value, bad
 * indices, bad values and in the wrong state. What is refused must leave the rings as they were.
 */
#include <errno.h>
#include <string.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

static struct net n;
static const struct net_profile plain = { 0 };

static void finish_and_pump(void)
{
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 40, 200), n.why);
	net_close(&n);
}

static const uint32_t bad_indices[] = { 64, 200, 255, 256, 257, 65536, 0x80000000, 0xffffffff };

#define N_BAD (sizeof(bad_indices) / sizeof(bad_indices[0]))

/* covers: M10 */
START_TEST(test_index_beyond_the_queues_is_refused)
{
	static const uint32_t requests[] = { VU_SET_VRING_NUM, VU_SET_VRING_BASE,
		VU_SET_VRING_ENABLE };
	uint32_t index = bad_indices[_i % N_BAD];
	struct vu_addr addr;

	rig_open_stopped(&n, &plain);
	for (size_t k = 0; k < 3; k++)
		ck_assert_int_eq(vu_set_state(&n.c, requests[k], index, 1), VU_E_REFUSED);
	ring_addr(&n.rings[0], &addr);
	addr.index = index;
	ck_assert_int_eq(vu_set_vring_addr(&n.c, &addr), VU_E_REFUSED);
	finish_and_pump();
}
END_TEST

/* covers: M10 */
START_TEST(test_descriptor_for_an_index_beyond_the_queues_is_refused)
{
	static const uint32_t requests[] = { VU_SET_VRING_KICK, VU_SET_VRING_CALL,
		VU_SET_VRING_ERR };

	rig_open_stopped(&n, &plain);
	for (uint64_t index = 55; index < 256; index += 50) {
		for (size_t k = 0; k < 3; k++)
			ck_assert_int_eq(vu_set(&n.c, requests[k], &index, 8, n.rings[0].call_fd),
				VU_E_REFUSED);
	}
	finish_and_pump();
}
END_TEST

/* covers: M10 */
START_TEST(test_base_of_a_queue_that_is_not_there_fails_alone)
{
	struct vu_state state = { 200, 0 };
	struct vu_header head = { VU_GET_VRING_BASE, VU_VERSION, sizeof(state) };
	struct vu_msg msg;
	int r;

	rig_open_stopped(&n, &plain);
	rig_ok(vu_send(&n.c, &head, &state, NULL, 0), n.c.why);
	r = vu_recv(&n.c, &msg);
	/* either an answer that names the same index, or the end of this session alone */
	if (!r) {
		ck_assert_uint_eq(msg.head.request, VU_GET_VRING_BASE);
		ck_assert_uint_eq(msg.head.flags, VU_REPLY_FLAGS);
		rig_ok(vu_get_features(&n.c), n.c.why);
	} else {
		ck_assert_int_eq(r, -ECONNRESET);
	}
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* covers: M11 */
START_TEST(test_size_that_no_ring_can_have_is_refused)
{
	static const uint32_t sizes[] = { 0, 3, 100, 32769, 65536, 65536 + 256, 0xffffffff };

	rig_open_stopped(&n, &plain);
	ck_assert_int_eq(vu_set_state(&n.c, VU_SET_VRING_NUM, 0, sizes[_i]), VU_E_REFUSED);
	finish_and_pump();
}
END_TEST

/* covers: M11 */
START_TEST(test_size_of_a_running_ring_cannot_change)
{
	rig_open(&n, &plain);
	rig_ok(net_pump(&n, 0, 10, 100), n.why);
	ck_assert_int_eq(vu_set_state(&n.c, VU_SET_VRING_NUM, 1, 128), VU_E_REFUSED);
	rig_ok(net_pump(&n, 0, 300, 100), n.why);
	net_close(&n);
}
END_TEST

/* what is added to each of the three addresses, or the value put in its place */
static const struct {
	const char *what;
	uint64_t desc, used, avail;
	bool replace;
} bad_addrs[] = {
	{ "descriptors misaligned", 8, 0, 0, false },
	{ "avail misaligned", 0, 0, 1, false },
	{ "used misaligned", 0, 2, 0, false },
	{ "unmapped", 0x1000, 0x1000, 0x1000, true },
	{ "wrapping", UINT64_MAX - 15, UINT64_MAX - 3, UINT64_MAX - 1, true },
	{ "desc ends behind the region", 0x7f7d63fff000 + (1 << 30) - 4096 + 16, 0, 0, false },
};

/* covers: M12 */
START_TEST(test_address_that_cannot_be_does_no_harm)
{
	struct vu_addr addr;
	uint64_t desc;

	rig_open_stopped(&n, &plain);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, 1, n.p.ring_size), n.c.why);
	ring_addr(&n.rings[1], &addr);
	desc = addr.desc;
	if (bad_addrs[_i].replace || _i == 5)
		addr.desc = 0;
	if (bad_addrs[_i].replace)
		addr.used = addr.avail = 0;
	addr.desc += bad_addrs[_i].desc;
	addr.used += bad_addrs[_i].used;
	addr.avail += bad_addrs[_i].avail;
	ck_assert(addr.desc != desc || bad_addrs[_i].used || bad_addrs[_i].avail);
	ck_assert_msg(vu_set_vring_addr(&n.c, &addr) == VU_E_REFUSED, "%s was accepted",
		bad_addrs[_i].what);
	finish_and_pump();
}
END_TEST

/* covers: M14 */
START_TEST(test_kick_before_anything_else_starts_nothing)
{
	struct net_profile p = plain;

	p.lax = rig.peer;
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_make_rings(&n), n.why);
	/* no memory, number or address: refused or remembered, but nothing may run or die */
	ck_assert_int_ge(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, 0, n.rings[0].kick_fd), 0);
	ring_kick_always(&n.rings[0]);
	rig_ok(vu_get_features(&n.c), n.c.why);
	rig_ok(net_set_memory(&n), n.why);
	finish_and_pump();
}
END_TEST

/* covers: M14 */
START_TEST(test_enable_before_features_is_accepted)
{
	struct net_profile p = plain;

	p.lax = rig.peer;
	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(vu_hello(&n.c, VU_BIT(VU_PF_REPLY_ACK)), n.c.why);
	n.c.ack = true;
	for (uint32_t i = 0; i < 4; i++)
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_ENABLE, i & 1, 1), n.c.why);
	rig_ok(vu_set_features(&n.c, VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES)),
		n.c.why);
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	/* enabled is remembered: starting is enough */
	rig_ok(net_start_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 1), n.why);
	rig_ok(net_fill(&n, 0), n.why);
	rig_ok(net_pump(&n, 0, 40, 200), n.why);
	net_close(&n);
}
END_TEST

START_TEST(test_enable_of_neither_0_nor_1_is_refused)
{
	rig_open(&n, &plain);
	ck_assert_int_eq(vu_set_state(&n.c, VU_SET_VRING_ENABLE, 0, 2), VU_E_REFUSED);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	net_close(&n);
}
END_TEST

/* covers: M14 */
START_TEST(test_base_of_a_ring_never_started)
{
	uint32_t base;

	rig_open_stopped(&n, &plain);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	ck_assert_uint_eq(base, 0);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, 0, 0x1234), n.c.why);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	ck_assert_uint_eq(base, 0x1234);
	finish_and_pump();
}
END_TEST

/* covers: M8 */
START_TEST(test_kick_of_a_wrong_kind_fails_alone)
{
	int pair[2];
	uint64_t value = 0;

	rig_open_stopped(&n, &plain);
	ck_assert_int_eq(pipe(pair), 0);
	/* a pipe can be polled and read; whatever is said, the session and the ring go on */
	ck_assert_int_ge(vu_set(&n.c, VU_SET_VRING_CALL, &value, 8, pair[0]), 0);
	ck_assert_int_ge(vu_set(&n.c, VU_SET_VRING_ERR, &value, 8, n.g.regions[0].fd), 0);
	finish_and_pump();
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* covers: M9 */
START_TEST(test_descriptor_and_no_fd_bit_contradict)
{
	static const uint32_t requests[] = { VU_SET_VRING_KICK, VU_SET_VRING_CALL,
		VU_SET_VRING_ERR };
	uint64_t with_bit = 1 | VU_VRING_NOFD;
	uint64_t without = 1;

	rig_open_stopped(&n, &plain);
	for (size_t k = 0; k < 3; k++) {
		ck_assert_int_eq(vu_set(&n.c, requests[k], &with_bit, 8, n.rings[1].call_fd),
			VU_E_REFUSED);
		ck_assert_int_eq(vu_set(&n.c, requests[k], &without, 8, -1), VU_E_REFUSED);
	}
	finish_and_pump();
}
END_TEST

START_TEST(test_call_may_change_and_go_while_the_ring_runs)
{
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t calls = 0;

	rig_open(&n, &plain);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 0, other), n.c.why);
	ring_drain_calls(&n.rings[0]);
	n.rings[0].n_calls = 0;
	close(n.rings[0].call_fd);
	n.rings[0].call_fd = dup(other);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	/* without a call descriptor frames come too, the driver has to look for them */
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 0, -1), n.c.why);
	while (read(other, &calls, 8) == 8)
		;
	ring_want_calls(&n.rings[0], false);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	ck_assert_int_eq(read(other, &calls, 8), -1);
	close(other);
	net_close(&n);
}
END_TEST

/* calls for what was used meanwhile may have gone to the former descriptor, or to none */
START_TEST(test_new_call_descriptor_of_a_running_ring_is_called_once)
{
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd p = { .fd = other, .events = POLLIN };
	uint64_t calls = 0;

	rig_open(&n, &plain);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 1, other), n.c.why);
	ck_assert_int_eq(poll(&p, 1, test_ms(5000)), 1);
	ck_assert_int_eq(read(other, &calls, 8), 8);
	ck_assert_uint_eq(calls, 1);
	close(other);
	net_close(&n);
}
END_TEST

START_TEST(test_call_may_be_a_socket)
{
	int pair[2];
	struct net_profile p = plain;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
	rig_open_stopped(&n, &p);
	close(n.rings[0].call_fd);
	n.rings[0].call_fd = pair[0];
	n.rings[0].call_peer_fd = pair[1];
	finish_and_pump();
}
END_TEST

/* covers: G17 */
START_TEST(test_full_call_eventfd_blocks_nobody)
{
	uint64_t full = UINT64_MAX - 1;
	int other = eventfd(0, EFD_CLOEXEC);

	ck_assert_int_eq(write(other, &full, 8), 8);
	rig_open(&n, &plain);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 0, other), n.c.why);
	rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 1, other), n.c.why);
	ring_want_calls(&n.rings[0], false);
	n.rings[0].want_calls = true; /* asked for in the ring, not waited for by us */
	n.rings[0].want_calls = false;
	n.rings[0].avail[0] = 0;
	rig_ok(net_pump(&n, 0, 40, 100), n.why);
	net_close(&n);
	close(other);
}
END_TEST

/* Nobody hears the driver's kicks. */
START_TEST(test_ring_without_a_kick_descriptor_is_polled)
{
	struct net_profile p = { .features = _i ? VU_BIT(VU_F_PACKED) : 0 };

	rig_open(&n, &p);
	for (int round = 0; round < 3; round++) {
		for (uint16_t i = 0; i < n.n_rings; i++)
			rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, i, -1), n.c.why);
		rig_ok(net_pump(&n, 0, 40, 200), n.why);
		for (uint16_t i = 0; i < n.n_rings; i++)
			rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, i, n.rings[i].kick_fd),
				n.c.why);
		rig_ok(net_pump(&n, 0, 40, 200), n.why);
	}
	rig_finish(&n);
}
END_TEST

/* It is kicked from then on; what was kicked before is looked at without one. */
START_TEST(test_kick_may_change_while_the_ring_runs)
{
	rig_open(&n, &plain);
	for (int round = 0; round < 10; round++) {
		int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		uint16_t index = round & 1;

		rig_ok(net_pump(&n, 0, 20, 100), n.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, index, other), n.c.why);
		close(n.rings[index].kick_fd);
		n.rings[index].kick_fd = other;
		rig_ok(net_pump(&n, 0, 20, 100), n.why);
	}
	rig_finish(&n);
}
END_TEST

/* The driver says that more chains are there than the ring has room for. */
static void break_ring(uint16_t index)
{
	struct ring *r = &n.rings[index];

	r->avail[1] = (uint16_t)(r->avail[1] + 2 * r->cfg.size);
	ring_kick_always(r);
}

/* _i: the err descriptor of a ring is 0: replaced, 1: taken away and given back, 2: handed over
 * after the ring broke */
START_TEST(test_err_may_change_while_the_ring_runs)
{
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), former;

	rig_open(&n, &plain);
	if (_i)
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_ERR, 1, -1), n.c.why);
	if (_i < 2)
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_ERR, 1, other), n.c.why);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	ck_assert_int_eq(ring_wait_err(&n.rings[1], 0), -ETIMEDOUT);
	break_ring(1);
	if (_i == 2) {
		poll(NULL, 0, test_ms(100));
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_ERR, 1, other), n.c.why);
	}
	former = n.rings[1].err_fd;
	n.rings[1].err_fd = other;
	rig_ok(ring_wait_err(&n.rings[1], test_ms(5000)), "no word of what has happened");
	n.rings[1].err_fd = former;
	ck_assert_int_eq(ring_wait_err(&n.rings[1], 0), -ETIMEDOUT);
	ck_assert_int_eq(ring_wait_err(&n.rings[0], 0), -ETIMEDOUT);
	close(other);
	net_close(&n);
	rig_check_net0();
}
END_TEST

START_TEST(test_base_given_twice_counts_once)
{
	rig_open_stopped(&n, &plain);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, 1, 77), n.c.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, 1, 99), n.c.why);
	finish_and_pump();
}
END_TEST

/* covers: M13 */
START_TEST(test_packed_base_out_of_the_ring_is_refused)
{
	struct net_profile p = { .features = VU_BIT(VU_F_PACKED) };

	rig_open_stopped(&n, &p);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, 1, 256), n.c.why);
	ck_assert_int_eq(vu_set_state(&n.c, VU_SET_VRING_BASE, 1, 0x80000000 | 0x7fff),
		VU_E_REFUSED);
	ck_assert_int_eq(vu_set_state(&n.c, VU_SET_VRING_BASE, 1, 256), VU_E_REFUSED);
	finish_and_pump();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "vring");

	tcase_add_loop_test(tc, test_index_beyond_the_queues_is_refused, 0, N_BAD);
	tcase_add_test(tc, test_descriptor_for_an_index_beyond_the_queues_is_refused);
	tcase_add_test(tc, test_base_of_a_queue_that_is_not_there_fails_alone);
	tcase_add_loop_test(tc, test_size_that_no_ring_can_have_is_refused, 0, 7);
	tcase_add_test(tc, test_size_of_a_running_ring_cannot_change);
	tcase_add_loop_test(tc, test_address_that_cannot_be_does_no_harm, 0, 6);
	tcase_add_test(tc, test_kick_before_anything_else_starts_nothing);
	tcase_add_test(tc, test_enable_before_features_is_accepted);
	tcase_add_test(tc, test_enable_of_neither_0_nor_1_is_refused);
	tcase_add_test(tc, test_base_of_a_ring_never_started);
	tcase_add_test(tc, test_kick_of_a_wrong_kind_fails_alone);
	tcase_add_test(tc, test_descriptor_and_no_fd_bit_contradict);
	tcase_add_test(tc, test_call_may_change_and_go_while_the_ring_runs);
	tcase_add_test(tc, test_new_call_descriptor_of_a_running_ring_is_called_once);
	tcase_add_test(tc, test_call_may_be_a_socket);
	tcase_add_test(tc, test_full_call_eventfd_blocks_nobody);
	tcase_add_loop_test(tc, test_ring_without_a_kick_descriptor_is_polled, 0, 2);
	tcase_add_test(tc, test_kick_may_change_while_the_ring_runs);
	tcase_add_loop_test(tc, test_err_may_change_while_the_ring_runs, 0, 3);
	tcase_add_test(tc, test_base_given_twice_counts_once);
	tcase_add_test(tc, test_packed_base_out_of_the_ring_is_refused);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("vring", &net0, add);
}
