/*
 * From descriptors to spans: what a chain may be, and what makes it bad. A bad chain costs its
 * request alone.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/run.h"
#include "ring-case.h"

/* --- Spans --- */

START_TEST(test_buffer_over_two_regions_is_two_spans)
{
	struct seg seg = { RIG_BUFFERS - 100, 300, true };
	struct virtq_chain *chain;
	uint8_t data[300];

	begin_started(_i, 4);
	ck_assert(driver_post(&rig.d, &seg, 1, 0, 5));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_in, 2);
	ck_assert_uint_eq(chain->in_bytes, 300);
	for (int i = 0; i < 300; i++)
		data[i] = (uint8_t)i;
	ck_assert_uint_eq(virtq_write(chain, 0, data, 400 - 100), 300);
	ck_assert_int_eq(memcmp(rig.m.mem + RIG_BUFFERS - 100, data, 300), 0);
}
END_TEST

START_TEST(test_payload_is_read_and_written_over_any_spans)
{
	struct seg segs[14];
	struct virtq_chain *chain;
	struct iovec spans[8];
	uint8_t data[100], back[100];

	begin_started(_i, 16);
	for (unsigned int i = 0; i < 14; i++)
		segs[i] = (struct seg){ BUF(i), i < 12 ? 1 : 40, i >= 12 };
	for (unsigned int i = 0; i < 12; i++)
		rig.m.mem[BUF(i)] = (uint8_t)('a' + i);
	ck_assert(driver_post(&rig.d, segs, 14, 0, 5));
	chain = next_chain();
	ck_assert_uint_eq(chain->n_out, 12);
	ck_assert_uint_eq(chain->n_in, 2);
	ck_assert_uint_eq(virtq_read(chain, 0, data, 12), 12);
	ck_assert_int_eq(memcmp(data, "abcdefghijkl", 12), 0);
	ck_assert_uint_eq(virtq_read(chain, 10, data, 100), 2);
	ck_assert_uint_eq(virtq_read(chain, 12, data, 1), 0);
	ck_assert_uint_eq(virtq_read(chain, SIZE_MAX, data, 1), 0);
	memset(data, 'x', sizeof(data));
	ck_assert_uint_eq(virtq_write(chain, 30, data, 100), 50);
	ck_assert_uint_eq(virtq_write(chain, 80, data, 1), 0);
	memset(back, 0, sizeof(back));
	ck_assert_int_eq(memcmp(rig.m.mem + BUF(12), back, 30), 0);
	ck_assert_int_eq(memcmp(rig.m.mem + BUF(12) + 30, data, 10), 0);
	ck_assert_uint_eq(virtq_slice(chain->iov, 12, 3, 5, spans), 5);
	ck_assert_ptr_eq(spans[0].iov_base, chain->iov[3].iov_base);
	ck_assert_uint_eq(virtq_slice(chain->iov + 12, 2, 39, 2, spans), 2);
	ck_assert_uint_eq(spans[0].iov_len, 1);
	ck_assert_uint_eq(spans[1].iov_len, 1);
	ck_assert_uint_eq(virtq_slice(chain->iov, 12, 12, 5, spans), 0);
	ck_assert_uint_eq(virtq_slice(chain->iov, 12, 0, 0, spans), 0);
}
END_TEST

/* covers: G4 */
START_TEST(test_zero_length_descriptor_with_a_bad_address_is_skipped)
{
	struct seg segs[4] = { { UINT64_MAX, 0, false }, { BUF(1), 5, false },
		{ 1ULL << 60, 0, true }, { BUF(2), 7, true } };
	struct virtq_chain *chain;

	begin_started(_i, 8);
	ck_assert(driver_post(&rig.d, segs, 4, 0, 0));
	ck_assert(driver_post(&rig.d, segs, 1, 0, 1));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_out, 1);
	ck_assert_uint_eq(chain->n_in, 1);
	ck_assert_uint_eq(chain->n_slots, 4);
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_out + chain->n_in, 0);
	ck_assert_uint_eq(rig_serve(&rig, 8), 2);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 2);
}
END_TEST

