/* Guest memory: what may be mapped, what an address leads to, and what happens when a file
 * shrinks. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/hint.h"
#include "lib/file.h"
#include "lib/run.h"

#define PAGE 4096

static struct map *map;
static int fd;

static void set_up(void)
{
	ck_assert_int_eq(map_new(&map), 0);
	fd = memfd_create("test", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
}

static void tear_down(void)
{
	map = map_free(map);
	close(fd);
}

static struct map_region region(uint64_t gpa, uint64_t size, uint64_t offset)
{
	return (struct map_region){ .gpa = { gpa },
		.uva = { gpa + 0x700000000000 },
		.size_bytes = size,
		.offset_bytes = offset };
}

static int add(uint64_t gpa, uint64_t size, uint64_t offset)
{
	struct map_region r = region(gpa, size, offset);

	return map_add(map, &r, fd);
}

static int drop(uint64_t gpa, uint64_t size)
{
	struct map_region r = region(gpa, size, 0);

	return map_remove(map, &r);
}

static void mark(uint64_t offset, uint8_t value)
{
	ck_assert_int_eq(pwrite(fd, &value, 1, (off_t)offset), 1);
}

static void *uva_at(uint64_t uva, uint64_t n_bytes)
{
	struct map_span span;

	return map_find_uva(map, (struct uva){ uva }, n_bytes, MAP_READ, &span) == 0 ? span.mem
										     : NULL;
}

/* All of a range, which may lie in several regions. */
static int spans_of(uint64_t gpa, uint64_t n_bytes, struct map_span *ret)
{
	for (;; ret++) {
		int r = map_find(map, (struct gpa){ gpa }, n_bytes, MAP_READ, ret);

		if (r != 0 || ret->n_bytes == n_bytes)
			return r;
		gpa += ret->n_bytes;
		n_bytes -= ret->n_bytes;
	}
}

START_TEST(test_address_leads_to_its_byte)
{
	mark(3 * PAGE + 17, 0x42);
	ck_assert_int_eq(add(0x100000, 4 * PAGE, 0), 0);
	ck_assert_uint_eq(*(uint8_t *)map_gpa(map, (struct gpa){ 0x100000 + 3 * PAGE + 17 }, 1),
		0x42);
	ck_assert_uint_eq(*(uint8_t *)uva_at(0x700000100000 + 3 * PAGE + 17, 1), 0x42);
}
END_TEST

START_TEST(test_region_need_not_begin_or_end_on_a_page)
{
	mark(0x3b10, 0x11);
	mark(0x3b10 + 0x1234, 0x22);
	ck_assert_int_eq(add(0x8000, 0x1235, 0x3b10), 0);
	ck_assert_uint_eq(*(uint8_t *)map_gpa(map, (struct gpa){ 0x8000 }, 1), 0x11);
	ck_assert_uint_eq(*(uint8_t *)map_gpa(map, (struct gpa){ 0x8000 + 0x1234 }, 1), 0x22);
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ 0x8000 + 0x1235 }, 1));
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ 0x7fff }, 1));
	ck_assert_int_eq(drop(0x8000, 0x1235), 0);
}
END_TEST

START_TEST(test_range_must_be_inside)
{
	struct map_span spans[4];

	ck_assert_int_eq(add(PAGE, PAGE, 0), 0);
	ck_assert_ptr_nonnull(map_gpa(map, (struct gpa){ PAGE }, PAGE));
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ PAGE }, PAGE + 1));
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ PAGE + 1 }, UINT64_MAX));
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ UINT64_MAX }, 2));
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ PAGE }, 0));
	ck_assert_ptr_null(uva_at(0x700000000000 + PAGE, PAGE + 1));
	ck_assert_ptr_null(uva_at(0x700000000000 + PAGE, 0));
	ck_assert_ptr_null(uva_at(0x700000000000 + PAGE - 1, 1));
	ck_assert_int_eq(spans_of(PAGE, 0, spans), MAP_E_OUTSIDE);
	ck_assert_int_eq(spans_of(PAGE, PAGE + 1, spans), MAP_E_OUTSIDE);
	ck_assert_int_eq(spans_of(PAGE + 9, UINT64_MAX, spans), MAP_E_OUTSIDE);
}
END_TEST

