#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/** peer_is() - whether whoever connected is that user; root, who may do all of it anyway, is everybody.
 * Looked at on every connection, beside the permissions of the socket's file. */
bool peer_is(const struct ucred *cred, uid_t user);
