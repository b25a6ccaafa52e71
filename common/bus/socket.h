#pragma once

#include <stdbool.h>

#include <nng/nng.h>

/**
 * bus_socket_open() - a new socket of nng, with as few threads as it can be brought to make
 * @asks: REQ; else REP
 *
 * Errors: 0 | an error of nng.
 */
int bus_socket_open(nng_socket *ret_socket, bool asks);
