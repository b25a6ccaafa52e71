/*
 * What both layouts have in common, each test run for the split ring (_i even) and the packed one:
 * going round many times, windows, how a ring starts, in-flight regions and ledgers of any content.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/run.h"
#include "ring-case.h"

/* --- Going round --- */

START_TEST(test_a_ring_is_blank_until_its_driver_writes_it)
{
	begin_started(_i, 64);
	ck_assert(virtq_is_blank(rig.vq));
	virtq_kick_off(rig.vq);
	ck_assert(!virtq_kick_on(rig.vq));
	ck_assert(virtq_is_blank(rig.vq)); /* our own marks are no driver's */
	ck_assert(post1(0));
	ck_assert(!virtq_is_blank(rig.vq));
	pass(0, 1);
	ck_assert(!virtq_is_blank(rig.vq));
}
END_TEST

static const uint32_t sizes[] = { 1, 2, 4, 8, 64, 256, 1024, 4096, 32768, 3, 5, 7, 100, 255, 257,
	1000, 32767 };

START_TEST(test_ring_of_any_size_goes_round_many_times)
{
	uint32_t size = sizes[_i / 2], posted = 0, reaped = 0, end;

	if (!(_i & 1) && (size & (size - 1)))
		return;
	begin(_i, size);
	rig_start(&rig);
	end = 70000 > 5 * size ? 70000 : 5 * size;
	while (reaped < end) {
		unsigned int bite = 1 + posted % 37;

		while (post1(posted) && ++posted % 41)
			;
		while (rig_serve(&rig, bite))
			;
		reaped += rig_reap_all(&rig, reaped);
		must(reaped == posted);
	}
	must(rig.ledger.counters.chains == reaped);
	must(virtq_base(rig.vq) == ledger_base(&rig.ledger));
}
END_TEST

START_TEST(test_chains_of_all_lengths_go_round)
{
	struct seg segs[7];
	uint32_t posted = 0, reaped = 0;

	begin_started(_i, 16);
	for (int i = 0; i < 7; i++)
		segs[i] = (struct seg){ BUF(i), 10 + (uint32_t)i, i >= 3 };
	while (reaped < 100000) {
		struct virtq_chain *chain;

		while (driver_post(&rig.d, segs + posted % 3, 1 + posted % 5, 0, posted))
			posted++;
		chain = next_chain();
		must(!chain->bad);
		must(chain->n_out + chain->n_in == 1 + reaped % 5);
		must(chain->n_slots == 1 + reaped % 5);
		must(chain->iov[0].iov_len == 10 + reaped % 3);
		while (rig_serve(&rig, 3))
			;
		reaped += rig_reap_all(&rig, reaped);
	}
}
END_TEST

START_TEST(test_completion_in_any_order_returns_each_chain_once)
{
	uint32_t posted = 0, seed = 1;
	static uint8_t back[100100];
	struct virtq_chain *held[16];
	unsigned int n_held = 0;

	begin_started(_i, 16);
	memset(back, 0, sizeof(back));
	while (posted < 100000) {
		uint32_t cookie, len;
		int n;

		while (posted < 100000 && post1(posted))
			posted++;
		n = virtq_fill(rig.vq, 1 + posted % 5);
		for (int i = 0; i < n; i++)
			held[n_held++] = virtq_window(rig.vq, (unsigned int)i);
		virtq_take(rig.vq, (unsigned int)n);
		for (unsigned int i = 0; i < 1 + posted % 4 && n_held; i++) {
			seed = seed * 1103515245 + 12345;
			unsigned int k = (seed >> 16) % n_held;

			virtq_complete(rig.vq, held[k], 0);
			held[k] = held[--n_held];
		}
		virtq_publish(rig.vq);
		while ((n = driver_reap(&rig.d, &cookie, &len)) == 1) {
			must(!back[cookie]);
			back[cookie] = 1;
		}
		must(n == 0);
	}
}
END_TEST

