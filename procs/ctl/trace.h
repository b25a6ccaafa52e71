#pragma once

#include "arguments.h"

/** trace_run() - bulkheadctl trace: a line for each message of a VMM and each reply to it, until a
 * signal or their number ends it
 * @target: "GUEST" or "GUEST:DEVICE"; it is cut
 * Errors: 0 | negative errno, after a line that says what was wrong. */
int trace_run(const struct arguments *args, char *target);
