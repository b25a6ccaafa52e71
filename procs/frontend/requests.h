#pragma once

#include "base/bytes.h"
#include "work.h"

/*
 * The request table, and what its handlers are given. A handler gets a message that is right in form, and
 * judges only its meaning.
 */

/** enum outcome - what a handler decides */
enum outcome {
	OUTCOME_REFUSED = -1, /* session_refuse() has said why; `next` is dropped */
	OUTCOME_DONE,         /* nothing to commit */
	OUTCOME_CHANGED,      /* commit `next`; an acknowledgement waits until it is applied */
	OUTCOME_WAIT,         /* commit `next`, and go on when the worker has applied it */
	OUTCOME_SETTLE,       /* nothing to commit, but go on when all that was committed is applied */
	OUTCOME_LATER,        /* session_deposit() has asked memory: call the handler again when that has answered */
};

/** struct request_row - a row of the table; a test walks it */
struct request_row {
	enum request request;
	const char *name;            /* title in the specification, without VHOST_USER_ */
	uint32_t size_min, size_max; /* payload bytes */
	uint8_t fds_min, fds_max;
	uint8_t fd_kinds;            /* FD_*, of each of them */
	enum protocol_feature needs; /* must be acked; PF_NONE = nothing */
	enum index_kind {
		INDEX_NONE,
		INDEX_VRING,         /* u32 at the beginning */
		INDEX_VRING_FD,      /* bits 0-7 of a u64, bit 8 = no descriptor */
		INDEX_REGION,        /* guest address, size and user address of a region */
	} index;
	enum legal {
		LEGAL_ALWAYS,
		LEGAL_RING_STOPPED,  /* not while the ring runs, or could run, and is enabled */
		LEGAL_ALL_STOPPED,   /* not while any ring does */
		LEGAL_NEVER,         /* what it belongs to is not offered by any device */
	} legal;
	enum reply_kind {
		REPLY_NONE,          /* acknowledged if the VMM asks for it */
		REPLY_U64,           /* always owed */
		REPLY_PAYLOAD,       /* always owed */
	} owes;
	uint32_t refusal;            /* owed but refused: the u64's value, or bytes of zeros in the payload */
	/* judges meaning, changes next; absent: OUTCOME_DONE */
	enum outcome (*handle)(struct session *session, const struct message *msg, Bh__Desired *next);
	/* fills the reply, returns its bytes; absent where none is owed */
	size_t (*reply)(struct session *session, const struct message *msg, uint8_t *buf);
};

#define REPLY_BYTES_MAX 2056

/** request_table - by number; entry 0 is empty */
extern const struct request_row request_table[_REQUESTS_END];

/** requests_find() - by number; NULL = unknown */
const struct request_row *requests_find(uint32_t request);

/** requests_check() - is the message right in form; 0 | OUTCOME_REFUSED */
int requests_check(struct session *session, const struct request_row *row, const struct message *msg);

/** requests_reply() - what is owed for the message in work; fills REPLY_BYTES_MAX; returns its bytes */
size_t requests_reply(struct session *session, uint8_t *buf);

/** session_refuse() - note why the message in work is refused; returns OUTCOME_REFUSED */
int session_refuse(struct session *session, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * session_deposit() - the message's descriptors into the vault
 * @ret_tokens: [out] set only on OUTCOME_DONE; as many as the message has descriptors
 *
 * Errors: OUTCOME_DONE | OUTCOME_REFUSED | OUTCOME_LATER: what is none of the first goes back to the caller, and what
 *         the handler has done to `next` is forgotten.
 */
enum outcome session_deposit(struct session *session, uint64_t *ret_tokens);

/** session_log() - what a peer did, rate-limited */
void session_log(struct session *session, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** requests_queue_pairs() - what the device's section says of them; 0 = nothing, since its type has none */
unsigned int requests_queue_pairs(const struct session *session);

/** vring_index() - the ring a message is about */
uint32_t vring_index(const struct request_row *row, const struct message *msg);

/* The handlers, in the order of the specification. */
typedef enum outcome handle_fn(
	struct session *session, const struct message *msg, Bh__Desired *next);
typedef size_t reply_fn(struct session *session, const struct message *msg, uint8_t *buf);

/* handle-features.c */
reply_fn reply_features, reply_protocol_features, reply_queue_num, reply_status;
handle_fn handle_set_features, handle_set_owner, handle_reset_owner, handle_set_protocol_features;
handle_fn handle_set_status;

/* handle-memory.c */
reply_fn reply_max_mem_slots;
handle_fn handle_set_mem_table, handle_add_mem_reg, handle_rem_mem_reg;

/* handle-vring.c */
reply_fn reply_vring_base;
handle_fn handle_set_vring_num, handle_set_vring_addr, handle_set_vring_base, handle_get_vring_base;
handle_fn handle_set_vring_kick, handle_set_vring_call, handle_set_vring_err;
handle_fn handle_set_vring_enable;

/* handle-inflight.c */
reply_fn reply_inflight;
handle_fn handle_get_inflight_fd, handle_set_inflight_fd;
/** inflight_send() - send a reply that carries the region's descriptor; as replay_send(), and -EAGAIN also as long as
 * memory has not given it out */
int inflight_send(struct session *session);

/* handle-device.c */
reply_fn reply_config;
handle_fn handle_send_rarp, handle_net_set_mtu, handle_set_backend_req_fd, handle_set_config;
