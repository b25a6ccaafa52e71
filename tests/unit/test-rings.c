/*
 * What both layouts have in common, each test run for the split ring (_i even) and the packed one: going
 * round many times, windows, spans, indirect tables, bad chains, notifications, hostile regions.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"
#include "lib/run.h"
#include "virtq/inflight-layout.h"

static struct rig rig;
static bool packed;

#define BUF(i) (RIG_BUFFERS + 65536 + (uint64_t)(i) * 4096)

static void begin(int i, uint32_t size)
{
	packed = i & 1;
	rig_init(&rig, size, packed);
}

static bool post1(uint32_t cookie)
{
	struct seg seg = { BUF(cookie % 100), 64, cookie & 1 };

	return driver_post(&rig.d, &seg, 1, 0, cookie);
}

static struct virtq_chain *next_chain(void)
{
	must(virtq_fill(rig.vq, virtq_window_len(rig.vq) + 1) == (int)virtq_window_len(rig.vq));
	must(virtq_window_len(rig.vq) > 0);
	return virtq_window(rig.vq, virtq_window_len(rig.vq) - 1);
}

/* The one chain is bad, is completed with nothing, and the ring goes on. */
static void bad_and_on(const char *rule)
{
	struct virtq_chain *chain = next_chain();
	uint32_t cookie = 0, len = 1;

	ck_assert(chain->bad);
	ck_assert_ptr_nonnull(strstr(chain->rule, rule));
	ck_assert_uint_eq(chain->n_in + chain->n_out, 0);
	ck_assert_uint_eq(chain->in_bytes + chain->out_bytes, 0);
	virtq_take(rig.vq, 1);
	virtq_complete(rig.vq, chain, 10);
	virtq_publish(rig.vq);
	ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 1);
	ck_assert_uint_eq(cookie, 5);
	ck_assert_uint_eq(len, 0);
	ck_assert(post1(6));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_ptr_null(chain->rule);
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 6), 1);
	rig_deinit(&rig);
}

/* --- Memory --- */

START_TEST(test_a_ring_is_blank_until_its_driver_writes_it)
{
	begin(_i, 64);
	rig_start(&rig);
	ck_assert(virtq_is_blank(rig.vq));
	virtq_kick_off(rig.vq);
	ck_assert(!virtq_kick_on(rig.vq));
	ck_assert(virtq_is_blank(rig.vq)); /* our own marks are no driver's */
	ck_assert(post1(0));
	ck_assert(!virtq_is_blank(rig.vq));
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 1);
	ck_assert(!virtq_is_blank(rig.vq));
	rig_deinit(&rig);
}
END_TEST

/* --- Going round --- */

static const uint32_t sizes[] = { 1, 2, 4, 8, 64, 256, 1024, 4096, 32768, 3, 5, 7, 100, 255, 257, 1000, 32767 };

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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_chains_of_all_lengths_go_round)
{
	struct seg segs[7];
	uint32_t posted = 0, reaped = 0;

	begin(_i, 16);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_completion_in_any_order_returns_each_chain_once)
{
	uint32_t posted = 0, seed = 1;
	static uint8_t back[100100];
	struct virtq_chain *held[16];
	unsigned int n_held = 0;

	begin(_i, 16);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* --- Stopped, and begun anew --- */

/* A worker died with chains in hand, and the ring is to stop: where it stands is where the next driver's
 * session serves each of them, once. */
START_TEST(test_ring_stopped_behind_a_death_has_nothing_in_flight)
{
	struct virtq_setup setup;
	struct virtq_chain *chain;

	begin(_i, 8);
	rig_start(&rig);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert(post1(i));
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
	rig_deinit(&rig);
}
END_TEST

/* --- The window --- */

START_TEST(test_window_that_is_not_taken_was_never_seen)
{
	uint32_t base;

	begin(_i, 8);
	rig_start(&rig);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert(post1(i));
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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_taken_chains_stay_valid_while_others_pass)
{
	struct virtq_chain *first;

	begin(_i, 4);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_length_is_never_more_than_was_writable)
{
	uint32_t cookie, len;
	struct virtq_chain *chain;

	begin(_i, 4);
	rig_start(&rig);
	ck_assert(post1(1));
	chain = next_chain();
	virtq_take(rig.vq, 1);
	virtq_complete(rig.vq, chain, 1000);
	virtq_publish(rig.vq);
	ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 1);
	ck_assert_uint_eq(len, 64);
	rig_deinit(&rig);
}
END_TEST

