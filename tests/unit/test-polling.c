/* The times are made up. */
#include <stdbool.h>
#include <stdint.h>

#include "device/polling.h"
#include "lib/run.h"

#define US UINT64_C(1000)
#define LIMIT (50 * US)
#define LOOK (1 * US) /* from one look to the next */

static struct polling polling;
static uint64_t now;

static void set_up(void)
{
	polling = (struct polling){ .limit_ns = LIMIT };
	now = 1000000 * US;
}

/* Work comes so long after the last; whether it was found without sleeping. */
static bool comes_after(uint64_t pause)
{
	uint64_t due = now + pause;

	polling_worked(&polling, now);
	while (polling_again(&polling, now)) {
		if (now >= due)
			return true;
		now += LOOK;
	}
	now = now > due ? now : due;
	polling_woke(&polling, now);
	return false;
}

/* How long it looks before it sleeps, when nothing comes */
static uint64_t looks(void)
{
	uint64_t since = now;

	polling_worked(&polling, now);
	while (polling_again(&polling, now))
		now += LOOK;
	return now - since;
}

START_TEST(test_first_pause_is_slept)
{
	ck_assert(!comes_after(10 * US));
	ck_assert(comes_after(10 * US));
	ck_assert(comes_after(19 * US));
}
END_TEST

START_TEST(test_never_longer_than_the_limit)
{
	ck_assert(!comes_after(49 * US));
	ck_assert_uint_eq(looks(), LIMIT);
	ck_assert(comes_after(49 * US));
	ck_assert(!comes_after(51 * US));
}
END_TEST

/* One at rest spends no time at all, after the few windows that a pause of the last busy one
 * costs. */
START_TEST(test_long_pauses_end_it)
{
	uint64_t looked = 0;

	ck_assert(!comes_after(40 * US));
	for (int i = 0; i < 10; i++) {
		looked += looks();
		now += 1000 * US;
		polling_woke(&polling, now);
	}
	ck_assert_uint_le(looked, 2 * LIMIT);
	ck_assert_uint_eq(looks(), 0);
}
END_TEST

START_TEST(test_another_thread_that_wants_the_processor_ends_it)
{
	ck_assert(!comes_after(25 * US));
	polling_worked(&polling, now);
	ck_assert(polling_again(&polling, now));
	ck_assert(polling_again(&polling, now += LOOK));
	ck_assert(!polling_again(&polling, now += 25 * US));
	ck_assert_uint_eq(looks(), 0);
}
END_TEST

/* A burst takes its time: that is no other thread's. */
START_TEST(test_work_itself_does_not)
{
	ck_assert(!comes_after(25 * US));
	polling_worked(&polling, now);
	ck_assert(polling_again(&polling, now += LOOK));
	polling_worked(&polling, now += 100 * US);
	ck_assert(polling_again(&polling, now));
}
END_TEST

START_TEST(test_limit_of_zero_is_never)
{
	polling.limit_ns = 0;
	for (int i = 0; i < 3; i++)
		ck_assert(!comes_after(US));
	ck_assert_uint_eq(looks(), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("window");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, test_first_pause_is_slept);
	tcase_add_test(tc, test_never_longer_than_the_limit);
	tcase_add_test(tc, test_long_pauses_end_it);
	tcase_add_test(tc, test_another_thread_that_wants_the_processor_ends_it);
	tcase_add_test(tc, test_work_itself_does_not);
	tcase_add_test(tc, test_limit_of_zero_is_never);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("polling", add_tests);
}
