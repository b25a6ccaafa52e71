#pragma once

#include "peers.h"

/** A row of the bus table. */
int handle_get_status(void *context, struct bus_request *request, const Bh__Envelope *msg);
