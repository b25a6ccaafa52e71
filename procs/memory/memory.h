#pragma once

#include "bus/bus.h"
#include "proc/proc.h"

/** memory_table - who may ask what over the bus; its context is the struct memory */
extern const struct bus_row memory_table[];

/** The process's life, as struct proc_role wants it. */
int memory_start(struct proc *proc);
void memory_leave(struct proc *proc);
void memory_stop(struct proc *proc);