/* A burst that is served and then taken as a whole, which ends anywhere in the ring: behind its
 * end, too. Chains of the window that it leaves stay there. */
START_TEST(test_bursts_finish_wherever_they_end)
{
	uint32_t size = sizes[_i / 2], posted = 0, reaped = 0, n_bytes[16];
	uint32_t end = 70000 > 5 * size ? 70000 : 5 * size;

	if (!(_i & 1) && (size & (size - 1)))
		return;
	begin_started(_i, size);
	while (reaped < end) {
		unsigned int n, bite = 1 + posted % 13, window;
		uint32_t cookie, len;

		while (post1(posted) && ++posted % 41)
			;
		window = (unsigned int)virtq_fill(rig.vq, 16);
		n = bite < window ? bite : window;
		for (unsigned int i = 0; i < n; i++) {
			virtq_ask(rig.vq, i, 100);
			n_bytes[i] = 1 + (reaped + i) % 64;
		}
		virtq_finish(rig.vq, n, reaped % 7 ? n_bytes : NULL);
		must(virtq_window_len(rig.vq) == window - n);
		must(!driver_has_used(&rig.d)); /* not before they are published */
		virtq_publish(rig.vq);
		for (bite = reaped; driver_reap(&rig.d, &cookie, &len) == 1; reaped++) {
			must(cookie == reaped);
			must(len == (cookie & 1 && bite % 7 ? 1 + cookie % 64 : 0));
		}
		must(reaped == bite + n);
	}
	must(rig.ledger.counters.chains == reaped);
	must(virtq_base(rig.vq) == ledger_base(&rig.ledger));
}
END_TEST

/* --- The window --- */

START_TEST(test_window_that_is_not_taken_was_never_seen)
{
	uint32_t base;

	begin_started(_i, 8);
	post_all(0, 8);
	base = virtq_base(rig.vq);
	ck_assert(!virtq_all_posted(rig.vq));
	ck_assert_int_eq(virtq_fill(rig.vq, 5), 5);
	ck_assert_int_eq(virtq_fill(rig.vq, 2), 2);
	ck_assert_uint_eq(virtq_window_len(rig.vq), 5);
	ck_assert(!virtq_all_posted(rig.vq));
	ck_assert_int_eq(virtq_fill(rig.vq, 100), 8);
	ck_assert(virtq_all_posted(rig.vq));
	ck_assert_uint_eq(virtq_base(rig.vq), base);
	ck_assert_int_eq(virtq_remap(rig.vq), 0);
	ck_assert_uint_eq(virtq_window_len(rig.vq), 0);
	ck_assert_uint_eq(rig_serve(&rig, 3), 3);
	ck_assert_uint_ne(virtq_base(rig.vq), base);
	ck_assert_int_eq(virtq_fill(rig.vq, 5), 5);
	rig.vq = virtq_stop(rig.vq);
	rig_start(&rig);
	ck_assert_uint_eq(rig_serve(&rig, 8), 5);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 8);
}
END_TEST

START_TEST(test_taken_chains_stay_valid_while_others_pass)
{
	struct virtq_chain *first;

	begin_started(_i, 4);
	ck_assert(post1(0));
	first = next_chain();
	void *mem = first->iov[0].iov_base;

	virtq_take(rig.vq, 1);
	for (uint32_t i = 1; i < 1000; i++) {
		uint32_t cookie, len;

		ck_assert(post1(i));
		ck_assert_uint_eq(rig_serve(&rig, 1), 1);
		ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 1);
		ck_assert_uint_eq(cookie, i);
		ck_assert_ptr_eq(first->iov[0].iov_base, mem);
	}
	virtq_complete(rig.vq, first, 0);
	virtq_publish(rig.vq);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 1);
}
END_TEST

