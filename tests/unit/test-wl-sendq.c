/* The queue of what is to be sent: order, limits, cookies, and what a successor finds. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/patience.h"
#include "lib/run.h"
#include "sendq.h"

#define RING JOURNAL_QUEUE_BYTES

static struct journal_queue queue;
static uint8_t *ring;
static struct sendq q;

static void begin(void)
{
	queue = (struct journal_queue){ .head = 0 };
	ring = malloc(RING);
	q = (struct sendq){ &queue, ring };
}

static void end(void)
{
	free(ring);
}

static uint8_t byte_of(uint64_t cookie, uint32_t i)
{
	return (uint8_t)(cookie * 31 + i);
}

static bool append(uint32_t n_bytes, uint32_t n_fds, uint64_t cookie)
{
	uint32_t handles[JOURNAL_FDS_MAX], at = 0;
	struct iovec room[2];

	if (!sendq_reserve(&q, n_fds, n_bytes, room))
		return false;
	ck_assert_uint_eq(room[0].iov_len + room[1].iov_len, n_bytes);
	for (int part = 0; part < 2; part++)
		for (size_t i = 0; i < room[part].iov_len; i++)
			((uint8_t *)room[part].iov_base)[i] = byte_of(cookie, at++);
	for (uint32_t i = 0; i < n_fds; i++)
		handles[i] = (uint32_t)cookie + i;
	sendq_append(&q, n_bytes, handles, n_fds, cookie);
	return true;
}

static uint64_t check_at(uint64_t at, uint32_t n_bytes, uint32_t n_fds, uint64_t cookie)
{
	struct sendq_record record;
	uint64_t next;
	uint32_t i = 0;

	ck_assert(sendq_at(&q, at, &record, &next));
	ck_assert_uint_eq(record.n_bytes, n_bytes);
	ck_assert_uint_eq(record.n_fds, n_fds);
	for (uint32_t k = 0; k < n_fds; k++)
		ck_assert_uint_eq(record.handles[k], (uint32_t)cookie + k);
	for (int part = 0; part < 2; part++)
		for (size_t k = 0; k < record.data[part].iov_len; k++)
			if (((uint8_t *)record.data[part].iov_base)[k] != byte_of(cookie, i++))
				ck_abort_msg("byte %u of record %llu", i - 1,
					(unsigned long long)cookie);
	ck_assert_uint_eq(i, n_bytes);
	return next;
}

static void check_empty(void)
{
	struct sendq_record record;
	uint64_t next;

	ck_assert_uint_eq(sendq_used_bytes(&q), 0);
	ck_assert(!sendq_at(&q, queue.tail, &record, &next));
}

START_TEST(test_records_come_out_as_they_went_in)
{
	begin();
	check_empty();
	ck_assert(append(5, 0, 1));
	ck_assert(append(0, 2, 2));
	ck_assert(append(9, JOURNAL_FDS_MAX, 3));
	sendq_pop(&q, check_at(queue.tail, 5, 0, 1));
	sendq_pop(&q, check_at(queue.tail, 0, 2, 2));
	sendq_pop(&q, check_at(queue.tail, 9, JOURNAL_FDS_MAX, 3));
	check_empty();
	end();
}
END_TEST

START_TEST(test_the_largest_record_fits_an_empty_queue_only)
{
	begin();
	ck_assert(append(1, 0, 1));
	ck_assert(!append(SENDQ_DATA_MAX, JOURNAL_FDS_MAX, 2));
	sendq_pop(&q, check_at(queue.tail, 1, 0, 1));
	ck_assert(append(SENDQ_DATA_MAX, JOURNAL_FDS_MAX, 2));
	ck_assert(!append(1, 0, 3));
	ck_assert_uint_gt(sendq_pop(&q, check_at(queue.tail, SENDQ_DATA_MAX, JOURNAL_FDS_MAX, 2)),
		SENDQ_PUNCH_BYTES);
	check_empty();
	ck_assert_uint_eq(queue.head % RING, 0);
	end();
}
END_TEST

/** struct expected - a record of the model */
struct expected {
	uint32_t n_bytes, n_fds;
};