/* covers: G4 */
START_TEST(test_more_than_4_gib_costs_the_request)
{
	static struct seg segs[65];
	struct map_region huge = {
		.gpa = { 1ULL << 32 }, .uva = { 1ULL << 50 }, .size_bytes = 64 << 20
	};
	int fd = memfd_create("huge", MFD_CLOEXEC);

	begin(_i, 128);
	ck_assert_int_eq(ftruncate(fd, 64 << 20), 0);
	ck_assert_int_eq(map_add(rig.m.map, &huge, fd), 0);
	close(fd);
	rig_start(&rig);
	for (int i = 0; i < 65; i++)
		segs[i] = (struct seg){ 1ULL << 32, 64 << 20, i >= 32 };
	segs[63].len--;
	ck_assert(driver_post(&rig.d, segs, 64, 0, 4));
	ck_assert(!next_chain()->bad);
	pass(4, 1);
	segs[63].len++;
	ck_assert(driver_post(&rig.d, segs, 64, 0, 5));
	bad_and_on("4 GiB");
}
END_TEST

/* covers: G2 */
START_TEST(test_chain_may_have_1024_spans_and_no_more)
{
	static struct seg segs[1025];
	struct virtq_chain *chain;

	begin_started(_i, 4096);
	for (int i = 0; i < 1025; i++)
		segs[i] = (struct seg){ BUF(i % 100), 8, i > 10 };
	ck_assert(driver_post(&rig.d, segs, 1024, 0, 0));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_out + chain->n_in, 1024);
	ck_assert_uint_eq(chain->in_bytes, 8 * 1013);
	pass(0, 1);
	ck_assert(driver_post(&rig.d, segs, 1025, 0, 5));
	bad_and_on("too many");
}
END_TEST

START_TEST(test_long_chains_wait_for_storage_and_come_through)
{
	struct seg segs[6];
	uint32_t posted = 0, served = 0;

	begin_started(_i, 4096);
	for (int i = 0; i < 6; i++)
		segs[i] = (struct seg){ BUF(i), 8, false };
	while (driver_post(&rig.d, segs, 6, 0, posted))
		posted++;
	ck_assert_uint_gt(posted, 600);
	while (served < posted) {
		unsigned int n = rig_serve(&rig, 4096);

		ck_assert_uint_gt(n, 0);
		served += n;
	}
	ck_assert_uint_eq(rig_reap_all(&rig, 0), posted);
}
END_TEST

/* --- Indirect tables --- */

/* covers: G3 */
START_TEST(test_indirect_table_over_two_regions)
{
	struct seg segs[5];
	struct virtq_chain *chain;
	uint64_t table = RIG_BUFFERS - 40; /* the third entry lies in both */

	begin_started(_i, 4);
	for (int i = 0; i < 5; i++)
		segs[i] = (struct seg){ BUF(i), 10 + (uint32_t)i, i >= 2 };
	ck_assert(driver_post(&rig.d, segs, 5, table, 5));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_out, 2);
	ck_assert_uint_eq(chain->n_in, 3);
	ck_assert_uint_eq(chain->n_slots, 1);
	for (unsigned int i = 0; i < 5; i++)
		ck_assert_uint_eq(chain->iov[i].iov_len, 10 + i);
}
END_TEST

START_TEST(test_indirect_table_may_be_misaligned_and_longer_than_the_ring)
{
	struct seg segs[20];
	struct virtq_chain *chain;

	begin_started(_i, 4);
	for (int i = 0; i < 20; i++)
		segs[i] = (struct seg){ BUF(i), 10, false };
	ck_assert(driver_post(&rig.d, segs, 20, RIG_TABLE + 3, 5));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->out_bytes, 200);
}
END_TEST

static void post_table(unsigned int n)
{
	static struct seg segs[1100];

	for (unsigned int i = 0; i < n; i++)
		segs[i] = (struct seg){ BUF(i % 100), 10, false };
	ck_assert(driver_post(&rig.d, segs, n, RIG_TABLE, 5));
}

