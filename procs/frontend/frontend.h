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
	struct vault *vault;
	struct session *sessions;
	size_t n_sessions;
	sd_event_source *retry;
	struct marks *marks;
};

int frontend_open(struct proc *proc);
int frontend_start(struct proc *proc);
void frontend_leave(struct proc *proc);
void frontend_stop(struct proc *proc);