START_TEST(test_range_over_regions_is_split)
{
	struct map_span spans[3];

	ck_assert_int_eq(add(2 * PAGE, PAGE, 0), 0);
	ck_assert_int_eq(add(0, PAGE, 8 * PAGE), 0);
	ck_assert_int_eq(add(PAGE, PAGE, 4 * PAGE), 0);
	ck_assert_int_eq(spans_of(100, 3 * PAGE - 200, spans), 0);
	ck_assert_uint_eq(spans[0].n_bytes, PAGE - 100);
	ck_assert_uint_eq(spans[1].n_bytes, PAGE);
	ck_assert_uint_eq(spans[2].n_bytes, PAGE - 100);
	ck_assert_ptr_eq(spans[1].mem, map_gpa(map, (struct gpa){ PAGE }, PAGE));
	ck_assert_ptr_null(map_gpa(map, (struct gpa){ 100 }, PAGE));
}
END_TEST

START_TEST(test_range_over_a_hole_is_outside)
{
	struct map_span spans[3];

	ck_assert_int_eq(add(0, PAGE, 0), 0);
	ck_assert_int_eq(add(2 * PAGE, PAGE, 0), 0);
	ck_assert_int_eq(spans_of(0, 3 * PAGE, spans), MAP_E_OUTSIDE);
	ck_assert_int_eq(spans_of(PAGE, 1, spans), MAP_E_OUTSIDE);
}
END_TEST

/* Whatever the way in, the guest address comes with the pointer. */
START_TEST(test_span_says_where_it_is_for_the_guest)
{
	struct map_hint hint = { .map = map };
	struct map_span spans[2], span;

	ck_assert_int_eq(add(PAGE, PAGE, 0), 0);
	ck_assert_int_eq(add(2 * PAGE, PAGE, 8 * PAGE), 0);
	ck_assert_int_eq(spans_of(PAGE + 100, PAGE, spans), 0);
	ck_assert_uint_eq(spans[0].gpa.val, PAGE + 100);
	ck_assert_uint_eq(spans[1].gpa.val, 2 * PAGE);
	ck_assert_int_eq(map_hint_find(&hint, (struct gpa){ 2 * PAGE + 7 }, 1, MAP_READ, &span), 0);
	ck_assert_uint_eq(span.gpa.val, 2 * PAGE + 7);
	ck_assert_int_eq(map_find_uva(map, (struct uva){ 0x700000000000 + PAGE + 9 }, 8, MAP_READ,
				 &span),
		0);
	ck_assert_uint_eq(span.gpa.val, PAGE + 9);
	ck_assert_uint_eq(span.n_bytes, 8);
}
END_TEST

START_TEST(test_hint_follows_and_never_lies)
{
	static const struct {
		uint64_t start, n_bytes, got; /* got: 0 = outside */
	} looks[] = {
		{ 4 * PAGE + 8, 8, 8 },
		{ 5, PAGE - 5, PAGE - 5 },
		{ 5, PAGE - 4, PAGE - 5 },
		{ 2 * PAGE, 1, 0 },
		{ 5, UINT64_MAX, PAGE - 5 },
		{ 5 * PAGE, 1, 0 },
		{ 5, 0, 0 },
	};
	struct map_hint hint = { .map = map };

	ck_assert_int_eq(add(0, PAGE, 0), 0);
	ck_assert_int_eq(add(4 * PAGE, PAGE, PAGE), 0);
	for (unsigned int i = 0; i < 3 * 7; i++) {
		struct gpa start = { looks[i % 7].start };
		struct map_span span = { .n_bytes = 0 };
		int r = map_hint_find(&hint, start, looks[i % 7].n_bytes, MAP_READ, &span);

		ck_assert_int_eq(r, looks[i % 7].got ? 0 : MAP_E_OUTSIDE);
		ck_assert_uint_eq(span.n_bytes, looks[i % 7].got);
		if (r == 0)
			ck_assert_ptr_eq(span.mem, map_gpa(map, start, 1));
	}
}
END_TEST

/* --- Hooks --- */

struct asked {
	struct map_resolver resolver;
	int answer;
	uint64_t start, n_bytes;
	enum map_access access;
	unsigned int n;
};

static int on_miss(struct map_resolver *resolver, struct iova start, uint64_t n_bytes,
	enum map_access access)
{
	struct asked *asked = (struct asked *)resolver;

	asked->start = start.val;
	asked->n_bytes = n_bytes;
	asked->access = access;
	asked->n++;
	return asked->answer;
}

