#pragma once

#include "bus/endpoint.h"

/** bus_endpoint_dial() - now, and while nobody is connected again and again, at intervals that grow up to retry_max_usec,
 * see dial.c */
int bus_endpoint_dial(struct bus_endpoint *endpoint, uint64_t retry_max_usec);
/** bus_endpoint_redial() - the peer listens: now, unless somebody is connected; for endpoints that dial */
void bus_endpoint_redial(struct bus_endpoint *endpoint);
