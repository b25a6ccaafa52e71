/* Who wakes whom: calls of the driver, kicks of the device, and their event fields. */
#include <string.h>

#include "lib/run.h"
#include "ring-case.h"

START_TEST(test_driver_is_called_as_it_asked)
{
	begin(_i, 8);
	rig.d.event_idx = _i & 2;
	rig_start(&rig);
	must(!virtq_call_due(rig.vq)); /* nothing was published */
	driver_calls_on(&rig.d);
	for (uint32_t i = 0; i < 200000; i++) {
		must(post1(i));
		must(rig_serve(&rig, 1) == 1);
		/* asked for every third one */
		must(virtq_call_due(rig.vq) == (i % 3 == 0 || !rig.d.event_idx));
		must(!virtq_call_due(rig.vq));
		must(rig_reap_all(&rig, i) == 1);
		if (i % 3 == 2)
			driver_calls_on(&rig.d);
	}
}
END_TEST

START_TEST(test_driver_that_wants_no_calls_gets_none)
{
	begin_started(_i, 8);
	driver_calls_off(&rig.d);
	for (uint32_t i = 0; i < 100; i++) {
		ck_assert(post1(i));
		ck_assert_uint_eq(rig_serve(&rig, 1), 1);
		ck_assert(!virtq_call_due(rig.vq));
		ck_assert_uint_eq(rig_reap_all(&rig, i), 1);
	}
	driver_calls_on(&rig.d);
	ck_assert(post1(100));
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert(virtq_call_due(rig.vq));
}
END_TEST

START_TEST(test_batch_that_passes_the_event_is_called)
{
	begin(_i, 8);
	rig.d.event_idx = true;
	rig_start(&rig);
	driver_calls_on(&rig.d);
	for (uint32_t i = 0; i < 4000; i += 4) {
		for (uint32_t k = 0; k < 4; k++)
			ck_assert(post1(i + k));
		ck_assert_uint_eq(rig_serve(&rig, 4), 4);
		ck_assert(virtq_call_due(rig.vq));
		ck_assert_uint_eq(rig_reap_all(&rig, i), 4);
		driver_calls_on(&rig.d);
	}
}
END_TEST

START_TEST(test_device_asks_for_kicks_as_it_wants)
{
	begin(_i, 8);
	rig.d.event_idx = _i & 2;
	rig_start(&rig);
	for (uint32_t i = 0; i < 100000; i += 2) {
		must(!virtq_kick_on(rig.vq));
		must(post1(i));
		must(driver_must_kick(&rig.d));
		must(virtq_kick_on(rig.vq)); /* it came meanwhile */
		must(virtq_fill(rig.vq, 8) == 1);
		must(!virtq_kick_on(rig.vq)); /* it is in the window */
		virtq_kick_off(rig.vq);
		if (!rig.d.event_idx || packed) {
			must(post1(i + 1));
			must(!driver_must_kick(&rig.d));
		} else {
			must(post1(i + 1));
			(void)driver_must_kick(&rig.d);
		}
		must(rig_serve(&rig, 8) == 2);
		must(rig_reap_all(&rig, i) == 2);
	}
}
END_TEST

/* covers: G9 */
START_TEST(test_nonsense_in_the_event_fields_does_no_harm)
{
	begin(_i, 8);
	rig.d.event_idx = true;
	rig_start(&rig);
	for (uint32_t i = 0; i < 65536; i++) {
		uint32_t wish = i * 2654435761u;

		memcpy(rig.m.mem + rig.d.avail + (packed ? 0 : 4 + 16), &wish, packed ? 4 : 2);
		must(post1(i));
		must(rig_serve(&rig, 1) == 1);
		(void)virtq_call_due(rig.vq);
		must(rig_reap_all(&rig, i) == 1);
	}
}
END_TEST

/* One that is held back is asked for when it is due, about everything since. */
START_TEST(test_call_that_is_held_back_tells_of_all)
{
	begin(_i, 8);
	rig.d.event_idx = _i & 2;
	rig_start(&rig);
	driver_calls_on(&rig.d);
	for (uint32_t i = 0; i < 4000; i += 4) {
		for (uint32_t k = 0; k < 4; k++) {
			must(post1(i + k));
			must(rig_serve(&rig, 1) == 1);
			must(virtq_call_wanted(rig.vq));
		}
		must(virtq_call_due(rig.vq));
		must(!virtq_call_wanted(rig.vq));
		must(rig_reap_all(&rig, i) == 4);
		driver_calls_on(&rig.d);
	}
	must(post1(0));
	must(rig_serve(&rig, 1) == 1);
	must(virtq_call_wanted(rig.vq));
	must(rig_reap_all(&rig, 0) == 1);
	driver_calls_off(&rig.d); /* the driver has seen it */
	must(virtq_call_due(rig.vq) == (rig.d.event_idx && !packed));
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = ring_tcase(suite, "both layouts");

	tcase_add_loop_test(tc, test_driver_is_called_as_it_asked, 0, 4);
	tcase_add_loop_test(tc, test_driver_that_wants_no_calls_gets_none, 0, 2);
	tcase_add_loop_test(tc, test_call_that_is_held_back_tells_of_all, 0, 4);
	tcase_add_loop_test(tc, test_batch_that_passes_the_event_is_called, 0, 2);
	tcase_add_loop_test(tc, test_device_asks_for_kicks_as_it_wants, 0, 4);
	tcase_add_loop_test(tc, test_nonsense_in_the_event_fields_does_no_harm, 0, 2);
}

int main(void)
{
	return run_main("notify", add_tests);
}
