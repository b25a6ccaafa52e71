/*
 * The address space under a ring: a log hears of every byte that the device writes, and memory that
 * the map does not have yet makes a chain wait, not fail.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/run.h"
#include "ring-case.h"

/* --- Every write is heard of --- */

static struct heard {
	struct map_log log;
	uint8_t bytes[RIG_BYTES]; /* 1: was marked */
} heard;

static uint8_t before[RIG_BYTES];

static void on_dirty(struct map_log *log, struct gpa start, uint64_t n_bytes)
{
	must(n_bytes > 0 && start.val < RIG_BYTES && n_bytes <= RIG_BYTES - start.val);
	memset(heard.bytes + start.val, 1, n_bytes);
}

/* From here on the device's writes are compared with what is heard. */
static void listen(void)
{
	heard.log.dirty = on_dirty;
	map_set_log(rig.m.map, &heard.log);
	memcpy(before, rig.m.mem, RIG_BYTES);
	memset(heard.bytes, 0, RIG_BYTES);
}

static void all_was_heard(void)
{
	for (size_t i = 0; i < RIG_BYTES; i++)
		if (before[i] != rig.m.mem[i] && !heard.bytes[i])
			ck_abort_msg("the write at %#zx was not heard of", i);
}

static bool was_heard(uint64_t gpa, uint64_t n_bytes)
{
	return memchr(heard.bytes + gpa, 0, n_bytes) == NULL;
}

/* Chains of several forms; the second buffer lies in two regions. */
static bool post_mixed(uint32_t cookie)
{
	uint32_t n = 1 + cookie % 3;
	struct seg segs[3] = { { BUF(cookie % 50), 40, cookie & 1 },
		{ RIG_BUFFERS - 20 + cookie % 16, 30, true },
		{ BUF(50 + cookie % 50), 300, true } };

	return driver_post(&rig.d, segs, n, cookie % 4 == 3 ? RIG_TABLE + cookie % 64 * 64 : 0,
		cookie);
}

/* Take all that is there and fill what is writable, to its last byte. */
static void serve_noisily(uint32_t seed)
{
	struct virtq_chain *chains[16];
	uint8_t noise[400];
	int n = virtq_fill(rig.vq, 16);

	must(n > 0);
	for (int i = 0; i < n; i++)
		chains[i] = virtq_window(rig.vq, (unsigned int)i);
	virtq_take(rig.vq, (unsigned int)n);
	for (int i = 0; i < n; i++) {
		memset(noise, (int)(seed + (uint32_t)i * 7 + 1), sizeof(noise));
		must(!chains[i]->bad);
		must(virtq_write(chains[i], 0, noise, sizeof(noise)) == chains[i]->in_bytes);
		virtq_complete(rig.vq, chains[i], chains[i]->in_bytes);
	}
	virtq_publish(rig.vq);
}

START_TEST(test_log_hears_of_every_write)
{
	uint32_t posted = 0, reaped = 0;

	begin(_i, 8);
	rig.d.event_idx = _i & 2;
	rig_start(&rig);
	for (int round = 0; round < 40; round++) {
		while (post_mixed(posted))
			posted++;
		listen();
		if (round % 3 == 0)
			virtq_kick_off(rig.vq);
		serve_noisily((uint32_t)round * 31);
		if (round % 3 != 1)
			(void)virtq_kick_on(rig.vq);
		all_was_heard();
		reaped += rig_reap_all(&rig, reaped);
	}
	ck_assert_uint_eq(reaped, posted);
}
END_TEST

START_TEST(test_log_hears_where_each_part_is)
{
	struct seg seg = { RIG_BUFFERS - 5, 64, true };
	struct virtq_chain *chain;

	begin_started(_i, 4);
	ck_assert(driver_post(&rig.d, &seg, 1, 0, 0));
	chain = next_chain();
	listen(); /* while the chain is held */
	finish(chain, 60);
	ck_assert(was_heard(seg.gpa, 60));
	ck_assert(!heard.bytes[seg.gpa - 1] && !heard.bytes[seg.gpa + 60]);
	ck_assert(packed ? was_heard(rig.d.desc, 16) : was_heard(rig.d.used + 2, 10));
	ck_assert(!heard.bytes[rig.d.avail]);
	map_set_log(rig.m.map, NULL);
	memset(heard.bytes, 0, RIG_BYTES);
	rig_reap_all(&rig, 0);
	ck_assert(post1(1));
	pass(1, 1);
	ck_assert_ptr_null(memchr(heard.bytes, 1, RIG_BYTES));
}
END_TEST

/* --- Memory that comes later --- */

#define LATER_GPA UINT64_C(0x40000000)
#define LATER_UVA UINT64_C(0x600000000000)
#define LATER_BYTES (1 << 16)

static struct asked {
	struct map_resolver resolver;
	int answer;
	unsigned int n;
} asked;

static int on_miss(struct map_resolver *resolver, struct iova start, uint64_t n_bytes,
	enum map_access access)
{
	must(start.val - LATER_GPA < LATER_BYTES || start.val - LATER_UVA < LATER_BYTES);
	asked.n++;
	return asked.answer;
}

static void begin_with_a_resolver(int i, uint32_t size)
{
	begin(i, size);
	asked = (struct asked){ .resolver = { on_miss }, .answer = MAP_E_LATER };
	map_set_resolver(rig.m.map, &asked.resolver);
}

static void memory_comes(void)
{
	struct map_region region = {
		.gpa = { LATER_GPA }, .uva = { LATER_UVA }, .size_bytes = LATER_BYTES
	};
	int fd = memfd_create("later", MFD_CLOEXEC);

	ck_assert_int_eq(ftruncate(fd, LATER_BYTES), 0);
	ck_assert_int_eq(map_add(rig.m.map, &region, fd), 0);
	close(fd);
}

