#pragma once

#include "bus/endpoint.h"

/**
 * gate_open() - listen at the endpoint's path, and let peers in, see gate.c
 * @mode: of the socket's file
 *
 * Errors: 0 | negative errno, -ENAMETOOLONG among them. The endpoint's gate is closed by gate_close() in any case.
 */
int gate_open(struct bus_endpoint *endpoint, unsigned int mode);

/** gate_close() - end all connections and listen no more; harmless where no gate was opened; before bus_endpoint_close() */
void gate_close(struct bus_endpoint *endpoint);