START_TEST(test_length_is_never_more_than_was_writable)
{
	uint32_t cookie, len;
	struct virtq_chain *chain;

	begin_started(_i, 4);
	ck_assert(post1(1));
	chain = next_chain();
	finish(chain, 1000);
	ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 1);
	ck_assert_uint_eq(len, 64);
}
END_TEST

/* covers: G7 */
START_TEST(test_what_was_parsed_does_not_change)
{
	struct seg seg = { BUF(0), 64, false };
	struct virtq_chain *chain;

	begin_started(_i, 4);
	ck_assert(driver_post(&rig.d, &seg, 1, 0, 5));
	chain = next_chain();
	memset(driver_desc(&rig.d, 0), 0xff, 14); /* all but packed's flags */
	ck_assert_uint_eq(chain->iov[0].iov_len, 64);
	ck_assert_ptr_eq(chain->iov[0].iov_base, map_gpa(rig.m.map, (struct gpa){ BUF(0) }, 1));
	virtq_take(rig.vq, 1); /* enters what was parsed into the in-flight region */
	rig.vq = virtq_stop(rig.vq);
	if (packed) {
		rig_start(&rig);
		chain = next_chain();
		ck_assert(!chain->bad);
		ck_assert_uint_eq(chain->iov[0].iov_len, 64);
	}
}
END_TEST

/* --- Start, and start anew --- */

/* covers: M12 */
START_TEST(test_ring_addresses_must_be_aligned_and_in_memory)
{
	struct virtq_setup good, s;

	begin(_i, 8);
	good = driver_setup(&rig.d, 1);
	for (int part = 0; part < 3; part++) {
		static const uint64_t offsets[] = { 1, 3 * RIG_BYTES, UINT64_MAX - 0x7f0000000000 };

		for (unsigned int i = 0; i < 3; i++) {
			s = good;
			(part == 0 ? &s.desc : part == 1 ? &s.avail : &s.used)->val += offsets[i];
			ck_assert_int_eq(start_with(s), VIRTQ_E_ADDRESS);
		}
	}
	s = good;
	s.desc.val = UVA_OF(RIG_BUFFERS - 16).val; /* not in one region */
	ck_assert_int_eq(start_with(s), VIRTQ_E_ADDRESS);
	ck_assert_int_eq(start_with(good), 0);
}
END_TEST

/* covers: M11 */
START_TEST(test_ring_sizes_that_are_refused)
{
	static const uint32_t bad[] = { 0, 32769, 65536, UINT32_MAX };
	struct virtq_setup s;

	begin(_i, 8);
	s = driver_setup(&rig.d, 1);
	for (unsigned int i = 0; i < 4; i++) {
		s.size = bad[i];
		ck_assert_int_eq(start_with(s), VIRTQ_E_SIZE);
	}
	s.size = 7;
	ck_assert_int_eq(start_with(s), packed ? 0 : VIRTQ_E_SIZE);
}
END_TEST

START_TEST(test_new_start_begins_anew)
{
	struct virtq_setup setup;

	begin_started(_i, 8);
	post_all(0, 5);
	ck_assert_int_eq(virtq_fill(rig.vq, 5), 5);
	virtq_take(rig.vq, 2);
	rig.vq = virtq_stop(rig.vq);
	/* the driver was reset */
	driver_deinit(&rig.d);
	driver_init(&rig.d, &rig.m, 0, 8, packed);
	setup = driver_setup(&rig.d, 2);
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight), 0);
	ck_assert_int_eq(virtq_fill(rig.vq, 5), 0);
	ck_assert(post1(20));
	pass(20, 1);
}
END_TEST

/* A worker died with chains in hand, and the ring is to stop: where it stands is where the next
 * driver's session serves each of them, once. */
