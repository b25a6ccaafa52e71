#pragma once

#include "bus/endpoint.h"

/** bus_endpoint_dial() - dial now, and again whenever there is no connection, with a back-off of up
 * to retry_max_usec (dial.c)
 * Errors: 0 | negative errno. */
int bus_endpoint_dial(struct bus_endpoint *endpoint, uint64_t retry_max_usec);

/** bus_endpoint_redial() - the peer is known to listen: dial now unless connected; for endpoints
 * that dial */
void bus_endpoint_redial(struct bus_endpoint *endpoint);
