#pragma once

#include "peers.h"

/** quarantine_enter() - as we start: stop a device that we have died of (served_is_deadly()), and say so in the log
 * Errors: 0 | negative errno. */
int quarantine_enter(struct served *device, const char *guest);

/** A row of the bus table. */
int handle_release_device(void *context, struct bus_request *request, const Bh__Envelope *msg);
