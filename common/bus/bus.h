#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "bus.pb-c.h"

/*
 * Requests and replies between processes, over nng: one endpoint per peer, one protobuf-c Envelope
 * per message. No other library uses nng.
 *
 * memory dials, because it must not die; each peer listens on "PEER/bus.sock" in the guest's
 * runtime directory. All callbacks run in the thread of the event loop.
 *
 * The library never resends. A call whose connection ends fails with -ECONNRESET, and the caller
 * may repeat it: every request is idempotent. The end of a connection ends all calls made before
 * it.
 *
 * No timer runs while all peers are connected. If nng stops taking connections down (pipes.c), the
 * event loop exits and the process is restarted.
 */

#define BUS_MESSAGE_MAX (1024u * 1024)
/* The permissions of the path alone decide who may connect. Otherwise one user and root may. */
#define BUS_ANY_USER ((uid_t)-1)
#define BUS_TIMEOUT_MS 3000
/* A watch ends with its connection, and is then repeated: this time-out is a safety net. */
#define BUS_WATCH_MS 600000

/* --- The asking side: frontend, workers (they listen), ctl (it dials) --- */

struct bus_client;

/** bus_reply_fn - a call has ended
 * @error: 0 | -ECONNRESET | -ETIMEDOUT | -EBADMSG: not a reply to this request | the errno of the
 *         peer's Failure, negative; the library has logged its text
 * @reply: borrowed until the function returns; NULL unless error is 0 */
typedef void (*bus_reply_fn)(void *data, int error, const Bh__Envelope *reply);

/** bus_client_listen() - listen at path for that user and root; nng's own socket lies beside
 * (gate.c)
 * Errors: 0 | negative errno. */
int bus_client_listen(struct bus_client **ret_client, sd_event *event, const char *path,
	uid_t user);

/** bus_client_dial() - for ctl: connect to an endpoint at which memory listens
 * Errors: 0 | negative errno. A path at which nobody listens yet is dialled again. */
int bus_client_dial(struct bus_client **ret_client, sd_event *event, const char *path);

/** bus_client_free() - end all connections; open calls end without a callback. NULL is fine;
 * returns NULL */
struct bus_client *bus_client_free(struct bus_client *client);

/**
 * bus_client_call() - send a request; fn gets the reply
 * @body: body_case and its member, borrowed for the call; caller and seq are filled in here
 *
 * Shape:  any number of calls may be open at a time, and are answered in any order. A call made
 *         while no peer is connected waits for one until its time-out.
 * Errors: 0: fn is called exactly once, later, never from within this function | negative errno.
 */
int bus_client_call(struct bus_client *client, const Bh__Envelope *body, unsigned int timeout_ms,
	bus_reply_fn fn, void *data);

/* --- The answering side: memory --- */

struct bus_request; /* a request that was not answered yet */
struct bus_server;  /* the endpoint of one peer */

/** struct bus_row - a row of the bus table: who may ask what */
struct bus_row {
	Bh__Envelope__BodyCase request;
	Bh__Envelope__BodyCase reply;
	unsigned int roles; /* mask of the roles that may ask */
	/* 0: the handler has called bus_request_reply(), or will | negative errno: the library
	 * answers with Failure. msg is borrowed until this returns. */
	int (*handle)(void *context, struct bus_request *request, const Bh__Envelope *msg);
};

/** struct bus_peer - who is at the other side, and what it may ask; copied with its name */
struct bus_peer {
	const char *name;  /* "frontend", "net0": the identity of the peer of this endpoint */
	unsigned int role; /* one bit */
	uid_t user;        /* of the peer; unused by bus_server_listen() */
	const struct bus_row *table; /* borrowed; ends with a row of request 0 */
	void *context;               /* for the handlers */
};

/** bus_server_dial() - connect to the peer's endpoint at path and answer its requests. Whenever
 * there is no connection the endpoint is dialled again, with exponential back-off.
 * Errors: 0 | negative errno. */
int bus_server_dial(struct bus_server **ret_server, sd_event *event, const char *path,
	const struct bus_peer *peer);

/** bus_server_redial() - the peer is known to listen: dial now, whatever the back-off. For a server
 * that dials; harmless at any time. */
void bus_server_redial(struct bus_server *server);

/** bus_server_hang_up() - end the peer's connections, because a request of it may be lost: the peer
 * repeats its requests over the next connection. For a server that dials. */
void bus_server_hang_up(struct bus_server *server);

/** bus_server_left() - the peer has died: end its connections without waiting for nng to notice.
 * Harmless if the peer lives, and with NULL. For a server that dials. */
void bus_server_left(struct bus_server *server);

/** bus_server_listen() - for ctl: listen at path; mode is the file's, and decides who may connect
 * Errors: 0 | negative errno. */
int bus_server_listen(struct bus_server **ret_server, sd_event *event, const char *path,
	unsigned int mode, const struct bus_peer *peer);

/** bus_server_free() - end all connections; open requests are not answered. NULL is fine; returns
 * NULL */
struct bus_server *bus_server_free(struct bus_server *server);

/** bus_request_peer() - the name of the peer that asks; borrowed */
const char *bus_request_peer(const struct bus_request *request);

/** bus_request_reply() - answer, from the handler or later; the request is over after this
 * @body: as in bus_client_call(); its case must be the reply of the request's row, or Failure */
void bus_request_reply(struct bus_request *request, const Bh__Envelope *body);

/** bus_request_fail() - answer with Failure; the request is over after this
 * @error: positive errno */
void bus_request_fail(struct bus_request *request, int error, const char *text);

/** bus_request_on_gone() - call fn if the connection ends before the request is answered; the
 * request is over then. Without fn, an answer to a lost connection is dropped. */
void bus_request_on_gone(struct bus_request *request,
	void (*fn)(void *data, struct bus_request *request), void *data);
