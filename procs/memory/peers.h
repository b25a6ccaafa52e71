#pragma once

#include <systemd/sd-event.h>

#include "bus/bus.h"
#include "config/roles.h"
#include "proc/marks.h"
#include "proc/proc.h"

#include "served.h"
#include "traces-ring.h"

/* The processes that speak to the memory manager, and the devices that they speak about. */

#define PEER_UNREAD_MAX 4

/** struct peer - a process of the suite that may speak to us */
struct peer {
	struct memory *memory;
	char *name; /* "frontend", "net0", "net0+standby" */
	const struct role *role;
	uid_t user;                /* who alone may be it, and root; see proc_user() */
	struct served *device;     /* workers: theirs; others: NULL */
	struct bus_request *watch; /* a worker's or the snapshot process's question; or NULL */
	bool patient;              /* it need not be renewed */
	bool unheard;              /* there is something to say, and nobody asks */
	bool withheld;             /* of the snapshot process: a state did not fit its answer */
	bool transfers;            /* a worker's question: it takes part in transfers */
	uint64_t transfer_seq;     /* it knows so many changes of transfers */
	uint64_t known_seq;        /* a worker's: of the change that it has made itself */
	struct bus_server *bus;
	int listen_fd;
	int link_fd; /* the connection; -1 = not there now */
	sd_event_source *listen_source;
	sd_event_source *link_source;
	int bell_fd; /* of a worker that has one, as long as its link lasts; or -1 */
	pid_t pid;
	uint64_t connected_usec;
	uint64_t connects;
	size_t n_buried;                 /* descriptors of it that nobody may close */
	int unread_fds[PEER_UNREAD_MAX]; /* connections that ended with an answer unread */
	size_t n_unread;
};

#define CTL_MAX 4 /* instances of bulkheadctl that have a link, or wait for a transfer */

/** struct ctl_watch - a question of bulkheadctl that is held */
struct ctl_watch {
	struct bus_request *request; /* NULL: none */
	uint64_t transfer_seq;
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
	int ctl_listen_fd;
	sd_event_source *ctl_listen_source;
	struct peer ctl_links[CTL_MAX];
	struct ctl_watch ctl_watches[CTL_MAX];
	struct bus_request *watch; /* the frontend's; or NULL */
	bool patient;              /* it need not be renewed */
	bool transfers;            /* it takes part in transfers */
	struct traces traces;
	sd_event_source *holding; /* off while no commit is held */
	sd_event_source *renewal; /* off while all are patient */
	sd_event_source *hearing; /* off while all have asked who are to be told */
	uint64_t hearing_usec;
	Bh__Seen *seen;        /* what the frontend has seen, n_devices entries; without names */
	uint64_t transfer_seq; /* counts the changes of all transfers */
	uint64_t snapshot_seq; /* those of them that the snapshot process is to hear of */
	sd_event_source *deadlines; /* of transfers; off while there is none */
	uint64_t started_usec;
};

/** peer_find() - look a peer up by the name of its endpoint; NULL: there is none */
struct peer *peer_find(struct memory *memory, const char *name);

/** peer_any_device() - the device of that name (hostile), or NULL */
struct served *peer_any_device(struct memory *memory, const char *name);

/** peer_frontend() - the peer that speaks for the VMMs; NULL: this guest has none */
struct peer *peer_frontend(struct memory *memory);

/**
 * peer_device() - look a device up on behalf of a peer, which may ask about it: the frontend and
 *                 the snapshot process about all devices, a worker about its own
 * @peer: [in] the name of the endpoint that the request came in on
 * @name: [in] of the device; hostile
 *
 * Returns: NULL: there is no such device, or the peer may not ask about it.
 */
struct served *peer_device(struct memory *memory, const char *peer, const char *name);
