#pragma once

#include <sys/types.h>

#include "config/config.h"
#include "config/roles.h"

/* The groups that a process has beside its own (config/user.h); for whoever starts it. */

#define PROC_GROUPS_MAX (CONFIG_DEVICES_MAX + ROLES_PER_GUEST)
/* who may connect to a device's socket where socket-group is not given */
#define PROC_SOCKET_GROUP "bulkhead"

/**
 * groups_of() - those that the process's role gives it in that guest
 * @groups: [out] room for PROC_GROUPS_MAX; a group that does not exist is left out
 *
 * Peers:   of every process of the guest, whose sockets it makes and reaches.
 * VMMs:    of the sockets that it connects to (mode = client).
 * Cost:    reads /etc/group; no name service is asked but for a socket-group.
 * Returns: how many.
 */
size_t groups_of(const struct role *role, const struct config *config, gid_t *groups);
