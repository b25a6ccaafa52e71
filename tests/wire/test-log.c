/*
 * The dirty log's messages: SET_LOG_BASE and its reply, SET_LOG_FD, LOG_ALL in SET_FEATURES, the
 * LOG flag and the log address of SET_VRING_ADDR under a ring that runs, memory that grows while it
 * is logged; and everything that may be wrong with them. What is refused leaves the former log in
 * use and rings running. Whether the marks are right is tests/device/test-log.c's.
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

#define SHMFD VU_BIT(VU_PF_LOG_SHMFD)
#define LOG_ALL VU_BIT(VU_F_LOG_ALL)
#define MEMORY_BYTES (UINT64_C(1) << 30) /* of net_init() */
#define LEAST (MEMORY_BYTES / 4096 / 8)  /* the log for it */
#define FILE_BYTES (2 * LEAST)

static struct net n;

static int give(const struct vu_log *log, int fd)
{
	return vu_set_log_base(&n.c, log, &fd, 1);
}

static void give_good(void)
{
	struct vu_log log = { LEAST, 0 };
	int fd = file_make(FILE_BYTES, MFD_ALLOW_SEALING, 0);

	rig_ok(give(&log, fd), n.c.why);
	close(fd);
}

static int set_log_all(bool on)
{
	uint64_t features = n.c.acked & ~LOG_ALL;

	return vu_set_features(&n.c, on ? features | LOG_ALL : features);
}

/* _i or 0: bit 0 = packed */
static void open_running(int i)
{
	struct net_profile p = { .features = i & 1 ? VU_BIT(VU_F_PACKED) : 0, .protocol = SHMFD };

	rig_open(&n, &p);
	ck_assert(n.c.acked_protocol & SHMFD);
}

static void moves(void)
{
	rig_ok(net_pump(&n, 0, 500, 100), n.why);
}

static int log_ring(uint16_t index, bool on, uint64_t at)
{
	struct vu_addr addr;

	ring_addr(&n.rings[index], &addr);
	addr.flags = on ? VU_ADDR_LOG : 0;
	addr.log = at;
	return vu_set_vring_addr(&n.c, &addr);
}

/* --- As it should be --- */

START_TEST(test_log_is_offered)
{
	rig_hello(&n.c, SHMFD);
	ck_assert(n.c.features & LOG_ALL);
	ck_assert(n.c.acked_protocol & SHMFD);
	vu_close(&n.c);
}
END_TEST

/* As QEMU: base, features, addresses, and the other way round at the end. _i: bit 0 packed, bit 1
 * without need_reply, and GET_FEATURES behind it. */
START_TEST(test_logging_is_switched_on_and_off_while_rings_run)
{
	open_running(_i);
	n.c.ack = !(_i & 2);
	for (int round = 0; round < 5; round++) {
		give_good();
		rig_ok(set_log_all(true), n.c.why);
		rig_ok(vu_get_features(&n.c), n.c.why);
		for (uint16_t i = 0; i < 2; i++)
			rig_ok(log_ring(i, true, n.rings[i].cfg.used), n.c.why);
		moves();
		rig_ok(set_log_all(false), n.c.why);
		for (uint16_t i = 0; i < 2; i++)
			rig_ok(log_ring(i, false, n.rings[i].cfg.used), n.c.why);
		rig_ok(vu_get_features(&n.c), n.c.why);
		moves();
	}
	/* the rings are where the driver is: none was stopped or started anew */
	ck_assert_int_eq(ring_wait_err(&n.rings[0], 0), -ETIMEDOUT);
	rig_end(&n);
}
END_TEST

/* One reply, with need_reply or without. */
START_TEST(test_base_is_replied_to_once)
{
	open_running(0);
	n.c.ack = _i;
	give_good();
	rig_ok(vu_expect_silence(&n.c, 30), n.c.why);
	n.c.ack = true;
	rig_end(&n);
}
END_TEST

/* Front-ends with several queue pairs send it for each; a log may begin anywhere in its file. */
START_TEST(test_log_may_be_given_again_and_anew)
{
	struct vu_log log = { LEAST, 0 };
	int fd = file_make(FILE_BYTES, MFD_ALLOW_SEALING, 0), other = file_make(FILE_BYTES, 0, 0);

	open_running(0);
	rig_ok(set_log_all(true), n.c.why);
	for (int i = 0; i < 4; i++)
		rig_ok(give(&log, fd), n.c.why);
	log.mmap_offset = 1003;
	rig_ok(give(&log, fd), n.c.why);
	rig_ok(give(&log, other), n.c.why);
	moves();
	close(fd);
	close(other);
	rig_end(&n);
}
END_TEST

