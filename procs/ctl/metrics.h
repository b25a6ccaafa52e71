#pragma once

#include <stdio.h>

#include "arguments.h"
#include "scrape.h"

/** metrics_write() - all series of these guests, in Prometheus' text format; bulkhead-metrics(7)
 * documents each */
void metrics_write(FILE *to, const struct scrape *scrape);

/** metrics_run() - bulkheadctl metrics: write them to standard output, to a file in one step, or
 * as the answer to an HTTP request
 * @names: of the guests; none: all
 * Errors: 0 | negative errno, after a line that says what was wrong. */
int metrics_run(const struct arguments *args, char *names[], size_t n);
