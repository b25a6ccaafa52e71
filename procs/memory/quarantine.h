#pragma once

#include "peers.h"

/**
 * quarantine_enter() - at start, stop a device whose input has killed this process too often
 * (served_is_deadly())
 * @proc: [in] this process, for the log
 *
 * A record that says so is put in force, under a new generation. Called again it only logs.
 * Errors: 0 | negative errno.
 */
int quarantine_enter(struct served *device, const struct proc *proc);

/** handle_release_device() - a handler of memory_table: forget what put a device into quarantine,
 * whichever process it was */
int handle_release_device(void *context, struct bus_request *request, const Bh__Envelope *msg);
