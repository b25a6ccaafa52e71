#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/** peer_is() - whether the peer of a connection runs as that user, or as root. Every connection is
 * checked, in addition to the permissions of the socket's file. */
bool peer_is(const struct ucred *cred, uid_t user);
