#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record.pb-c.h"
#include "wire.h"

struct exchange;

/** enum outcome - what a handler decides */
enum outcome {
	OUTCOME_REFUSED = -1, /* exchange_refuse() has said why; `next` is dropped */
	OUTCOME_DONE,         /* nothing to commit */
	OUTCOME_CHANGED,      /* commit `next`; an acknowledgement waits until it is applied */
	OUTCOME_NOTED,        /* commit `next`, in which nothing is the worker's */
	OUTCOME_WAIT,         /* commit `next`, and go on when the worker has applied it */
	OUTCOME_SETTLE, /* nothing to commit, but go on when all that was committed is applied */
	/* exchange_deposit() has not got them yet: the handler is called again when they are
	 * kept */
	OUTCOME_LATER,
	OUTCOME_TRANSFER, /* exchange_transfer() has not begun it yet: likewise, when it has */
	OUTCOME_PENDING,  /* likewise, when the transfer that the record names has ended */
};

#define NO_FEATURE 63u

/** struct request_row - a row of the table; a test walks it */
struct request_row {
	enum request request;
	const char *name;            /* title in the specification, without VHOST_USER_ */
	uint32_t size_min, size_max; /* payload bytes */
	uint8_t fds_min, fds_max;
	uint8_t fd_kinds;   /* FD_*, of each of them */
	unsigned int needs; /* a protocol feature that must be acked; or NO_FEATURE */
	enum index_kind {
		INDEX_NONE,
		INDEX_VRING,    /* u32 at the beginning */
		INDEX_VRING_FD, /* bits 0-7 of a u64, bit 8 = no descriptor */
		INDEX_REGION,   /* guest address, size and user address of a region */
	} index;
	enum legal {
		LEGAL_ALWAYS,
		LEGAL_RING_STOPPED, /* not while the ring runs, or could run, and is enabled */
		LEGAL_ALL_STOPPED,  /* not while any ring does */
		LEGAL_NEVER,        /* what it belongs to is not offered by any device */
	} legal;
	enum reply_kind {
		REPLY_NONE,    /* acknowledged if the VMM asks for it */
		REPLY_U64,     /* always owed */
		REPLY_AGREED,  /* the same, once the feature that it needs is acked */
		REPLY_PAYLOAD, /* always owed */
	} owes;
	uint32_t refusal; /* owed but refused: the u64's value, or bytes of zeros in the payload */
	/* judges meaning, changes next; absent: OUTCOME_DONE */
	enum outcome (*handle)(struct exchange *exchange, const struct message *msg,
		Bh__Desired *next);
	/* fills the reply, returns its bytes; absent where none is owed */
	size_t (*reply)(struct exchange *exchange, const struct message *msg, uint8_t *buf);
	/* the descriptor that goes out with a reply of n bytes: its token, by the record;
	 * TOKEN_NONE = none goes with this one; TOKEN_LOST = one should, and the record has it
	 * no more. Absent where none ever does. The reply may have been made by a former process */
	uint64_t (*reply_token)(const Bh__Desired *desired, const void *reply, size_t n);
};

#define TOKEN_NONE 0
#define TOKEN_LOST UINT64_MAX

#define REPLY_BYTES_MAX 2056

/** row_ring() - the index of the ring that a message is about; rows with INDEX_VRING or
 * INDEX_VRING_FD */
static inline uint32_t row_ring(const struct request_row *row, const struct message *msg)
{
	return row->index == INDEX_VRING_FD
		? (uint32_t)(msg->payload.u64 & VHOST_USER_VRING_IDX_MASK)
		: msg->payload.state.index;
}
