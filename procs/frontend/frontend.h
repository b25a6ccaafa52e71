#pragma once

#include "bus/bus.h"
#include "fd/fdlink.h"
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
};

int frontend_start(struct proc *proc);
void frontend_stop(struct proc *proc);

/* listener.c */
/** listener_open() - the device's listening socket: taken over, or made. Errors are logged, each in one
 * line that says what to do. Returns the descriptor | negative errno. */
int listener_open(const struct config_device *config);
/** listener_connect() - to the VMM's socket, without waiting: the descriptor | negative errno */
int listener_connect(const struct config_device *config);
