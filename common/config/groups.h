#pragma once

#include <sys/types.h>

#include "config/config.h"
#include "config/roles.h"

/* The supplementary groups of a process (see config/user.h), for the code that starts it. */

#define PROC_GROUPS_MAX (CONFIG_DEVICES_MAX + ROLES_PER_GUEST)
/* may connect to a device's socket if socket-group is not given */
#define PROC_SOCKET_GROUP "bulkhead"

/**
 * groups_of() - the supplementary groups of a guest's process, according to its role
 * @groups: [out] room for PROC_GROUPS_MAX; nonexistent groups are left out
 *
 * Peers:   those of all processes of the guest, whose sockets it creates and connects to.
 * VMMs:    those of the sockets that it connects to (mode = client).
 * Cost:    reads /etc/group; the name service is used only for a socket-group.
 * Returns: how many.
 */
size_t groups_of(const struct role *role, const struct config *config, gid_t *groups);