START_TEST(test_ring_stopped_behind_a_death_has_nothing_in_flight)
{
	struct virtq_setup setup;
	struct virtq_chain *chain;

	begin_started(_i, 8);
	post_all(0, 8);
	ck_assert_uint_eq(rig_serve(&rig, 2), 2);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 2);
	ck_assert_int_eq(virtq_fill(rig.vq, 4), 4);
	chain = virtq_window(rig.vq, 0);
	virtq_take(rig.vq, 3);
	virtq_complete(rig.vq, chain, chain->in_bytes);
	virtq_publish(rig.vq);
	virtq_stop(rig.vq); /* two are taken: as if it were dead */
	setup = driver_setup(&rig.d, 2);
	setup.base = ledger_base(&rig.ledger); /* what its ledger alone says */
	rig_start(&rig);
	ck_assert_uint_eq(virtq_base(rig.vq), setup.base);
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	setup.base = virtq_base(rig.vq);
	virtq_stop(rig.vq);
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight), 0);
	ck_assert_uint_eq(rig_serve(&rig, 8), 4);
	ck_assert_uint_eq(rig_reap_all(&rig, 2), 6);
	ck_assert_uint_eq(rig.d.n_free, 8);
}
END_TEST

/* Remapping keeps what a former worker had in flight in front. */
START_TEST(test_remap_keeps_what_is_to_be_done_again)
{
	begin_started(_i, 8);
	post_all(0, 8);
	ck_assert_int_eq(virtq_fill(rig.vq, 5), 5);
	virtq_take(rig.vq, 4);
	rig.vq = virtq_stop(rig.vq);
	rig_start(&rig);
	ck_assert(virtq_kick_on(rig.vq));
	ck_assert_int_eq(virtq_fill(rig.vq, 6), 6);
	ck_assert_int_eq(virtq_remap(rig.vq), 0);
	ck_assert(virtq_kick_on(rig.vq));
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_int_eq(virtq_fill(rig.vq, 6), 6);
	ck_assert_int_eq(virtq_remap(rig.vq), 0);
	ck_assert_uint_eq(rig_serve(&rig, 8), 7);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 8);
	for (uint32_t i = 8; i < 100; i++) {
		ck_assert(post1(i));
		ck_assert_uint_eq(rig_serve(&rig, 8), 1);
		ck_assert_uint_eq(rig_reap_all(&rig, i), 1);
	}
}
END_TEST

/* --- Regions and ledgers that lie --- */

/* While a ring runs, nothing that the VMM writes into the in-flight region has any effect. */
/* covers: M21 */
START_TEST(test_running_ring_does_not_read_the_region)
{
	uint32_t posted = 0, reaped = 0, seed = 7;

	begin_started(_i, 8);
	for (int i = 0; i < 20000; i++) {
		uint8_t *region = rig.inflight;
		struct virtq_chain *chain;

		while (post1(posted))
			posted++;
		must(virtq_fill(rig.vq, 3) >= 0);
		for (size_t k = 0; k < ledger_inflight_bytes(8); k++)
			region[k] = (uint8_t)(seed = seed * 1103515245 + 12345, seed >> 16);
		chain = virtq_window(rig.vq, 0);
		virtq_take(rig.vq, 1);
		virtq_complete(rig.vq, chain, 0);
		virtq_publish(rig.vq);
		reaped += rig_reap_all(&rig, reaped);
	}
	must(reaped == 20000);
}
END_TEST

