#pragma once

#include <sys/queue.h>

#include "fd/transfer.h"

/* For the files of the side link's client: how it asks. */

/** struct question - one that waits for its answer */
struct question {
	STAILQ_ENTRY(question) link;
	Bh__Link msg;
	union {
		Bh__Deposit deposit;
		Bh__Redeem redeem;
		Bh__Greet greet;
		Bh__StartTransfer start_transfer;
		Bh__TakeStream take_stream;
	} body;
	uint64_t token;          /* the one that is redeemed */
	int fds[FDLINK_FDS_MAX]; /* that go with it; borrowed from whoever asks */
	size_t n_fds;
	Bh__Link__BodyCase expected;
	/* NULL: nobody waits for it any more */
	void (*tell)(const struct question *question, int error, const Bh__Link *reply,
		struct fdset *fds);
	vault_answer_fn *on_answer;
	vault_started_fn *on_started;
	void *data;
	bool sent; /* on the connection that is open now */
};

/** question_new() - with that body, which the caller fills in, and with what tells the answer
 * Returns: the caller's, until question_ask() | NULL: there is no memory. */
struct question *question_new(Bh__Link__BodyCase body, void *data);

/** question_ask() - consumes the question; never blocks */
void question_ask(struct vault_link *vault, struct question *question);

/** vault_call() - ask until there is an answer, for up to 5 s; blocks
 * @fds:       borrowed; may be NULL
 * @ret_reply: [out] the caller's when 0 is returned
 * @ret_fds:   [out] likewise
 *
 * Errors: 0 | negative errno: memory's, or -ETIMEDOUT. */
int vault_call(struct vault_link *vault, const Bh__Link *msg, const struct fdloan *fds,
	Bh__Link__BodyCase expected, Bh__Link **ret_reply, struct fdset *ret_fds);
