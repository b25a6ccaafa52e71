#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "journal.h"

/*
 * The queue of what is to be sent on one stream: records of bytes, and of handles that name the
 * descriptors which go with them. It lies in memory that outlives the process, and is whole at any
 * instruction. For stream.c alone.
 */

/** SENDQ_DATA_MAX - bytes in one record */
#define SENDQ_DATA_MAX (JOURNAL_QUEUE_BYTES - 8 - JOURNAL_FDS_MAX * 4 - 8)
#define SENDQ_PUNCH_BYTES (256u << 10) /* a ring that holds more, and is empty, is given back */

/** struct sendq - a queue and its ring; borrowed */
struct sendq {
	struct journal_queue *queue;
	uint8_t *ring;
};

/** struct sendq_record - one in the queue */
struct sendq_record {
	uint32_t n_bytes;
	uint32_t n_fds;
	uint32_t handles[JOURNAL_FDS_MAX];
	struct iovec data[2]; /* n_bytes together; the second may be empty */
};

/** sendq_of() - the queue of a slot */
static inline struct sendq sendq_of(const struct journal *journal, uint32_t slot)
{
	return (struct sendq){ &journal->queues[slot],
		journal->rings + (size_t)slot * JOURNAL_QUEUE_BYTES };
}

/** sendq_settle() - after a restart: finish what the former instance was about
 * Errors: 0 | -EINVAL: these are not the positions of a queue, which is empty from now on. */
int sendq_settle(const struct sendq *q);

/** sendq_clear() - remove all records, and forget their cookies; returns as sendq_pop() */
uint32_t sendq_clear(const struct sendq *q);

/** sendq_used_bytes() - of the ring */
uint32_t sendq_used_bytes(const struct sendq *q);

/** sendq_reserve() - room for a record: false = there is none now. n_fds and n_bytes are within
 * their limits */
bool sendq_reserve(const struct sendq *q, uint32_t n_fds, uint32_t n_bytes,
	struct iovec ret_room[2]);

/** sendq_append() - add what sendq_reserve() had room for, with its handles */
void sendq_append(const struct sendq *q, uint32_t n_bytes, const uint32_t *handles, uint32_t n_fds,
	uint64_t cookie);

/** sendq_has() - whether a record with this cookie, or a greater one, has been appended */
bool sendq_has(const struct sendq *q, uint64_t cookie);

/** sendq_at() - the record at this position: that of the first one is queue->tail. Sets *next to
 * the one behind it. false: there is none */
bool sendq_at(const struct sendq *q, uint64_t at, struct sendq_record *ret, uint64_t *next);

/** sendq_pop() - remove the first record, which ends at this position, and is sent
 * Returns: bytes at the end of the ring that hold nothing, and should be given back; or 0. */
uint32_t sendq_pop(const struct sendq *q, uint64_t end);
