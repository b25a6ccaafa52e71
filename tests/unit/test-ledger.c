/* The ledger file: its shape, what is refused, what is read back. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/run.h"
#include "virtq/ledger.h"

static int fd;

static void set_up(void)
{
	fd = memfd_create("ledger", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)ledger_bytes(3, 256, 1000)), 0);
}

static void tear_down(void)
{
	close(fd);
}

START_TEST(test_new_ledger_is_laid_out_and_found_again)
{
	struct ledger a, b;

	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	memset(a.state, 0x55, 1000);
	a.queues[2].start_id = 99;
	memset(ledger_inflight(&a, 2), 0x66, ledger_inflight_bytes(256));
	ledger_close(&a);
	ck_assert_int_eq(ledger_open(&b, fd, 3, 256, 1000), 0);
	ck_assert_uint_eq(((uint8_t *)b.state)[999], 0x55);
	ck_assert_uint_eq(((uint8_t *)b.state)[1000], 0);
	ck_assert_uint_eq(b.queues[2].start_id, 99);
	ck_assert_uint_eq(b.queues[1].start_id, 0);
	ck_assert_uint_eq(((uint8_t *)ledger_inflight(&b, 1))[ledger_inflight_bytes(256) - 1], 0);
	ck_assert_uint_eq(((uint8_t *)ledger_inflight(&b, 2))[ledger_inflight_bytes(256) - 1],
		0x66);
	ck_assert_ptr_null(ledger_inflight(&b, 3));
	ledger_close(&b);
}
END_TEST

START_TEST(test_parts_do_not_touch)
{
	struct ledger a;
	uint8_t *base;

	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	base = (uint8_t *)a.header;
	ck_assert_uint_eq(((uint8_t *)a.state - base) % 4096, 0);
	ck_assert_uint_eq(((uint8_t *)a.queues - base) % 4096, 0);
	ck_assert_uint_eq(((uint8_t *)ledger_inflight(&a, 0) - base) % 4096, 0);
	ck_assert_uint_eq(((uint8_t *)ledger_inflight(&a, 1) - base) % 64, 0);
	ck_assert((uint8_t *)a.queues >= (uint8_t *)a.state + 1000);
	ck_assert((uint8_t *)ledger_inflight(&a, 0) >= (uint8_t *)&a.queues[3]);
	ck_assert_uint_ge(a.size_bytes,
		(size_t)((uint8_t *)ledger_inflight(&a, 2) - base) + ledger_inflight_bytes(256));
	/* enough for either layout of the specification */
	ck_assert_uint_ge(ledger_inflight_bytes(256), 32 + 32 * 256);
	ledger_close(&a);
}
END_TEST

START_TEST(test_other_shape_or_version_is_refused)
{
	struct ledger a;

	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	ledger_close(&a);
	ck_assert_int_eq(ledger_open(&a, fd, 2, 256, 1000), -EPROTO);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 128, 1000), -EPROTO);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	a.header->version++;
	ledger_close(&a);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), -EPROTO);
	ck_assert_int_eq(ledger_open_existing(&a, fd), -EPROTO);
}
END_TEST

/* Another release may keep more state, or less: what is there stays where it is. */
START_TEST(test_state_of_another_length_moves_nothing)
{
	static const uint32_t others[] = { 1, 999, 1001, 4096, 4097, 100000 };
	struct ledger a, b;

	ck_assert_int_eq(ftruncate(fd, (off_t)ledger_bytes(3, 256, 100000)), 0);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	ck_assert_uint_eq(ledger_state_room(&a), 4096);
	((uint8_t *)a.state)[999] = 0x55;
	a.queues[2].start_id = 99;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		ck_assert_int_eq(ledger_open(&b, fd, 3, 256, others[i]), 0);
		ck_assert_uint_eq(ledger_state_room(&b), 4096);
		ck_assert_uint_eq(((uint8_t *)b.state)[999], 0x55);
		ck_assert_uint_eq(b.queues[2].start_id, 99);
		ck_assert_uint_eq(b.state_bytes, 1000);
		ledger_close(&b);
	}
	ledger_close(&a);
}
END_TEST

