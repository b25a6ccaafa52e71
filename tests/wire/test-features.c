/*
 * What comes with a protocol feature: that it is agreed on with what it needs, or not at all, and
 * the messages that it brings. What nobody serves is not offered, and refused in form.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define AT_ONCE                                                                                    \
	(VU_BIT(VU_PF_INFLIGHT_SHMFD) | VU_BIT(VU_PF_BASE_INFLIGHT) | VU_BIT(VU_PF_SKIP_DRAIN))

static struct net n;

/* --- Agreement --- */

static const struct {
	uint64_t features;
	bool agreed;
} agreements[] = {
	{ 0, true },
	{ VU_BIT(VU_PF_INFLIGHT_SHMFD), true },
	{ VU_BIT(VU_PF_BASE_INFLIGHT), false },
	{ VU_BIT(VU_PF_SKIP_DRAIN), false },
	{ VU_BIT(VU_PF_BASE_INFLIGHT) | VU_BIT(VU_PF_SKIP_DRAIN), false },
	{ VU_BIT(VU_PF_INFLIGHT_SHMFD) | VU_BIT(VU_PF_SKIP_DRAIN), false },
	{ VU_BIT(VU_PF_INFLIGHT_SHMFD) | VU_BIT(VU_PF_BASE_INFLIGHT), true },
	{ AT_ONCE, true },
	{ VU_BIT(VU_PF_GPA_ADDRESSES), true },
	{ VU_BIT(VU_PF_RESET_DEVICE), true },
};

