#pragma once

#include <stdint.h>

/*
 * Faults on order, for tests: at a point of this name with this value the process gives itself the signal that
 * a line "NAME VALUE SIGNAL" of the file $BULKHEAD_FAULTS asks for (0: it hangs); each line is good for one. Only builds
 * with -Dfault-points=true have them; in others a point is nothing.
 */
#ifdef BULKHEAD_FAULT_POINTS
/** fault_point() - carry out the fault that the file orders for this name and value, if any; any thread */
void fault_point(const char *name, uint64_t value);
#else
#define fault_point(name, value) ((void)0)
#endif
