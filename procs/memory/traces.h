#pragma once

#include "peers.h"

/* bulkheadctl watches what VMMs and frontend say to each other; the frontend tells it here. */

/** traces_open() - make the timer
 * Errors: 0 | negative errno. */
int traces_open(struct memory *memory);
/** traces_close() - free all; without traces_open() it is fine, too */
void traces_close(struct memory *memory);

/*
 * Handlers of memory_table, as those of watch.h.
 */

/** handle_watch_of_frontend() - handle_watch_observed(), and tell bulkheadctl if the frontend
 * traces now */
int handle_watch_of_frontend(void *context, struct bus_request *request, const Bh__Envelope *msg);
/** handle_watch_trace() - hold a question of bulkheadctl; -EBUSY: there are too many | -ENODEV: no
 * such device | -EOPNOTSUPP: the frontend is of a release that does not know how to */
int handle_watch_trace(void *context, struct bus_request *request, const Bh__Envelope *msg);
/** handle_report_trace() - take what the frontend tells; what is too long is dropped */
int handle_report_trace(void *context, struct bus_request *request, const Bh__Envelope *msg);