/* Whatever the region holds, a start ends: with a ring that serves or breaks, or refused. */
/* covers: M21 */
START_TEST(test_region_of_noise_is_survived)
{
	uint32_t seed = (uint32_t)_i + 99;
	unsigned int refused = 0;

	for (int round = 0; round < 2000; round++) {
		struct ledger_queue ledger;
		struct virtq *vq;
		uint8_t *region;
		int n;

		begin(_i, 8);
		rig_start(&rig);
		region = rig.inflight;
		for (uint32_t i = 0; i < 8; i++)
			(void)post1(i);
		(void)rig_serve(&rig, 3);
		n = virtq_fill(rig.vq, 4);
		virtq_take(rig.vq, (unsigned int)n);
		rig.vq = virtq_stop(rig.vq);
		for (int k = 0; k < 1 + round % 6; k++) {
			seed = seed * 1103515245 + 12345;
			region[(seed >> 8) % (16 + 34 * (packed ? 8 : 4))] =
				(uint8_t)(seed >> 24 & (round & 1 ? 7 : 255));
		}
		ledger = rig.ledger;
		struct virtq_setup setup = driver_setup(&rig.d, 1);
		int r = virtq_start(&vq, &setup, rig.m.map, &ledger, region);

		must(r == 0 || r == VIRTQ_E_BROKEN);
		refused += r != 0;
		if (r == 0) {
			while (virtq_fill(vq, 8) > 0) {
				struct virtq_chain *chain = virtq_window(vq, 0);

				virtq_take(vq, 1);
				virtq_complete(vq, chain, 0);
				virtq_publish(vq);
			}
			virtq_stop(vq);
		}
		end();
	}
	ck_assert_uint_gt(refused, 20);
}
END_TEST

START_TEST(test_ledger_that_contradicts_the_ring_is_refused)
{
	struct virtq_setup setup;

	begin_started(_i, 8);
	rig.vq = virtq_stop(rig.vq);
	setup = driver_setup(&rig.d, 1);
	rig.ledger.size = 16;
	ck_assert_int_eq(start_with(setup), VIRTQ_E_BROKEN);
	rig.ledger.size = 8;
	rig.ledger.packed ^= 1;
	ck_assert_int_eq(start_with(setup), VIRTQ_E_BROKEN);
	rig.ledger.packed ^= 1;
	ck_assert_int_eq(start_with(setup), 0);
	((uint16_t *)rig.inflight)[4] = 7; /* version */
	ck_assert_int_eq(start_with(setup), VIRTQ_E_BROKEN);
	setup.start_id = 2; /* a new start does not look at it */
	ck_assert_int_eq(start_with(setup), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = ring_tcase(suite, "both layouts");

	tcase_add_loop_test(tc, test_a_ring_is_blank_until_its_driver_writes_it, 0, 2);
	tcase_add_loop_test(tc, test_ring_of_any_size_goes_round_many_times, 0, 2 * 17);
	tcase_add_loop_test(tc, test_bursts_finish_wherever_they_end, 0, 2 * 17);
	tcase_add_loop_test(tc, test_chains_of_all_lengths_go_round, 0, 2);
	tcase_add_loop_test(tc, test_completion_in_any_order_returns_each_chain_once, 0, 2);
	tcase_add_loop_test(tc, test_window_that_is_not_taken_was_never_seen, 0, 2);
	tcase_add_loop_test(tc, test_taken_chains_stay_valid_while_others_pass, 0, 2);
	tcase_add_loop_test(tc, test_length_is_never_more_than_was_writable, 0, 2);
	tcase_add_loop_test(tc, test_what_was_parsed_does_not_change, 0, 2);
	tcase_add_loop_test(tc, test_ring_addresses_must_be_aligned_and_in_memory, 0, 2);
	tcase_add_loop_test(tc, test_ring_sizes_that_are_refused, 0, 2);
	tcase_add_loop_test(tc, test_new_start_begins_anew, 0, 2);
	tcase_add_loop_test(tc, test_ring_stopped_behind_a_death_has_nothing_in_flight, 0, 2);
	tcase_add_loop_test(tc, test_remap_keeps_what_is_to_be_done_again, 0, 2);
	tcase_add_loop_test(tc, test_running_ring_does_not_read_the_region, 0, 2);
	tcase_add_loop_test(tc, test_region_of_noise_is_survived, 0, 2);
	tcase_add_loop_test(tc, test_ledger_that_contradicts_the_ring_is_refused, 0, 2);
}

int main(void)
{
	return run_main("rings", add_tests);
}
