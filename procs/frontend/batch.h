#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "desired.h"
#include "protocol.h"

/*
 * Messages that owe no answer, and that are committed together with the message behind them. They
 * have been judged, each by the record as the ones before it make it, and lie in the socket until
 * the commit is in force.
 */

/* What one turn of a session handles at most (session.c): a larger batch would save little, and
 * the other devices wait for it. */
#define BATCH_MAX 32

/** struct batch - all zeros = no message is in it */
struct batch {
	Bh__Desired *desired; /* as its messages make it; owned; NULL = they change nothing */
	size_t n_bytes;       /* of the socket, from the first on, are its messages */
	unsigned int n;
	struct header headers[BATCH_MAX]; /* of the n messages */
	/* so many messages from the first on go without a batch: memory refused one of them, and
	 * does not say which */
	unsigned int n_alone;
	/* messages, in a batch or not, since whoever clears this has looked */
	unsigned int n_taken;
};

/** batch_may_grow() - whether it takes another message */
bool batch_may_grow(const struct batch *batch);

/** batch_add() - a message goes into the batch, which may grow
 * @desired: the record as the message makes it, taken; NULL = the message changes nothing */
void batch_add(struct batch *batch, const struct header *header, Bh__Desired *desired);

/** batch_clear() - its messages are to be judged anew, or never more */
void batch_clear(struct batch *batch);

/** batch_taken() - its messages are out of the socket */
void batch_taken(struct batch *batch);
/** batch_taken_alone() - a message is that was in no batch */
void batch_taken_alone(struct batch *batch);

/** batch_take_apart() - memory refuses the batch and the message behind it: the messages are to be
 * judged anew, one by one */
void batch_take_apart(struct batch *batch);