START_TEST(test_feature_is_agreed_on_with_what_it_needs)
{
	struct vu_client c;
	uint64_t features = agreements[_i].features | VU_BIT(VU_PF_REPLY_ACK);

	rig_hello(&c, 0);
	c.ack = true;
	ck_assert_uint_eq(c.protocol & features, features);
	ck_assert_int_eq(vu_set_protocol_features(&c, features),
		agreements[_i].agreed ? 0 : VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

static const struct {
	uint32_t request, size;
} unserved[] = {
	{ VU_SET_VRING_ENDIAN, 8 },
	{ VU_CREATE_CRYPTO_SESSION, 8 },
	{ VU_CLOSE_CRYPTO_SESSION, 8 },
	{ VU_GET_SHARED_OBJECT, 16 },
	{ VU_GPU_SET_SOCKET, 0 },
};

/* SET_VRING_ENDIAN among them: a device of version 1 has no other order than its own, and one of a
 * former version is none of ours. */
START_TEST(test_what_is_not_served_is_not_offered_and_refused)
{
	static const unsigned int bits[] = { 6, 7, 11, 17, 18 };
	static const uint8_t zeros[16];
	struct vu_header head = { unserved[_i].request, VU_VERSION | VU_NEED_REPLY,
		unserved[_i].size };
	struct vu_client c;
	struct vu_msg msg;

	rig_hello(&c, 0);
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		ck_assert(!(c.protocol & VU_BIT(bits[i])));
	rig_ok(vu_send(&c, &head, zeros, NULL, 0), c.why);
	if (unserved[_i].request == VU_CREATE_CRYPTO_SESSION ||
		unserved[_i].request == VU_GET_SHARED_OBJECT) {
		rig_ok(vu_recv(&c, &msg), c.why);
		ck_assert_uint_eq(msg.head.request, unserved[_i].request);
		ck_assert_uint_eq(msg.head.flags, VU_REPLY_FLAGS);
		ck_assert_uint_eq(msg.n_fds, 0);
	} else {
		ck_assert_int_eq(vu_recv_ack(&c, unserved[_i].request), VU_E_REFUSED);
	}
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* --- Rings that stop at once --- */

static int get_base(uint32_t request, uint32_t index, uint32_t flags, uint32_t *ret_base)
{
	struct vu_state state = { index, 0 };
	struct vu_header head = { request, VU_VERSION | flags, sizeof(state) };
	struct vu_msg msg;
	int r = vu_send(&n.c, &head, &state, NULL, 0);

	r = r ?: vu_recv_reply(&n.c, request, sizeof(state), &msg);
	if (r)
		return r;
	ck_assert_uint_eq(msg.body.state.index, index);
	*ret_base = msg.body.state.num;
	return 0;
}

static void check_stops(uint16_t index, uint32_t request, uint32_t flags)
{
	uint32_t base;

	rig_ok(get_base(request, index, flags, &base), n.c.why);
	rig_ok(net_drain_tx(&n, 0, test_ms(5000)), n.why);
	ck_assert_uint_eq(base, ring_base(&n.rings[index]));
	/* asked once more, the same */
	rig_ok(get_base(request, index, flags, &base), n.c.why);
	ck_assert_uint_eq(base, ring_base(&n.rings[index]));
}

/* _i: bit 0: packed; bit 1: with need_reply; bit 2: GET_VRING_BASE, which is as quick then */
/* uses: protocol:GET_VRING_BASE_INFLIGHT protocol:GET_VRING_BASE_SKIP_DRAIN */
START_TEST(test_ring_stops_at_once_and_goes_on)
{
	struct net_profile p = { .features = _i & 1 ? VU_BIT(VU_F_PACKED) : 0,
		.protocol = AT_ONCE };
	uint32_t request = _i & 4 ? VU_GET_VRING_BASE : VU_GET_VRING_BASE_SKIP_DRAIN;
	struct vu_inflight area = { .n_queues = 2, .queue_size = 256 };
	uint16_t head[8];
	uint8_t *mem;
	int fd;

	rig_open_stopped(&n, &p);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	mem = mmap(NULL, area.mmap_size, PROT_READ, MAP_SHARED, fd, (off_t)area.mmap_offset);
	ck_assert_ptr_ne(mem, MAP_FAILED);
	rig_start_rings(&n);
	for (int round = 0; round < 5; round++) {
		rig_ok(net_pump(&n, 0, 100, 200), n.why);
		for (uint16_t i = 0; i < n.n_rings; i++)
			check_stops(i, request, _i & 2 ? VU_NEED_REPLY : 0);
		/* what the region says of the transmit ring is what the driver sees */
		memcpy(head, mem + area.mmap_size / 2, sizeof(head));
		ck_assert_uint_eq(head[4], 1);
		if (!(_i & 1))
			ck_assert_uint_eq(head[7], (uint16_t)ring_base(&n.rings[1]));
		for (uint16_t i = 0; i < n.n_rings; i++)
			rig_ok(net_start_ring(&n, i), n.why);
	}
	rig_finish(&n);
	munmap(mem, area.mmap_size);
	close(fd);
}
END_TEST

/* Refused, it is answered in form all the same: with the ring that was asked for. */
START_TEST(test_stop_at_once_that_is_wrong_stops_nothing)
{
	struct net_profile p = { .protocol = _i ? AT_ONCE : VU_BIT(VU_PF_INFLIGHT_SHMFD) };
	struct vu_state state = { _i ? 200 : 0, 0 };
	struct vu_header head = { VU_GET_VRING_BASE_SKIP_DRAIN, VU_VERSION, sizeof(state) };
	struct vu_msg msg;

	rig_open(&n, &p);
	rig_ok(vu_send(&n.c, &head, &state, &n.rings[0].call_fd, _i == 2), n.c.why);
	rig_ok(vu_recv_reply(&n.c, VU_GET_VRING_BASE_SKIP_DRAIN, sizeof(state), &msg), n.c.why);
	ck_assert_uint_eq(msg.body.state.index, state.index);
	ck_assert_uint_eq(msg.body.state.num, 0);
	rig_finish(&n);
}
END_TEST

START_TEST(test_rings_stop_at_once_whoever_dies)
{
	struct net_profile p = { .features = _i ? VU_BIT(VU_F_PACKED) : 0, .protocol = AT_ONCE };

	rig_open(&n, &p);
	n.c.timeout_ms = test_ms(30000);
	for (unsigned int round = 0; round < 6; round++) {
		static const char *const roles[] = { "frontend", "memory" };
		uint32_t base[2];

		rig_ok(net_pump(&n, 0, 50, 200), n.why);
		if (round & 1)
			rig_ok(get_base(VU_GET_VRING_BASE_SKIP_DRAIN, 1, 0, &base[0]), n.c.why);
		rig_ok(round / 2 < 2 ? suite_kill(&rig, roles[round / 2])
				     : suite_kill_worker(&rig, "net0"),
			rig.why);
		for (uint16_t i = 0; i < n.n_rings; i++)
			check_stops(i, VU_GET_VRING_BASE_SKIP_DRAIN, 0);
		for (uint16_t i = 0; i < n.n_rings; i++)
			rig_ok(net_start_ring(&n, i), n.why);
	}
	rig_finish(&n);
}
END_TEST

/* --- Guest addresses --- */

static void say_guest_addresses(void)
{
	for (size_t i = 0; i < n.g.n_regions; i++)
		n.g.regions[i].at.uva = n.g.regions[i].at.gpa;
}

/* _i: bit 0: packed; bit 1: somebody dies; uses: protocol:GPA_ADDRESSES */
START_TEST(test_addresses_are_the_guests)
{
	struct vu_region more = { UINT64_C(1) << 32, 16 << 20, UINT64_C(1) << 32, 0 };
	struct net_profile p = { .features = _i & 1 ? VU_BIT(VU_F_PACKED) : 0,
		.protocol = VU_BIT(VU_PF_GPA_ADDRESSES) | VU_BIT(VU_PF_MEM_SLOTS) };
	struct vu_addr addr;

	rig_ok(net_init(&n, &p), n.why);
	say_guest_addresses();
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	rig_ok(net_negotiate(&n), n.why);
	ck_assert(n.c.acked_protocol & VU_BIT(VU_PF_GPA_ADDRESSES));
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	ring_addr(&n.rings[0], &addr);
	ck_assert_uint_eq(addr.desc, n.rings[0].cfg.desc);
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	if (_i & 2) {
		rig_ok(suite_kill(&rig, "frontend"), rig.why);
		rig_ok(suite_kill_worker(&rig, "net0"), rig.why);
	}
	ck_assert_int_eq(guest_add_region(&n.g, &more), 0);
	rig_ok(vu_add_mem_reg(&n.c, &more, n.g.regions[1].fd), n.c.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_ok(vu_rem_mem_reg(&n.c, &more, -1), n.c.why);
	/* an address that no region has as the guest's */
	addr.desc = UINT64_C(0x7f0000000000);
	ck_assert_int_eq(vu_set_vring_addr(&n.c, &addr), VU_E_REFUSED);
	rig_restart_rings(&n);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_stop_rings(&n);
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "features"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_feature_is_agreed_on_with_what_it_needs, 0,
		sizeof(agreements) / sizeof(agreements[0]));
	tcase_add_loop_test(tc, test_what_is_not_served_is_not_offered_and_refused, 0,
		sizeof(unserved) / sizeof(unserved[0]));
	tcase_add_loop_test(tc, test_ring_stops_at_once_and_goes_on, 0, 8);
	tcase_add_loop_test(tc, test_stop_at_once_that_is_wrong_stops_nothing, 0, 3);
	tcase_add_loop_test(tc, test_addresses_are_the_guests, 0, 2);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_rings_stop_at_once_whoever_dies, 0, 2);
	tcase_add_loop_test(deaths, test_addresses_are_the_guests, 2, 4);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("features", &net0, add);
}
