#pragma once

#include "proc/proc.h"

/* The user and the runtime directories of a process. */

/**
 * identity_prepare() - decide whether processes have users of their own, and make the directories
 *
 * State:  before role->open(). Root makes the directories and gives them to the process's user. A
 *         directory that exists already (from systemd or a former process) gets owner and mode.
 * Errors: 0 | negative errno, logged.
 */
int identity_prepare(struct proc *proc);

/** identity_folder() - its own directory in the guest's, to be freed; never NULL */
char *identity_folder(const struct proc *proc);

/**
 * identity_take() - if the process runs as root, change to its own user for good
 *
 * State:  after role->open(), before capabilities are dropped and before the first thread starts.
 * Errors: 0, also if the process does not run as root | negative errno, logged.
 */
int identity_take(const struct proc *proc);
