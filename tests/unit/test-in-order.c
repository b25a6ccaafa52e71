/*
 * VIRTIO_F_IN_ORDER: a batch comes back by the entry of its last chain at the place of its first,
 * and nothing else of the ring is written; chains whose length the driver must learn have an entry
 * of their own. What a device completes out of order ends its worker.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/run.h"
#include "ring-case.h"

#define NOBODY 0xfffe /* an entry that no device has written */

static void begin_in_order(int i, uint32_t size)
{
	begin(i, size);
	driver_in_order(&rig.d);
	rig_start(&rig);
}

/* A chain that the device reads alone, or with room for an answer in its second descriptor. */
static void post_one(uint32_t cookie, bool answer)
{
	struct seg segs[2] = { { BUF(0), 64, false }, { BUF(1), 32, true } };

	ck_assert(driver_post(&rig.d, segs, answer ? 2 : 1, 0, cookie));
}

/* --- What the ring shows --- */

static void *split_entry(uint32_t i)
{
	return rig.m.mem + rig.d.used + 4 + 8 * (size_t)i;
}

static void spoil_split_entries(void)
{
	static const uint32_t nobody[2] = { NOBODY, NOBODY };

	for (uint32_t i = 0; i < rig.d.size; i++)
		memcpy(split_entry(i), nobody, sizeof(nobody));
}

/* The entry at the place of the n-th chain, which begins in ring slot n in a packed ring, has this
 * id and length; NOBODY: there is none. */
static void shows(uint32_t n, uint32_t id, uint32_t len)
{
	struct raw_desc *desc = driver_desc(&rig.d, n);
	uint32_t entry[2];

	if (packed) {
		bool used = desc->b & F_USED;

		ck_assert_int_eq(used, id != NOBODY);
		ck_assert(!used || (desc->a == id && desc->len == len));
		return;
	}
	memcpy(entry, split_entry(n), sizeof(entry));
	ck_assert_uint_eq(entry[0], id);
	ck_assert(id == NOBODY || entry[1] == len);
}

START_TEST(test_a_batch_has_the_entry_of_its_last)
{
	begin_in_order(_i, 16);
	spoil_split_entries();
	for (uint32_t i = 0; i < 5; i++)
		post_one(i, false);
	ck_assert_uint_eq(rig_serve(&rig, 4), 4);
	shows(0, 3, 0);
	for (uint32_t i = 1; i < 5; i++)
		shows(i, NOBODY, 0);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 4);
	ck_assert_uint_eq(rig_serve(&rig, 4), 1);
	shows(4, 4, 0);
	ck_assert_uint_eq(rig_reap_all(&rig, 4), 1);
}
END_TEST

/* The fourth chain is answered, and stands for those before it. The fifth is bad: it may have
 * room. */
START_TEST(test_what_has_a_length_has_an_entry)
{
	struct seg outside = { RIG_BYTES, 64, true };
	uint32_t cookie, len;

	begin_in_order(_i, 16);
	spoil_split_entries();
	for (uint32_t i = 0; i < 4; i++)
		post_one(i, i == 3);
	ck_assert(driver_post(&rig.d, &outside, 1, 0, 4));
	post_one(5, false);
	ck_assert_uint_eq(rig_serve(&rig, 6), 6);
	shows(0, 3, 32);
	shows(1, NOBODY, 0);
	shows(2, NOBODY, 0);
	for (uint32_t i = 0; i < 6; i++) {
		ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 1);
		ck_assert_uint_eq(cookie, i);
		ck_assert_uint_eq(len, i == 3 ? 32 : 0);
		/* the fourth has two descriptors, so the fifth is at the place behind them */
		ck_assert_uint_eq(rig.d.n_batch, i < 3 ? 3 - i : 0);
	}
	ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 0);
}
END_TEST

START_TEST(test_batches_go_round)
{
	static const uint32_t sizes[] = { 1, 2, 4, 5, 16, 33, 64 };
	uint32_t size = sizes[_i / 2], posted = 0, reaped = 0;
	unsigned int chain = size < 3 ? 1 : 3;

	if (!(_i & 1) && (size & (size - 1)))
		return;
	begin_in_order(_i, size);
	while (reaped < 70000) {
		struct seg segs[3] = { { BUF(0), 64, false }, { BUF(1), 64, false },
			{ BUF(2), 64, posted % 11 == 0 } };

		while (posted % 41 && driver_post(&rig.d, segs, 1 + posted % chain, 0, posted))
			posted++;
		if (posted % 41 == 0 && driver_post(&rig.d, segs, 1, 0, posted))
			posted++;
		(void)rig_serve(&rig, 1 + reaped % 13);
		if (reaped % 3)
			(void)rig_serve(&rig, 2);
		reaped += rig_reap_all(&rig, reaped);
	}
}
END_TEST

/* --- What is refused --- */

static int end_of(void (*what)(void))
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
		signal(SIGABRT, SIG_DFL);
		what();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static struct virtq_chain *held[2];

static void complete_the_second(void)
{
	virtq_complete(rig.vq, held[1], 0);
}

static void complete_both(void)
{
	virtq_complete(rig.vq, held[0], 0);
	virtq_complete(rig.vq, held[1], 0);
}

START_TEST(test_a_device_that_completes_out_of_order_is_stopped)
{
	begin_in_order(_i, 16);
	post_all(0, 2);
	ck_assert_int_eq(virtq_fill(rig.vq, 2), 2);
	held[0] = virtq_window(rig.vq, 0);
	held[1] = virtq_window(rig.vq, 1);
	virtq_take(rig.vq, 2);
	ck_assert(WIFSIGNALED(end_of(complete_the_second)));
	ck_assert(WIFEXITED(end_of(complete_both)));
}
END_TEST

/* --- Where it begins --- */

/* A driver that goes by order is stuck if what is in flight is left out. */
START_TEST(test_what_is_in_flight_at_the_base_is_done_again)
{
	struct virtq_setup setup;

	begin_in_order(_i, 16);
	for (uint32_t i = 0; i < 5; i++)
		post_one(i, false);
	ck_assert_uint_eq(rig_serve(&rig, 2), 2);
	ck_assert_uint_eq(rig_reap_all(&rig, 0), 2);
	rig.vq = virtq_stop(rig.vq);
	memset(&rig.ledger, 0, sizeof(rig.ledger));
	setup = driver_setup(&rig.d, 2);
	setup.base = packed ? 0x80028004 : 4; /* used 2, available 4 */
	ck_assert_int_eq(virtq_start(&rig.vq, &setup, rig.m.map, &rig.ledger, rig.inflight), 0);
	ck_assert_uint_eq(rig_serve(&rig, 16), 3);
	ck_assert_uint_eq(rig_reap_all(&rig, 2), 3);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = ring_tcase(suite, "both layouts");

	tcase_add_loop_test(tc, test_a_batch_has_the_entry_of_its_last, 0, 2);
	tcase_add_loop_test(tc, test_what_has_a_length_has_an_entry, 0, 2);
	tcase_add_loop_test(tc, test_batches_go_round, 0, 2 * 7);
	tcase_add_loop_test(tc, test_a_device_that_completes_out_of_order_is_stopped, 0, 2);
	tcase_add_loop_test(tc, test_what_is_in_flight_at_the_base_is_done_again, 0, 2);
}

int main(void)
{
	return run_main("in-order", add_tests);
}
