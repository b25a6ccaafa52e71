/*
 * All devices of one guest. What the workers report comes through one watch; a report for a device that is
 * not loaded yet brings the record along.
 */
#include "frontend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"

#define RETRY_USEC 20000

static void watch(struct frontend *frontend);

static struct session *find(struct frontend *frontend, const char *device)
{
	for (size_t i = 0; i < frontend->n_sessions; i++)
		if (strcmp(frontend->sessions[i].config->name, device) == 0)
			return &frontend->sessions[i];
	return NULL;
}

static ProtobufCMessage *copy_message(const ProtobufCMessage *msg)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);
	ProtobufCMessage *copy;

	check(buf);
	protobuf_c_message_pack(msg, buf);
	copy = protobuf_c_message_unpack(msg->descriptor, NULL, n, buf);
	check(copy);
	return copy;
}

static void take_record(struct frontend *frontend, const Bh__Record *record)
{
	struct session *session = find(frontend, record->device);
	Bh__Observed *observed;

	if (!session || !record->observed)
		return;
	observed = (Bh__Observed *)copy_message(&record->observed->base);
	if (session->phase != PHASE_LOADING)
		session_observed(session, observed);
	else if (record->desired)
		session_loaded(session, (Bh__Desired *)copy_message(&record->desired->base), observed);
	else
		bh__observed__free_unpacked(observed, NULL);
}

static void on_observed(void *data, int error, const Bh__Envelope *reply)
{
	struct frontend *frontend = data;

	if (error) {
		sd_event_source_set_time_relative(frontend->retry, RETRY_USEC);
		sd_event_source_set_enabled(frontend->retry, SD_EVENT_ONESHOT);
		return;
	}
	for (size_t i = 0; i < reply->watch_observed_reply->n_records; i++)
		take_record(frontend, reply->watch_observed_reply->records[i]);
	watch(frontend);
}

static void watch(struct frontend *frontend)
{
	Bh__WatchObserved request = BH__WATCH_OBSERVED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	Bh__Seen seen[CONFIG_DEVICES_MAX], *list[CONFIG_DEVICES_MAX];

	for (size_t i = 0; i < frontend->n_sessions; i++) {
		const struct session *session = &frontend->sessions[i];

		bh__seen__init(&seen[i]);
		seen[i].device = session->config->name;
		seen[i].generation = session->observed ? session->observed->generation : 0;
		list[i] = &seen[i];
	}
	request.n_seen = frontend->n_sessions;
	request.seen = list;
	body.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED;
	body.watch_observed = &request;
	if (bus_client_call(frontend->bus, &body, BUS_NO_TIMEOUT, on_observed, frontend) < 0)
		on_observed(frontend, -ENOMEM, NULL);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	watch(data);
	return 0;
}

static int open_sessions(struct frontend *frontend)
{
	const struct config *config = frontend->proc->config;
	int r = 0;

	frontend->sessions = calloc(config->n_devices, sizeof(*frontend->sessions));
	check(frontend->sessions);
	for (size_t i = 0; r >= 0 && i < config->n_devices; i++) {
		frontend->n_sessions++;
		r = session_open(&frontend->sessions[i], frontend, &config->devices[i]);
	}
	return r;
}

static int open_bus(struct frontend *frontend)
{
	struct proc *proc = frontend->proc;
	_cleanup_free_ char *bus = proc_path(proc, "bus", "frontend");
	_cleanup_free_ char *link = proc_path(proc, "link", "frontend");
	int r = bus_client_listen(&frontend->bus, proc->event, bus);

	if (r == 0)
		r = vault_new(&frontend->vault, link, NULL);
	if (r == 0)
		r = vault_greet(frontend->vault);
	if (r == 0)
		r = sd_event_add_time_relative(proc->event, &frontend->retry, CLOCK_MONOTONIC, 0, 1000,
			on_retry, frontend);
	if (r < 0)
		log_error("cannot reach the memory manager: %s", strerror(-r));
	return r;
}

int frontend_start(struct proc *proc)
{
	struct frontend *frontend = calloc(1, sizeof(*frontend));
	int r;

	check(frontend);
	proc->data = frontend;
	frontend->proc = proc;
	if ((r = open_sessions(frontend)) < 0 || (r = open_bus(frontend)) < 0)
		return r;
	sd_event_source_set_enabled(frontend->retry, SD_EVENT_OFF);
	fdstore_drop_rest();
	watch(frontend);
	proc_ready(proc);
	return 0;
}

void frontend_stop(struct proc *proc)
{
	struct frontend *frontend = proc->data;

	if (!frontend)
		return;
	bus_client_free(frontend->bus);
	for (size_t i = 0; i < frontend->n_sessions; i++)
		session_close(&frontend->sessions[i]);
	free(frontend->sessions);
	sd_event_source_disable_unref(frontend->retry);
	vault_free(frontend->vault);
	free(frontend);
	proc->data = NULL;
}
