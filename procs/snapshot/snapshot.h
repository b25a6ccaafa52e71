#pragma once

#include "proc/proc.h"

/*
 * The life of the process; struct proc_role says when each is called and what it returns.
 */

/** snapshot_start() - speak to the memory manager, and do what it has to do */
int snapshot_start(struct proc *proc);
/** snapshot_stop() - free everything; transfers that were not finished have failed */
void snapshot_stop(struct proc *proc);
