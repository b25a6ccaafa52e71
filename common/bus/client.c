/*
 * The asking side. Each call has an nng context of its own, so that a watch that lasts for hours
 * and a report that takes microseconds share one socket. nng's thread takes a call from "sent" to
 * "answered"; only its end reaches the event loop.
 *
 * nng 1.5 sometimes loses a request that is sent just as its connection ends, without an error: the
 * call would never end. So the end of a connection ends all calls made before it. nng gets
 * BREAK_USEC to end them by itself, and the rest are aborted here. This may abort a call that
 * another connection would still answer; its caller repeats it.
 */
#include "bus/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "base/sanitizer.h"
#include "base/timer.h"
#include "bus/dial.h"
#include "bus/gate.h"
#include "bus/message.h"

#define BREAK_USEC 20000 /* nng needs a fraction of this */
#define CTL_RETRY_USEC 100000

struct bus_call {
	struct bus_note note; /* first: on_ended() casts it back */
	TAILQ_ENTRY(bus_call) link;
	struct bus_client *client;
	nng_ctx ctx;
	nng_aio *aio;
	bool sent; /* by nng's thread: the request is sent */
	int error;
	nng_msg *answer;
	uint64_t seq;
	Bh__Envelope__BodyCase want; /* the case of the reply */
	bus_reply_fn fn;
	void *data;
};

struct bus_client {
	struct bus_endpoint endpoint;
	uint64_t caller;
	uint64_t seq;
	TAILQ_HEAD(bus_calls, bus_call) calls; /* in the order of their seq */
	uint64_t broken_seq;                   /* the last call made before a connection ended */
	sd_event_source *breaker;
};

static void call_free(struct bus_call *call)
{
	TAILQ_REMOVE(&call->client->calls, call, link);
	if (call->aio) {
		nng_aio_stop(call->aio);
		nng_aio_free(call->aio);
	}
	bus_loop_forget(call->client->endpoint.loop, &call->note);
	if (nng_ctx_id(call->ctx) > 0)
		nng_ctx_close(call->ctx);
	if (call->answer)
		nng_msg_free(call->answer);
	free(call);
}

static void on_aio(void *data)
{
	struct bus_call *call = data;
	int r = nng_aio_result(call->aio);

	if (r == 0 && !call->sent) {
		call->sent = true;
		nng_ctx_recv(call->ctx, call->aio);
		return;
	}
	if (r == 0)
		call->answer = nng_aio_get_msg(call->aio);
	else if (!call->sent)
		nng_msg_free(nng_aio_get_msg(call->aio));
	call->error = bus_error(r);
	bus_loop_post(call->client->endpoint.loop, &call->note);
}

/* The case of a reply is that of its request plus one, so that a caller reads no other member of
 * the union. */
#define ANSWERS(x) _Static_assert(BH__ENVELOPE__BODY_##x##_REPLY == BH__ENVELOPE__BODY_##x + 1, #x)
ANSWERS(COMMIT_DESIRED);
ANSWERS(WATCH_DESIRED);
ANSWERS(REPORT_OBSERVED);
ANSWERS(WATCH_OBSERVED);
ANSWERS(GET_STATUS);
ANSWERS(RELEASE_DEVICE);

static int judge(const struct bus_call *call, const Bh__Envelope *reply)
{
	if (!reply || reply->seq != call->seq || reply->caller != call->client->caller)
		return -EBADMSG;
	if (reply->body_case == call->want)
		return 0;
	if (reply->body_case != BH__ENVELOPE__BODY_FAILURE)
		return -EBADMSG;
	log_debug("memory refused a request: %s", reply->failure->text);
	return reply->failure->error > 0 ? -reply->failure->error : -EBADMSG;
}

static void on_ended(struct bus_note *note)
{
	struct bus_call *call = (struct bus_call *)note;
	bus_reply_fn fn = call->fn;
	void *data = call->data;
	Bh__Envelope *reply = NULL;
	int error = call->error;

	if (error == 0) {
		reply = bus_unpack(call->answer);
		error = judge(call, reply);
	}
	call_free(call);
	fn(data, error, error ? NULL : reply);
	if (reply)
		bh__envelope__free_unpacked(reply, NULL);
}

/* nng 1.5 never frees the message of a request that it loses, and LeakSanitizer is to say nothing
 * of those: it knows them by this function. */
