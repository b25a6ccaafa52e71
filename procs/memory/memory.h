#pragma once

#include "bus/bus.h"
#include "proc/proc.h"

/** memory_table - who may ask what over the bus; the handlers' context is the struct memory */
extern const struct bus_row memory_table[];

/*
 * The life of the process; struct proc_role says when each is called and what it returns.
 */

/** memory_start() - take everything back from the fd store, and speak to all peers */
int memory_start(struct proc *proc);
/** memory_leave() - remove the socket of bulkheadctl, so that nobody waits for an answer */
void memory_leave(struct proc *proc);
/** memory_stop() - free everything */
void memory_stop(struct proc *proc);