/* --- Spans --- */

START_TEST(test_buffer_over_two_regions_is_two_spans)
{
	struct seg seg = { RIG_BUFFERS - 100, 300, true };
	struct virtq_chain *chain;
	uint8_t data[300];

	begin(_i, 4);
	rig_start(&rig);
	ck_assert(driver_post(&rig.d, &seg, 1, 0, 5));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_in, 2);
	ck_assert_uint_eq(chain->in_bytes, 300);
	for (int i = 0; i < 300; i++)
		data[i] = (uint8_t)i;
	ck_assert_uint_eq(virtq_write(chain, 0, data, 400 - 100), 300);
	ck_assert_int_eq(memcmp(rig.m.mem + RIG_BUFFERS - 100, data, 300), 0);
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_payload_is_read_and_written_over_any_spans)
{
	struct seg segs[14];
	struct virtq_chain *chain;
	struct iovec spans[8];
	uint8_t data[100], back[100];

	begin(_i, 16);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* covers: G4 */
START_TEST(test_zero_length_descriptor_with_a_bad_address_is_skipped)
{
	struct seg segs[4] = { { UINT64_MAX, 0, false }, { BUF(1), 5, false }, { 1ULL << 60, 0, true },
		{ BUF(2), 7, true } };
	struct virtq_chain *chain;

	begin(_i, 8);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* --- Bad chains cost a request --- */

/* covers: G4 */
START_TEST(test_bad_address_costs_the_request)
{
	static const struct seg bad[] = { { RIG_BYTES, 1, false }, { RIG_BYTES - 1, 2, true },
		{ UINT64_MAX, 1, false }, { UINT64_MAX - 5, 10, false }, { 0, UINT32_MAX, false },
		{ 1ULL << 63, 64, true } };

	begin(_i, 8);
	rig_start(&rig);
	ck_assert(driver_post(&rig.d, &bad[_i / 2], 1, 0, 5));
	bad_and_on("outside guest memory");
}
END_TEST

START_TEST(test_bad_descriptor_late_in_a_chain_costs_the_request)
{
	struct seg segs[7];

	begin(_i, 8);
	rig_start(&rig);
	for (int i = 0; i < 7; i++)
		segs[i] = (struct seg){ i == 6 ? UINT64_MAX : BUF(i), 16, false };
	ck_assert(driver_post(&rig.d, segs, 7, 0, 5));
	bad_and_on("outside guest memory");
}
END_TEST

/* covers: G5 */
START_TEST(test_readable_after_writable_costs_the_request)
{
	struct seg segs[3] = { { BUF(1), 5, false }, { BUF(2), 5, true }, { BUF(3), 5, false } };

	begin(_i, 8);
	rig_start(&rig);
	ck_assert(driver_post(&rig.d, segs, 3, 0, 5));
	bad_and_on("readable descriptor follows");
}
END_TEST

/* covers: G4 */
START_TEST(test_more_than_4_gib_costs_the_request)
{
	static struct seg segs[65];
	struct map_region huge = { .gpa = { 1ULL << 32 }, .uva = { 1ULL << 50 }, .size_bytes = 64 << 20 };
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
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 4), 1);
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

	begin(_i, 4096);
	rig_start(&rig);
	for (int i = 0; i < 1025; i++)
		segs[i] = (struct seg){ BUF(i % 100), 8, i > 10 };
	ck_assert(driver_post(&rig.d, segs, 1024, 0, 0));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->n_out + chain->n_in, 1024);
	ck_assert_uint_eq(chain->in_bytes, 8 * 1013);
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 1);
	ck_assert(driver_post(&rig.d, segs, 1025, 0, 5));
	bad_and_on("too many");
}
END_TEST