START_TEST(test_indirect_behind_direct_descriptors_is_served)
{
	struct seg segs[2] = { { BUF(0), 5, false }, { RIG_TABLE, 48, false } };
	struct virtq_chain *chain;
	struct raw_desc *desc;

	begin_started(_i, 4);
	post_table(3);
	pass(5, 1);
	ck_assert(driver_post(&rig.d, segs, 2, 0, 6));
	desc = packed ? driver_desc(&rig.d, 2) : driver_desc(&rig.d, driver_desc(&rig.d, 0)->b);
	*(packed ? &desc->b : &desc->a) |= F_INDIRECT;
	chain = next_chain();
	ck_assert_msg(!chain->bad, "%s", chain->rule);
	ck_assert_uint_eq(chain->out_bytes, 35);
	pass(6, 1);
}
END_TEST

/* As DPDK's driver transmits frames of several pieces: some entries keep the flag that they were
 * made with. */
START_TEST(test_indirect_writable_entries_of_a_packed_ring_that_is_only_read_are_read)
{
	struct seg segs[4] = { { BUF(0), 12, true }, { BUF(1), 100, false }, { BUF(2), 200, true },
		{ BUF(3), 300, false } };
	struct virtq_setup setup;
	struct virtq_chain *chain;

	begin(_i, 4);
	setup = driver_setup(&rig.d, 1);
	setup.reads_only = true;
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight), 0);
	ck_assert(driver_post(&rig.d, segs, 4, RIG_TABLE, 5));
	if (!packed) {
		bad_and_on("readable descriptor follows");
		return;
	}
	chain = next_chain();
	ck_assert_msg(!chain->bad, "%s", chain->rule);
	ck_assert_uint_eq(chain->n_out, 4);
	ck_assert_uint_eq(chain->out_bytes, 612);
	ck_assert_uint_eq(chain->n_in, 0);
	ck_assert_uint_eq(chain->in_bytes, 0);
	pass(5, 1);
}
END_TEST

/* covers: G3 */
START_TEST(test_indirect_table_of_more_than_1024_entries_costs_the_request)
{
	begin_started(_i, 4);
	post_table(1025);
	bad_and_on("too");
}
END_TEST

/* --- Bad chains --- */

/** struct bad_chain - what the driver posts, what is spoilt before the device looks, and the rule
 * that is broken */
static const struct bad_chain {
	const char *rule;
	struct seg segs[7];
	unsigned int n_segs;
	enum { DIRECT, INDIRECT, NOT_NEGOTIATED } form;
	enum { NOTHING, TABLE_LEN, TABLE_ADDR, NESTED, CHAINED } spoilt;
	uint64_t value;
} bad_chains[] = {
#define OUTSIDE "outside guest memory"
	{ OUTSIDE, { { RIG_BYTES, 1, false } }, 1 },
	{ OUTSIDE, { { RIG_BYTES - 1, 2, true } }, 1 },
	{ OUTSIDE, { { UINT64_MAX, 1, false } }, 1 },
	{ OUTSIDE, { { UINT64_MAX - 5, 10, false } }, 1 },
	{ OUTSIDE, { { 0, UINT32_MAX, false } }, 1 },
	{ OUTSIDE, { { 1ULL << 63, 64, true } }, 1 },
	{ OUTSIDE,
		{ { BUF(0), 16 }, { BUF(1), 16 }, { BUF(2), 16 }, { BUF(3), 16 }, { BUF(4), 16 },
			{ BUF(5), 16 }, { UINT64_MAX, 16 } },
		7 },
	{ "readable descriptor follows",
		{ { BUF(1), 5, false }, { BUF(2), 5, true }, { BUF(3), 5, false } }, 3 },
	{ "readable descriptor follows", { { BUF(0), 12, true }, { BUF(1), 100, false } }, 2,
		INDIRECT },
#define TABLE { { BUF(0), 10 }, { BUF(1), 10 }, { BUF(2), 10 } }, 3, INDIRECT
#define UNEVEN "no multiple of 16"
	{ UNEVEN, TABLE, TABLE_LEN, 0 },
	{ UNEVEN, TABLE, TABLE_LEN, 1 },
	{ UNEVEN, TABLE, TABLE_LEN, 15 },
	{ UNEVEN, TABLE, TABLE_LEN, 17 },
	{ UNEVEN, TABLE, TABLE_LEN, 33 },
	{ UNEVEN, TABLE, TABLE_LEN, UINT32_MAX },
	{ OUTSIDE, TABLE, TABLE_ADDR, RIG_BYTES - 8 },
	{ OUTSIDE, TABLE, TABLE_ADDR, RIG_BYTES },
	{ OUTSIDE, TABLE, TABLE_ADDR, UINT64_MAX - 31 },
	{ OUTSIDE, TABLE, TABLE_ADDR, 1ULL << 63 },
	{ "indirect descriptor in an indirect table", TABLE, NESTED },
	{ "with a next", { { BUF(0), 48 }, { BUF(1), 5 } }, 2, DIRECT, CHAINED },
	{ "not negotiated", { { BUF(0), 10 }, { BUF(1), 10 } }, 2, NOT_NEGOTIATED },
};

