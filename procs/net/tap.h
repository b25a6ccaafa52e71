#pragma once

#include <net/if.h>
#include <stdatomic.h>

#include "base/log.h"
#include "net.h"

/* What the files of the TAP back-end share. */

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct mnl_socket;

/**
 * struct tap - an interface, known by its descriptors
 *
 * A name says which interface is to be opened, and nothing of one that is open: that may have been
 * renamed, be in another network namespace, and another one may be called so by now.
 */
struct tap {
	/* what to open; empty: it was handed over, and nothing is ever opened by name */
	char configured[IFNAMSIZ];
	char name[IFNAMSIZ];  /* what it is called, or was last; for people */
	unsigned int ifindex; /* in our network namespace; 0 = it is not known to be there */
	bool multi_queue;
	bool served_before;     /* by a former instance */
	unsigned int n_retries; /* since it was there and could not be opened */

	struct mnl_socket *monitor;
	sd_event_source *monitor_source;
	sd_event_source *queue_source; /* of pairs[0].tap_fd: it can be written to again */
	sd_event_source *retry_timer;

	/* What a pair's thread tells the loop's thread. */
	int trouble_fd;
	sd_event_source *trouble_source;
	atomic_bool down_told; /* and it is not up again: to say it once more is nothing new */
};

/* tap-queues.c */

/** tap_queues_start() - take the queues that were handed over or that a former instance kept, or
 * open them by the configured name, and keep them. 0: they are there, or will be when
 * tap_queues_open() finds them | negative errno, already logged: the operator must do something
 * before there is anything to serve */
int tap_queues_start(struct net *net);

/** tap_queues_open() - open by the configured name and keep: 0 | -ENODEV: there is none | other
 * negative errno. The device is paused. */
int tap_queues_open(struct net *net);

/** tap_queues_explain() - log why they could not be opened, and what to do */
void tap_queues_explain(const struct net *net, int r);

/** tap_queues_close() - close what is open; what is kept stays kept */
void tap_queues_close(struct net *net);

/* tap-watch.c */

/** tap_watch_start() - follow the interface from now on; 0 | negative errno */
int tap_watch_start(struct net *net);
/** tap_watch_stop() - hear no more of it; harmless when nothing is watched */
void tap_watch_stop(struct net *net);

/** tap_is_down() - a write failed as on an interface that is down; a pair's thread. Cheap when
 * repeated. */
void tap_is_down(struct net *net);
/** tap_is_gone() - a read or write failed as on an interface that was deleted: no use of this queue
 * any more until the loop's thread has looked; the pair's thread */
void tap_is_gone(struct net_pair *pair);
