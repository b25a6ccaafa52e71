/*
 * A VMM that has lost where a ring stands, and says that it begins at 0: the ring goes on where it
 * is, from every position in every lap, with any number of chains waiting; or the device says that
 * it cannot.
 */
#include <string.h>

#include "driver.h"
#include "lib/run.h"

static struct rig rig;
static uint32_t n_posted, n_lost, n_found;

static unsigned int length_of(uint32_t cookie, unsigned int longest)
{
	return 1 + (cookie * 7 + cookie / 3) % longest;
}

static bool post(unsigned int longest)
{
	struct seg segs[4];
	unsigned int n = length_of(n_posted, longest);

	for (unsigned int i = 0; i < n; i++)
		segs[i] = (struct seg){ RIG_BUFFERS + i * 64, 64, false };
	if (!driver_post(&rig.d, segs, n, 0, n_posted))
		return false;
	n_posted++;
	return true;
}

static bool in_order;

static void begin(int kind, uint32_t size)
{
	rig_init(&rig, size, kind & 1);
	if (in_order)
		driver_in_order(&rig.d);
	n_posted = 0;
	rig_start(&rig);
}

static void leave(uint32_t n_waiting, unsigned int longest)
{
	uint32_t size = rig.d.size;

	while (n_waiting-- && post(longest))
		;
	rig.vq = virtq_stop(rig.vq);
	memset(&rig.ledger, 0, sizeof(rig.ledger));
	memset(rig.inflight, 0x5a, ledger_inflight_bytes(size));
}

/* As many chains have gone round, so many more wait; and nobody knows of it but the ring. */
static void bring_to(int kind, uint32_t size, uint32_t n_passed, uint32_t n_waiting,
	unsigned int longest)
{
	in_order = false;
	begin(kind, size);
	for (uint32_t i = 0; i < n_passed; i++) {
		must(post(longest));
		must(rig_serve(&rig, 1) == 1);
		must(rig_reap_all(&rig, i) == 1);
	}
	leave(n_waiting, longest);
}

static void start_at(uint32_t base)
{
	struct virtq_setup setup = driver_setup(&rig.d, 2);

	setup.base = base;
	must(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight) == 0);
}

static void goes_on_from(uint32_t n_passed, unsigned int longest)
{
	uint32_t n_waiting = n_posted - n_passed;

	must(rig_serve(&rig, rig.d.size) == n_waiting);
	must(rig_reap_all(&rig, n_passed) == n_waiting);
	for (uint32_t i = 0; i < 2 * rig.d.size; i++) {
		must(post(longest));
		must(rig_serve(&rig, 1) == 1);
		must(rig_reap_all(&rig, n_posted - 1) == 1);
	}
}

static const uint32_t bases[] = { 0x80008000, 0x8000, 0 };

/* One descriptor a chain: found wherever half of a lap shows that it is. */
START_TEST(test_ring_goes_on_wherever_it_is)
{
	static const uint32_t sizes[] = { 1, 2, 3, 8, 13 };
	uint32_t size = sizes[_i / 2];

	if (!(_i & 1) && (size & (size - 1)))
		return;
	for (uint32_t passed = 0; passed <= 4 * size + 1; passed++)
		for (uint32_t waiting = 0; waiting <= size; waiting++)
			for (size_t b = 0; b < (_i & 1 ? 3 : 1); b++) {
				bring_to(_i, size, passed, waiting, 1);
				start_at(_i & 1 ? bases[b] : 0);
				bool clear = 2 * waiting < size;

				must(virtq_place(rig.vq) != VIRTQ_LOST || passed < size || !clear);
				if (virtq_place(rig.vq) != VIRTQ_LOST)
					goes_on_from(passed, 1);
				rig_deinit(&rig);
			}
}
END_TEST

/* Chains leave descriptors behind that look available: not all can be told apart, and none is taken
 * for another. */
