/*
 * Guest memory: the whole table at once, single regions added and removed, slots, and everything
 * that may be wrong with a region or its file. A table that is refused leaves the old one in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/file.h"
#include "rig.h"

#define MIB UINT64_C(0x100000)
#define SLOTS VU_BIT(VU_PF_MEM_SLOTS)

static struct net n;

static void open_plain(uint64_t protocol)
{
	struct net_profile p = { .protocol = protocol };

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
}

static void still_moves(void)
{
	rig_ok(net_pump(&n, 0, 20, 100), n.why);
	net_close(&n);
}

/* two regions, each of which may be bad; file_bytes is the length of the second one's file */
static const struct {
	const char *what;
	struct vu_region second;
	uint64_t file_bytes;
} bad_tables[] = {
	{ "size 0", { 4096 * MIB, 0, UINT64_C(0x10000000000), 0 }, MIB },
	{ "overlap in guest addresses", { MIB, 2 * MIB, UINT64_C(0x10000000000), 0 }, 2 * MIB },
	{ "overlap in user addresses", { 4096 * MIB, 2 * MIB, 0x7f7d63fff000 + MIB, 0 }, 2 * MIB },
	{ "file too short", { 4096 * MIB, 2 * MIB, UINT64_C(0x10000000000), 0 }, MIB },
	{ "file too short for the offset", { 4096 * MIB, 2 * MIB, UINT64_C(0x10000000000), MIB },
		2 * MIB },
	{ "offset wraps", { 4096 * MIB, 2 * MIB, UINT64_C(0x10000000000), -(uint64_t)4096 }, MIB },
	{ "size wraps", { 4096 * MIB, UINT64_MAX - 4095, UINT64_C(0x10000000000), 0 }, MIB },
	{ "guest address wraps", { -MIB, 2 * MIB, UINT64_C(0x10000000000), 0 }, 2 * MIB },
	{ "user address wraps", { 4096 * MIB, 2 * MIB, -MIB, 0 }, 2 * MIB },
	{ "2^62 bytes", { 4096 * MIB, UINT64_C(1) << 62, UINT64_C(0x10000000000), 0 }, MIB },
};

#define N_BAD_TABLES ((int)(sizeof(bad_tables) / sizeof(bad_tables[0])))

/* covers: M17 */
START_TEST(test_bad_table_is_refused_and_the_old_one_stays)
{
	struct vu_region regions[2];
	int fds[2];

	open_plain(0);
	guest_table(&n.g, regions, fds);
	regions[1] = bad_tables[_i].second;
	fds[1] = file_make(bad_tables[_i].file_bytes, MFD_ALLOW_SEALING, 0);
	ck_assert_msg(vu_set_mem_table(&n.c, regions, fds, 2) == VU_E_REFUSED, "%s was accepted",
		bad_tables[_i].what);
	close(fds[1]);
	still_moves();
}
END_TEST

/* covers: M17 */
START_TEST(test_bad_region_is_refused)
{
	int fd;

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	fd = file_make(bad_tables[_i].file_bytes, MFD_ALLOW_SEALING, 0);
	ck_assert_msg(vu_add_mem_reg(&n.c, &bad_tables[_i].second, fd) == VU_E_REFUSED,
		"%s was accepted", bad_tables[_i].what);
	close(fd);
	still_moves();
}
END_TEST

/* covers: M17 */
START_TEST(test_table_with_another_number_of_descriptors_is_refused)
{
	struct {
		uint32_t n, pad;
		struct vu_region regions[2];
	} body = { .n = 2 };
	struct vu_header head = { VU_SET_MEM_TABLE, VU_VERSION | VU_NEED_REPLY, sizeof(body) };
	int fds[3];

	open_plain(0);
	guest_table(&n.g, body.regions, fds);
	body.regions[1] = (struct vu_region){ 4096 * MIB, MIB, UINT64_C(0x10000000000), 0 };
	fds[1] = fds[2] = file_make(MIB, MFD_ALLOW_SEALING, 0);
	for (size_t n_fds = 0; n_fds <= 3; n_fds++) {
		if (n_fds == 2)
			continue;
		rig_ok(vu_send(&n.c, &head, &body, fds, n_fds), n.c.why);
		ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_MEM_TABLE), VU_E_REFUSED);
	}
	close(fds[1]);
	still_moves();
}
END_TEST

/* covers: M17 */
START_TEST(test_table_of_0_or_9_regions_does_no_harm)
{
	uint8_t body[8 + 9 * sizeof(struct vu_region)] = { 9 };
	struct vu_header nine = { VU_SET_MEM_TABLE, VU_VERSION | VU_NEED_REPLY, sizeof(body) };
	int fds[9];
	int fd;

	open_plain(0);
	fd = file_make(MIB, MFD_ALLOW_SEALING, 0);
	for (size_t i = 0; i < 9; i++)
		fds[i] = fd;
	rig_ok(vu_send(&n.c, &nine, body, fds, 9), n.c.why);
	ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_MEM_TABLE), VU_E_REFUSED);
	close(fd);
	still_moves();
	/* without a ring an empty table is nothing wrong, whatever the answer */
	rig_hello(&n.c, 0);
	n.c.ack = true;
	ck_assert_int_ge(vu_set_mem_table(&n.c, NULL, NULL, 0), 0);
	vu_close(&n.c);
}
END_TEST

