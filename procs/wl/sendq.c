/*
 * A record is { le32 n_bytes, le32 n_fds, handles, data }, padded to 8 bytes, so that its head
 * never wraps. One store of `head` appends it. Removing it takes two stores, of `sent` and of
 * `tail`; they are announced by `pop_to`, and done again by a successor.
 *
 * An empty queue goes on at the beginning of its ring: most streams never use more than a page.
 */
#include "sendq.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"

#define RING JOURNAL_QUEUE_BYTES
#define HEAD_BYTES 8u
#define NOT_YET UINT64_MAX

/* What was stored before is in memory before this, for whoever looks after our death. */
static void order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

static uint64_t record_bytes(uint32_t n_fds, uint32_t n_bytes)
{
	return align_up(HEAD_BYTES + n_fds * sizeof(uint32_t) + (uint64_t)n_bytes, 8);
}

static uint32_t *word_at(const struct sendq *q, uint64_t at)
{
	return (uint32_t *)(void *)(q->ring + at % RING);
}

/* --- Settling --- */

static void finish_pop(struct journal_queue *queue)
{
	queue->sent = 0;
	if (queue->head < queue->pop_to)
		queue->head = queue->pop_to;
	queue->tail = queue->pop_to;
	order();
	queue->pop_to = 0;
}

static bool is_sane(const struct sendq *q)
{
	const struct journal_queue *queue = q->queue;
	struct sendq_record record;
	uint64_t at = queue->tail, next;

	if (queue->tail > queue->head || queue->head - queue->tail > RING || queue->high > RING)
		return false;
	if (queue->tail % 8 || queue->head % 8)
		return false;
	while (at < queue->head) {
		if (!sendq_at(q, at, &record, &next))
			return false;
		if (at == queue->tail && queue->sent > record.n_bytes)
			return false;
		at = next;
	}
	return true;
}

int sendq_settle(const struct sendq *q)
{
	if (q->queue->pop_to)
		finish_pop(q->queue);
	if (is_sane(q))
		return 0;
	*q->queue = (struct journal_queue){ .high = RING };
	return -EINVAL;
}

uint32_t sendq_clear(const struct sendq *q)
{
	for (int i = 0; i < 2; i++)
		q->queue->appends[i].cookie = 0;
	q->queue->fds_given = 0;
	q->queue->peeked_bytes = 0;
	return sendq_pop(q, q->queue->head);
}

uint32_t sendq_used_bytes(const struct sendq *q)
{
	return (uint32_t)(q->queue->head - q->queue->tail);
}

/* --- Appending --- */

/* Two spans of the ring, n bytes from that position. */
static void spans(const struct sendq *q, uint64_t at, uint32_t n, struct iovec ret[2])
{
	uint32_t offset = (uint32_t)(at % RING), first = MIN(n, RING - offset);

	ret[0] = (struct iovec){ q->ring + offset, first };
	ret[1] = (struct iovec){ q->ring, n - first };
}

bool sendq_reserve(const struct sendq *q, uint32_t n_fds, uint32_t n_bytes,
	struct iovec ret_room[2])
{
	if (record_bytes(n_fds, n_bytes) > RING - sendq_used_bytes(q))
		return false;
	spans(q, q->queue->head + HEAD_BYTES + n_fds * sizeof(uint32_t), n_bytes, ret_room);
	return true;
}

/* Of the two, the one to be overwritten: the last published one must stay. */
static struct journal_append *older(struct journal_queue *queue)
{
	struct journal_append *a = &queue->appends[0], *b = &queue->appends[1];

	if (a->at > queue->head || b->at > queue->head)
		return a->at > queue->head ? a : b;
	return a->at <= b->at ? a : b;
}

static void note_high(struct journal_queue *queue, uint64_t end)
{
	uint32_t offset = (uint32_t)(queue->head % RING);
	uint64_t reached = offset + (end - queue->head);

	queue->high = MAX(queue->high, (uint32_t)MIN(reached, RING));
}

void sendq_append(const struct sendq *q, uint32_t n_bytes, const uint32_t *handles, uint32_t n_fds,
	uint64_t cookie)
{
	struct journal_queue *queue = q->queue;
	struct journal_append *append = older(queue);
	uint64_t end = queue->head + record_bytes(n_fds, n_bytes);

	*word_at(q, queue->head) = n_bytes;
	*word_at(q, queue->head + 4) = n_fds;
	for (uint32_t i = 0; i < n_fds; i++)
		*word_at(q, queue->head + HEAD_BYTES + i * sizeof(uint32_t)) = handles[i];
	note_high(queue, end);
	append->at = NOT_YET;
	order();
	append->cookie = cookie;
	order();
	append->at = end;
	order();
	queue->head = end;
}

bool sendq_has(const struct sendq *q, uint64_t cookie)
{
	for (int i = 0; i < 2; i++) {
		const struct journal_append *append = &q->queue->appends[i];

		if (append->at <= q->queue->head && append->cookie >= cookie)
			return true;
	}
	return false;
}

/* --- Taking --- */

bool sendq_at(const struct sendq *q, uint64_t at, struct sendq_record *ret, uint64_t *next)
{
	if (q->queue->head - at < HEAD_BYTES || at >= q->queue->head)
		return false;
	ret->n_bytes = *word_at(q, at);
	ret->n_fds = *word_at(q, at + 4);
	if (ret->n_fds > JOURNAL_FDS_MAX ||
		record_bytes(ret->n_fds, ret->n_bytes) > q->queue->head - at)
		return false;
	at += HEAD_BYTES;
	for (uint32_t i = 0; i < ret->n_fds; i++, at += sizeof(uint32_t))
		ret->handles[i] = *word_at(q, at);
	spans(q, at, ret->n_bytes, ret->data);
	*next = align_up(at + ret->n_bytes, 8);
	return true;
}

uint32_t sendq_pop(const struct sendq *q, uint64_t end)
{
	struct journal_queue *queue = q->queue;
	bool empty = end == queue->head;
	uint32_t high = queue->high;

	queue->pop_to = empty ? align_up(end, RING) : end;
	order();
	finish_pop(queue);
	if (!empty || high < SENDQ_PUNCH_BYTES)
		return 0;
	queue->high = 0;
	return high;
}
