#pragma once

#include <nng/nng.h>

#include "bus/bus.h"
#include "bus/loop.h"
#include "bus/pipes.h"

#define BUS_DIALERS 4

struct bus_gate;

/** struct bus_endpoint - an nng socket and who is connected to it */
struct bus_endpoint {
	nng_socket socket;
	char *path;
	bool asks;  /* REQ; else REP */
	uid_t user; /* of the peer, who may also be root; or BUS_ANY_USER */
	struct bus_loop *loop;
	struct bus_pipes pipes;
	struct bus_note gone_note;  /* a connection ended: for client or server; fn may be NULL */
	struct bus_note pipes_note; /* the same, for the dialler or the gate */
	sd_event_source *overdue;   /* armed: nng has connections to take down */
	bool suspected;             /* nng was late at the last look, and has one more chance */
	unsigned int n_removed;     /* connections taken down until then */
	unsigned int n_most;        /* listeners: lines of the gate; nng cannot have more */
	/* diallers only */
	nng_dialer dialers[BUS_DIALERS]; /* the most recent ones, in a ring */
	unsigned int n_dials;
	sd_event_source *dial_timer;
	uint64_t retry_usec; /* the current back-off */
	uint64_t retry_max_usec;
	uint64_t told_usec; /* when the peer last announced that it listens; 0 = dialled since */
	/* listeners only */
	nng_listener listener; /* the inner one, to which the gate alone connects */
	char *inner_path;
	struct bus_gate *gate;
};

/**
 * bus_endpoint_open() - make the nng socket, with its limits; it neither listens nor dials yet
 * @endpoint: zeroed, but for gone_note and user
 * @asks:     REQ; otherwise REP
 *
 * Errors: 0 | negative errno. The caller closes the endpoint in any case.
 */
int bus_endpoint_open(struct bus_endpoint *endpoint, sd_event *event, const char *path, bool asks);

/** bus_endpoint_listen_inside() - make nng's inner listener, or make it again
 * Errors: 0 | negative errno. */
int bus_endpoint_listen_inside(struct bus_endpoint *endpoint);

/** bus_endpoint_close() - end all connections and release what the endpoint holds; after
 * gate_close() */
void bus_endpoint_close(struct bus_endpoint *endpoint);

/** bus_endpoint_is_stuck() - nng does not close anything any more, of whichever endpoint, and this
 * process is about to exit. Closing would block, and nng's threads run on until the exit, so what
 * they use is not freed either. */
bool bus_endpoint_is_stuck(void);

/** bus_endpoint_allows() - whether a process of that user may be the peer; any thread */
bool bus_endpoint_allows(const struct bus_endpoint *endpoint, uid_t uid);

/** bus_endpoint_has() - whether that connection is open; false for good once gone_note was
 * posted */
bool bus_endpoint_has(struct bus_endpoint *endpoint, uint32_t pipe_id);

/** bus_endpoint_n_pipes() - the number of open connections; any thread */
unsigned int bus_endpoint_n_pipes(struct bus_endpoint *endpoint);

/** bus_endpoint_hang_up() - end all connections now, however long nng takes; returns their
 * number */
unsigned int bus_endpoint_hang_up(struct bus_endpoint *endpoint);

/** bus_endpoint_line_ended() - for the gate: a connection has ended, and n_left are open */
void bus_endpoint_line_ended(struct bus_endpoint *endpoint, unsigned int n_left);
