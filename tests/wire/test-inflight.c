/*
 * The region in which chains in flight are noted: handed out, handed back, and everything that may
 * be wrong with what is handed back. What is refused leaves the former one in use, and a region
 * with nonsense in it stops the ring that it belongs to, and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "rig.h"

#define INFLIGHT VU_BIT(VU_PF_INFLIGHT_SHMFD)
#define RING 256
#define SPLIT_BYTES (16 + 16 * RING + 48) /* of one queue, rounded up to 64 */
#define PACKED_BYTES (32 + 32 * RING + 32)

static struct net n;
static const struct vu_inflight ours = { .n_queues = 2, .queue_size = RING };

/* up to where the rings would start */
static void open_stopped(uint64_t features)
{
	struct net_profile p = { .features = features, .protocol = INFLIGHT };

	rig_open_stopped(&n, &p);
	ck_assert(n.c.acked_protocol & INFLIGHT);
}

static void moves(void)
{
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 1000, 100), n.why);
	rig_end(&n);
}

static void *map_area(const struct vu_inflight *area, int fd)
{
	void *mem = mmap(NULL, area->mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		(off_t)area->mmap_offset);

	ck_assert_ptr_ne(mem, MAP_FAILED);
	return mem;
}

/* --- As it should be --- */

/* _i: 1 = packed */
/* uses: protocol:INFLIGHT_SHMFD */
START_TEST(test_region_is_handed_out_and_used)
{
	struct vu_inflight area = ours;
	uint16_t head[8];
	uint8_t *mem;
	int fd;

	open_stopped(_i ? VU_BIT(VU_F_PACKED) : 0);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	ck_assert_uint_eq(area.n_queues, 2);
	ck_assert_uint_eq(area.queue_size, RING);
	ck_assert_uint_eq(area.mmap_size % 2, 0);
	ck_assert_uint_ge(area.mmap_size, 2 * (_i ? PACKED_BYTES : SPLIT_BYTES));
	mem = map_area(&area, fd);
	for (uint64_t i = 0; i < area.mmap_size; i++)
		ck_assert_uint_eq(mem[i], 0);
	rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 700, 100), n.why);
	memcpy(head, mem, sizeof(head));
	ck_assert_uint_eq(head[4], 1); /* version */
	ck_assert_uint_eq(head[5], RING);
	rig_stop_rings(&n);
	memcpy(head, mem + area.mmap_size / 2, sizeof(head));
	if (!_i) /* all 700 came back, and none is in flight */
		ck_assert_uint_eq(head[7], 700);
	munmap(mem, area.mmap_size);
	close(fd);
	net_close(&n);
}
END_TEST

/* Front-ends hand it over again with every start of the rings, and it is the same one. */
START_TEST(test_rings_start_again_with_the_same_region)
{
	struct vu_inflight area = ours;
	int fd;

	open_stopped(_i ? VU_BIT(VU_F_PACKED) : 0);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	for (int i = 0; i < 5; i++) {
		rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
		if (i == 0) {
			rig_start_rings(&n);
		} else {
			rig_ok(net_start_ring(&n, 0), n.why);
			rig_ok(net_start_ring(&n, 1), n.why);
		}
		rig_ok(net_pump(&n, 0, 300, 100), n.why);
		rig_stop_rings(&n);
	}
	close(fd);
	net_close(&n);
}
END_TEST

START_TEST(test_region_need_not_be_set)
{
	struct vu_inflight area = ours;
	int fd;

	open_stopped(0);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	close(fd);
	moves();
}
END_TEST

/* A region of another back-end: of split rings, at an offset, in a file of its own. */
START_TEST(test_region_of_somebody_else)
{
	struct vu_inflight area = { 2 * SPLIT_BYTES, 4096 + 64, 2, RING, 0 };
	int fd = file_make(64 * 1024, MFD_ALLOW_SEALING, 0);
	uint8_t *mem;

	open_stopped(0);
	rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	rig_start_rings(&n);
	rig_ok(net_pump(&n, 0, 10, 100), n.why);
	mem = mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(mem, MAP_FAILED);
	ck_assert_uint_eq(mem[4096 + 64 + 8], 1);
	ck_assert_uint_eq(mem[4096 + 64 + SPLIT_BYTES + 8], 1);
	munmap(mem, 65536);
	close(fd);
	net_close(&n);
}
END_TEST

