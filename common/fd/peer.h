#pragma once

#include <stdbool.h>
#include <sys/types.h>

/** peer_uid_allowed() - whether a process of that user may speak to us: our own, root, or a user of the
 * product's. Checked on every connection, beside the file permissions of the socket. */
bool peer_uid_allowed(uid_t uid);
