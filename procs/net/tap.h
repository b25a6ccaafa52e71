#pragma once

#include <net/if.h>
#include <stdatomic.h>

#include "base/log.h"
#include "net.h"

/* Shared by the files of the TAP back-end. */

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct mnl_socket;

/**
 * struct tap - an interface, identified by its descriptors
 *
 * A name only selects the interface to open. Once open, it may be renamed or moved to another
 * network namespace, and another interface may take the name.
 */
struct tap {
	/* what to open; empty: handed over, never opened by name */
	char configured[IFNAMSIZ];
	char name[IFNAMSIZ];  /* current or last known name */
	unsigned int ifindex; /* in our network namespace; 0 = not known to be there */
	bool multi_queue;
	bool served_before;     /* by a previous instance */
	bool probed;            /* the note says what the interface can do */
	unsigned int n_retries; /* since it appeared but could not be opened */
	int open_error;         /* of the last attempt to open it by name; 0 = it was open */

	struct mnl_socket *monitor;
	sd_event_source *monitor_source;
	sd_event_source *queue_source; /* pairs[0].tap_fd is writable again */
	sd_event_source *retry_timer;

	/* From a pair's thread to the loop thread. */
	int trouble_fd;
	sd_event_source *trouble_source;
	atomic_bool down_told; /* already reported down, and not up since */
};

/* tap-queues.c */

/** tap_queues_start() - take the queues that were handed over or kept by a previous instance, or
 * open them by the configured name; keep them. 0: they are open, or will be by a later
 * tap_queues_open() | negative errno, already logged: the operator must act first */
int tap_queues_start(struct net *net);

/** tap_queues_open() - open by the configured name and keep: 0 | -ENODEV: no such interface |
 * other negative errno. The device is paused. */
int tap_queues_open(struct net *net);

/** tap_queues_explain() - log why opening failed with r, and what to do */
void tap_queues_explain(const struct net *net, int r);

/** tap_queues_close() - close the open queues; kept ones stay kept */
void tap_queues_close(struct net *net);

/* tap-watch.c */

/** tap_watch_start() - start following the interface; 0 | negative errno */
int tap_watch_start(struct net *net);
/** tap_watch_stop() - stop following it; harmless when not started */
void tap_watch_stop(struct net *net);

/** tap_is_down() - a write failed as on an interface that is down; a pair's thread. Cheap when
 * repeated. */
void tap_is_down(struct net *net);
/** tap_is_gone() - a read or write failed as on a deleted interface: the queue is not used until
 * the loop thread has checked; the pair's thread */
void tap_is_gone(struct net_pair *pair);
