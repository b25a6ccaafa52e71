#pragma once

#include "fd/fdlink.h"

/*
 * A bell tells a worker that its record is newer: one end of a pair of sockets is memory's, the
 * other the worker's. The record itself is in the file that the worker has mapped. A message of the
 * bus would say no more, and passes through four threads.
 *
 * Nothing is lost with a bell: it rings only after the record was written, and what rang while
 * nobody listened is heard later. A memory that has died leaves an end that is closed.
 */

/** bell_new() - a pair: one end to ring, one to listen at; both the caller's
 * Errors: 0 | negative errno. */
int bell_new(int *ret_ring_fd, int *ret_listen_fd);

/** bell_ring() - never blocks, whatever the other side does; fd may be -1 */
void bell_ring(int fd);

/** bell_hear() - listen, and forget all that has rung
 * Errors: 0: it has rung, or has not | -ECONNRESET: nobody will ring any more. */
int bell_hear(int fd);

/** vault_bell() - a worker asks for the bell of its record; the former one rings no more
 * Errors: 0, and *ret_fd is the caller's | -EOPNOTSUPP: this memory is of a release that has none
 *         | other negative errno. */
int vault_bell(struct vault_link *vault, int *ret_fd);
