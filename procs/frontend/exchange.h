#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/blame.h"
#include "batch.h"
#include "channel.h"
#include "config/config.h"
#include "inband.h"
#include "memory-ops.h"
#include "peer.h"
#include "replay.h"
#include "row.h"
#include "shmem.h"
#include "step.h"
#include "view.h"
#include "wire.h"

/*
 * The exchange of messages with the VMM of one device: the message in work, the step that it has
 * come to (steps.h), and the one answer that it waits for. Whoever brings an answer notes it here
 * and lets the steps go on. Handlers see the message through this as well, and may refuse it, or
 * ask for its descriptors to be kept.
 */

struct exchange {
	/* borrowed, for the life of the session */
	struct session *session; /* for the ops */
	const struct memory_ops *ops;
	const struct config_device *config;
	struct view *view;
	struct blame_mark *mark; /* of this process's deaths by what this VMM says */

	/* the connection; owned */
	int conn_fd;            /* the VMM; -1 = none */
	struct channel channel; /* for requests of ours */
	struct shmem shmem;     /* of those that map files */
	struct inband inband;   /* of notifications in place of descriptors */
	struct replay replay;
	struct peer peer; /* whose conn_fd is */
	/* since whoever clears these has looked */
	bool peer_changed, asked_queues;

	/* where it stands */
	enum step step;
	enum awaits awaits;
	bool answered;       /* what it awaits is there */
	uint64_t until_usec; /* it is waited for until then (CLOCK_MONOTONIC); 0 = without limit */
	bool abandoned;      /* the VMM is gone: hang up as soon as memory has answered */
	const char *verdict; /* with STEP_HANG_UP: the VMM's fault; NULL = it went by itself */

	struct batch batch; /* to be committed with the message in work */
	/* the record on its way to memory, and what memory said */
	Bh__Desired *next; /* NULL = none is on its way */
	bool changes;      /* it is what the message in work makes of the batch's */
	enum step then;    /* when it is in force */
	int error;         /* of the last answer */
	char said[256];    /* the rule that was broken; empty = none */
	bool commit_late;  /* memory does not answer, or refuses what it must not; said once */

	/* the message in work; valid from CHECK to CONSUME */
	struct message msg;
	const struct request_row *row; /* NULL = it has none */
	uint64_t tokens[FDS_MAX];      /* under which msg's descriptors lie in the vault ... */
	size_t n_tokens;               /* ... if they do */
	int deposit_error;             /* why they do not; 0 = it is not known that they cannot */
	uint64_t transfer_id;          /* that memory has begun for it ... */
	bool transfer_asked;           /* ... or has refused to, as said says */
	unsigned int n_deposits;       /* how often: memory may die after it took them */
	char why[256];                 /* why it is refused; empty = it is not */
	bool probed;                   /* memory has answered a probe ... */
	uint64_t patience_usec;        /* ... and so long the worker has then */
	uint64_t probe_usec;           /* when that was asked */
	Bh__Desired *before;           /* as it was without it; NULL = it was not committed */

	/* the reply that is laid ready */
	const struct request_row *reply_row; /* NULL = there is none, or an acknowledgement */
	int reply_fd; /* goes out with it; -1 = not redeemed yet, or none does */
};

/* --- For handlers --- */

/** exchange_desired() - the record as the messages before the one in work make it; borrowed */
const Bh__Desired *exchange_desired(const struct exchange *exchange);

/** exchange_refuse() - note why the message in work is refused; returns OUTCOME_REFUSED */
int exchange_refuse(struct exchange *exchange, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** exchange_deposit() - have the message's descriptors kept in the vault
 * @ret_tokens: [out] set only on OUTCOME_DONE; as many as the message has descriptors
 * Errors: OUTCOME_DONE | OUTCOME_REFUSED | OUTCOME_LATER: what is none of the first goes back to
 *         the caller. */
enum outcome exchange_deposit(struct exchange *exchange, uint64_t *ret_tokens);

/** exchange_transfer() - have a transfer of the device's state begun over the message's descriptor
 * @ret_id: [out] set only on OUTCOME_DONE
 * Errors: OUTCOME_DONE | OUTCOME_REFUSED | OUTCOME_TRANSFER: as exchange_deposit(). */
enum outcome exchange_transfer(struct exchange *exchange, uint64_t *ret_id);

/** exchange_log() - a warning about the VMM, rate-limited by the kind of message in work */
void exchange_log(const struct exchange *exchange, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** exchange_await() - what is needed to go on, and how long it is waited for; 0 = no limit */
void exchange_await(struct exchange *exchange, enum awaits what, uint64_t usec);

/** exchange_drop() - forget the message in work; the descriptors that nobody has taken are
 * closed. exchange_put_back(): it is still in the socket, and will be looked at again */
void exchange_drop(struct exchange *exchange);
void exchange_put_back(struct exchange *exchange);

/* --- For the session --- */

/** exchange_in_work() - whether a message is being handled that this process might die of */
bool exchange_in_work(const struct exchange *exchange);
/** exchange_is_idle() - no message is in work or in a batch, and no record on its way */
static inline bool exchange_is_idle(const struct exchange *exchange)
{
	return exchange->step == STEP_PEEK && !exchange->next && exchange->batch.n == 0;
}

/** exchange_change() - while idle: have STEP_VMM commit next (taken) */
void exchange_change(struct exchange *exchange, Bh__Desired *next);

/** exchange_forget() - connection or session is ended: no answer is waited for any more. Not while
 * a record is on its way (next) without an answer: nobody would know which one is in force. */
void exchange_forget(struct exchange *exchange);

/* The answers. They are only noted; the steps go on when they are run. */

/** exchange_committed() - the answer to commit()
 * @error:   0 | negative errno: -ECONNRESET and -ETIMEDOUT leave open whether it was done
 * @refused: the rule that was broken; empty = it is in force; borrowed */
void exchange_committed(struct exchange *exchange, int error, const char *refused);
/** exchange_deposited() - the answer to deposit(): 0 | negative errno: memory does not take them
 * @tokens: as many as there were descriptors; borrowed */
void exchange_deposited(struct exchange *exchange, int error, const uint64_t *tokens);
/** exchange_redeemed() - the answer to redeem(): the descriptor (taken over) | negative errno */
void exchange_redeemed(struct exchange *exchange, int fd);
/** exchange_begun() - the answer to transfer(): 0 | negative errno: memory cannot be asked
 * @refused: the rule that was broken; empty = it has begun; borrowed */
void exchange_begun(struct exchange *exchange, int error, uint64_t id, const char *refused);
/** exchange_transferred() - the view has heard of a transfer; exchange_observed() - it has another
 * report; exchange_heard() - the VMM has said something; exchange_timeout() - the time is over */
void exchange_transferred(struct exchange *exchange);
void exchange_observed(struct exchange *exchange);
void exchange_heard(struct exchange *exchange);
void exchange_timeout(struct exchange *exchange);
