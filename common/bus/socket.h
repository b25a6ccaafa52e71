#pragma once

#include <stdbool.h>

#include <nng/nng.h>

/**
 * bus_socket_open() - open an nng socket; nng is kept to few threads
 * @asks: REQ; else REP
 *
 * Errors: 0 | an error of nng.
 */
int bus_socket_open(nng_socket *ret_socket, bool asks);
