#pragma once

#include "peers.h"

/*
 * Handlers of memory_table. They return 0 when the request was answered or is held; a negative
 * errno is answered as a Failure.
 */

/** handle_commit_desired() - judge a change by the frontend, put it in force, and tell the
 * workers */
int handle_commit_desired(void *context, struct bus_request *request, const Bh__Envelope *msg);
/** handle_report_observed() - take a worker's report, and tell the frontend. A report that cannot
 * be true is ignored, not refused: a worker that hears of a refusal repeats itself at once */
int handle_report_observed(void *context, struct bus_request *request, const Bh__Envelope *msg);
