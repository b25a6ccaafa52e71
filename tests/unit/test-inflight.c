/*
 * In-flight regions that the VMM hands over: new ones, ones that another back-end has written, ones
 * of a ring's former life, and ones that nobody should have written. Whatever is in one costs at
 * most its ring.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "lib/run.h"
#include "virtq/in-flight.h"
#include "virtq/inflight-layout.h"

#define SIZE 8u

static struct rig rig;

static struct inflight_split *split(void)
{
	return rig.inflight;
}

static struct inflight_packed *packed(void)
{
	return rig.inflight;
}

static void new_region(void)
{
	memset(rig.inflight, 0, inflight_bytes(SIZE, rig.d.packed));
}

/* A device that has nothing but the region goes on with the ring; 0 or VIRTQ_E_* */
static int adopt(void)
{
	struct virtq_setup setup = driver_setup(&rig.d, 5);

	rig.vq = virtq_stop(rig.vq);
	rig.ledger = (struct ledger_queue){ 0 };
	setup.inflight_id = 1;
	setup.base = rig.d.packed ? 0x80008000 : rig.d.used_idx;
	return virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight);
}

static void post(uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++) {
		struct seg seg = { RIG_BUFFERS + 64 * i, 64, true };

		must(driver_post(&rig.d, &seg, 1, 0, i));
	}
}

static void serve_all(uint32_t from, uint32_t n)
{
	ck_assert_uint_eq(rig_serve(&rig, SIZE), n);
	ck_assert_uint_eq(rig_reap_all(&rig, from), n);
}

static void take(unsigned int n)
{
	must(virtq_fill(rig.vq, n) == (int)n);
	virtq_take(rig.vq, n);
}

static void set_up(bool is_packed)
{
	rig_init(&rig, SIZE, is_packed);
	new_region();
}

/* --- New and old --- */

/* _i: packed */
START_TEST(test_new_region_of_a_ring_that_has_long_run)
{
	set_up(_i);
	ck_assert_int_eq(adopt(), 0);
	for (uint32_t at = 0; at < 5 * SIZE; at += 5) {
		post(at, 5);
		serve_all(at, 5);
	}
	/* the VMM came from elsewhere: the region is new, the ring is not */
	new_region();
	rig.ledger = (struct ledger_queue){ 0 };
	if (_i) {
		struct virtq_setup setup = driver_setup(&rig.d, 6);
		uint32_t base = virtq_base(rig.vq);

		rig.vq = virtq_stop(rig.vq);
		setup.inflight_id = 1;
		setup.base = base;
		ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight),
			0);
	} else {
		ck_assert_int_eq(adopt(), 0);
		ck_assert_uint_eq(split()->used_idx, 5 * SIZE);
	}
	post(40, 3);
	take(3);
	ck_assert_int_eq(adopt(), 0);
	serve_all(40, 3);
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_region_of_the_former_life_of_a_ring)
{
	struct driver again;

	set_up(_i);
	ck_assert_int_eq(adopt(), 0);
	for (uint32_t at = 0; at < 5 * SIZE; at += 5) {
		post(at, 5);
		serve_all(at, 5);
	}
	/* the guest has begun anew, and the VMM kept the region */
	post(0, 3);
	serve_all(0, 3);
	driver_init(&again, &rig.m, 0, SIZE, _i);
	driver_deinit(&rig.d);
	rig.d = again;
	ck_assert_int_eq(adopt(), 0);
	post(0, 3);
	serve_all(0, 3);
	rig_deinit(&rig);
}
END_TEST

/* As the specification has it, step by step, where a back-end died with the index of a batch of
 * three published and no mark cleared: the whole list is walked. */
