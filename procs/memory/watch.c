/*
 * A peer always has one question here, and asks the next one as soon as it has handled the answer.
 * A question is held until there is something to answer.
 */
#include "watch.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"

#define RENEW_USEC 2000000
#define HEARING_USEC 4000000 /* a busy machine must not pass for a lost question */
#define HEARING_MAX_USEC 60000000U

/* --- Answers to workers --- */

static void reply_to_worker(struct peer *peer, bool unchanged)
{
	Bh__WatchDesiredReply reply = BH__WATCH_DESIRED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	if (!peer->watch)
		return;
	reply.generation = peer->device->desired->generation;
	reply.unchanged = unchanged;
	body.body_case = BH__ENVELOPE__BODY_WATCH_DESIRED_REPLY;
	body.watch_desired_reply = &reply;
	bus_request_reply(ptr_steal(&peer->watch), &body);
}

/* There is something to tell, and no question: the peer is still busy, or its question was lost. */
static void wait_for_question(struct peer *peer)
{
	struct memory *memory = peer->memory;

	if (peer->link_fd < 0)
		return;
	peer->unheard = true;
	if (sd_event_source_get_enabled(memory->hearing, NULL) != 0)
		return;
	memory->hearing_usec = HEARING_USEC;
	timer_after(memory->hearing, memory->hearing_usec);
}

static void answer_worker(struct peer *peer)
{
	if (!peer->watch) {
		wait_for_question(peer);
		return;
	}
	peer->device->wake = false;
	reply_to_worker(peer, false);
}

void watch_tell_workers(struct memory *memory, const struct served *device)
{
	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].device == device)
			answer_worker(&memory->peers[i]);
}

/* --- Answers to the frontend --- */

static void fill_record(const struct memory *memory, size_t i, Bh__Record *record)
{
	const struct served *device = &memory->devices[i];

	bh__record__init(record);
	record->device = device->config->name;
	record->observed = device->observed;
	record->released = device->released;
	if (memory->seen[i].generation == 0)
		record->desired = device->desired;
}

static void answer_frontend(struct memory *memory, Bh__Record **records, size_t n)
{
	Bh__WatchObservedReply reply = BH__WATCH_OBSERVED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	if (!memory->watch)
		return;
	reply.n_records = n;
	reply.records = records;
	body.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY;
	body.watch_observed_reply = &reply;
	bus_request_reply(ptr_steal(&memory->watch), &body);
}

void watch_tell_frontend(struct memory *memory)
{
	Bh__Record records[CONFIG_DEVICES_MAX], *list[CONFIG_DEVICES_MAX];
	struct peer *frontend = peer_frontend(memory);
	size_t n = 0;

	if (!memory->watch) {
		if (frontend)
			wait_for_question(frontend);
		return;
	}
	for (size_t i = 0; i < memory->n_devices; i++) {
		if (memory->devices[i].observed->generation <= memory->seen[i].generation)
			continue;
		fill_record(memory, i, &records[n]);
		list[n] = &records[n];
		n++;
	}
	if (n)
		answer_frontend(memory, list, n);
}

/* --- Renewal --- */

/* A process of a former release takes its question for lost when it hears nothing for three
 * seconds. Only such a question arms the timer, so nothing ticks while all peers are patient. */
static void renew_later(struct memory *memory, bool patient)
{
	if (patient || sd_event_source_get_enabled(memory->renewal, NULL) != 0)
		return;
	timer_after(memory->renewal, RENEW_USEC);
}

/* --- Questions --- */

static void on_worker_gone(void *data, struct bus_request *request)
{
	struct peer *peer = data;

	if (peer->watch == request)
		peer->watch = NULL;
}

int handle_watch_desired(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const char *name = bus_request_peer(request);
	struct served *device = peer_device(context, name, msg->watch_desired->device);
	struct peer *peer = peer_find(context, name);

	if (!device)
		return -ENOENT;
	/* the older one is answered, not dropped: it may have arrived last, and then the peer waits
	 * for its answer */
	if (peer->watch)
		answer_worker(peer);
	peer->unheard = false;
	peer->watch = request;
	peer->patient = msg->watch_desired->patient;
	renew_later(context, peer->patient);
	bus_request_on_gone(request, on_worker_gone, peer);
	if (device->desired->generation > msg->watch_desired->generation || device->wake)
		answer_worker(peer);
	return 0;
}

static void on_frontend_gone(void *data, struct bus_request *request)
{
	struct memory *memory = data;

	if (memory->watch == request)
		memory->watch = NULL;
}

static uint64_t seen_of(const Bh__WatchObserved *watch, const char *device)
{
	for (size_t i = 0; i < watch->n_seen; i++)
		if (strcmp(watch->seen[i]->device, device) == 0)
			return watch->seen[i]->generation;
	return 0;
}

int handle_watch_observed(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	struct memory *memory = context;

	answer_frontend(memory, NULL, 0); /* for the reason given above */
	memory->watch = request;
	peer_find(memory, bus_request_peer(request))->unheard = false;
	memory->patient = msg->watch_observed->patient;
	renew_later(memory, memory->patient);
	bus_request_on_gone(request, on_frontend_gone, memory);
	for (size_t i = 0; i < memory->n_devices; i++)
		memory->seen[i].generation =
			seen_of(msg->watch_observed, memory->devices[i].config->name);
	watch_tell_frontend(memory);
	return 0;
}

/* --- Timers --- */

static int on_renew(sd_event_source *source, uint64_t usec, void *data)
{
	struct memory *memory = data;

	for (size_t i = 0; i < memory->n_peers; i++)
		if (!memory->peers[i].patient)
			reply_to_worker(&memory->peers[i], true);
	if (!memory->patient)
		answer_frontend(memory, NULL, 0);
	return 0;
}

/* A peer may only be busy or stopped, so the time until it is disconnected doubles. */
static int on_hearing(sd_event_source *source, uint64_t usec, void *data)
{
	struct memory *memory = data;
	bool any = false;

	for (size_t i = 0; i < memory->n_peers; i++) {
		struct peer *peer = &memory->peers[i];

		if (!peer->unheard || peer->link_fd < 0)
			continue;
		log_debug("%s does not ask for what there is to say: it is made to", peer->name);
		bus_server_hang_up(peer->bus);
		any = true;
	}
	if (!any)
		return 0;
	memory->hearing_usec = MIN(2 * memory->hearing_usec, HEARING_MAX_USEC);
	timer_after(source, memory->hearing_usec);
	return 0;
}

static int add_timer(struct memory *memory, sd_event_source **ret_source,
	sd_event_time_handler_t fn)
{
	int r = sd_event_add_time(memory->proc->event, ret_source, CLOCK_MONOTONIC, 0, 100000, fn,
		memory);

	return r < 0 ? r : sd_event_source_set_enabled(*ret_source, SD_EVENT_OFF);
}

int watch_open(struct memory *memory)
{
	int r = add_timer(memory, &memory->renewal, on_renew);

	return r < 0 ? r : add_timer(memory, &memory->hearing, on_hearing);
}
