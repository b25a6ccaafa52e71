#pragma once

#include "peers.h"

/** watch_open() - make the timers: a question of who is not patient is answered within 2 s, with nothing if need be, and
 * who does not ask for what there is to say is made to. 0 | negative errno */
int watch_open(struct memory *memory);

/** watch_tell_workers() - the device's workers are to look at the record */
void watch_tell_workers(struct memory *memory, const struct served *device);

/** watch_tell_frontend() - answer the frontend's question if there is something new */
void watch_tell_frontend(struct memory *memory);

/** Rows of the bus table. */
int handle_watch_desired(void *context, struct bus_request *request, const Bh__Envelope *msg);
int handle_watch_observed(void *context, struct bus_request *request, const Bh__Envelope *msg);
