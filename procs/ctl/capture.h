#pragma once

#include "arguments.h"

/** capture_run() - bulkheadctl capture: write the frames of a network device to a file, until a
 * signal or their number ends it
 * @target: "GUEST:DEVICE"; it is cut
 * Errors: 0 | EXIT_USAGE | negative errno, after a line that says what was wrong. */
int capture_run(const struct arguments *args, char *target);
