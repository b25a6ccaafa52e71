#pragma once

#include "bus/endpoint.h"

/**
 * gate_open() - listen at the endpoint's path and admit peers (gate.c)
 * @mode: of the socket's file
 *
 * Errors: 0 | negative errno, e.g. -ENAMETOOLONG. The caller calls gate_close() in any case.
 */
int gate_open(struct bus_endpoint *endpoint, unsigned int mode);

/** gate_close() - end all connections and stop listening; before bus_endpoint_close(). Harmless if
 * no gate is open */
void gate_close(struct bus_endpoint *endpoint);