START_TEST(test_packed_ring_of_chains_goes_on_or_says_that_it_cannot)
{
	n_found = n_lost = 0;
	for (uint32_t passed = 0; passed <= 64; passed++)
		for (uint32_t waiting = 0; waiting <= 8; waiting++) {
			bring_to(1, 16, passed, waiting, (unsigned int)_i);
			start_at(0x80008000);
			if (virtq_place(rig.vq) == VIRTQ_LOST) {
				n_lost++;
			} else {
				n_found++;
				goes_on_from(passed, (unsigned int)_i);
			}
			rig_deinit(&rig);
		}
	ck_assert_uint_gt(n_found, 0);
}
END_TEST

/* So many chains have gone round in order, in batches of `bite`. */
static void pass_in_batches(uint32_t n_passed, uint32_t bite, unsigned int longest)
{
	while (n_posted < n_passed) {
		uint32_t n = 0, first = n_posted;

		while (n < bite && n_posted < n_passed && post(longest))
			n++;
		must(n && rig_serve(&rig, n) == n);
		must(rig_reap_all(&rig, first) == n);
	}
}

/* In order, batches leave whole chains behind that look available. Each is told from what waits.
 * _i: bit 0 packed, then the longest chain */
START_TEST(test_ring_in_order_goes_on_behind_its_last_batch)
{
	uint32_t size = _i & 1 ? 7 : 4;
	unsigned int longest = 1 + (unsigned int)_i / 2;

	in_order = true;
	for (uint32_t bite = 1; bite <= size; bite++)
		for (uint32_t passed = 0; passed <= 3 * size; passed++)
			for (uint32_t waiting = 0; waiting <= size; waiting++) {
				begin(_i, size);
				pass_in_batches(passed, bite, longest);
				leave(waiting, longest);
				start_at(_i & 1 ? 0x80008000 : 0x7777);
				/* full again, so that the batch's head may be covered */
				must(virtq_place(rig.vq) != VIRTQ_LOST ||
					(waiting + bite) * longest > size);
				if (virtq_place(rig.vq) != VIRTQ_LOST)
					goes_on_from(passed, longest);
				rig_deinit(&rig);
			}
}
END_TEST

/* Who knows where it stands is believed, with chains in flight or without. */
START_TEST(test_a_base_that_may_be_right_is_taken)
{
	for (uint32_t passed = 0; passed <= 40; passed++)
		for (uint32_t waiting = 0; waiting <= 8; waiting++) {
			uint32_t base, taken = 0;

			bring_to(_i, 8, passed, waiting, 2);
			/* as if it had been served all along: where the driver stands is what the
			 * VMM was told */
			base = rig.d.packed ? rig.d.used_idx | (uint32_t)rig.d.used_wrap << 15
					    : rig.d.used_idx;
			start_at(rig.d.packed ? base | base << 16 : base);
			must(virtq_place(rig.vq) != VIRTQ_FOUND);
			taken = rig_serve(&rig, 8);
			must(rig_reap_all(&rig, passed) == taken && taken == n_posted - passed);
			rig_deinit(&rig);
		}
}
END_TEST

/* It is found by what the guest wrote: nothing that it writes leads outside the ring. */
START_TEST(test_no_content_leads_astray)
{
	uint32_t dice = 1;

	for (int round = 0; round < 20000; round++) {
		uint32_t size = 1 + dice % 17;

		rig_init(&rig, size, true);
		for (uint32_t i = 0; i < size; i++) {
			dice = dice * 1664525 + 1013904223;
			driver_desc(&rig.d, i)->a = (uint16_t)(dice >> 16) % (uint16_t)(2 * size);
			driver_desc(&rig.d, i)->b = (uint16_t)(dice >> (round % 12));
		}
		start_at(0x80008000);
		must((virtq_base(rig.vq) & 0x7fff) < size);
		(void)virtq_fill(rig.vq, size);
		rig_deinit(&rig);
	}
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("place");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_ring_goes_on_wherever_it_is, 0, 10);
	tcase_add_loop_test(tc, test_packed_ring_of_chains_goes_on_or_says_that_it_cannot, 2, 5);
	tcase_add_loop_test(tc, test_ring_in_order_goes_on_behind_its_last_batch, 0, 6);
	tcase_add_loop_test(tc, test_a_base_that_may_be_right_is_taken, 0, 2);
	tcase_add_test(tc, test_no_content_leads_astray);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("place", add_tests);
}