START_TEST(test_long_chains_wait_for_storage_and_come_through)
{
	struct seg segs[6];
	uint32_t posted = 0, served = 0;

	begin(_i, 4096);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* --- Indirect tables --- */

/* covers: G3 */
START_TEST(test_indirect_table_over_two_regions)
{
	struct seg segs[5];
	struct virtq_chain *chain;
	uint64_t table = RIG_BUFFERS - 40; /* the third entry lies in both */

	begin(_i, 4);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_indirect_table_may_be_misaligned_and_longer_than_the_ring)
{
	struct seg segs[20];
	struct virtq_chain *chain;

	begin(_i, 4);
	rig_start(&rig);
	for (int i = 0; i < 20; i++)
		segs[i] = (struct seg){ BUF(i), 10, false };
	ck_assert(driver_post(&rig.d, segs, 20, RIG_TABLE + 3, 5));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_uint_eq(chain->out_bytes, 200);
	rig_deinit(&rig);
}
END_TEST

/* The descriptor of the table, to be spoilt before the device looks. */
static struct raw_desc *post_table(unsigned int n)
{
	static struct seg segs[1100];

	for (unsigned int i = 0; i < n; i++)
		segs[i] = (struct seg){ BUF(i % 100), 10, false };
	ck_assert(driver_post(&rig.d, segs, n, RIG_TABLE, 5));
	return driver_desc(&rig.d, 0);
}

static struct raw_desc *entry(unsigned int i)
{
	return (struct raw_desc *)(void *)(rig.m.mem + RIG_TABLE) + i;
}

/* covers: G3 */
START_TEST(test_indirect_length_must_be_a_multiple_of_16)
{
	static const uint32_t lens[] = { 0, 1, 15, 17, 33, UINT32_MAX };

	begin(_i, 4);
	rig_start(&rig);
	post_table(3)->len = lens[_i / 2];
	bad_and_on("no multiple of 16");
}
END_TEST

/* covers: G3 */
START_TEST(test_indirect_table_must_be_in_memory)
{
	static const uint64_t addrs[] = { RIG_BYTES - 8, RIG_BYTES, UINT64_MAX - 31, 1ULL << 63 };

	begin(_i, 4);
	rig_start(&rig);
	post_table(3)->addr = addrs[_i / 2];
	bad_and_on("outside guest memory");
}
END_TEST

/* covers: G3 */
START_TEST(test_indirect_in_indirect_costs_the_request)
{
	struct raw_desc *e;

	begin(_i, 4);
	rig_start(&rig);
	post_table(3);
	e = entry(1);
	*(packed ? &e->b : &e->a) |= F_INDIRECT;
	bad_and_on("indirect descriptor in an indirect table");
}
END_TEST

/* covers: G3 */
START_TEST(test_indirect_with_next_costs_the_request)
{
	struct seg segs[2] = { { BUF(0), 48, false }, { BUF(1), 5, false } };
	struct raw_desc *desc;

	begin(_i, 4);
	rig_start(&rig);
	ck_assert(driver_post(&rig.d, segs, 2, 0, 5));
	desc = driver_desc(&rig.d, 0);
	*(packed ? &desc->b : &desc->a) |= F_INDIRECT;
	bad_and_on("with a next");
}
END_TEST

START_TEST(test_indirect_that_was_not_negotiated_costs_the_request)
{
	struct virtq_setup setup;

	begin(_i, 4);
	setup = driver_setup(&rig.d, 1);
	setup.indirect = false;
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight), 0);
	post_table(3);
	bad_and_on("not negotiated");
}
END_TEST

