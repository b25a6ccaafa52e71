#pragma once

#include "bus/bus.h"
#include "fd/fdlink.h"
#include "proc/marks.h"
#include "proc/proc.h"
#include "session.h"

/** struct frontend - all devices of one guest */
struct frontend {
	struct proc *proc;
	struct bus_client *bus;
	struct vault_link *vault;
	struct session *sessions;
	size_t n_sessions;
	sd_event_source *retry;
	struct marks *marks;
};

/* The life of the process, as proc/proc.h has it: each is called once, in this order, and logs
 * its errors. */

/** frontend_open() - take over or make the sockets of all devices, which may take rights. 0 |
 * negative errno */
int frontend_open(struct proc *proc);
/** frontend_start() - reach the memory manager and begin to serve; the rights are gone by now. 0
 * | negative errno */
int frontend_start(struct proc *proc);
/** frontend_leave() - the loop has ended: where nothing keeps the listening sockets for a
 * successor, their files go */
void frontend_leave(struct proc *proc);
/** frontend_stop() - free everything; connections stay open where the fd store has them. Fine
 * when nothing was opened */
void frontend_stop(struct proc *proc);
