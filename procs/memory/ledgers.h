#pragma once

#include "served.h"

/**
 * ledgers_get() - the device's ledger file of at least this size; a new one is made where there is
 * none or it is smaller
 *
 * Errors: the descriptor, borrowed | -EINVAL: no possible size | -EBUSY: another instance uses a
 *         smaller one | other negative errno.
 */
int ledgers_get(struct served *device, uint64_t n_bytes);

/** ledgers_attached() - a process is about to get the ledger: if all processes that had it are
 * gone, its locks are made anew, whatever those have left in them */
void ledgers_attached(struct served *device, pid_t pid);
