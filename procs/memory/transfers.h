#pragma once

#include "fd/fdset.h"
#include "peers.h"

/*
 * The transfers of all devices: who may begin, do and end one, and who is told of it. They live in
 * this process alone: after its death there are none.
 */

/** transfers_open() - make the timer; no transfer is there yet. Errors: 0 | negative errno. */
int transfers_open(struct memory *memory);
/** transfers_close() - close and free all; harmless before transfers_open() */
void transfers_close(struct memory *memory);

/**
 * transfers_start() - the frontend or bulkheadctl begins one
 * @peer:   whose link it came over; a link of bulkheadctl cancels it with its end
 * @start:  [in] judged by nobody yet
 * @stream: consumed always; of a harmless kind (fd/kind.h)
 * @text:   [out] the rule that it breaks; n_text bytes; untouched if it was begun
 *
 * Returns: the id | 0 refused.
 */
uint64_t transfers_start(struct peer *peer, const Bh__StartTransfer *start, int stream, char *text,
	size_t n_text);

/** transfers_take() - the snapshot process gets a stream, the caller's | -ENOENT: there is none,
 * or it is not its turn */
int transfers_take(struct memory *memory, const Bh__TakeStream *take);

/** transfers_link_ended() - of any peer: a transfer that bulkheadctl began is cancelled, one whose
 * stream the snapshot process had taken has failed */
void transfers_link_ended(struct peer *peer);

/** transfers_committed() - the device's desired half is another one: a transfer of a VMM whose
 * session is over is cancelled */
void transfers_committed(struct memory *memory, struct served *device);

/** handle_report_transfer() - a handler of memory_table: a step was done, or has failed. What
 * cannot be true, or comes out of turn, is answered and has no effect */
int handle_report_transfer(void *context, struct bus_request *request, const Bh__Envelope *msg);