/** struct late_chain - one of whose parts is not in the map yet */
static const struct late_chain {
	struct seg segs[7];
	unsigned int n_segs;
	uint64_t table; /* of the chain; 0 = it is direct */
} late_chains[] = {
	{ { { LATER_GPA, 64, false } }, 1 },
	{ { { LATER_GPA, 64, true } }, 1 },
	{ { { BUF(0), 64, false }, { LATER_GPA + 8, 64, true } }, 2 },
	{ { { BUF(0), 8 }, { BUF(1), 8 }, { BUF(2), 8 }, { BUF(3), 8 }, { BUF(4), 8 },
		  { BUF(5), 8 }, { LATER_GPA, 8 } },
		7 }, /* is in a block by then */
	{ { { BUF(0), 64, false }, { LATER_GPA, 64, true } }, 2, RIG_TABLE },
	{ { { BUF(0), 64, false }, { BUF(1), 64, true } }, 2, LATER_GPA },
};

#define N_LATE_CHAINS ((int)(sizeof(late_chains) / sizeof(*late_chains)))

static void post_late(const struct late_chain *late, uint32_t cookie)
{
	/* the driver's own mapping ends before LATER_GPA: the table is written where it can, and
	 * moved */
	uint64_t table = late->table == LATER_GPA ? RIG_TABLE : late->table;
	uint32_t at = packed ? rig.d.avail_idx : rig.d.free_head;

	ck_assert(driver_post(&rig.d, late->segs, late->n_segs, table, cookie));
	if (late->table == LATER_GPA)
		driver_desc(&rig.d, at)->addr = LATER_GPA;
}

/* Nothing of the chain is consumed, and nothing behind it passes; the chain before it does. */
static void it_waits(void)
{
	uint32_t base = virtq_base(rig.vq);

	for (unsigned int i = 1; i < 4; i++) {
		ck_assert_int_eq(virtq_fill(rig.vq, 8), 0);
		ck_assert(virtq_waits(rig.vq));
		ck_assert(!virtq_kick_on(rig.vq));
		ck_assert_uint_ge(asked.n, i);
		ck_assert_uint_eq(virtq_base(rig.vq), base);
	}
	ck_assert_uint_eq(rig_reap_all(&rig, 1), 0);
}

START_TEST(test_chain_waits_for_memory_that_comes_later)
{
	const struct late_chain *late = &late_chains[_i / 2];

	begin_with_a_resolver(_i, 16);
	rig_start(&rig);
	ck_assert(post1(0));
	post_late(late, 1);
	ck_assert(post1(2));
	pass(0, 1);
	it_waits();
	memory_comes();
	if (late->table == LATER_GPA)
		memcpy(map_gpa(rig.m.map, (struct gpa){ LATER_GPA }, 32), rig.m.mem + RIG_TABLE,
			32);
	ck_assert_int_eq(virtq_remap(rig.vq), 0);
	ck_assert(virtq_kick_on(rig.vq)); /* there is something to serve, now */
	ck_assert(!next_chain()->bad);
	ck_assert(!virtq_waits(rig.vq));
	pass(1, 2);
}
END_TEST

START_TEST(test_chain_fails_when_its_memory_will_never_come)
{
	begin_with_a_resolver(_i, 16);
	rig_start(&rig);
	ck_assert(post1(0));
	pass(0, 1);
	post_late(&late_chains[_i / 2], 5);
	it_waits();
	asked.answer = MAP_E_OUTSIDE;
	bad_and_on("outside guest memory");
}
END_TEST

/* A worker dies while a chain waits, and another one in flight is to be done again. */
START_TEST(test_waiting_chain_outlives_the_worker)
{
	begin_with_a_resolver(_i, 16);
	rig_start(&rig);
	ck_assert(post1(0));
	(void)next_chain();
	virtq_take(rig.vq, 1);
	post_late(&late_chains[0], 1);
	ck_assert_int_eq(virtq_fill(rig.vq, 8), 0);
	ck_assert(virtq_waits(rig.vq));
	virtq_stop(rig.vq);
	rig_start(&rig);
	ck_assert(!virtq_waits(rig.vq));
	ck_assert(virtq_kick_on(rig.vq));
	pass(0, 1);
	it_waits();
	memory_comes();
	ck_assert_int_eq(virtq_remap(rig.vq), 0);
	pass(1, 1);
}
END_TEST

START_TEST(test_ring_address_may_come_later)
{
	struct virtq_setup setup;

	begin_with_a_resolver(_i, 8);
	setup = driver_setup(&rig.d, 1);
	setup.used.val = LATER_UVA;
	ck_assert_int_eq(start_with(setup), VIRTQ_E_LATER);
	memory_comes();
	ck_assert_int_eq(start_with(setup), 0);
	setup.used.val = LATER_UVA + LATER_BYTES - 2;
	asked.answer = MAP_E_OUTSIDE;
	ck_assert_int_eq(start_with(setup), VIRTQ_E_ADDRESS);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = ring_tcase(suite, "both layouts");

	tcase_add_loop_test(tc, test_log_hears_of_every_write, 0, 4);
	tcase_add_loop_test(tc, test_log_hears_where_each_part_is, 0, 2);
	tcase_add_loop_test(tc, test_chain_waits_for_memory_that_comes_later, 0, 2 * N_LATE_CHAINS);
	tcase_add_loop_test(tc, test_chain_fails_when_its_memory_will_never_come, 0,
		2 * N_LATE_CHAINS);
	tcase_add_loop_test(tc, test_waiting_chain_outlives_the_worker, 0, 2);
	tcase_add_loop_test(tc, test_ring_address_may_come_later, 0, 2);
}

int main(void)
{
	return run_main("space", add_tests);
}
