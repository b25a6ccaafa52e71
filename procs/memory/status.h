#pragma once

#include "peers.h"

/** handle_get_status() - a handler of memory_table: what bulkheadctl shows of the guest; no other
 * process is asked */
int handle_get_status(void *context, struct bus_request *request, const Bh__Envelope *msg);