START_TEST(test_indirect_behind_direct_descriptors_is_served)
{
	struct seg segs[2] = { { BUF(0), 5, false }, { RIG_TABLE, 48, false } };
	struct virtq_chain *chain;
	struct raw_desc *desc;

	begin(_i, 4);
	rig_start(&rig);
	post_table(3);
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 5), 1);
	ck_assert(driver_post(&rig.d, segs, 2, 0, 6));
	desc = packed ? driver_desc(&rig.d, 2) : driver_desc(&rig.d, driver_desc(&rig.d, 0)->b);
	*(packed ? &desc->b : &desc->a) |= F_INDIRECT;
	chain = next_chain();
	ck_assert_msg(!chain->bad, "%s", chain->rule);
	ck_assert_uint_eq(chain->out_bytes, 35);
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 6), 1);
	rig_deinit(&rig);
}
END_TEST

/* As DPDK's driver transmits frames of several pieces: some entries keep the flag that they were made with. */
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
	ck_assert_uint_eq(rig_serve(&rig, 1), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 5), 1);
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_indirect_readable_after_writable_costs_the_request)
{
	struct seg segs[2] = { { BUF(0), 12, true }, { BUF(1), 100, false } };

	begin(_i, 4);
	rig_start(&rig);
	ck_assert(driver_post(&rig.d, segs, 2, RIG_TABLE, 5));
	bad_and_on("readable descriptor follows");
}
END_TEST

/* covers: G3 */
START_TEST(test_indirect_table_of_more_than_1024_entries_costs_the_request)
{
	begin(_i, 4);
	rig_start(&rig);
	post_table(1025);
	bad_and_on("too");
}
END_TEST

/* --- Start --- */

