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
	bool asks;                 /* REQ; else REP */
	uid_t user;                /* who alone, beside root, may be the other side; or BUS_ANY_USER */
	struct bus_loop *loop;
	struct bus_pipes pipes;
	struct bus_note gone_note; /* a connection ended; fn NULL = nobody wants to know */
	struct bus_note pipes_note; /* the same, for who dials again, or for the gate */
	sd_event_source *overdue;  /* on: nng has something to take down */
	bool suspected;            /* it is overdue, and nng was given one more moment */
	unsigned int n_most;       /* listeners: more connections than this nng cannot have, once it has taken down what ended */
	/* diallers only */
	nng_dialer dialers[BUS_DIALERS]; /* the last ones made */
	unsigned int n_dials;
	sd_event_source *dial_timer;
	uint64_t retry_usec;       /* until the next look, if nobody is connected then */
	uint64_t retry_max_usec;
	uint64_t told_usec;        /* when the peer last said that it listens */
	/* listeners only */
	nng_listener listener;     /* where our own gate connects */
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

/** bus_endpoint_listen_inside() - nng listens (again) where only the gate connects */
int bus_endpoint_listen_inside(struct bus_endpoint *endpoint);

/** bus_endpoint_close() - end all connections and release what the endpoint holds; after gate_close() */
void bus_endpoint_close(struct bus_endpoint *endpoint);

/** bus_endpoint_allows() - whether a process of that user may speak here; any thread */
bool bus_endpoint_allows(const struct bus_endpoint *endpoint, uid_t uid);

/** bus_endpoint_has() - whether that connection is still there; false for good once gone_note was posted */
bool bus_endpoint_has(struct bus_endpoint *endpoint, uint32_t pipe_id);

/** bus_endpoint_n_pipes() - the number of open connections; any thread */
unsigned int bus_endpoint_n_pipes(struct bus_endpoint *endpoint);

/** bus_endpoint_hang_up() - all connections have ended, whatever nng still needs for it; returns how many there were */
unsigned int bus_endpoint_hang_up(struct bus_endpoint *endpoint);

/** bus_endpoint_line_ended() - at a listener: one of the connections has, and so many are left */
void bus_endpoint_line_ended(struct bus_endpoint *endpoint, unsigned int n_left);