/* covers: M8 G14 */
START_TEST(test_descriptor_of_a_wrong_kind_is_refused)
{
	struct vu_region region = { 4096 * MIB, MIB, UINT64_C(0x10000000000), 0 };
	int kinds[4];
	int pair[2];

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	ck_assert_int_eq(pipe(pair), 0);
	kinds[0] = eventfd(0, EFD_CLOEXEC);
	kinds[1] = pair[0];
	kinds[2] = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kinds[3] = file_reopen(file_make(MIB, MFD_ALLOW_SEALING, 0), O_RDONLY);
	for (int i = 0; i < 4; i++) {
		ck_assert_msg(vu_add_mem_reg(&n.c, &region, kinds[i]) == VU_E_REFUSED,
			"kind %d was accepted", i);
		close(kinds[i]);
	}
	close(pair[1]);
	still_moves();
}
END_TEST

/* covers: M9 */
START_TEST(test_region_without_descriptor_is_refused)
{
	struct vu_region region = { 4096 * MIB, MIB, UINT64_C(0x10000000000), 0 };

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	ck_assert_int_eq(vu_add_mem_reg(&n.c, &region, -1), VU_E_REFUSED);
	still_moves();
}
END_TEST

/* covers: M18 */
START_TEST(test_slots_are_509_and_the_510th_region_is_refused)
{
	uint64_t slots;
	int fd;

	rig_hello(&n.c, SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return vu_close(&n.c);
	n.c.ack = true;
	rig_ok(vu_get_u64(&n.c, VU_GET_MAX_MEM_SLOTS, &slots), n.c.why);
	ck_assert_uint_eq(slots, 509);
	fd = file_make(4096, MFD_ALLOW_SEALING, 0);
	for (uint64_t i = 0; i < slots + 1; i++) {
		struct vu_region region = { i << 20, 4096, (i << 20) + (UINT64_C(1) << 40), 0 };

		ck_assert_int_eq(vu_add_mem_reg(&n.c, &region, fd), i < slots ? 0 : VU_E_REFUSED);
	}
	for (uint64_t i = 0; i < slots; i++) {
		struct vu_region region = { i << 20, 4096, (i << 20) + (UINT64_C(1) << 40), 0 };

		rig_ok(vu_rem_mem_reg(&n.c, &region, -1), n.c.why);
	}
	close(fd);
	vu_close(&n.c);
}
END_TEST

/* covers: M18 */
/* uses: protocol:CONFIGURE_MEM_SLOTS */
START_TEST(test_region_added_and_removed_many_times)
{
	struct vu_region region = { 4096 * MIB, MIB, UINT64_C(0x10000000000), 0 };
	int fd;

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	fd = file_make(MIB, MFD_ALLOW_SEALING, 0);
	for (int i = 0; i < 200; i++) {
		rig_ok(vu_add_mem_reg(&n.c, &region, fd), n.c.why);
		/* a descriptor with the removal is taken and closed */
		rig_ok(vu_rem_mem_reg(&n.c, &region, i & 1 ? fd : -1), n.c.why);
	}
	close(fd);
	still_moves();
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

/* transmit buffers moved into the second region, and traffic through them */
static void pump_from_second_region(uint32_t n_frames)
{
	for (uint16_t i = 0; i < n.n_free_tx[0]; i++) {
		n.free_tx[0][i] = guest_alloc_in(&n.g, 1, 2048, 1);
		ck_assert(n.free_tx[0][i]);
	}
	rig_ok(net_pump(&n, 0, n_frames, 500), n.why);
}

/* covers: M18 */
START_TEST(test_removal_matches_all_but_the_offset)
{
	struct vu_region region = { 4096 * MIB, 4 * MIB, UINT64_C(0x10000000000), MIB };
	struct vu_region others[3] = { region, region, region };

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	ck_assert_int_eq(guest_add_region(&n.g, &region), 0);
	rig_ok(vu_add_mem_reg(&n.c, &region, n.g.regions[1].fd), n.c.why);
	others[0].size /= 2;
	others[1].uva += 4096;
	others[2].gpa += 4096;
	/* a region that is not there may be taken for gone already, but this one must stay */
	for (int i = 0; i < 3; i++)
		ck_assert_int_ge(vu_rem_mem_reg(&n.c, &others[i], -1), 0);
	pump_from_second_region(300);
	region.offset = 0;
	rig_ok(vu_rem_mem_reg(&n.c, &region, -1), n.c.why);
	net_close(&n);
}
END_TEST

START_TEST(test_buffers_in_a_region_added_while_rings_run)
{
	struct vu_region region = { 4096 * MIB, 4 * MIB, UINT64_C(0x10000000000), 0x3000 };

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	ck_assert_int_eq(guest_add_region(&n.g, &region), 0);
	rig_ok(vu_add_mem_reg(&n.c, &region, n.g.regions[1].fd), n.c.why);
	pump_from_second_region(600);
	net_close(&n);
}
END_TEST

/* covers: M18 G14 */
START_TEST(test_buffer_in_a_region_removed_fails_alone)
{
	struct vu_region region = { 4096 * MIB, 4 * MIB, UINT64_C(0x10000000000), 0 };
	uint8_t frame[200];

	open_plain(SLOTS);
	if (!(n.c.acked_protocol & SLOTS))
		return net_close(&n);
	ck_assert_int_eq(guest_add_region(&n.g, &region), 0);
	rig_ok(vu_add_mem_reg(&n.c, &region, n.g.regions[1].fd), n.c.why);
	pump_from_second_region(20);
	rig_ok(vu_rem_mem_reg(&n.c, &region, -1), n.c.why);
	net_frame_make(frame, sizeof(frame), 1);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	rig_ok(vu_get_features(&n.c), n.c.why);
	/* the same ring goes on with buffers that are there */
	for (uint16_t i = 0; i < n.n_free_tx[0]; i++)
		n.free_tx[0][i] = n.bufs[1][i];
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* covers: M18 */
START_TEST(test_table_set_again_while_rings_run)
{
	struct vu_region region = { 4096 * MIB, 4 * MIB, UINT64_C(0x10000000000), 0 };

	open_plain(0);
	ck_assert_int_eq(guest_add_region(&n.g, &region), 0);
	for (int i = 0; i < 20; i++) {
		rig_ok(net_set_memory(&n), n.why);
		rig_ok(net_pump(&n, 0, 20, 500), n.why);
	}
	net_close(&n);
}
END_TEST

/* covers: M17 */
START_TEST(test_file_cut_short_after_mapping_kills_nothing)
{
	open_plain(0);
	rig_ok(net_pump(&n, 0, 4, 500), n.why);
	/* a file that may be sealed may refuse to shrink: that is as good */
	if (!ftruncate(n.g.regions[0].fd, 0)) {
		uint64_t one = 1;

		ck_assert_int_eq(write(n.rings[1].kick_fd, &one, 8), 8);
		rig_ok(vu_get_features(&n.c), n.c.why);
		vu_close(&n.c); /* nothing of this guest can be touched any more */
	} else {
		net_close(&n);
	}
	rig_check_net0();
}
END_TEST

/* A file that nobody can seal, cut short while a ring's thread reads frames from it: the device
 * says that the ring has failed, and its process lives on. */
/* covers: M17 G14 */
START_TEST(test_file_that_cannot_be_sealed_is_cut_short_under_a_ring)
{
	struct vu_region region = { 4096 * MIB, 4 * MIB, UINT64_C(0x10000000000), 0 };
	int fd = memfd_create("unsealed", MFD_CLOEXEC);
	uint8_t frame[200];

	if (rig.peer)
		return;
	ck_assert_int_eq(ftruncate(fd, (off_t)region.size), 0);
	open_plain(SLOTS);
	ck_assert_int_eq(guest_adopt_region(&n.g, &region, fd), 0);
	rig_ok(vu_add_mem_reg(&n.c, &region, fd), n.c.why);
	pump_from_second_region(20);
	rig_ok(net_stop_ring(&n, 1), n.why);
	net_frame_make(frame, sizeof(frame), 1);
	for (int i = 0; i < 8; i++)
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	rig_ok(net_start_ring(&n, 1), n.why);
	rig_ok(ring_wait_err(&n.rings[1], 5000), "no word of what has happened");
	rig_ok(vu_get_features(&n.c), n.c.why);
	vu_close(&n.c); /* nothing of this guest can be touched any more */
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "memory");

	tcase_add_loop_test(tc, test_bad_table_is_refused_and_the_old_one_stays, 0, N_BAD_TABLES);
	tcase_add_loop_test(tc, test_bad_region_is_refused, 0, N_BAD_TABLES);
	tcase_add_test(tc, test_table_with_another_number_of_descriptors_is_refused);
	tcase_add_test(tc, test_table_of_0_or_9_regions_does_no_harm);
	tcase_add_test(tc, test_descriptor_of_a_wrong_kind_is_refused);
	tcase_add_test(tc, test_region_without_descriptor_is_refused);
	tcase_add_test(tc, test_slots_are_509_and_the_510th_region_is_refused);
	tcase_add_test(tc, test_region_added_and_removed_many_times);
	tcase_add_test(tc, test_removal_matches_all_but_the_offset);
	tcase_add_test(tc, test_buffers_in_a_region_added_while_rings_run);
	tcase_add_test(tc, test_buffer_in_a_region_removed_fails_alone);
	tcase_add_test(tc, test_table_set_again_while_rings_run);
	tcase_add_test(tc, test_file_cut_short_after_mapping_kills_nothing);
	tcase_add_test(tc, test_file_that_cannot_be_sealed_is_cut_short_under_a_ring);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("memory", &net0, add);
}
