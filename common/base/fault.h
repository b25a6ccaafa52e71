#pragma once

#include <stdint.h>

/*
 * Fault injection for tests. The file $BULKHEAD_FAULTS has lines "NAME VALUE SIGNAL". A process
 * that reaches the point NAME with VALUE raises SIGNAL (0: it hangs); each line takes effect once.
 * Fault points exist in builds with -Dfault-points=true only.
 */
#ifdef BULKHEAD_FAULT_POINTS
/** fault_point() - raise the signal that the file has for this name and value, if any; any
 * thread */
void fault_point(const char *name, uint64_t value);
#else
#define fault_point(name, value) ((void)0)
#endif
