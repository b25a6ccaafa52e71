/*
 * The answering side. Each peer's socket has a fixed number of contexts. A context that holds a
 * request to be answered later (a watch) does not block the others. When the peer disconnects its
 * requests end, so that its successor finds all contexts free.
 */
#include "bus/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "bus/dial.h"
#include "bus/gate.h"
#include "bus/message.h"

#define CONTEXTS 8
#define RETRY_MAX_USEC 10000000 /* a peer that listens again announces itself */

enum phase {
	PHASE_RECV, /* waiting for a request, or one is queued for the loop */
	PHASE_HELD, /* the request is being answered */
	PHASE_SEND, /* the reply is being sent */
};

struct bus_request {
	struct bus_note note; /* first: on_question() casts it back */
	struct bus_server *server;
	nng_ctx ctx;
	nng_aio *aio;
	_Atomic(enum phase) phase; /* only the loop enters and leaves PHASE_HELD */
	int error;
	nng_msg *question;
	uint64_t caller;
	uint64_t seq;
	uint32_t pipe_id;
	const struct bus_row *row;
	void (*on_gone)(void *data, struct bus_request *request);
	void *on_gone_data;
};

struct bus_server {
	struct bus_endpoint endpoint;
	struct bus_peer peer;
	char *name;
	struct bus_request requests[CONTEXTS];
};

static void receive(struct bus_request *request)
{
	request->phase = PHASE_RECV;
	nng_ctx_recv(request->ctx, request->aio);
}

static void on_aio(void *data)
{
	struct bus_request *request = data;
	int r = nng_aio_result(request->aio);

	if (request->phase == PHASE_SEND) {
		if (r != 0)
			nng_msg_free(nng_aio_get_msg(request->aio));
		if (r != NNG_ECLOSED && r != NNG_ECANCELED)
			receive(request);
		return;
	}
	if (r == NNG_ECLOSED || r == NNG_ECANCELED)
		return;
	request->question = r == 0 ? nng_aio_get_msg(request->aio) : NULL;
	bus_loop_post(request->server->endpoint.loop, &request->note);
}

static const struct bus_row *find_row(const struct bus_server *server, Bh__Envelope__BodyCase body)
{
	for (const struct bus_row *row = server->peer.table; row->request; row++)
		if (row->request == body)
			return row;
	return NULL;
}

static void dispatch(struct bus_request *request, const Bh__Envelope *msg)
{
	struct bus_server *server = request->server;
	int r;

	request->row = find_row(server, msg->body_case);
	if (!request->row) {
		bus_request_fail(request, EOPNOTSUPP, "unknown request");
		return;
	}
	if (!(request->row->roles & server->peer.role)) {
		log_limited(LOG_WARNING, NULL, 0,
			"%s sent a request that its role does not permit (request %d)",
			server->name, (int)msg->body_case);
		bus_request_fail(request, EPERM, "not allowed for this role");
		return;
	}
	r = request->row->handle(server->peer.context, request, msg);
	if (r < 0)
		bus_request_fail(request, -r, strerror(-r));
}

/* Ends a request whose connection is gone. */
static void drop(struct bus_request *request)
{
	check(request->phase == PHASE_HELD);
	receive(request);
}

static void on_question(struct bus_note *note)
{
	struct bus_request *request = (struct bus_request *)note;
	Bh__Envelope *msg;

	if (!request->question) {
		receive(request);
		return;
	}
	request->pipe_id = (uint32_t)nng_pipe_id(nng_msg_get_pipe(request->question));
	request->on_gone = NULL;
	request->phase = PHASE_HELD;
	if (!bus_endpoint_has(&request->server->endpoint, request->pipe_id)) {
		nng_msg_free(ptr_steal(&request->question));
		drop(request);
		return;
	}
	msg = bus_unpack(request->question);
	nng_msg_free(ptr_steal(&request->question));
	if (!msg) {
		log_limited(LOG_WARNING, NULL, 0, "%s sent a malformed message",
			request->server->name);
		bus_request_fail(request, EBADMSG, "malformed");
		return;
	}
	request->caller = msg->caller;
	request->seq = msg->seq;
	dispatch(request, msg);
	bh__envelope__free_unpacked(msg, NULL);
}