static __attribute__((noinline)) int pack_request(const struct bus_call *call,
	const Bh__Envelope *body, nng_msg **ret_msg)
{
	Bh__Envelope envelope = *body;

	envelope.caller = call->client->caller;
	envelope.seq = call->seq;
	return bus_pack(&envelope, ret_msg);
}

#if SANITIZES_ADDRESSES
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:pack_request";
}
#endif

int bus_client_call(struct bus_client *client, const Bh__Envelope *body, unsigned int timeout_ms,
	bus_reply_fn fn, void *data)
{
	struct bus_call *call = calloc(1, sizeof(*call));
	nng_msg *msg = NULL;
	int r;

	if (!call)
		return -ENOMEM;
	TAILQ_INSERT_TAIL(&client->calls, call, link);
	call->client = client;
	call->note.fn = on_ended;
	call->fn = fn;
	call->data = data;
	call->seq = ++client->seq;
	call->want = body->body_case + 1;
	r = pack_request(call, body, &msg);
	if (r == 0)
		r = bus_error(nng_ctx_open(&call->ctx, client->endpoint.socket));
	if (r == 0)
		r = bus_error(nng_aio_alloc(&call->aio, on_aio, call));
	if (r < 0) {
		if (msg)
			nng_msg_free(msg);
		call_free(call);
		return r;
	}
	nng_aio_set_timeout(call->aio, (nng_duration)timeout_ms);
	nng_aio_set_msg(call->aio, msg);
	nng_ctx_send(call->ctx, call->aio);
	return 0;
}

/* --- Calls whose connection has ended --- */

/* After nng_aio_stop() there is no further callback. An earlier one has posted its note with the
 * result. */
static void break_off(struct bus_call *call)
{
	nng_aio_stop(call->aio);
	if (bus_loop_holds(call->client->endpoint.loop, &call->note))
		return;
	call->error = -ECONNRESET;
	bus_loop_post(call->client->endpoint.loop, &call->note);
}

static int on_break(sd_event_source *source, uint64_t usec, void *data)
{
	struct bus_client *client = data;
	struct bus_call *call;

	TAILQ_FOREACH(call, &client->calls, link)
		if (call->seq <= client->broken_seq)
			break_off(call);
	return 0;
}

static void on_gone(struct bus_note *note)
{
	struct bus_client *client = container_of(note, struct bus_client, endpoint.gone_note);

	client->broken_seq = client->seq;
	timer_after(client->breaker, BREAK_USEC);
}

/* --- Construction --- */

static int client_new(struct bus_client **ret_client, sd_event *event, const char *path)
{
	struct bus_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	TAILQ_INIT(&client->calls);
	if (getrandom(&client->caller, sizeof(client->caller), 0) != sizeof(client->caller)) {
		free(client);
		return -EIO;
	}
	client->endpoint.gone_note.fn = on_gone;
	r = sd_event_add_time(event, &client->breaker, CLOCK_MONOTONIC, 0, 1000, on_break, client);
	if (r >= 0)
		r = sd_event_source_set_enabled(client->breaker, SD_EVENT_OFF);
	if (r >= 0)
		r = bus_endpoint_open(&client->endpoint, event, path, true);
	if (r < 0) {
		bus_client_free(client);
		return r;
	}
	*ret_client = client;
	return 0;
}

static int client_open(struct bus_client **ret_client, sd_event *event, const char *path,
	uid_t user, bool dials)
{
	struct bus_client *client;
	int r = client_new(&client, event, path);

	if (r < 0)
		return r;
	client->endpoint.user = user;
	r = dials ? bus_endpoint_dial(&client->endpoint, CTL_RETRY_USEC)
		  : gate_open(&client->endpoint, 0660);
	if (r < 0) {
		bus_client_free(client);
		return r;
	}
	*ret_client = client;
	return 0;
}

int bus_client_listen(struct bus_client **ret_client, sd_event *event, const char *path, uid_t user)
{
	return client_open(ret_client, event, path, user, false);
}

int bus_client_dial(struct bus_client **ret_client, sd_event *event, const char *path)
{
	return client_open(ret_client, event, path, BUS_ANY_USER, true);
}

struct bus_client *bus_client_free(struct bus_client *client)
{
	struct bus_call *call;

	if (!client || bus_endpoint_is_stuck())
		return NULL;
	while ((call = TAILQ_FIRST(&client->calls)))
		call_free(call);
	gate_close(&client->endpoint);
	bus_endpoint_close(&client->endpoint);
	sd_event_source_disable_unref(client->breaker);
	free(client);
	return NULL;
}
