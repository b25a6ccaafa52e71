#pragma once

#include <stddef.h>

#include "arguments.h"

/** top_run() - bulkheadctl top: the rates of all devices, again and again
 * @names: of the guests; n = 0: of all that are served at each time
 * Errors: 0 | negative errno, after a line that says what was wrong. */
int top_run(const struct arguments *args, char *names[], size_t n);
