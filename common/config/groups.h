#pragma once

#include <sys/types.h>

#include "config/config.h"

/* The groups that a process has beside its own (config/user.h); for whoever starts it. */

#define PROC_GROUPS_MAX (CONFIG_DEVICES_MAX + 4)
#define PROC_SOCKET_GROUP "bulkhead" /* who may connect to a device's socket where socket-group is not given */

/**
 * groups_of_memory() - those of its peers, whose sockets it makes and reaches
 * groups_of_frontend() - those of the sockets that it connects to (mode = client)
 * @groups: [out] room for PROC_GROUPS_MAX; a group that does not exist is left out
 *
 * Cost:    reads /etc/group; no name service is asked but for a socket-group.
 * Returns: how many.
 */
size_t groups_of_memory(const struct config *config, gid_t *groups);
size_t groups_of_frontend(const struct config *config, gid_t *groups);