START_TEST(test_resolver_is_asked_for_what_is_missing)
{
	struct asked asked = { .resolver = { on_miss }, .answer = MAP_E_LATER };
	struct map_hint hint = { .map = map };
	struct map_span span;

	ck_assert_int_eq(add(0, PAGE, 0), 0);
	map_set_resolver(map, &asked.resolver);
	ck_assert_int_eq(map_find(map, (struct gpa){ 5 }, 2 * PAGE, MAP_WRITE, &span), 0);
	ck_assert_uint_eq(asked.n, 0);
	ck_assert_int_eq(map_find(map, (struct gpa){ PAGE }, 7, MAP_WRITE, &span), MAP_E_LATER);
	ck_assert_uint_eq(asked.start, PAGE);
	ck_assert_uint_eq(asked.n_bytes, 7);
	ck_assert_int_eq(asked.access, MAP_WRITE);
	ck_assert_int_eq(map_hint_find(&hint, (struct gpa){ PAGE }, 8, MAP_READ, &span),
		MAP_E_LATER);
	ck_assert_int_eq(map_find_uva(map, (struct uva){ 3 }, 8, MAP_READ, &span), MAP_E_LATER);
	ck_assert_uint_eq(asked.n, 3);
	asked.answer = MAP_E_OUTSIDE;
	ck_assert_int_eq(map_find(map, (struct gpa){ PAGE }, 7, MAP_READ, &span), MAP_E_OUTSIDE);
	map_set_resolver(map, NULL);
	ck_assert_int_eq(map_find(map, (struct gpa){ PAGE }, 7, MAP_READ, &span), MAP_E_OUTSIDE);
	ck_assert_uint_eq(asked.n, 4);
}
END_TEST

struct heard {
	struct map_log log;
	uint64_t start, n_bytes;
	unsigned int n;
};

static void on_dirty(struct map_log *log, struct gpa start, uint64_t n_bytes)
{
	struct heard *heard = (struct heard *)log;

	heard->start = start.val;
	heard->n_bytes = n_bytes;
	heard->n++;
}

START_TEST(test_log_hears_of_writes_while_it_is_set)
{
	struct heard heard = { .log = { on_dirty } };

	map_mark_dirty(map, (struct gpa){ 5 }, 6);
	map_set_log(map, &heard.log);
	map_mark_dirty(map, (struct gpa){ 7 }, 8);
	map_mark_dirty(map, (struct gpa){ 9 }, 0);
	ck_assert_uint_eq(heard.start, 7);
	ck_assert_uint_eq(heard.n_bytes, 8);
	map_set_log(map, NULL);
	map_mark_dirty(map, (struct gpa){ 5 }, 6);
	ck_assert_uint_eq(heard.n, 1);
}
END_TEST

/* covers: M17 */
START_TEST(test_overlap_is_refused)
{
	ck_assert_int_eq(add(4 * PAGE, 4 * PAGE, 0), 0);
	ck_assert_int_eq(add(4 * PAGE, 4 * PAGE, 0), -EEXIST);
	ck_assert_int_eq(add(7 * PAGE, PAGE, 0), -EEXIST);
	ck_assert_int_eq(add(3 * PAGE, PAGE + 1, 0), -EEXIST);
	ck_assert_int_eq(add(0, 16 * PAGE, 0), -EEXIST);
	ck_assert_int_eq(add(5 * PAGE, 1, 0), -EEXIST);
	ck_assert_int_eq(add(3 * PAGE, PAGE, 0), 0);
	ck_assert_int_eq(add(8 * PAGE, PAGE, 0), 0);
	ck_assert_uint_eq(map->n_regions, 3);
}
END_TEST

/* covers: M17 */
START_TEST(test_senseless_numbers_are_refused)
{
	struct map_region r = region(0, PAGE, 0);

	ck_assert_int_eq(add(0, 0, 0), -EINVAL);
	ck_assert_int_eq(add(UINT64_MAX - PAGE + 2, PAGE, 0), -EINVAL);
	ck_assert_int_eq(add(0, PAGE, UINT64_MAX - 1), -EINVAL);
	ck_assert_int_eq(add(0, UINT64_MAX, 0), -EINVAL);
	r.uva.val = UINT64_MAX - 5;
	ck_assert_int_eq(map_add(map, &r, fd), -EINVAL);
	r.uva.val = 0;
	ck_assert_int_eq(map_add(map, &r, -1), -EBADF);
	ck_assert_uint_eq(map->n_regions, 0);
}
END_TEST

/* covers: M17 */
START_TEST(test_file_that_is_too_short_is_refused)
{
	ck_assert_int_eq(add(0, (1 << 20) + 1, 0), -EFBIG);
	ck_assert_int_eq(add(0, PAGE, (1 << 20) - PAGE + 1), -EFBIG);
	ck_assert_int_eq(add(0, PAGE, (1 << 20) - PAGE), 0);
}
END_TEST