void bus_request_reply(struct bus_request *request, const Bh__Envelope *body)
{
	Bh__Envelope envelope = *body;
	nng_msg *msg;
	int r;

	check(request->phase == PHASE_HELD);
	check(body->body_case == BH__ENVELOPE__BODY_FAILURE ||
		body->body_case == request->row->reply);
	envelope.caller = request->caller;
	envelope.seq = request->seq;
	r = bus_pack(&envelope, &msg);
	if (r == -EMSGSIZE) {
		bus_request_fail(request, EMSGSIZE, "the answer is too large");
		return;
	}
	if (r < 0) {
		/* the client must not wait for ever: the end of its connection makes it ask
		 * again */
		(void)nng_pipe_close((nng_pipe){ .id = request->pipe_id });
		drop(request);
		return;
	}
	request->on_gone = NULL;
	request->phase = PHASE_SEND;
	nng_aio_set_msg(request->aio, msg);
	nng_ctx_send(request->ctx, request->aio);
}

void bus_request_fail(struct bus_request *request, int error, const char *text)
{
	Bh__Failure failure = BH__FAILURE__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	failure.error = error;
	failure.text = (char *)text;
	body.body_case = BH__ENVELOPE__BODY_FAILURE;
	body.failure = &failure;
	bus_request_reply(request, &body);
}

void bus_request_on_gone(struct bus_request *request,
	void (*fn)(void *data, struct bus_request *request), void *data)
{
	request->on_gone = fn;
	request->on_gone_data = data;
}

const char *bus_request_peer(const struct bus_request *request)
{
	return request->server->name;
}

/* Ends the held requests of connections that are gone. A request without on_gone stays with its
 * handler, whose reply is then dropped. */
static void on_gone(struct bus_note *note)
{
	struct bus_server *server = container_of(note, struct bus_server, endpoint.gone_note);

	for (unsigned int i = 0; i < CONTEXTS; i++) {
		struct bus_request *request = &server->requests[i];

		if (request->phase != PHASE_HELD || !request->on_gone ||
			bus_endpoint_has(&server->endpoint, request->pipe_id))
			continue;
		request->on_gone(request->on_gone_data, request);
		drop(request);
	}
}

static int open_contexts(struct bus_server *server)
{
	for (unsigned int i = 0; i < CONTEXTS; i++) {
		struct bus_request *request = &server->requests[i];
		int r;

		request->server = server;
		request->note.fn = on_question;
		r = nng_ctx_open(&request->ctx, server->endpoint.socket);
		if (r == 0)
			r = nng_aio_alloc(&request->aio, on_aio, request);
		if (r != 0)
			return bus_error(r);
		receive(request);
	}
	return 0;
}

static int server_new(struct bus_server **ret_server, sd_event *event, const char *path,
	const struct bus_peer *peer)
{
	struct bus_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->peer = *peer;
	server->name = strdup(peer->name);
	server->endpoint.gone_note.fn = on_gone;
	r = server->name ? bus_endpoint_open(&server->endpoint, event, path, false) : -ENOMEM;
	if (r == 0)
		r = open_contexts(server);
	if (r < 0) {
		bus_server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

int bus_server_dial(struct bus_server **ret_server, sd_event *event, const char *path,
	const struct bus_peer *peer)
{
	struct bus_server *server;
	int r = server_new(&server, event, path, peer);

	if (r < 0)
		return r;
	server->endpoint.user = peer->user;
	r = bus_endpoint_dial(&server->endpoint, RETRY_MAX_USEC);
	if (r < 0) {
		bus_server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

void bus_server_redial(struct bus_server *server)
{
	bus_endpoint_redial(&server->endpoint);
}

void bus_server_hang_up(struct bus_server *server)
{
	if (bus_endpoint_hang_up(&server->endpoint) == 0)
		bus_endpoint_redial(&server->endpoint);
}

void bus_server_left(struct bus_server *server)
{
	if (server)
		(void)bus_endpoint_hang_up(&server->endpoint);
}

int bus_server_listen(struct bus_server **ret_server, sd_event *event, const char *path,
	unsigned int mode, const struct bus_peer *peer)
{
	struct bus_server *server;
	int r = server_new(&server, event, path, peer);

	if (r < 0)
		return r;
	server->endpoint.user = BUS_ANY_USER;
	r = gate_open(&server->endpoint, mode);
	if (r < 0) {
		bus_server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

struct bus_server *bus_server_free(struct bus_server *server)
{
	if (!server || bus_endpoint_is_stuck())
		return NULL;
	for (unsigned int i = 0; i < CONTEXTS; i++) {
		struct bus_request *request = &server->requests[i];

		if (!request->aio)
			continue;
		nng_aio_stop(request->aio);
		nng_aio_free(request->aio);
		bus_loop_forget(server->endpoint.loop, &request->note);
		if (request->question)
			nng_msg_free(request->question);
	}
	gate_close(&server->endpoint);
	bus_endpoint_close(&server->endpoint);
	free(server->name);
	free(server);
	return NULL;
}
