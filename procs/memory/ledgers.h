#pragma once

#include "served.h"

/**
 * ledgers_get() - the device's ledger file of at least this size, made if need be
 *
 * Errors: the descriptor, borrowed | -EINVAL: no possible size | -EBUSY: another instance uses a smaller one | other
 *         negative errno.
 */
int ledgers_get(struct served *device, uint64_t n_bytes);

/** ledgers_attached() - a process is about to have the ledger: if all who had it are gone, its locks are free again */
void ledgers_attached(struct served *device, pid_t pid);
