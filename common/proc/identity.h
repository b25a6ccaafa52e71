#pragma once

#include "proc/proc.h"

/* Who this process is, where its sockets lie, and which user it becomes. */

/**
 * identity_prepare() - decide whether processes have users of their own, and have our folder
 *
 * State:  before role->open(). As root the folders are made and given to our user; where they are there
 *         already (systemd has made them, or a former process) they are left, but for owner and mode.
 * Errors: 0 | negative errno, logged.
 */
int identity_prepare(struct proc *proc);

/**
 * identity_take() - a process that root started becomes its own user, for good
 *
 * State:  after role->open(), before capabilities are dropped and before the first thread.
 * Errors: 0 | negative errno, logged; 0 and nothing happens where we are not root.
 */
int identity_take(const struct proc *proc);
