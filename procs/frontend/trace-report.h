#pragma once

#include <stdbool.h>

#include "bus/bus.h"

/* The way of a trace to the memory manager, from where bulkheadctl fetches it. */

/** trace_report_open() - entries go out over bus, borrowed until trace_report_close() */
void trace_report_open(struct bus_client *bus);

/** trace_report_close() - end a trace; no report is under way any more when the bus is freed */
void trace_report_close(void);

/** trace_report_set() - begin or end, as the memory manager says */
void trace_report_set(bool on);

/** trace_report_is_on() - whether one has begun */
bool trace_report_is_on(void);
