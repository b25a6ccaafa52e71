#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "bus.pb-c.h"

/*
 * Requests and replies between processes: nng, one endpoint for each peer, one protobuf-c Envelope a
 * message. Only this library knows nng.
 *
 * memory, which must not die, dials; the peers listen on "bus/NAME.sock" in the guest's runtime directory.
 * All callbacks run in the loop's thread. Nothing is sent twice by the library: a call that broke off
 * (the peer died) fails with -ECONNRESET, and the caller decides; every request may be repeated. The end of a
 * connection ends every call that was made before it.
 *
 * Nothing here ticks while all are connected. A process whose nng stands still, see pipes.c, ends its loop in order to be
 * started anew.
 */

#define BUS_MESSAGE_MAX (1024u * 1024)
/* Where the permissions of the path alone decide who may connect; elsewhere one user, and root, may. */
#define BUS_ANY_USER ((uid_t)-1)
#define BUS_TIMEOUT_MS 3000
/* A watch: the end of a connection ends it at once, and whoever asked asks again; this is for what nobody thought of. */
#define BUS_WATCH_MS 600000

/* --- The asking side: frontend, workers (they listen), ctl (it dials) --- */

struct bus_client;

/** bus_reply_fn - the end of a call. reply is borrowed for the call; NULL when error is not 0:
 * -ECONNRESET, -ETIMEDOUT, -EBADMSG, or what Failure said (text logged by the library). */
typedef void (*bus_reply_fn)(void *data, int error, const Bh__Envelope *reply);

/** bus_client_listen() - open the endpoint at path, for that user, and one for nng beside it (gate.c) */
int bus_client_listen(struct bus_client **ret_client, sd_event *event, const char *path, uid_t user);

/** bus_client_dial() - for ctl: to an endpoint that memory listens on */
int bus_client_dial(struct bus_client **ret_client, sd_event *event, const char *path);

/** bus_client_free() - calls that are still open end without their callback */
struct bus_client *bus_client_free(struct bus_client *client);

/**
 * bus_client_call() - send one request; the answer comes to fn
 * @body: only body_case and its member are read (caller and seq are set here); borrowed for the call
 *
 * Shape: any number of calls may be open at once; each is answered on its own. A call made while no peer
 *        is connected waits for one, within its time.
 * Errors: 0: fn will be called exactly once, later, never from inside this function | -ENOMEM, ...
 */
int bus_client_call(struct bus_client *client, const Bh__Envelope *body, unsigned int timeout_ms,
	bus_reply_fn fn, void *data);

/* --- The answering side: memory --- */

struct bus_request;  /* one question that is not answered yet */
struct bus_server;   /* one peer's endpoint */

/** struct bus_row - a row of the bus table: who may ask what */
struct bus_row {
	Bh__Envelope__BodyCase request;
	Bh__Envelope__BodyCase reply;
	unsigned int roles;  /* mask of the roles that may ask */
	/* 0: bus_request_reply() was or will be called | negative errno: the library answers Failure.
	 * msg is borrowed until this returns. */
	int (*handle)(void *context, struct bus_request *request, const Bh__Envelope *msg);
};

/** struct bus_peer - what a server is opened with; copied, name too */
struct bus_peer {
	const char *name;   /* "frontend", "net0": the identity of whoever speaks on this endpoint */
	unsigned int role;  /* one bit */
	uid_t user;         /* whom a dialled endpoint must belong to; unused where we listen */
	const struct bus_row *table; /* borrowed; ends with a row of request 0 */
	void *context;      /* for the handlers */
};

/** bus_server_dial() - ask the peer's endpoint at path for questions, for good: it is dialled at once, and while nobody
 * is connected again and again, less and less often */
int bus_server_dial(struct bus_server **ret_server, sd_event *event, const char *path,
	const struct bus_peer *peer);

/** bus_server_redial() - the peer listens (again): do not wait for the next try. For a server that dials;
 * harmless at any time. */
void bus_server_redial(struct bus_server *server);

/** bus_server_hang_up() - what the peer asked may be lost: its connections end, so that it asks again over the next one. For
 * a server that dials. */
void bus_server_hang_up(struct bus_server *server);

/** bus_server_left() - the peer has ended, and its connections with it; harmless when it has not, and with NULL. For a server
 * that dials. */
void bus_server_left(struct bus_server *server);

/** bus_server_listen() - for ctl: listen at path with file mode; see gate.c for whom it lets in */
int bus_server_listen(struct bus_server **ret_server, sd_event *event, const char *path, unsigned int mode,
	const struct bus_peer *peer);

struct bus_server *bus_server_free(struct bus_server *server);

/** bus_request_peer() - who asks */
const char *bus_request_peer(const struct bus_request *request);
unsigned int bus_request_role(const struct bus_request *request);

/** bus_request_reply() - answer and end the request, now or later; body as in bus_client_call() */
void bus_request_reply(struct bus_request *request, const Bh__Envelope *body);

/** bus_request_fail() - answer Failure and end the request */
void bus_request_fail(struct bus_request *request, int error, const char *text);

/** bus_request_on_gone() - call fn when the asking process goes away before it was answered; the request is
 * ended then, and must not be used by the holder any more */
void bus_request_on_gone(struct bus_request *request, void (*fn)(void *data, struct bus_request *request),
	void *data);