/* covers: M19 */
START_TEST(test_a_thousand_logs_leave_nothing_behind)
{
	open_running(0);
	rig_ok(set_log_all(true), n.c.why);
	for (int i = 0; i < 1000; i++)
		give_good();
	moves();
	rig_end(&n);
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

START_TEST(test_log_fd_is_taken_and_closed)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	open_running(0);
	for (int i = 0; i < 100; i++)
		rig_ok(vu_set(&n.c, VU_SET_LOG_FD, NULL, 0, fd), n.c.why);
	ck_assert_int_eq(vu_set(&n.c, VU_SET_LOG_FD, NULL, 0, -1), VU_E_REFUSED);
	close(fd);
	fd = file_make(4096, 0, 0);
	ck_assert_int_eq(vu_set(&n.c, VU_SET_LOG_FD, NULL, 0, fd), VU_E_REFUSED);
	close(fd);
	moves();
	rig_end(&n);
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

/* The session takes its log with it. */
START_TEST(test_next_session_has_no_log)
{
	open_running(0);
	give_good();
	rig_ok(set_log_all(true), n.c.why);
	net_close(&n);
	rig_check_net0();
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

/* --- Refused --- */

/* Without LOG_SHMFD no reply is owed. */
START_TEST(test_base_needs_its_feature)
{
	struct vu_header head = { VU_SET_LOG_BASE, VU_VERSION, sizeof(struct vu_log) };
	struct vu_log log = { LEAST, 0 };
	int fd = file_make(FILE_BYTES, 0, 0);

	rig_hello(&n.c, 0);
	rig_ok(vu_send(&n.c, &head, &log, &fd, 1), n.c.why);
	rig_ok(vu_get_features(&n.c), n.c.why);
	n.c.ack = true;
	ck_assert_int_eq(give(&log, fd), VU_E_REFUSED);
	close(fd);
	vu_close(&n.c);
}
END_TEST

/* for a file of FILE_BYTES, and memory of MEMORY_BYTES */
static const struct {
	struct vu_log log;
	const char *says;
} bad_places[] = {
	{ { 0, 0 }, "a dirty log of 0 bytes" },
	{ { LEAST - 1, 0 }, "is too small for guest memory" },
	{ { 1, 0 }, "is too small for guest memory" },
	{ { FILE_BYTES + 1, 0 }, "the file of the dirty log is too short" },
	{ { LEAST, LEAST + 1 }, "the file of the dirty log is too short" },
	{ { LEAST, FILE_BYTES }, "the file of the dirty log is too short" },
	{ { LEAST, -LEAST }, "wraps around" },
	{ { -LEAST, LEAST }, "wraps around" },
	{ { UINT64_MAX, 0 }, "wraps around" },
	{ { LEAST, UINT64_MAX }, "wraps around" },
	{ { VU_BIT(63), 0 }, "wraps around" },
};

#define N_BAD_PLACES ((int)(sizeof(bad_places) / sizeof(bad_places[0])))

/* covers: M19 */
START_TEST(test_impossible_place_is_refused)
{
	int fd = file_make(FILE_BYTES, MFD_ALLOW_SEALING, 0);

	open_running(0);
	give_good();
	rig_ok(set_log_all(true), n.c.why);
	n.c.ack = _i & 1;
	ck_assert_int_eq(give(&bad_places[_i].log, fd), VU_E_REFUSED);
	n.c.ack = true;
	ck_assert_msg(suite_logged(&rig, bad_places[_i].says), "nothing of %s",
		bad_places[_i].says);
	close(fd);
	moves();
	rig_end(&n);
}
END_TEST

static int kind(int i)
{
	switch (i) {
	case 0:
		return eventfd(0, EFD_CLOEXEC);
	case 1:
		return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 2:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	case 3:
		return file_reopen(file_make(FILE_BYTES, MFD_ALLOW_SEALING, 0), O_RDONLY);
	case 4:
		return file_make(FILE_BYTES, MFD_ALLOW_SEALING, F_SEAL_WRITE);
	default:
		return file_make(FILE_BYTES, MFD_ALLOW_SEALING, F_SEAL_FUTURE_WRITE);
	}
}

#define N_KINDS 6

/* covers: M8 M19 */
START_TEST(test_descriptor_of_a_wrong_kind_is_refused)
{
	struct vu_log log = { LEAST, 0 };
	int fd = kind(_i);

	ck_assert_int_ge(fd, 0);
	open_running(0);
	ck_assert_msg(give(&log, fd) == VU_E_REFUSED, "kind %d was accepted", _i);
	close(fd);
	moves();
	rig_end(&n);
}
END_TEST

/* covers: M9 M19 */
START_TEST(test_another_number_of_descriptors_is_refused)
{
	struct vu_log log = { LEAST, 0 };
	int fd = file_make(FILE_BYTES, 0, 0), fds[2] = { fd, fd };

	open_running(0);
	ck_assert_int_eq(vu_set_log_base(&n.c, &log, fds, 0), VU_E_REFUSED);
	ck_assert_int_eq(vu_set_log_base(&n.c, &log, fds, 2), VU_E_REFUSED);
	close(fd);
	moves();
	rig_end(&n);
}
END_TEST

/* The used ring of 256 entries has 2054 bytes with an event index. _i: bit 0 packed */
/* covers: M19 */
START_TEST(test_log_address_that_does_not_fit_is_refused)
{
	uint64_t used_bytes = _i ? 4 : 2054, end = LEAST * 8 * 4096;

	open_running(_i);
	give_good();
	rig_ok(set_log_all(true), n.c.why);
	for (uint16_t i = 0; i < 2; i++) {
		ck_assert_int_eq(log_ring(i, true, end - used_bytes + 1), VU_E_REFUSED);
		ck_assert_int_eq(log_ring(i, true, end), VU_E_REFUSED);
		ck_assert_int_eq(log_ring(i, true, UINT64_MAX), VU_E_REFUSED);
		ck_assert_int_eq(log_ring(i, true, -used_bytes + 1), VU_E_REFUSED);
		moves();
		rig_ok(log_ring(i, true, end - used_bytes), n.c.why);
		moves();
		/* without the flag it is not looked at */
		rig_ok(log_ring(i, false, end), n.c.why);
	}
	ck_assert(suite_logged(&rig, "is not in the dirty log"));
	rig_end(&n);
}
END_TEST

/* A log that would leave out a ring that runs is refused as well. */
/* covers: M19 */
START_TEST(test_log_that_leaves_out_a_ring_is_refused)
{
	struct vu_log log = { FILE_BYTES, 0 };
	int fd = file_make(FILE_BYTES, 0, 0);

	open_running(0);
	rig_ok(give(&log, fd), n.c.why);
	rig_ok(log_ring(0, true, MEMORY_BYTES), n.c.why);
	log.mmap_size = LEAST;
	ck_assert_int_eq(give(&log, fd), VU_E_REFUSED);
	close(fd);
	moves();
	rig_end(&n);
}
END_TEST

/* Memory may grow while it is logged, and not beyond the log. _i: with ADD_MEM_REG */
/* covers: M18 M19 */
START_TEST(test_memory_grows_while_it_is_logged)
{
	struct vu_region second = { MEMORY_BYTES, 1 << 20, UINT64_C(0x7e0000000000), 0 };
	struct net_profile p = { .protocol = SHMFD | (_i ? VU_BIT(VU_PF_MEM_SLOTS) : 0) };
	struct vu_log log = { FILE_BYTES, 0 };
	int fd = file_make(FILE_BYTES, 0, 0);

	rig_open(&n, &p);
	give_good();
	rig_ok(set_log_all(true), n.c.why);
	ck_assert_int_eq(guest_add_region(&n.g, &second), 0);
	for (int fits = 0; fits < 2; fits++) {
		int r = _i ? vu_add_mem_reg(&n.c, &second, n.g.regions[1].fd) : net_set_memory(&n);

		ck_assert_int_eq(r, fits ? 0 : VU_E_REFUSED);
		n.why[0] = 0;
		moves();
		rig_ok(give(&log, fd), n.c.why);
	}
	rig_ok(set_log_all(false), n.c.why);
	close(fd);
	rig_end(&n);
}
END_TEST

/* A log that was left behind is no reason to refuse memory, nor is LOG_ALL before rings run; with
 * it no ring is logged. */
START_TEST(test_log_that_was_left_behind_refuses_nothing)
{
	struct vu_region second = { MEMORY_BYTES, 1 << 20, UINT64_C(0x7e0000000000), 0 };

	open_running(0);
	give_good();
	ck_assert_int_eq(guest_add_region(&n.g, &second), 0);
	rig_ok(net_set_memory(&n), n.why);
	moves();
	ck_assert_int_eq(set_log_all(true), VU_E_REFUSED);
	rig_stop_rings(&n);
	rig_ok(vu_set_features(&n.c,
		       n.p.features | VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES) |
			       LOG_ALL),
		n.c.why);
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(net_start_ring(&n, i), n.why);
	moves();
	rig_end(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "log");

	tcase_add_test(tc, test_log_is_offered);
	tcase_add_loop_test(tc, test_logging_is_switched_on_and_off_while_rings_run, 0, 4);
	tcase_add_loop_test(tc, test_base_is_replied_to_once, 0, 2);
	tcase_add_test(tc, test_log_may_be_given_again_and_anew);
	tcase_add_test(tc, test_a_thousand_logs_leave_nothing_behind);
	tcase_add_test(tc, test_log_fd_is_taken_and_closed);
	tcase_add_test(tc, test_next_session_has_no_log);
	tcase_add_test(tc, test_base_needs_its_feature);
	tcase_add_loop_test(tc, test_impossible_place_is_refused, 0, N_BAD_PLACES);
	tcase_add_loop_test(tc, test_descriptor_of_a_wrong_kind_is_refused, 0, N_KINDS);
	tcase_add_test(tc, test_another_number_of_descriptors_is_refused);
	tcase_add_loop_test(tc, test_log_address_that_does_not_fit_is_refused, 0, 2);
	tcase_add_test(tc, test_log_that_leaves_out_a_ring_is_refused);
	tcase_add_loop_test(tc, test_memory_grows_while_it_is_logged, 0, 2);
	tcase_add_test(tc, test_log_that_was_left_behind_refuses_nothing);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("log", &net0, add);
}