START_TEST(test_split_batch_of_another_back_end_is_finished)
{
	struct inflight_split *region;
	static const uint16_t done[] = { 2, 0, 3 };

	set_up(false);
	region = split();
	post(0, 5);
	region->version = INFLIGHT_VERSION;
	region->desc_num = SIZE;
	for (uint16_t i = 0; i < 5; i++) {
		region->desc[i].counter = 100u + i;
		region->desc[i].inflight = 1;
	}
	for (unsigned int i = 0; i < 3; i++) {
		uint32_t elem[2] = { done[i], 7 };

		region->desc[done[i]].next = region->last_batch_head;
		region->last_batch_head = done[i];
		memcpy(rig.m.mem + rig.d.used + 4 + 8 * (uint64_t)i, elem, 8);
	}
	memcpy(rig.m.mem + rig.d.used + 2, &(uint16_t){ 3 }, 2);
	ck_assert_int_eq(adopt(), 0);
	ck_assert_int_eq(virtq_fill(rig.vq, SIZE), 2);
	ck_assert_uint_eq(virtq_window(rig.vq, 0)->id, 1);
	ck_assert_uint_eq(virtq_window(rig.vq, 1)->id, 4);
	ck_assert_uint_eq(region->used_idx, 3);
	rig_deinit(&rig);
}
END_TEST

/* One chain of two descriptors and one of one in flight; between them one that came back, whose
 * ring slots the driver has not filled again. The order is that of the counters, the memory that of
 * the copies. */
START_TEST(test_packed_region_of_another_back_end_is_gone_on_with)
{
	struct inflight_packed *region;
	static const struct inflight_packed_desc entries[SIZE] = {
		{ .inflight = 1,
			.next = 1,
			.last = 1,
			.num = 2,
			.counter = 9,
			.id = 3,
			.len = 16,
			.flags = F_NEXT | F_AVAIL,
			.addr = RIG_BUFFERS },
		{ .next = 2,
			.id = 3,
			.len = 32,
			.flags = F_WRITE | F_AVAIL,
			.addr = RIG_BUFFERS + 64 },
		{ .next = 4, .last = 2, .num = 1, .counter = 7, .id = 4 },
		{ .inflight = 1,
			.next = 4,
			.last = 3,
			.num = 1,
			.counter = 8,
			.id = 5,
			.len = 48,
			.flags = F_AVAIL,
			.addr = RIG_BUFFERS + 128 },
		{ .next = 5 },
		{ .next = 6 },
		{ .next = 7 },
		{ .next = 8 },
	};

	set_up(true);
	region = packed();
	region->version = INFLIGHT_VERSION;
	region->desc_num = SIZE;
	region->free = (struct inflight_packed_free){ 2, 2 };
	region->used =
		(struct inflight_packed_used){ .idx = 1, .old_idx = 1, .wrap = 1, .old_wrap = 1 };
	memcpy(region->desc, entries, sizeof(entries));
	ck_assert_int_eq(adopt(), 0);
	ck_assert_int_eq(virtq_fill(rig.vq, SIZE), 2);
	ck_assert_uint_eq(virtq_window(rig.vq, 0)->id, 5);
	ck_assert_uint_eq(virtq_window(rig.vq, 0)->out_bytes, 48);
	ck_assert_uint_eq(virtq_window(rig.vq, 1)->id, 3);
	ck_assert_uint_eq(virtq_window(rig.vq, 1)->out_bytes, 16);
	ck_assert_uint_eq(virtq_window(rig.vq, 1)->in_bytes, 32);
	ck_assert_uint_eq(rig.ledger.used_idx, 0x8001);
	ck_assert_uint_eq(rig.ledger.avail_idx, 0x8004);
	rig_deinit(&rig);
}
END_TEST

/* --- Spoiled --- */

static void spoil_split(int how)
{
	struct inflight_split *region = split();

	switch (how) {
	case 0:
		region->version = 7;
		break;
	case 1:
		region->desc_num = SIZE + 1;
		break;
	case 2:
		region->desc_num = 0;
		break;
	case 3:
		region->used_idx = (uint16_t)(region->used_idx - SIZE - 1);
		break;
	case 4:
		region->used_idx++;
		break;
	case 5:
		region->used_idx--;
		region->last_batch_head = SIZE;
		break;
	case 6:
		region->used_idx = (uint16_t)(region->used_idx - 2);
		region->desc[region->last_batch_head].next = 0xffff;
		break;
	default:
		ck_abort();
	}
}

#define N_SPLIT 7

