#pragma once

#include "peers.h"

/*
 * Questions that are held until there is an answer: a worker asks for a newer record, the frontend
 * for newer reports, the snapshot process and bulkheadctl for changes of transfers. A worker and
 * the frontend hear of the transfers that concern them in the same answers.
 */

/**
 * watch_open() - make the timers
 *
 * A peer of a former release, which is not "patient", gets an answer every 2 s, even an empty one.
 * A peer that does not ask although there is something to tell it is disconnected, so that it asks
 * again.
 * Errors: 0 | negative errno.
 */
int watch_open(struct memory *memory);

/** watch_tell_workers() - answer the questions of the device's workers */
void watch_tell_workers(struct memory *memory, const struct served *device);

/** watch_tell_record() - there is a newer record: ring the bells of the device's workers, and
 * answer the questions of those that have none */
void watch_tell_record(struct memory *memory, const struct served *device);

/** watch_tell_frontend() - answer the frontend's question, if any device has a report that it has
 * not seen */
void watch_tell_frontend(struct memory *memory);

/** watch_seen() - the frontend is told of the device's report in another answer: it is no news any
 * more */
void watch_seen(struct memory *memory, const struct served *device);

/** watch_tell_transfer() - answer the questions of all who are concerned: the transfer of this
 * device is another one, or another step's */
void watch_tell_transfer(struct memory *memory, const struct served *device);

/** watch_taken() - a stream was taken: a state that did not fit the answer to the snapshot process
 * may fit now */
void watch_taken(struct memory *memory);

/*
 * Handlers of memory_table. They return 0 when the request was answered or is held; a negative
 * errno is answered as a Failure.
 */

/** handle_watch_desired() - hold a worker's question; an older one of the same worker is
 * answered */
int handle_watch_desired(void *context, struct bus_request *request, const Bh__Envelope *msg);
/** handle_watch_observed() - hold the frontend's question, likewise */
int handle_watch_observed(void *context, struct bus_request *request, const Bh__Envelope *msg);
/** handle_watch_transfers() - hold a question of the snapshot process, likewise, or one of several
 * of bulkheadctl; -EBUSY: there are too many */
int handle_watch_transfers(void *context, struct bus_request *request, const Bh__Envelope *msg);