/* covers: G14 */
START_TEST(test_read_only_file_is_refused)
{
	struct map_region r = region(0, PAGE, 0);
	int ro = file_reopen(dup(fd), O_RDONLY);

	ck_assert_int_eq(map_add(map, &r, ro), -EACCES);
	close(ro);
}
END_TEST

START_TEST(test_509_regions_and_no_more)
{
	for (uint64_t i = 0; i < MAP_REGIONS_MAX; i++) {
		uint64_t k = i * 200 % MAP_REGIONS_MAX; /* in no order */

		mark(k, (uint8_t)k);
		ck_assert_int_eq(add(k * 2 * PAGE, PAGE, k), 0);
	}
	ck_assert_int_eq(add(4000 * PAGE, PAGE, 0), -ENOSPC);
	for (uint64_t k = 0; k < MAP_REGIONS_MAX; k++)
		ck_assert_uint_eq(*(uint8_t *)map_gpa(map, (struct gpa){ k * 2 * PAGE }, PAGE),
			(uint8_t)k);
	for (uint64_t k = 0; k < MAP_REGIONS_MAX; k += 2)
		ck_assert_int_eq(drop(k * 2 * PAGE, PAGE), 0);
	ck_assert_uint_eq(map->n_regions, MAP_REGIONS_MAX / 2);
	for (uint64_t k = 0; k < MAP_REGIONS_MAX; k++)
		ck_assert_int_eq(!!map_gpa(map, (struct gpa){ k * 2 * PAGE }, PAGE), k % 2);
}
END_TEST

START_TEST(test_removal_matches_all_numbers)
{
	struct map_region r = region(PAGE, PAGE, 0);

	ck_assert_int_eq(add(PAGE, PAGE, 0), 0);
	ck_assert_int_eq(drop(PAGE, PAGE - 1), -ENOENT);
	ck_assert_int_eq(drop(PAGE + 1, PAGE), -ENOENT);
	ck_assert_int_eq(drop(9 * PAGE, PAGE), -ENOENT);
	r.uva.val++;
	ck_assert_int_eq(map_remove(map, &r), -ENOENT);
	ck_assert_int_eq(drop(PAGE, PAGE), 0);
	ck_assert_int_eq(drop(PAGE, PAGE), -ENOENT);
}
END_TEST

/* covers: M17 */
START_TEST(test_huge_pages_are_mapped_in_their_own_unit)
{
	struct map_region r = region(0x8000, (2 << 20) + 0x1000, 0x3b10);
	int huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB), e;
	uint8_t *mem;

	if (huge < 0 || ftruncate(huge, 4 << 20) < 0) {
		printf("# SKIP no huge pages in this kernel\n");
		return;
	}
	e = map_add(map, &r, huge);
	close(huge);
	if (e == -ENOMEM) {
		printf("# SKIP no huge pages are free\n");
		return;
	}
	ck_assert_int_eq(e, 0);
	mem = map_gpa(map, (struct gpa){ 0x8000 }, (2 << 20) + 0x1000);
	ck_assert_ptr_nonnull(mem);
	ck_assert_uint_eq((uintptr_t)mem % (2 << 20), 0x3b10);
	mem[(2 << 20) + 0xfff] = 1;
	ck_assert_int_eq(map_remove(map, &r), 0);
}
END_TEST

static unsigned int n_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	char line[512];

	while (fgets(line, sizeof(line), file))
		n += strstr(line, "memfd:test") != NULL;
	fclose(file);
	return n;
}

/* covers: M18 */
START_TEST(test_nothing_stays_mapped)
{
	for (int i = 0; i < 10000; i++) {
		ck_assert_int_eq(add(0, 3 * PAGE, 100), 0);
		ck_assert_int_eq(drop(0, 3 * PAGE), 0);
	}
	ck_assert_int_eq(add(0, 3 * PAGE, 100), 0);
	ck_assert_uint_eq(n_maps(), 1);
	map = map_free(map);
	ck_assert_uint_eq(n_maps(), 0);
}
END_TEST

/* --- Files that shrink --- */