static void spoil_packed(int how)
{
	struct inflight_packed *region = packed();
	uint16_t free_entry = region->free.head, busy = 0;

	while (!region->desc[busy].inflight)
		busy++;
	switch (how) {
	case 0:
		region->version = 7;
		break;
	case 1:
		region->desc_num = SIZE - 1;
		break;
	case 2:
		region->free.head = region->free.old_head = SIZE + 1;
		break;
	case 3:
		region->used.idx = region->used.old_idx = SIZE;
		break;
	case 4:
		region->desc[free_entry].next = free_entry;
		break;
	case 5:
		region->desc[free_entry].next = busy;
		break;
	case 6:
		region->desc[busy].num = 0;
		break;
	case 7:
		region->desc[busy].num = 0xffff;
		break;
	case 8: /* a loop of one, long enough for all */
		region->desc[busy].num = SIZE;
		region->desc[busy].next = busy;
		break;
	case 9:
		region->desc[busy].num = 2;
		break; /* into the free list */
	case 10:
		region->free.head = region->free.old_head = SIZE;
		break; /* entries of nobody */
	default:
		ck_abort();
	}
}

#define N_PACKED 11

static void spoiled_region_costs_its_ring(bool is_packed, int how)
{
	struct ledger_queue before;

	set_up(is_packed);
	ck_assert_int_eq(adopt(), 0);
	post(0, 6);
	serve_all(0, 6);
	post(6, 3);
	take(3);
	before = rig.ledger;
	if (is_packed)
		spoil_packed(how);
	else
		spoil_split(how);
	ck_assert_int_eq(adopt(), VIRTQ_E_BROKEN);
	ck_assert_uint_eq(rig.ledger.start_id, 0);
	/* one process that dies, with its ledger, finds it as broken */
	rig.ledger = before;
	struct virtq_setup setup = driver_setup(&rig.d, 5);

	setup.inflight_id = 1;
	rig.vq = NULL;
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight),
		VIRTQ_E_BROKEN);
	rig_deinit(&rig);
}

/* covers: M21 */
START_TEST(test_spoiled_split_region_costs_its_ring)
{
	spoiled_region_costs_its_ring(false, _i);
}
END_TEST

/* covers: M21 */
START_TEST(test_spoiled_packed_region_costs_its_ring)
{
	spoiled_region_costs_its_ring(true, _i);
}
END_TEST

/* What is wrong with the order alone is taken as it is, in a fixed one. */
/* covers: M21 */
START_TEST(test_equal_counters_are_an_order)
{
	set_up(_i);
	ck_assert_int_eq(adopt(), 0);
	post(0, 4);
	take(4);
	for (unsigned int i = 0; i < SIZE; i++)
		*(_i ? &packed()->desc[i].counter : &split()->desc[i].counter) = UINT64_MAX;
	ck_assert_int_eq(adopt(), 0);
	serve_all(0, 4);
	rig_deinit(&rig);
}
END_TEST

/* A batch list that runs in a circle ends where the batch does. */
/* covers: M21 */
START_TEST(test_circle_of_a_batch_ends)
{
	set_up(false);
	ck_assert_int_eq(adopt(), 0);
	post(0, 4);
	serve_all(0, 4);
	post(4, 2);
	take(2);
	split()->used_idx = (uint16_t)(split()->used_idx - SIZE);
	for (unsigned int i = 0; i < SIZE; i++)
		split()->desc[i].next = split()->last_batch_head;
	ck_assert_int_eq(adopt(), 0);
	ck_assert_uint_eq(split()->used_idx, 4);
	rig_deinit(&rig);
}
END_TEST

/* --- Noise --- */

static uint64_t seed;

static uint32_t noise(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 11) % below;
}