/* covers: M20 */
START_TEST(test_asked_for_many_times)
{
	open_stopped(0);
	for (int i = 0; i < 2000; i++) {
		struct vu_inflight area = ours;
		int fd;

		rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
		if (i % 3 == 0)
			rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
		close(fd);
	}
	moves();
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

/* --- Refused --- */

START_TEST(test_not_while_a_ring_runs)
{
	struct vu_inflight area = ours, again;
	int fd, other;

	open_stopped(0);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	rig_start_rings(&n);
	again = area;
	ck_assert_int_eq(vu_get_inflight(&n.c, &again, &other), VU_E_REFUSED);
	ck_assert_uint_eq(again.mmap_size, 0);
	ck_assert_int_eq(vu_set_inflight(&n.c, &area, fd), VU_E_REFUSED);
	rig_ok(net_pump(&n, 0, 100, 100), n.why);
	close(fd);
	net_close(&n);
}
END_TEST

START_TEST(test_not_unless_it_was_agreed_on)
{
	struct vu_inflight area = ours;
	int fd = file_make(1 << 20, MFD_ALLOW_SEALING, 0), other;

	rig_hello(&n.c, 0);
	n.c.ack = true;
	ck_assert_int_eq(vu_get_inflight(&n.c, &area, &other), VU_E_REFUSED);
	area = (struct vu_inflight){ 2 * PACKED_BYTES, 0, 2, RING, 0 };
	ck_assert_int_eq(vu_set_inflight(&n.c, &area, fd), VU_E_REFUSED);
	close(fd);
	vu_close(&n.c);
}
END_TEST

static const struct vu_inflight bad_shapes[] = {
	{ .n_queues = 0, .queue_size = RING },
	{ .n_queues = 2, .queue_size = 0 },
	{ .n_queues = 65535, .queue_size = RING },
	{ .n_queues = 2, .queue_size = 65535 },
	{ .n_queues = 65535, .queue_size = 65535 },
	{ .n_queues = 300, .queue_size = RING },
};

#define N_BAD_SHAPES ((int)(sizeof(bad_shapes) / sizeof(bad_shapes[0])))

/* covers: M20 */
START_TEST(test_impossible_shape_is_refused)
{
	struct vu_inflight area = bad_shapes[_i];
	int fd = file_make(1 << 20, MFD_ALLOW_SEALING, 0), other;

	open_stopped(0);
	ck_assert_int_eq(vu_get_inflight(&n.c, &area, &other), VU_E_REFUSED);
	ck_assert_uint_eq(area.mmap_size, 0);
	area = bad_shapes[_i];
	area.mmap_size = 1 << 20;
	ck_assert_int_eq(vu_set_inflight(&n.c, &area, fd), VU_E_REFUSED);
	close(fd);
	moves();
}
END_TEST

/* for a file of 128 KiB */
static const struct vu_inflight bad_places[] = {
	{ 0, 0, 2, RING, 0 },
	{ 2 * SPLIT_BYTES - 1, 0, 2, RING, 0 },
	{ 1 << 17, 4096, 2, RING, 0 },
	{ 2 * SPLIT_BYTES, 1 << 17, 2, RING, 0 },
	{ 2 * SPLIT_BYTES, 4097, 2, RING, 0 },
	{ 2 * SPLIT_BYTES, 8, 2, RING, 0 },
	{ 1 << 16, -(UINT64_C(1) << 16), 2, RING, 0 },
	{ -(UINT64_C(1) << 16), 1 << 16, 2, RING, 0 },
	{ UINT64_MAX, 0, 2, RING, 0 },
	{ UINT64_C(1) << 63, 0, 2, RING, 0 },
};

#define N_BAD_PLACES ((int)(sizeof(bad_places) / sizeof(bad_places[0])))

/* covers: M20 */
START_TEST(test_impossible_place_is_refused)
{
	int fd = file_make(1 << 17, MFD_ALLOW_SEALING, 0);

	open_stopped(0);
	ck_assert_int_eq(vu_set_inflight(&n.c, &bad_places[_i], fd), VU_E_REFUSED);
	close(fd);
	moves();
}
END_TEST

#define OWN_END 9 /* of the connection */

static int kind(int i)
{
	int pair[2];

	switch (i) {
	case 0:
		return eventfd(0, EFD_CLOEXEC);
	case 1:
		return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 2:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	case 3:
		return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	case 4:
		return file_reopen(file_make(1 << 20, MFD_ALLOW_SEALING, 0), O_RDONLY);
	case 5:
		return file_make(1 << 20, 0, 0); /* cannot be sealed */
	case 6:
		return file_make(1 << 20, MFD_ALLOW_SEALING, F_SEAL_SEAL);
	case 7:
		return file_make(1 << 20, MFD_ALLOW_SEALING, F_SEAL_WRITE);
	case 8:
		return file_make(1 << 20, MFD_ALLOW_SEALING, F_SEAL_FUTURE_WRITE);
	case OWN_END:
		return dup(n.c.fd);
	case 10:
		ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
		close(pair[1]);
		return pair[0];
	default:
		return open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	}
}

#define N_KINDS 12

/* covers: M8 M20 */
START_TEST(test_descriptor_of_a_wrong_kind_is_refused)
{
	struct vu_inflight area = { 2 * SPLIT_BYTES, 0, 2, RING, 0 };
	int fd, r;

	open_stopped(0);
	fd = kind(_i);
	ck_assert_int_ge(fd, 0);
	if (_i == 3 || _i == N_KINDS - 1)
		ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	r = vu_set_inflight(&n.c, &area, fd);
	close(fd);
	if (_i ==
		/* nothing that a socket may hold is kept: it is ended, and the connection with
		 * it */
		OWN_END) {
		ck_assert_int_ne(r, 0);
		return;
	}
	ck_assert_msg(r == VU_E_REFUSED, "kind %d was accepted", _i);
	moves();
}
END_TEST

/* covers: M9 */
START_TEST(test_another_number_of_descriptors_is_refused)
{
	struct vu_inflight area = { 2 * SPLIT_BYTES, 0, 2, RING, 0 };
	struct vu_header head = { VU_SET_INFLIGHT_FD, VU_VERSION | VU_NEED_REPLY, sizeof(area) };
	int fd = file_make(1 << 20, MFD_ALLOW_SEALING, 0);
	int fds[2] = { fd, fd };

	open_stopped(0);
	for (size_t i = 0; i <= 2; i += 2) {
		rig_ok(vu_send(&n.c, &head, &area, fds, i), n.c.why);
		ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_INFLIGHT_FD), VU_E_REFUSED);
	}
	close(fd);
	moves();
}
END_TEST