START_TEST(test_short_file_is_refused)
{
	struct ledger a;

	ck_assert_int_eq(ftruncate(fd, (off_t)ledger_bytes(3, 256, 1000) - 1), 0);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), -EINVAL);
	ck_assert_int_eq(ftruncate(fd, 100), 0);
	ck_assert_int_eq(ledger_open_existing(&a, fd), -EPROTO);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 1 << 20, 1000), -EINVAL);
	ck_assert_int_eq(ledger_open(&a, -1, 3, 256, 1000), -EBADF);
}
END_TEST

START_TEST(test_reader_takes_the_shape_from_the_file)
{
	struct ledger a, b;

	ck_assert_int_eq(ledger_open_existing(&b, fd), -ENODATA);
	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	a.queues[1].used_idx = 321;
	ck_assert_int_eq(ledger_open_existing(&b, fd), 0);
	ck_assert_uint_eq(b.n_queues, 3);
	ck_assert_uint_eq(b.queue_size_max, 256);
	ck_assert_uint_eq(b.state_bytes, 1000);
	ck_assert_uint_eq(ledger_base(&b.queues[1]), 321);
	ck_assert_ptr_null(ledger_inflight(&b, 0));
	ledger_close(&b);
	ledger_close(&a);
}
END_TEST

/* A worker that a guest took over can write the header; readers must not be led outside the
 * file. */
/* covers: P1 */
START_TEST(test_reader_is_not_led_astray)
{
	static const struct {
		uint32_t n_queues, queue_size_max, state_bytes;
	} lies[] = { { 4, 256, 1000 }, { UINT32_MAX, 256, 1000 }, { 3, UINT32_MAX, 1000 },
		{ 3, 256, UINT32_MAX }, { 3, 32768, 1000 }, { 3, 256, 1 << 20 } };
	struct ledger a, b;

	ck_assert_int_eq(ledger_open(&a, fd, 3, 256, 1000), 0);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		a.header->n_queues = lies[i].n_queues;
		a.header->queue_size_max = lies[i].queue_size_max;
		a.header->state_bytes = lies[i].state_bytes;
		ck_assert_int_eq(ledger_open_existing(&b, fd), -EPROTO);
	}
	ledger_close(&a);
}
END_TEST

START_TEST(test_position_is_encoded_as_the_message_has_it)
{
	struct ledger_queue split = { .size = 8, .avail_idx = 0x8001, .used_idx = 0x8001 };
	struct ledger_queue packed = {
		.packed = 1, .size = 8, .avail_idx = 0x8003, .used_idx = 0x8003
	};

	ck_assert_uint_eq(ledger_base(&split), 0x8001);
	ck_assert_uint_eq(ledger_base(&packed), 0x80038003);
}
END_TEST

/* What is in flight is offered again; what was lost before the ring was started stays lost. */
START_TEST(test_position_has_nothing_in_flight)
{
	struct ledger_queue split = { .size = 8, .avail_idx = 3, .used_idx = 0xfffe, .skew = 2 };
	struct ledger_queue packed = {
		.packed = 1, .size = 8, .avail_idx = 0x0003, .used_idx = 0x8006, .skew = 3
	};

	ck_assert_uint_eq(ledger_base(&split), 0);
	ck_assert_uint_eq(ledger_base(&packed), 0x80060001);
	/* never used, or written by a worker that a guest took over: any number will do */
	packed.size = 0;
	(void)ledger_base(&packed);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("ledger");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_new_ledger_is_laid_out_and_found_again);
	tcase_add_test(tc, test_parts_do_not_touch);
	tcase_add_test(tc, test_other_shape_or_version_is_refused);
	tcase_add_test(tc, test_state_of_another_length_moves_nothing);
	tcase_add_test(tc, test_short_file_is_refused);
	tcase_add_test(tc, test_reader_takes_the_shape_from_the_file);
	tcase_add_test(tc, test_reader_is_not_led_astray);
	tcase_add_test(tc, test_position_is_encoded_as_the_message_has_it);
	tcase_add_test(tc, test_position_has_nothing_in_flight);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("ledger", add_tests);
}
