/*
 * Marks in the dirty log: which bits stand for a range, what lies outside, and a file that is not
 * as it was.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "device/log.h"
#include "lib/run.h"

#define PAGE UINT64_C(4096)
#define LOG_BYTES 100 /* for 800 pages */
#define N_PAGES (8 * LOG_BYTES)
#define OFFSET 4099 /* need not be even */
#define FILE_BYTES 16384

static struct device device;
static struct device_core core;
static Bh__Desired desired;
static Bh__Log wanted;
static int fd;
static uint8_t *file; /* the VMM's mapping */

static void set_up(void)
{
	memset(&device, 0, sizeof(device));
	memset(&core, 0, sizeof(core));
	device.core = &core;
	ck_assert_int_eq(map_new(&device.map), 0);
	ck_assert_int_eq(map_install_sigbus(), 0);
	fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, FILE_BYTES), 0);
	file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(file, MAP_FAILED);
	bh__desired__init(&desired);
	bh__log__init(&wanted);
	wanted.token = 7;
	wanted.mmap_size = LOG_BYTES;
	wanted.mmap_offset = OFFSET;
	desired.log = &wanted;
	desired.features = BIT(VHOST_F_LOG_ALL);
}

static void tear_down(void)
{
	log_close(&device);
	device.map = map_free(device.map);
	munmap(file, FILE_BYTES);
	close(fd);
}

static void apply(void)
{
	log_apply(&device, &desired, fd);
	ck_assert_ptr_null(core.apply_error);
	ck_assert(log_is_in_force(&device, &desired));
}

static void mark(uint64_t start, uint64_t n_bytes)
{
	map_mark_dirty(device.map, (struct gpa){ start }, n_bytes);
}

static bool is_marked(uint64_t page)
{
	return file[OFFSET + page / 8] >> page % 8 & 1;
}

/* These pages, and nothing else in the file. */
static void only(uint64_t first, uint64_t n)
{
	for (uint64_t page = 0; page < N_PAGES; page++)
		if (is_marked(page) != (page >= first && page - first < n))
			ck_abort_msg("page %u of %u from %u on", (unsigned int)page,
				(unsigned int)n, (unsigned int)first);
	for (size_t i = 0; i < FILE_BYTES; i++)
		if (file[i] && (i < OFFSET || i >= OFFSET + LOG_BYTES))
			ck_abort_msg("byte %zu of the file was written", i);
	memset(file, 0, FILE_BYTES);
}

START_TEST(test_each_page_of_a_range_is_marked)
{
	apply();
	mark(0, 1);
	only(0, 1);
	mark(PAGE - 1, 1);
	only(0, 1);
	mark(PAGE - 1, 2);
	only(0, 2);
	mark(PAGE, PAGE);
	only(1, 1);
	mark(7 * PAGE + 5, PAGE);
	only(7, 2);
	mark(8 * PAGE, 8 * PAGE);
	only(8, 8);
	mark(3 * PAGE + 1, 30 * PAGE);
	only(3, 31);
	mark(0, N_PAGES * PAGE);
	only(0, N_PAGES);
	mark((N_PAGES - 1) * PAGE + 4095, 1);
	only(N_PAGES - 1, 1);
	for (uint64_t first = 0; first < 20; first++)
		for (uint64_t n = 1; n < 40; n++) {
			mark(first * PAGE + (n % 3) * 2000, n * PAGE - (n % 3) * 2000);
			only(first, n);
		}
}
END_TEST

/* A mark is added to those that are there. */
START_TEST(test_marks_add_up)
{
	apply();
	for (uint64_t page = 0; page < 40; page += 2)
		mark(page * PAGE, 8);
	for (uint64_t page = 0; page < 40; page++)
		ck_assert_int_eq(is_marked(page), page % 2 == 0);
	for (uint64_t page = 1; page < 40; page += 2)
		mark(page * PAGE, 8);
	only(0, 40);
}
END_TEST

/* covers: M19 */
START_TEST(test_nothing_outside_the_log_is_written)
{
	apply();
	mark(N_PAGES * PAGE, 1);
	mark(N_PAGES * PAGE + 8 * PAGE, 100 * PAGE);
	mark(UINT64_MAX, 1);
	mark(UINT64_MAX - 5, 100);
	mark(UINT64_C(1) << 63, PAGE);
	only(0, 0);
	mark((N_PAGES - 2) * PAGE, 50 * PAGE);
	only(N_PAGES - 2, 2);
	mark((N_PAGES - 1) * PAGE, UINT64_MAX);
	only(N_PAGES - 1, 1);
}
END_TEST

START_TEST(test_only_both_halves_are_a_log)
{
	desired.features = 0;
	apply();
	mark(0, 1);
	only(0, 0);
	desired.features = BIT(VHOST_F_LOG_ALL);
	desired.log = NULL;
	apply();
	mark(0, 1);
	only(0, 0);
	desired.log = &wanted;
	ck_assert(!log_is_in_force(&device, &desired));
	apply();
	mark(0, 1);
	only(0, 1);
	desired.features = 0;
	apply();
	ck_assert_ptr_null(device.map->log);
}
END_TEST

START_TEST(test_another_log_takes_its_place)
{
	struct map_log *hook;

	apply();
	hook = device.map->log;
	apply();
	ck_assert_ptr_eq(device.map->log, hook);
	wanted.mmap_offset = OFFSET + 1;
	ck_assert(!log_is_in_force(&device, &desired));
	apply();
	mark(0, 1);
	only(8, 1);
	wanted.token++;
	ck_assert(!log_is_in_force(&device, &desired));
	wanted.token--;
	wanted.mmap_size--;
	ck_assert(!log_is_in_force(&device, &desired));
	apply();
	mark((N_PAGES - 8) * PAGE, 1); /* the last page of the log, which begins a byte later */
	only(0, 0);
}
END_TEST

/* covers: M19 */
START_TEST(test_file_that_shrank_is_marked_no_more)
{
	apply();
	mark(0, 1);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	for (uint64_t page = 0; page < N_PAGES; page++)
		mark(page * PAGE, 1);
	ck_assert_int_eq(ftruncate(fd, FILE_BYTES), 0);
	mark(0, N_PAGES * PAGE);
	only(0, 0);
	ck_assert(!map_poisoned(device.map)); /* guest memory is as it was */
}
END_TEST

START_TEST(test_log_that_cannot_be_mapped_is_said)
{
	wanted.mmap_size = FILE_BYTES;
	log_apply(&device, &desired, fd);
	ck_assert_ptr_nonnull(core.apply_error);
	ck_assert_ptr_null(device.map->log);
	core.apply_error = NULL;
	log_apply(&device, &desired, -1);
	ck_assert_ptr_nonnull(core.apply_error);
	core.apply_error = NULL;
	wanted.mmap_size = LOG_BYTES;
	apply();
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("dirty log");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_each_page_of_a_range_is_marked);
	tcase_add_test(tc, test_marks_add_up);
	tcase_add_test(tc, test_nothing_outside_the_log_is_written);
	tcase_add_test(tc, test_only_both_halves_are_a_log);
	tcase_add_test(tc, test_another_log_takes_its_place);
	tcase_add_test(tc, test_file_that_shrank_is_marked_no_more);
	tcase_add_test(tc, test_log_that_cannot_be_mapped_is_said);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("dirty-log", add_tests);
}