#define N_BAD_CHAINS ((int)(sizeof(bad_chains) / sizeof(*bad_chains)))

static void spoil(const struct bad_chain *bad)
{
	struct raw_desc *desc = driver_desc(&rig.d, 0);

	if (bad->spoilt == TABLE_LEN)
		desc->len = (uint32_t)bad->value;
	if (bad->spoilt == TABLE_ADDR)
		desc->addr = bad->value;
	if (bad->spoilt == NESTED)
		desc = (struct raw_desc *)(void *)(rig.m.mem + RIG_TABLE) + 1;
	if (bad->spoilt == NESTED || bad->spoilt == CHAINED)
		*(packed ? &desc->b : &desc->a) |= F_INDIRECT;
}

/* covers: G3 G4 G5 */
START_TEST(test_bad_chain_costs_the_request)
{
	const struct bad_chain *bad = &bad_chains[_i / 2];
	struct virtq_setup setup;

	begin(_i, 8);
	setup = driver_setup(&rig.d, 1);
	setup.indirect = bad->form != NOT_NEGOTIATED;
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight), 0);
	ck_assert(driver_post(&rig.d, bad->segs, bad->n_segs, bad->form ? RIG_TABLE : 0, 5));
	spoil(bad);
	bad_and_on(bad->rule);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = ring_tcase(suite, "both layouts");

	tcase_add_loop_test(tc, test_buffer_over_two_regions_is_two_spans, 0, 2);
	tcase_add_loop_test(tc, test_payload_is_read_and_written_over_any_spans, 0, 2);
	tcase_add_loop_test(tc, test_zero_length_descriptor_with_a_bad_address_is_skipped, 0, 2);
	tcase_add_loop_test(tc, test_more_than_4_gib_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_chain_may_have_1024_spans_and_no_more, 0, 2);
	tcase_add_loop_test(tc, test_long_chains_wait_for_storage_and_come_through, 0, 2);
	tcase_add_loop_test(tc, test_indirect_table_over_two_regions, 0, 2);
	tcase_add_loop_test(tc, test_indirect_table_may_be_misaligned_and_longer_than_the_ring, 0,
		2);
	tcase_add_loop_test(tc, test_indirect_behind_direct_descriptors_is_served, 0, 2);
	tcase_add_loop_test(tc,
		test_indirect_writable_entries_of_a_packed_ring_that_is_only_read_are_read, 0, 2);
	tcase_add_loop_test(tc, test_indirect_table_of_more_than_1024_entries_costs_the_request, 0,
		2);
	tcase_add_loop_test(tc, test_bad_chain_costs_the_request, 0, 2 * N_BAD_CHAINS);
}

int main(void)
{
	return run_main("chains", add_tests);
}