/* A state that is saved while the ring runs names them. */
START_TEST(test_chains_in_flight_are_listed_oldest_first)
{
	const struct virtq_chain *chains[5];
	uint16_t taken[5], ids[SIZE];

	set_up(_i);
	ck_assert_int_eq(adopt(), 0);
	ck_assert_uint_eq(virtq_in_flight(rig.vq, ids), 0);
	/* so that heads are not in the order of their age */
	post(0, 3);
	serve_all(0, 3);
	post(3, 5);
	must(virtq_fill(rig.vq, 5) == 5);
	for (unsigned int i = 0; i < 5; i++) {
		chains[i] = virtq_window(rig.vq, i);
		taken[i] = chains[i]->id;
	}
	virtq_take(rig.vq, 5);
	virtq_complete(rig.vq, chains[1], 0);
	virtq_publish(rig.vq);
	ck_assert_uint_eq(virtq_in_flight(rig.vq, ids), 4);
	ck_assert_uint_eq(ids[0], taken[0]);
	for (unsigned int i = 2; i < 5; i++)
		ck_assert_uint_eq(ids[i - 1], taken[i]);
	rig_deinit(&rig);
}
END_TEST

static void add_noise(uint8_t *mem, size_t n_bytes)
{
	static const uint8_t some[] = { 0, 1, 2, 3, 7, 8, 9, 0x7f, 0x80, 0xff };

	for (uint32_t n = noise(6); n; n--)
		mem[noise((uint32_t)n_bytes)] =
			noise(2) ? (uint8_t)noise(256) : some[noise(sizeof(some))];
}

static void expect_possible(void)
{
	uint16_t ids[SIZE];
	uint32_t n = virtq_in_flight(rig.vq, ids);

	must(n <= SIZE);
	for (uint32_t i = 0; i < n; i++)
		must(ids[i] < SIZE);
}

/* Whoever writes into region, ring and event areas while the device is dead or alive: it takes no
 * more than a ring has, and ends. The sanitizers watch what it touches. */
/* covers: M21 */
START_TEST(test_noise_is_survived)
{
	unsigned int n_started = 0, n_refused = 0;

	seed = 88172645463325252ULL + (uint64_t)_i;
	for (unsigned int round = 0; round < 1500; round++) {
		uint32_t cookie, len;
		int r;

		set_up(_i & 1);
		must(adopt() == 0);
		post(0, noise(SIZE + 1));
		rig_serve(&rig, noise(SIZE));
		while (driver_reap(&rig.d, &cookie, &len) == 1)
			;
		r = virtq_fill(rig.vq, SIZE);
		virtq_take(rig.vq, r > 0 ? noise((uint32_t)r + 1) : 0);
		add_noise(rig.inflight, inflight_bytes(SIZE, _i & 1));
		expect_possible();
		if (noise(2))
			add_noise(rig.m.mem, ring_bytes(SIZE));
		r = adopt();
		must(r == 0 || r == VIRTQ_E_BROKEN || r == VIRTQ_E_BASE);
		n_started += r == 0;
		n_refused += r != 0;
		if (r) {
			rig.vq = NULL;
		} else {
			for (int i = 0; i < 4; i++) {
				r = virtq_fill(rig.vq, SIZE);
				must(r <= (int)SIZE);
				if (r > 0)
					rig_serve(&rig, (unsigned int)r);
				add_noise(rig.inflight, inflight_bytes(SIZE, _i & 1));
			}
		}
		rig_deinit(&rig);
	}
	ck_assert_uint_gt(n_started, 100);
	ck_assert_uint_gt(n_refused, 30);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("region");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_new_region_of_a_ring_that_has_long_run, 0, 2);
	tcase_add_loop_test(tc, test_chains_in_flight_are_listed_oldest_first, 0, 2);
	tcase_add_loop_test(tc, test_region_of_the_former_life_of_a_ring, 0, 2);
	tcase_add_test(tc, test_split_batch_of_another_back_end_is_finished);
	tcase_add_test(tc, test_packed_region_of_another_back_end_is_gone_on_with);
	tcase_add_loop_test(tc, test_spoiled_split_region_costs_its_ring, 0, N_SPLIT);
	tcase_add_loop_test(tc, test_spoiled_packed_region_costs_its_ring, 0, N_PACKED);
	tcase_add_loop_test(tc, test_equal_counters_are_an_order, 0, 2);
	tcase_add_test(tc, test_circle_of_a_batch_ends);
	tcase_add_loop_test(tc, test_noise_is_survived, 0, 8);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("inflight", add_tests);
}
