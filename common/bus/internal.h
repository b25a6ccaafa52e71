#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include <nng/nng.h>

#include "bus/bus.h"

/* What the files of the bus share. nng calls back in threads of its own; everything it has to say is put
 * into the inbox of the loop and handled there, so that nothing behind the bus needs a lock. */

struct bus_note;
typedef void (*bus_note_fn)(struct bus_note *note);

/** struct bus_note - something to be done in the loop's thread; embedded in its object */
struct bus_note {
	TAILQ_ENTRY(bus_note) link;
	bus_note_fn fn;
	bool queued;
};

struct bus_loop {
	sd_event *event;
	sd_event_source *source;
	int wake_fd;
	pthread_mutex_t lock;
	TAILQ_HEAD(bus_notes, bus_note) notes;
	unsigned int users;
};

/** bus_loop_get() - the process's one inbox; counted */
int bus_loop_get(sd_event *event, struct bus_loop **ret_loop);
void bus_loop_put(struct bus_loop *loop);
/** bus_loop_post() - any thread; a note that is queued already stays queued once */
void bus_loop_post(struct bus_loop *loop, struct bus_note *note);
/** bus_loop_forget() - loop's thread; the note will not be delivered */
void bus_loop_forget(struct bus_loop *loop, struct bus_note *note);
/** bus_loop_holds() - loop's thread; whether the note is still to be delivered */
bool bus_loop_holds(struct bus_loop *loop, const struct bus_note *note);

#define BUS_PIPES_MAX 64
#define BUS_DIALERS 4

struct bus_gate;

/** struct bus_pipe - a connection that was let in, and that nng has not taken down */
struct bus_pipe {
	uint32_t id;
	uint64_t left_usec; /* when we learnt of its end by other ways than nng; 0 = it is there */
};

/** struct bus_pipes - all of an endpoint; any thread, under the lock. See pipes.c */
struct bus_pipes {
	pthread_mutex_t lock;
	struct bus_pipe all[BUS_PIPES_MAX];
	unsigned int n;
};

void pipes_init(struct bus_pipes *pipes);
void pipes_destroy(struct bus_pipes *pipes);
/** pipes_add() - false: there is no room */
bool pipes_add(struct bus_pipes *pipes, uint32_t id);
/** pipes_remove() - nng has taken it down; whether that is news */
bool pipes_remove(struct bus_pipes *pipes, uint32_t id);
/** pipes_has() - whether that one is there */
bool pipes_has(struct bus_pipes *pipes, uint32_t id);
/** pipes_count() - how many are there */
unsigned int pipes_count(struct bus_pipes *pipes);
/** pipes_leave() - none is there any more; returns how many were, for nng to close */
unsigned int pipes_leave(struct bus_pipes *pipes, uint32_t ret_ids[BUS_PIPES_MAX]);
/** pipes_are_overdue() - whether one left longer ago than that, and nng still has it */
bool pipes_are_overdue(struct bus_pipes *pipes, uint64_t usec);

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
	unsigned int mode;
	struct bus_gate *gate;
};

int bus_endpoint_open(struct bus_endpoint *endpoint, sd_event *event, const char *path, bool asks);
/** bus_endpoint_dial() - now, and while nobody is connected again and again, at intervals that grow up to retry_max_usec,
 * see dial.c */
int bus_endpoint_dial(struct bus_endpoint *endpoint, uint64_t retry_max_usec);
/** bus_endpoint_redial() - the peer listens: now, unless somebody is connected; for endpoints that dial */
void bus_endpoint_redial(struct bus_endpoint *endpoint);
int bus_endpoint_listen(struct bus_endpoint *endpoint, unsigned int mode);
/** bus_endpoint_listen_inside() - nng listens (again) where only the gate connects */
int bus_endpoint_listen_inside(struct bus_endpoint *endpoint);
void bus_endpoint_close(struct bus_endpoint *endpoint);
/** bus_endpoint_allows() - whether a process of that user may speak here; any thread */
bool bus_endpoint_allows(const struct bus_endpoint *endpoint, uid_t uid);
/** bus_endpoint_has() - whether that connection is still there; false for good once gone_note was posted */
bool bus_endpoint_has(struct bus_endpoint *endpoint, uint32_t pipe_id);
unsigned int bus_endpoint_n_pipes(struct bus_endpoint *endpoint);
/** bus_endpoint_hang_up() - all connections have ended, whatever nng still needs for it; returns how many there were */
unsigned int bus_endpoint_hang_up(struct bus_endpoint *endpoint);
/** bus_endpoint_line_ended() - at a listener: one of the connections has, and so many are left */
void bus_endpoint_line_ended(struct bus_endpoint *endpoint, unsigned int n_left);

/** gate_open() - let peers in at the endpoint's path, see gate.c; the inner listener is there already
 * Errors: 0 | negative errno, -ENAMETOOLONG among them. */
int gate_open(struct bus_gate **ret_gate, struct bus_endpoint *endpoint);
struct bus_gate *gate_close(struct bus_gate *gate);

/** bus_error() - an nng error as a negative errno */
int bus_error(int nng_error);

/** bus_pack() - a message ready to be sent; 0 | -EMSGSIZE | -ENOMEM */
int bus_pack(const Bh__Envelope *envelope, nng_msg **ret_msg);
/** bus_unpack() - checked in size and form; NULL when malformed; free with bh__envelope__free_unpacked() */
Bh__Envelope *bus_unpack(nng_msg *msg);
