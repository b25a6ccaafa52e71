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
#include "fd/bell.h"

#define RENEW_USEC 2000000
#define HEARING_USEC 4000000 /* a busy machine must not pass for a lost question */
#define HEARING_MAX_USEC 60000000U

/* What one answer to the snapshot process has of states at the most; the rest of a message is for
 * the transfers themselves. */
#define STATES_BYTES_MAX (3 * BUS_MESSAGE_MAX / 4)

/* --- Answers to workers --- */

static void show_state(const struct transfer *transfer, Bh__Transfer *msg)
{
	msg->state.data = transfer->state;
	msg->state.len = transfer->n_state;
}

static void reply_to_worker(struct peer *peer, bool unchanged)
{
	Bh__WatchDesiredReply reply = BH__WATCH_DESIRED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	const struct served *device = peer->device;
	Bh__Transfer transfer;

	reply.generation = device->desired->generation;
	reply.unchanged = unchanged;
	reply.transfer_seq = device->transfer_seq;
	if (peer->transfers && transfer_turn(&device->transfer) == SIDE_WORKER) {
		transfer_show(&device->transfer, device->config->name, &transfer);
		show_state(&device->transfer, &transfer);
		reply.transfer = &transfer;
	}
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

/* The question of one that has a bell stays, and asks for transfers. */
void watch_tell_record(struct memory *memory, const struct served *device)
{
	for (size_t i = 0; i < memory->n_peers; i++) {
		struct peer *peer = &memory->peers[i];

		if (peer->device != device)
			continue;
		if (peer->bell_fd >= 0)
			bell_ring(peer->bell_fd);
		else
			answer_worker(peer);
	}
}

/* One that has never heard of a transfer need not hear that there is none. */
static bool has_transfer_news(const struct peer *peer)
{
	const struct served *device = peer->device;

	if (!peer->transfers || peer->transfer_seq == device->transfer_seq ||
		peer->known_seq == device->transfer_seq)
		return false;
	return peer->transfer_seq != 0 || transfer_turn(&device->transfer) == SIDE_WORKER;
}

/* --- Answers to the frontend --- */

static void fill_record(const struct memory *memory, size_t i, Bh__Record *record,
	Bh__Transfer *transfer)
{
	const struct served *device = &memory->devices[i];

	bh__record__init(record);
	record->device = device->config->name;
	record->observed = device->observed;
	record->released = device->released;
	if (memory->seen[i].generation == 0)
		record->desired = device->desired;
	if (!memory->transfers || !device->transfer.id)
		return;
	transfer_show(&device->transfer, device->config->name, transfer);
	record->transfer = transfer;
}

static void answer_frontend(struct memory *memory, Bh__Record **records, size_t n)
{
	Bh__WatchObservedReply reply = BH__WATCH_OBSERVED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	if (!memory->watch)
		return;
	reply.n_records = n;
	reply.records = records;
	reply.trace = memory->traces.on;
	body.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY;
	body.watch_observed_reply = &reply;
	bus_request_reply(ptr_steal(&memory->watch), &body);
}

static bool has_transfer_to_see(const struct memory *memory, size_t i)
{
	const struct transfer *transfer = &memory->devices[i].transfer;
	const Bh__Seen *seen = &memory->seen[i];
	bool ended = transfer->id && transfer_turn(transfer) == SIDE_NOBODY;

	return memory->transfers &&
		((ended && transfer->id != seen->transfer) ||
			(seen->waiting && seen->waiting != transfer->id));
}

void watch_tell_frontend(struct memory *memory)
{
	Bh__Record records[CONFIG_DEVICES_MAX], *list[CONFIG_DEVICES_MAX];
	Bh__Transfer transfers[CONFIG_DEVICES_MAX];
	struct peer *frontend = peer_frontend(memory);
	size_t n = 0;

	if (!memory->watch) {
		if (frontend)
			wait_for_question(frontend);
		return;
	}
	for (size_t i = 0; i < memory->n_devices; i++) {
		if (memory->devices[i].observed->generation <= memory->seen[i].generation &&
			!has_transfer_to_see(memory, i))
			continue;
		fill_record(memory, i, &records[n], &transfers[n]);
		list[n] = &records[n];
		n++;
	}
	if (n || traces_have_news(&memory->traces))
		answer_frontend(memory, list, n);
}

void watch_seen(struct memory *memory, const struct served *device)
{
	memory->seen[device - memory->devices].generation = device->observed->generation;
}

/* --- Answers to the snapshot process, and to bulkheadctl --- */

/** struct shown - all transfers, as the answer has them */
struct shown {
	Bh__Transfer transfers[CONFIG_DEVICES_MAX], *list[CONFIG_DEVICES_MAX];
	Bh__WatchTransfersReply reply;
	Bh__Envelope body;
};

/* An operator's load has ended when the frontend knows where the rings go on: a VMM that asks from
 * now on gets that. */
static bool awaits_frontend(const struct memory *memory, size_t i)
{
	const struct transfer *transfer = &memory->devices[i].transfer;

	return memory->transfers && transfer->owner && transfer->load && !transfer->error &&
		transfer->step == BH__TRANSFER__STEP__ENDED &&
		memory->seen[i].transfer != transfer->id;
}

/* Rings are for the frontend only. */
static void fill_shown(const struct memory *memory, struct shown *ret)
{
	bh__watch_transfers_reply__init(&ret->reply);
	bh__envelope__init(&ret->body);
	for (size_t i = 0; i < memory->n_devices; i++) {
		const struct served *device = &memory->devices[i];
		Bh__Transfer *msg = &ret->transfers[ret->reply.n_transfers];

		if (!device->transfer.id)
			continue;
		transfer_show(&device->transfer, device->config->name, msg);
		msg->n_rings = 0;
		if (awaits_frontend(memory, i))
			msg->step = BH__TRANSFER__STEP__SECOND;
		ret->list[ret->reply.n_transfers++] = msg;
	}
	ret->reply.transfers = ret->list;
	ret->reply.transfer_seq = memory->transfer_seq;
	ret->body.body_case = BH__ENVELOPE__BODY_WATCH_TRANSFERS_REPLY;
	ret->body.watch_transfers_reply = &ret->reply;
}

/* A process that has taken the stream has the state already. Returns whether one did not fit. */
static bool add_states(const struct memory *memory, struct shown *shown)
{
	size_t left = STATES_BYTES_MAX;
	bool withheld = false;

	for (size_t i = 0, n = 0; i < memory->n_devices; i++) {
		const struct transfer *transfer = &memory->devices[i].transfer;
		bool due = transfer_turn(transfer) == SIDE_SNAPSHOT && !transfer->taken;

		if (!transfer->id)
			continue;
		if (due && transfer->n_state <= left) {
			show_state(transfer, shown->list[n]);
			left -= transfer->n_state;
		} else if (due) {
			withheld = true;
		}
		n++;
	}
	return withheld;
}

static void reply_to_snapshot(struct peer *peer)
{
	struct shown shown;

	fill_shown(peer->memory, &shown);
	shown.reply.transfer_seq = peer->transfer_seq = peer->memory->snapshot_seq;
	peer->withheld = add_states(peer->memory, &shown);
	bus_request_reply(ptr_steal(&peer->watch), &shown.body);
}

static void tell_snapshot(struct peer *peer)
{
	if (peer->transfer_seq == peer->memory->snapshot_seq)
		return;
	if (peer->watch)
		reply_to_snapshot(peer);
	else
		wait_for_question(peer);
}

void watch_taken(struct memory *memory)
{
	for (size_t i = 0; i < memory->n_peers; i++) {
		struct peer *peer = &memory->peers[i];

		if (peer->role->asks != ROLE_SNAPSHOT || !peer->withheld)
			continue;
		memory->snapshot_seq++;
		tell_snapshot(peer);
	}
}

static void tell_ctl(struct memory *memory)
{
	struct shown shown;

	fill_shown(memory, &shown);
	for (size_t i = 0; i < CTL_MAX; i++) {
		struct ctl_watch *watch = &memory->ctl_watches[i];

		if (watch->request && watch->transfer_seq != memory->transfer_seq)
			bus_request_reply(ptr_steal(&watch->request), &shown.body);
	}
}

/* The frontend first: with the end of a transfer, a VMM waits for it. */
void watch_tell_transfer(struct memory *memory, const struct served *device)
{
	watch_tell_frontend(memory);
	for (size_t i = 0; i < memory->n_peers; i++) {
		struct peer *peer = &memory->peers[i];

		if (peer->role->asks == ROLE_SNAPSHOT)
			tell_snapshot(peer);
		else if (peer->device == device && peer->transfers && has_transfer_news(peer))
			answer_worker(peer);
	}
	tell_ctl(memory);
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

static void on_watch_gone(void *data, struct bus_request *request)
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
	peer->transfers = msg->watch_desired->transfers;
	peer->transfer_seq = msg->watch_desired->transfer_seq;
	renew_later(context, peer->patient);
	bus_request_on_gone(request, on_watch_gone, peer);
	if (device->desired->generation > msg->watch_desired->generation || device->wake ||
		has_transfer_news(peer))
		answer_worker(peer);
	return 0;
}

static void on_frontend_gone(void *data, struct bus_request *request)
{
	struct memory *memory = data;

	if (memory->watch == request)
		memory->watch = NULL;
}

static Bh__Seen seen_of(const Bh__WatchObserved *watch, const char *device)
{
	Bh__Seen seen = BH__SEEN__INIT;

	for (size_t i = 0; i < watch->n_seen; i++) {
		if (strcmp(watch->seen[i]->device, device) != 0)
			continue;
		seen.generation = watch->seen[i]->generation;
		seen.transfer = watch->seen[i]->transfer;
		seen.waiting = watch->seen[i]->waiting;
		break;
	}
	return seen;
}

static void take_seen(struct memory *memory, const Bh__WatchObserved *watch)
{
	bool heard = false;

	for (size_t i = 0; i < memory->n_devices; i++) {
		bool awaited = awaits_frontend(memory, i);

		memory->seen[i] = seen_of(watch, memory->devices[i].config->name);
		heard |= awaited && !awaits_frontend(memory, i);
	}
	if (!heard)
		return;
	memory->transfer_seq++;
	tell_ctl(memory);
}

int handle_watch_observed(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	struct memory *memory = context;

	answer_frontend(memory, NULL, 0); /* for the reason given above */
	memory->watch = request;
	peer_find(memory, bus_request_peer(request))->unheard = false;
	memory->patient = msg->watch_observed->patient;
	memory->transfers = msg->watch_observed->transfers;
	memory->traces.can = msg->watch_observed->traces;
	memory->traces.begun = msg->watch_observed->tracing;
	renew_later(memory, memory->patient);
	bus_request_on_gone(request, on_frontend_gone, memory);
	take_seen(memory, msg->watch_observed);
	watch_tell_frontend(memory);
	return 0;
}

static void watch_of_snapshot(struct peer *peer, struct bus_request *request,
	const Bh__WatchTransfers *watch)
{
	if (peer->watch)
		reply_to_snapshot(peer); /* for the reason given above */
	peer->unheard = false;
	peer->watch = request;
	peer->patient = watch->patient;
	peer->transfer_seq = watch->transfer_seq;
	renew_later(peer->memory, peer->patient);
	bus_request_on_gone(request, on_watch_gone, peer);
	tell_snapshot(peer);
}

static void on_ctl_gone(void *data, struct bus_request *request)
{
	struct ctl_watch *watch = data;

	if (watch->request == request)
		watch->request = NULL;
}

/* One instance cannot have more than one, and the next one would keep other commands from being
 * heard. */
static int watch_of_ctl(struct memory *memory, struct bus_request *request, uint64_t seq)
{
	struct ctl_watch *watch = memory->ctl_watches;

	while (watch < memory->ctl_watches + CTL_MAX && watch->request)
		watch++;
	if (watch == memory->ctl_watches + CTL_MAX)
		return -EBUSY;
	*watch = (struct ctl_watch){ .request = request, .transfer_seq = seq };
	bus_request_on_gone(request, on_ctl_gone, watch);
	tell_ctl(memory);
	return 0;
}

int handle_watch_transfers(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	struct peer *peer = peer_find(context, bus_request_peer(request));

	if (!peer)
		return watch_of_ctl(context, request, msg->watch_transfers->transfer_seq);
	watch_of_snapshot(peer, request, msg->watch_transfers);
	return 0;
}

/* --- Timers --- */

static int on_renew(sd_event_source *source, uint64_t usec, void *data)
{
	struct memory *memory = data;

	for (size_t i = 0; i < memory->n_peers; i++) {
		struct peer *peer = &memory->peers[i];

		if (!peer->watch || peer->patient)
			continue;
		if (peer->device)
			reply_to_worker(peer, true);
		else
			reply_to_snapshot(peer);
	}
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
		log_debug("%s has not asked for pending news; reconnecting to it", peer->name);
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