/* covers: M17 */
START_TEST(test_memory_of_a_shrunken_file_becomes_zeros)
{
	volatile uint8_t *mem, *other;
	struct map *second = NULL;
	struct map_region r = region(0, PAGE, 0);
	int other_fd = memfd_create("other", MFD_CLOEXEC);

	ck_assert_int_eq(ftruncate(other_fd, PAGE), 0);
	ck_assert_int_eq(map_new(&second), 0);
	ck_assert_int_eq(map_add(second, &r, other_fd), 0);
	ck_assert_int_eq(map_install_sigbus(), 0);
	ck_assert_int_eq(map_install_sigbus(), 0);
	ck_assert_int_eq(add(0, 8 * PAGE, 100), 0);
	mem = map_gpa(map, (struct gpa){ 0 }, 8 * PAGE);
	other = map_gpa(second, (struct gpa){ 0 }, PAGE);
	mem[0] = other[0] = 7;
	ck_assert_int_eq(ftruncate(fd, PAGE), 0);
	ck_assert(!map_poisoned(map));
	errno = 77;
	mem[5 * PAGE] = 1;
	ck_assert_int_eq(errno, 77);
	ck_assert(map_poisoned(map));
	ck_assert_uint_eq(mem[0], 0); /* the whole region went */
	ck_assert_uint_eq(mem[5 * PAGE], 1);
	ck_assert_uint_eq(mem[8 * PAGE - 1], 0);
	ck_assert(!map_poisoned(second));
	ck_assert_uint_eq(other[0], 7);
	ck_assert_int_eq(drop(0, 8 * PAGE), 0);
	ck_assert(!map_poisoned(map)); /* what was poisoned is gone */
	second = map_free(second);
	close(other_fd);
}
END_TEST

static volatile uint8_t *lost;

/* Each thread a byte of its own in every page. */
static void *touch(void *data)
{
	for (int i = 0; i < 64; i++)
		lost[i * PAGE + (intptr_t)data] = 1;
	return NULL;
}

START_TEST(test_many_threads_may_hit_lost_memory)
{
	pthread_t threads[8];

	ck_assert_int_eq(map_install_sigbus(), 0);
	for (int round = 0; round < 20; round++) {
		ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
		ck_assert_int_eq(add(0, 64 * PAGE, 0), 0);
		ck_assert_int_eq(ftruncate(fd, 0), 0);
		lost = map_gpa(map, (struct gpa){ 0 }, 64 * PAGE);
		for (intptr_t i = 0; i < 8; i++)
			ck_assert_int_eq(pthread_create(&threads[i], NULL, touch, (void *)i), 0);
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
		ck_assert(map_poisoned(map));
		ck_assert_int_eq(drop(0, 64 * PAGE), 0);
	}
}
END_TEST

/* How a child ends that does something after the handler was installed. */
static int end_of(void (*action)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		signal(SIGBUS, SIG_DFL); /* not the sanitizer's */
		if (map_install_sigbus() < 0)
			_exit(1);
		action();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void fault_elsewhere(void)
{
	volatile uint8_t *mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (ftruncate(fd, 0) == 0)
		mem[0] = 1;
}

static void signal_from_outside(void)
{
	kill(getpid(), SIGBUS);
	usleep(1000000);
}

START_TEST(test_sigbus_elsewhere_ends_the_process)
{
	ck_assert_int_eq(end_of(fault_elsewhere), SIGBUS);
	ck_assert_int_eq(end_of(signal_from_outside), SIGBUS);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("map");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_address_leads_to_its_byte);
	tcase_add_test(tc, test_region_need_not_begin_or_end_on_a_page);
	tcase_add_test(tc, test_range_must_be_inside);
	tcase_add_test(tc, test_range_over_regions_is_split);
	tcase_add_test(tc, test_range_over_a_hole_is_outside);
	tcase_add_test(tc, test_span_says_where_it_is_for_the_guest);
	tcase_add_test(tc, test_hint_follows_and_never_lies);
	tcase_add_test(tc, test_resolver_is_asked_for_what_is_missing);
	tcase_add_test(tc, test_log_hears_of_writes_while_it_is_set);
	tcase_add_test(tc, test_overlap_is_refused);
	tcase_add_test(tc, test_senseless_numbers_are_refused);
	tcase_add_test(tc, test_file_that_is_too_short_is_refused);
	tcase_add_test(tc, test_read_only_file_is_refused);
	tcase_add_test(tc, test_509_regions_and_no_more);
	tcase_add_test(tc, test_removal_matches_all_numbers);
	tcase_add_test(tc, test_huge_pages_are_mapped_in_their_own_unit);
	tcase_add_test(tc, test_nothing_stays_mapped);
	tcase_add_test(tc, test_memory_of_a_shrunken_file_becomes_zeros);
	tcase_add_test(tc, test_many_threads_may_hit_lost_memory);
	tcase_add_test(tc, test_sigbus_elsewhere_ends_the_process);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("map", add_tests);
}