/* A hundred thousand steps against a model, with records across the ring's end. */
START_TEST(test_any_sequence_is_kept_in_order)
{
	static struct expected model[1 << 17];
	uint64_t first = 1, next = 1;

	begin();
	srandom(test_seed());
	for (int i = 0; i < 100000; i++) {
		uint32_t max = random() % 50 ? 300 : RING / 3;
		struct expected record = { (uint32_t)random() % max,
			random() % 4 ? 0 : (uint32_t)random() % (JOURNAL_FDS_MAX + 1) };

		if (random() % 2 && append(record.n_bytes, record.n_fds, next))
			model[next++ % ARRAY_SIZE(model)] = record;
		if (random() % 2 && first < next) {
			record = model[first % ARRAY_SIZE(model)];
			sendq_pop(&q, check_at(queue.tail, record.n_bytes, record.n_fds, first++));
		}
		if (next > 1)
			ck_assert(sendq_has(&q, next - 1));
		ck_assert(!sendq_has(&q, next));
	}
	ck_assert_int_eq(sendq_settle(&q), 0);
	end();
}
END_TEST

START_TEST(test_a_cookie_is_known_after_its_record_was_sent)
{
	begin();
	ck_assert(!sendq_has(&q, 1));
	ck_assert(append(4, 0, 10));
	ck_assert(append(4, 0, 11));
	sendq_pop(&q, check_at(queue.tail, 4, 0, 10));
	sendq_pop(&q, check_at(queue.tail, 4, 0, 11));
	ck_assert(sendq_has(&q, 10) && sendq_has(&q, 11) && !sendq_has(&q, 12));
	sendq_clear(&q);
	ck_assert(!sendq_has(&q, 10) && !sendq_has(&q, 11));
	end();
}
END_TEST

/* The last store of an append is missing: the record is not there, and the one before is. */
START_TEST(test_half_an_append_is_none)
{
	uint64_t head;

	begin();
	ck_assert(append(4, 1, 10));
	head = queue.head;
	ck_assert(append(4, 1, 11));
	queue.head = head;
	ck_assert_int_eq(sendq_settle(&q), 0);
	ck_assert(sendq_has(&q, 10) && !sendq_has(&q, 11));
	ck_assert(append(8, 0, 11));
	ck_assert(sendq_has(&q, 11));
	check_at(check_at(queue.tail, 4, 1, 10), 8, 0, 11);
	end();
}
END_TEST

/* The first record was sent, and only the note that it shall go was stored. */
START_TEST(test_half_a_removal_is_finished)
{
	uint64_t end_of_first;

	begin();
	ck_assert(append(4, 1, 10));
	end_of_first = queue.head;
	ck_assert(append(6, 0, 11));
	queue.sent = 4;
	queue.pop_to = end_of_first;
	ck_assert_int_eq(sendq_settle(&q), 0);
	ck_assert_uint_eq(queue.sent, 0);
	check_at(queue.tail, 6, 0, 11);
	queue.pop_to = 2 * RING; /* the last one: the queue goes on at the ring's beginning */
	ck_assert_int_eq(sendq_settle(&q), 0);
	check_empty();
	ck_assert(append(6, 0, 12));
	check_at(2 * RING, 6, 0, 12);
	end();
}
END_TEST

static const struct journal_queue nonsense[] = {
	{ .head = 8, .tail = 16 },
	{ .head = 4 },
	{ .head = 2 * RING },
	{ .head = 4096, .tail = 8 },
	{ .head = 4096, .tail = 4100 },
	{ .head = 16, .sent = 9 },
	{ .high = RING + 1 },
};

START_TEST(test_nonsense_is_an_empty_queue)
{
	begin();
	memset(ring, 0, RING);
	*(uint32_t *)(void *)(ring + 8) = UINT32_MAX; /* bytes of a record */
	queue = nonsense[_i];
	ck_assert_int_eq(sendq_settle(&q), -EINVAL);
	check_empty();
	ck_assert(append(3, 0, 1));
	check_at(queue.tail, 3, 0, 1);
	end();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("sendq");

	tcase_set_timeout(tcase, test_ms(60000) / 1000.0);
	tcase_add_test(tcase, test_records_come_out_as_they_went_in);
	tcase_add_test(tcase, test_the_largest_record_fits_an_empty_queue_only);
	tcase_add_test(tcase, test_any_sequence_is_kept_in_order);
	tcase_add_test(tcase, test_a_cookie_is_known_after_its_record_was_sent);
	tcase_add_test(tcase, test_half_an_append_is_none);
	tcase_add_test(tcase, test_half_a_removal_is_finished);
	tcase_add_loop_test(tcase, test_nonsense_is_an_empty_queue, 0, ARRAY_SIZE(nonsense));
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	return run_main("wl-sendq", add);
}
