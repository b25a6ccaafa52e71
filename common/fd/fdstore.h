#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Descriptors that outlive this process: the service manager's store (systemd or our launcher, by
 * NOTIFY_SOCKET), handed back by name at the next start (LISTEN_FDS, LISTEN_FDNAMES).
 * Names: up to 255 characters, no ':' and no control characters.
 */

#define FDSTORE_MAX 4096           /* the units' FileDescriptorStoreMax= */
#define FDSTORE_NAMES_BYTES 120000 /* of all names: one string of the next start's environment, which the
                                    * kernel limits to 128 KiB; with more the process could not start */

/** fdstore_init() - take over what the service manager passed; once, first thing in the process.
 * All of it becomes close-on-exec. */
int fdstore_init(void);

/** fdstore_available() - whether a service manager listens to us */
bool fdstore_available(void);

/** fdstore_take() - the descriptor of that name, now the caller's; -ENOENT. With several of one name any
 * is returned. */
int fdstore_take(const char *name);

/** fdstore_next() - the name of the next descriptor that nobody has taken, with this prefix; NULL when there are no
 * more. *at is 0 at first. What has been returned may be taken meanwhile. */
const char *fdstore_next(const char *prefix, int *at);

/** fdstore_push() - keep fd (borrowed) under a name; 0 also where there is no store | -ENOSPC: the store is
 * full, which one line says, and this one is not kept | other negative errno */
int fdstore_push(const char *name, int fd);

/** fdstore_accept() - the next connection of a listening socket, stored under a name by the very next system
 * call; non-blocking, the caller's | negative errno. Where the store is full it is not kept. */
int fdstore_accept(int listen_fd, const char *name);

/** fdstore_remove() - drop all of that name */
int fdstore_remove(const char *name);

/** fdstore_drop_rest() - close and remove everything that was not taken; for the end of start-up */
void fdstore_drop_rest(void);

/** fdstore_close_rest() - close what was not taken, and forget it; the store keeps it */
void fdstore_close_rest(void);