/* --- Nonsense in it --- */

/* _i: 1 = packed; the transmit ring's region is spoiled, the receive ring's is new */
/* covers: M21 */
START_TEST(test_nonsense_in_a_region_stops_its_ring_alone)
{
	struct vu_inflight area = ours;
	uint8_t *mem;
	int fd;

	open_stopped(_i ? VU_BIT(VU_F_PACKED) : 0);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	mem = map_area(&area, fd);
	memset(mem + area.mmap_size / 2, 0xa5, area.mmap_size / 2);
	rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	for (uint16_t i = 0; i < 2; i++)
		(void)net_start_ring(&n, i);
	rig_ok(ring_wait_err(&n.rings[1], 5000), "the err descriptor of ring 1");
	ck_assert_int_eq(ring_wait_err(&n.rings[0], 0), -ETIMEDOUT);
	/* a new region, and all is well */
	memset(mem, 0, area.mmap_size);
	munmap(mem, area.mmap_size);
	close(fd);
	n.why[0] = 0;
	rig_ok(net_stop_ring(&n, 0), n.why);
	uint32_t base;

	rig_ok(vu_get_vring_base(&n.c, 1, &base), n.c.why);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	close(fd);
	moves();
}
END_TEST

/* Written over all the time that the rings run: the rings do not read it. */
/* covers: M21 */
START_TEST(test_nonsense_while_rings_run_changes_nothing)
{
	struct vu_inflight area = ours;
	uint8_t *mem;
	int fd;

	open_stopped(_i ? VU_BIT(VU_F_PACKED) : 0);
	rig_ok(vu_get_inflight(&n.c, &area, &fd), n.c.why);
	mem = map_area(&area, fd);
	rig_ok(vu_set_inflight(&n.c, &area, fd), n.c.why);
	rig_start_rings(&n);
	for (int i = 0; i < 50; i++) {
		memset(mem, i * 37, area.mmap_size);
		rig_ok(net_pump(&n, 0, 40, 100), n.why);
	}
	rig_stop_rings(&n);
	munmap(mem, area.mmap_size);
	close(fd);
	net_close(&n);
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "inflight");

	tcase_add_loop_test(tc, test_region_is_handed_out_and_used, 0, 2);
	tcase_add_loop_test(tc, test_rings_start_again_with_the_same_region, 0, 2);
	tcase_add_test(tc, test_region_need_not_be_set);
	tcase_add_test(tc, test_region_of_somebody_else);
	tcase_add_test(tc, test_asked_for_many_times);
	tcase_add_test(tc, test_not_while_a_ring_runs);
	tcase_add_test(tc, test_not_unless_it_was_agreed_on);
	tcase_add_loop_test(tc, test_impossible_shape_is_refused, 0, N_BAD_SHAPES);
	tcase_add_loop_test(tc, test_impossible_place_is_refused, 0, N_BAD_PLACES);
	tcase_add_loop_test(tc, test_descriptor_of_a_wrong_kind_is_refused, 0, N_KINDS);
	tcase_add_test(tc, test_another_number_of_descriptors_is_refused);
	tcase_add_loop_test(tc, test_nonsense_in_a_region_stops_its_ring_alone, 0, 2);
	tcase_add_loop_test(tc, test_nonsense_while_rings_run_changes_nothing, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("inflight", &net0, add);
}
