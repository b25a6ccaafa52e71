#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.pb-c.h"

/*
 * The transfer of one device, as struct Transfer in proto/record.proto: its steps, whose turn each
 * is, and what it holds. Nothing here speaks to anybody.
 */

#define TRANSFER_STEP_USEC 30000000 /* without an end: a stream of some KiB needs no more */
#define TRANSFER_ERROR_BYTES 256

/** enum transfer_side - whose turn it is */
enum transfer_side {
	SIDE_NOBODY, /* there is no transfer, or it has ended */
	SIDE_WORKER,
	SIDE_SNAPSHOT,
};

/** struct transfer - a device's last one */
struct transfer {
	uint64_t id; /* 0 = there is none */
	bool load;
	const void *owner;   /* the link of bulkheadctl whose end cancels it; NULL = the VMM's */
	uint64_t session;    /* of that VMM */
	uint64_t generation; /* of Desired */
	Bh__Transfer__Step step;
	uint64_t due_usec; /* the end of this step */
	uint64_t dev, ino; /* of the pipe */
	int stream;        /* -1: there is none, or it was taken */
	bool taken;        /* by the snapshot process */
	uint8_t *state;
	size_t n_state;
	char *error; /* NULL = completed, or not ended */
	Bh__RingState *rings, **ring_list;
	size_t n_rings;
};

/** transfer_turn() - whose turn it is */
enum transfer_side transfer_turn(const struct transfer *transfer);

/** transfer_begin() - put a new one in the place of the one that has ended, or was never
 * @start: [in] consumed with its stream: load, owner, session, generation, dev, ino and stream are
 *         set */
void transfer_begin(struct transfer *transfer, const struct transfer *start, uint64_t now_usec);

/** transfer_is_same() - whether what would be begun is this one, ended or not: the one who begins
 * it was killed, and does it again */
bool transfer_is_same(const struct transfer *transfer, const struct transfer *start);

/** transfer_take() - the stream, the caller's from now on | -1: it was taken */
int transfer_take(struct transfer *transfer);

/** transfer_done() - the step of whose turn it is was done
 * @report: [in] judged (judge_transfer()); copied
 * Errors: 0 | -ENOMEM: nothing has changed. */
int transfer_done(struct transfer *transfer, const Bh__ReportTransfer *report, uint64_t now_usec);

/** transfer_fail() - it ends here; a text is cut and cleaned. Without effect on one that has
 * ended */
void transfer_fail(struct transfer *transfer, const char *text);

/** transfer_late() - what to say of the one whose turn it is and who has let the time pass */
const char *transfer_late(const struct transfer *transfer);

/** transfer_clear() - close and free what it holds; there is none any more */
void transfer_clear(struct transfer *transfer);

/** transfer_show() - as a message, without the state; borrows from the transfer and from device */
void transfer_show(const struct transfer *transfer, const char *device, Bh__Transfer *ret);
