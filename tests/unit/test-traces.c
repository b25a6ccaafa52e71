/* The ring of a trace: what a reader gets, and what it has missed. */
#include <stdio.h>

#include "lib/run.h"
#include "memory/traces-ring.h"

static struct traces traces;
static struct traces_part part;

static void begin(void)
{
	traces = (struct traces){ .next = 1 };
}

static void end(void)
{
	traces_clear(&traces);
}

static void add(const char *device, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		Bh__TraceEntry entry = BH__TRACE_ENTRY__INIT;
		char text[16];

		snprintf(text, sizeof(text), "%u", i);
		entry.device = (char *)device;
		entry.text = text;
		traces_add(&traces, &entry);
	}
}

START_TEST(test_reader_gets_each_entry_once)
{
	add("net0", 5);
	traces_read(&traces, "", 1, 3, &part);
	ck_assert_uint_eq(part.n, 3);
	ck_assert_str_eq(part.list[0]->text, "0");
	ck_assert_uint_eq(part.lost, 0);
	traces_read(&traces, "", part.next, 3, &part);
	ck_assert_uint_eq(part.n, 2);
	ck_assert_str_eq(part.list[1]->text, "4");
	traces_read(&traces, "", part.next, 3, &part);
	ck_assert_uint_eq(part.n, 0);
	ck_assert_uint_eq(part.lost, 0);
}
END_TEST

START_TEST(test_reader_gets_only_its_device)
{
	add("net0", 2);
	add("net1", 3);
	traces_read(&traces, "net1", 1, 10, &part);
	ck_assert_uint_eq(part.n, 3);
	ck_assert_str_eq(part.list[0]->device, "net1");
	ck_assert_uint_eq(part.lost, 0);
}
END_TEST

START_TEST(test_reader_that_is_late_is_told_what_it_missed)
{
	add("net0", TRACES_MAX + 7);
	traces_read(&traces, "", 1, TRACES_MAX, &part);
	ck_assert_uint_eq(part.lost, 7);
	ck_assert_uint_eq(part.n, TRACES_MAX);
	ck_assert_str_eq(part.list[0]->text, "7");
}
END_TEST

START_TEST(test_what_never_came_counts_as_lost)
{
	add("net0", 1);
	traces_skip(&traces, 4);
	add("net0", 1);
	traces_read(&traces, "", 1, 10, &part);
	ck_assert_uint_eq(part.n, 1);
	ck_assert_uint_eq(part.lost, 0);
	traces_read(&traces, "", part.next, 10, &part);
	ck_assert_uint_eq(part.n, 1);
	ck_assert_uint_eq(part.lost, 4);
	traces_skip(&traces, (uint64_t)TRACES_MAX * 3);
	traces_read(&traces, "", part.next, 10, &part);
	ck_assert_uint_eq(part.n, 0);
	ck_assert_uint_eq(part.lost, (uint64_t)TRACES_MAX * 3);
}
END_TEST

/* It is a former process's. */
START_TEST(test_number_that_is_still_to_come_is_the_next_one)
{
	add("net0", 1);
	traces_read(&traces, "", 1000000, 10, &part);
	ck_assert_uint_eq(part.n, 0);
	ck_assert_uint_eq(part.lost, 0);
	ck_assert_uint_eq(part.next, traces.next);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("ring");

	tcase_add_checked_fixture(tc, begin, end);
	tcase_add_test(tc, test_reader_gets_each_entry_once);
	tcase_add_test(tc, test_reader_gets_only_its_device);
	tcase_add_test(tc, test_reader_that_is_late_is_told_what_it_missed);
	tcase_add_test(tc, test_what_never_came_counts_as_lost);
	tcase_add_test(tc, test_number_that_is_still_to_come_is_the_next_one);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("traces", add_tests);
}
