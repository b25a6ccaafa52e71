#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Descriptors that outlive this process. The service manager (systemd or our launcher) stores them
 * by NOTIFY_SOCKET, and passes them by name to the next instance (LISTEN_FDS, LISTEN_FDNAMES).
 * Names: up to 255 characters, no ':' and no control characters.
 */

#define FDSTORE_MAX 4096 /* FileDescriptorStoreMax= of the units */
/* All names together are one string of the next instance's environment, which the kernel limits to
 * 128 KiB: with more it could not start. */
#define FDSTORE_NAMES_BYTES 120000

/** fdstore_init() - take over the descriptors that the service manager passed, and make them
 * close-on-exec; once, before the process opens anything
 * Errors: 0 | negative errno. */
int fdstore_init(void);

/** fdstore_available() - whether there is a service manager */
bool fdstore_available(void);

/** fdstore_take() - hand over a descriptor of that name, any if there are several
 * Errors: the descriptor, the caller's | -ENOENT. */
int fdstore_take(const char *name);

/** fdstore_next() - iterate over the names, with that prefix, of descriptors that were not taken;
 * NULL at the end
 * @at: the iterator, 0 at first. Descriptors may be taken during the iteration. */
const char *fdstore_next(const char *prefix, int *at);

/** fdstore_push() - store fd (borrowed) under a name
 * Errors: 0, also without a service manager | -ENOSPC: the store is full, which is logged | other
 *         negative errno. */
int fdstore_push(const char *name, int fd);

/** fdstore_accept() - accept the next connection, and store it under a name by the very next system
 * call
 * Errors: the descriptor, non-blocking and the caller's, even if it could not be stored | negative
 *         errno. */
int fdstore_accept(int listen_fd, const char *name);

/** fdstore_remove() - remove all descriptors of that name from the store
 * Errors: 0, also without a service manager | -EIO. */
int fdstore_remove(const char *name);

/** fdstore_drop_rest() - close all descriptors that were not taken, and remove them from the store;
 * at the end of start-up */
void fdstore_drop_rest(void);

/** fdstore_close_rest() - close all descriptors that were not taken; the store keeps them */
void fdstore_close_rest(void);