static int start_with(struct virtq_setup setup)
{
	struct virtq *vq = NULL;
	int r = virtq_start(&vq, &setup, rig.m.map, &rig.ledger, rig.inflight);

	ck_assert(r == 0 || vq == NULL);
	virtq_stop(vq);
	return r;
}

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
	rig_deinit(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* --- Notifications --- */

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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_driver_that_wants_no_calls_gets_none)
{
	begin(_i, 8);
	rig_start(&rig);
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
	rig_deinit(&rig);
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
	rig_deinit(&rig);
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
	rig_deinit(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* --- Contents that change, regions that lie --- */

/* covers: G7 */
START_TEST(test_what_was_parsed_does_not_change)
{
	struct seg seg = { BUF(0), 64, false };
	struct virtq_chain *chain;

	begin(_i, 4);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

/* While a ring runs, nothing that the VMM writes into the in-flight region has any effect. */
/* covers: M21 */
START_TEST(test_running_ring_does_not_read_the_region)
{
	uint32_t posted = 0, reaped = 0, seed = 7;

	begin(_i, 8);
	rig_start(&rig);
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
	rig_deinit(&rig);
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
			region[(seed >> 8) % (16 + 34 * (packed ? 8 : 4))] = (uint8_t)(seed >> 24 & (round & 1 ? 7 : 255));
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
		rig_deinit(&rig);
	}
	ck_assert_uint_gt(refused, 20);
}
END_TEST

START_TEST(test_ledger_that_contradicts_the_ring_is_refused)
{
	struct virtq_setup setup;

	begin(_i, 8);
	rig_start(&rig);
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
	rig_deinit(&rig);
}
END_TEST

START_TEST(test_new_start_begins_anew)
{
	struct virtq_setup setup;

	begin(_i, 8);
	rig_start(&rig);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert(post1(i));
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
	ck_assert_uint_eq(rig_serve(&rig, 5), 1);
	ck_assert_uint_eq(rig_reap_all(&rig, 20), 1);
	rig_deinit(&rig);
}
END_TEST

/* Remapping keeps what a former worker had in flight in front. */
START_TEST(test_remap_keeps_what_is_to_be_done_again)
{
	begin(_i, 8);
	rig_start(&rig);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert(post1(i));
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
	rig_deinit(&rig);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("both layouts");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_a_ring_is_blank_until_its_driver_writes_it, 0, 2);
	tcase_add_loop_test(tc, test_ring_of_any_size_goes_round_many_times, 0, 2 * 17);
	tcase_add_loop_test(tc, test_chains_of_all_lengths_go_round, 0, 2);
	tcase_add_loop_test(tc, test_completion_in_any_order_returns_each_chain_once, 0, 2);
	tcase_add_loop_test(tc, test_ring_stopped_behind_a_death_has_nothing_in_flight, 0, 2);
	tcase_add_loop_test(tc, test_window_that_is_not_taken_was_never_seen, 0, 2);
	tcase_add_loop_test(tc, test_taken_chains_stay_valid_while_others_pass, 0, 2);
	tcase_add_loop_test(tc, test_length_is_never_more_than_was_writable, 0, 2);
	tcase_add_loop_test(tc, test_buffer_over_two_regions_is_two_spans, 0, 2);
	tcase_add_loop_test(tc, test_payload_is_read_and_written_over_any_spans, 0, 2);
	tcase_add_loop_test(tc, test_zero_length_descriptor_with_a_bad_address_is_skipped, 0, 2);
	tcase_add_loop_test(tc, test_bad_address_costs_the_request, 0, 2 * 6);
	tcase_add_loop_test(tc, test_bad_descriptor_late_in_a_chain_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_readable_after_writable_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_more_than_4_gib_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_chain_may_have_1024_spans_and_no_more, 0, 2);
	tcase_add_loop_test(tc, test_long_chains_wait_for_storage_and_come_through, 0, 2);
	tcase_add_loop_test(tc, test_indirect_table_over_two_regions, 0, 2);
	tcase_add_loop_test(tc, test_indirect_table_may_be_misaligned_and_longer_than_the_ring, 0, 2);
	tcase_add_loop_test(tc, test_indirect_length_must_be_a_multiple_of_16, 0, 2 * 6);
	tcase_add_loop_test(tc, test_indirect_table_must_be_in_memory, 0, 2 * 4);
	tcase_add_loop_test(tc, test_indirect_in_indirect_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_indirect_with_next_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_indirect_that_was_not_negotiated_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_indirect_behind_direct_descriptors_is_served, 0, 2);
	tcase_add_loop_test(tc, test_indirect_writable_entries_of_a_packed_ring_that_is_only_read_are_read, 0, 2);
	tcase_add_loop_test(tc, test_indirect_readable_after_writable_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_indirect_table_of_more_than_1024_entries_costs_the_request, 0, 2);
	tcase_add_loop_test(tc, test_ring_addresses_must_be_aligned_and_in_memory, 0, 2);
	tcase_add_loop_test(tc, test_ring_sizes_that_are_refused, 0, 2);
	tcase_add_loop_test(tc, test_driver_is_called_as_it_asked, 0, 4);
	tcase_add_loop_test(tc, test_driver_that_wants_no_calls_gets_none, 0, 2);
	tcase_add_loop_test(tc, test_batch_that_passes_the_event_is_called, 0, 2);
	tcase_add_loop_test(tc, test_device_asks_for_kicks_as_it_wants, 0, 4);
	tcase_add_loop_test(tc, test_nonsense_in_the_event_fields_does_no_harm, 0, 2);
	tcase_add_loop_test(tc, test_what_was_parsed_does_not_change, 0, 2);
	tcase_add_loop_test(tc, test_running_ring_does_not_read_the_region, 0, 2);
	tcase_add_loop_test(tc, test_region_of_noise_is_survived, 0, 2);
	tcase_add_loop_test(tc, test_ledger_that_contradicts_the_ring_is_refused, 0, 2);
	tcase_add_loop_test(tc, test_new_start_begins_anew, 0, 2);
	tcase_add_loop_test(tc, test_remap_keeps_what_is_to_be_done_again, 0, 2);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("rings", add_tests);
}
