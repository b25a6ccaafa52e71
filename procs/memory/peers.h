#pragma once

#include <systemd/sd-event.h>

#include "bus/bus.h"
#include "config/roles.h"
#include "proc/marks.h"
#include "proc/proc.h"

#include "served.h"

/* The processes that speak to the memory manager, and the devices that they speak about. */

/** struct peer - a process of the suite that may speak to us */
struct peer {
	struct memory *memory;
	char *name; /* "frontend", "net0", "net0+standby" */
	const struct role *role;
	uid_t user;                /* who alone may be it, and root; see proc_user() */
	struct served *device;     /* workers: theirs; frontend: NULL */
	struct bus_request *watch; /* a worker's, waiting for a newer generation; or NULL */
	bool patient;              /* it need not be renewed */
	bool unheard;              /* there is something to say, and nobody asks */
	struct bus_server *bus;
	int listen_fd;
	int link_fd; /* the connection; -1 = not there now */
	sd_event_source *listen_source;
	sd_event_source *link_source;
	pid_t pid;
	uint64_t connected_usec;
	uint64_t connects;
	size_t n_buried; /* descriptors of it that nobody may close */
};

/** struct memory - the memory manager of one guest */
struct memory {
	struct proc *proc;
	struct served *devices;
	size_t n_devices;
	struct peer *peers; /* in the order of process_next() */
	size_t n_peers;
	struct marks *marks;
	struct bus_server *ctl;
	struct bus_request *watch; /* the frontend's; or NULL */
	bool patient;              /* it need not be renewed */
	sd_event_source *renewal;  /* off while all are patient */
	sd_event_source *hearing;  /* off while all have asked who are to be told */
	uint64_t hearing_usec;
	Bh__Seen *seen; /* what it has seen, n_devices entries; generation only */
	uint64_t started_usec;
};

/** peer_find() - look a peer up by the name of its endpoint; NULL: there is none */
struct peer *peer_find(struct memory *memory, const char *name);

/** peer_frontend() - the peer that speaks for the VMMs; NULL: this guest has none */
struct peer *peer_frontend(struct memory *memory);

/**
 * peer_device() - look a device up on behalf of a peer, which may ask about it: the frontend about
 *                 all devices, a worker about its own
 * @peer: [in] the name of the endpoint that the request came in on
 * @name: [in] of the device; hostile
 *
 * Returns: NULL: there is no such device, or the peer may not ask about it.
 */
struct served *peer_device(struct memory *memory, const char *peer, const char *name);
