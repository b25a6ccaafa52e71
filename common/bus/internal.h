#pragma once

#include <pthread.h>
#include <stdatomic.h>
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

#define BUS_PIPES_MAX 64
#define BUS_DIALERS 4

/** struct bus_pipes - the connections that were let in and have not ended; any thread, under the lock */
struct bus_pipes {
	pthread_mutex_t lock;
	uint32_t ids[BUS_PIPES_MAX];
	unsigned int n;
};

/** struct bus_endpoint - an nng socket and who is connected to it */
struct bus_endpoint {
	nng_socket socket;
	char *path;
	char *url;
	uid_t user;                /* who alone, beside root, may be the other side; or BUS_ANY_USER */
	struct bus_loop *loop;
	struct bus_pipes pipes;    /* our own probes are not among them */
	/* diallers only */
	nng_dialer dialers[BUS_DIALERS]; /* the last ones made */
	unsigned int n_dials;
	sd_event_source *dial_timer;
	uint64_t told_usec;        /* when the peer last said that it listens */
	/* listeners only */
	nng_listener listener;
	unsigned int mode;
	bool always_guarded;
	unsigned int n_deaf;       /* how often it was replaced */
	bool probing;              /* a probe was sent at the last turn */
	atomic_bool probe_seen;    /* and its connection arrived */
	int probe_fd;
	sd_event_source *guard_timer;
	struct bus_note pipes_note; /* a connection ended: another dial, or the guard */
	struct bus_note gone_note;  /* the server's: a peer is gone; fn NULL = does not want to know */
};

int bus_endpoint_open(struct bus_endpoint *endpoint, sd_event *event, const char *path, bool req);
/** bus_endpoint_dial() - now, and from time to time while nobody is connected, see dial.c */
int bus_endpoint_dial(struct bus_endpoint *endpoint);
/** bus_endpoint_redial() - the peer listens: now, unless somebody is connected; for endpoints that dial */
void bus_endpoint_redial(struct bus_endpoint *endpoint);
int bus_endpoint_listen(struct bus_endpoint *endpoint, unsigned int mode);
void bus_endpoint_close(struct bus_endpoint *endpoint);
/** bus_endpoint_has() - whether that connection is still there; false for good once gone_note was posted */
bool bus_endpoint_has(struct bus_endpoint *endpoint, uint32_t pipe_id);
unsigned int bus_endpoint_n_pipes(struct bus_endpoint *endpoint);

/** guard_start() - watch over a listener, see guard.c */
int guard_start(struct bus_endpoint *endpoint);
void guard_stop(struct bus_endpoint *endpoint);

/** bus_error() - an nng error as a negative errno */
int bus_error(int nng_error);

/** bus_pack() - a message ready to be sent; 0 | -EMSGSIZE | -ENOMEM */
int bus_pack(const Bh__Envelope *envelope, nng_msg **ret_msg);
/** bus_unpack() - checked in size and form; NULL when malformed; free with bh__envelope__free_unpacked() */
Bh__Envelope *bus_unpack(nng_msg *msg);
