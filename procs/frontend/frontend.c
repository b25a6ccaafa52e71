/*
 * All devices of one guest. What the workers report comes through one watch; the first report of a
 * device brings the record along. A memory manager that was away is asked for all records anew, and
 * what it has is compared with what was committed.
 */
#include "frontend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attached.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"
#include "fd/fdstore.h"
#include "fd/transfer.h"
#include "intake.h"
#include "listener.h"
#include "record/copy.h"
#include "trace-report.h"

#define RETRY_USEC 20000

static void watch(struct frontend *frontend);

/* --- What sessions need --- */

static void take_observed(struct session *session, const Bh__Observed *observed)
{
	Bh__Observed *copy = record_copy_observed(observed);

	check(copy);
	session->seen = observed->generation;
	session_observed(session, copy);
}

static void on_committed(void *data, int error, const Bh__Envelope *reply)
{
	const Bh__CommitDesiredReply *answer = error ? NULL : reply->commit_desired_reply;

	if (answer && answer->quarantined) {
		session_refused(data, answer->generation);
		return;
	}
	if (answer)
		session_heard_positions(data, answer->worker_gone, answer->rings, answer->n_rings);
	if (answer && answer->observed)
		take_observed(data, answer->observed);
	/* stale: memory has this generation already, and its first answer was lost */
	session_committed(data, error, answer && !answer->stale ? answer->refused : "");
}

static int commit(struct session *session, const Bh__Desired *next, bool applied)
{
	struct frontend *frontend = session->context;
	Bh__CommitDesired request = BH__COMMIT_DESIRED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	request.device = session->config->name;
	request.desired = (Bh__Desired *)next;
	request.applied = applied;
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED;
	body.commit_desired = &request;
	return bus_client_call(frontend->bus, &body, BUS_TIMEOUT_MS, on_committed, session);
}

static void on_deposited(void *data, int error, const uint64_t *tokens, struct fdset *fds)
{
	session_deposited(data, error, tokens);
}

static int deposit(struct session *session, const int *fds, size_t n)
{
	struct frontend *frontend = session->context;

	return vault_ask_deposit(frontend->vault, session->config->name, fds, n, on_deposited,
		session);
}

static void on_redeemed(void *data, int error, const uint64_t *tokens, struct fdset *fds)
{
	session_redeemed(data, error ? error : fdset_steal(fds, 0));
}

static int redeem(struct session *session, uint64_t token)
{
	struct frontend *frontend = session->context;

	return vault_ask_redeem(frontend->vault, session->config->name, token, on_redeemed,
		session);
}

static void on_fetched(void *data, int error, const uint64_t *tokens, struct fdset *fds)
{
	session_fetched(data, error ? error : fdset_steal(fds, 0));
}

static int fetch(struct session *session, uint64_t token)
{
	struct frontend *frontend = session->context;

	return vault_ask_redeem(frontend->vault, session->config->name, token, on_fetched, session);
}

static void on_begun(void *data, int error, uint64_t id, const char *refused)
{
	session_begun(data, error, id, refused);
}

static int transfer(struct session *session, int stream, bool load)
{
	struct frontend *frontend = session->context;
	const struct vault_transfer asked = { .device = session->config->name,
		.load = load,
		.session = session->view.desired->session,
		.stream = stream };

	return vault_ask_start_transfer(frontend->vault, &asked, on_begun, session);
}

static void forget(struct session *session)
{
	struct frontend *frontend = session->context;

	if (frontend->vault)
		vault_forget(frontend->vault, session);
}

/* It may be that only root may write to the directory. */
static bool start_anew(struct session *session)
{
	struct frontend *frontend = session->context;

	if (!frontend->proc->by_root)
		return false;
	log_limited(LOG_NOTICE, session->config->name, 0,
		"the socket file %s was removed; restarting, to create it again with the rights that takes",
		session->config->socket);
	return sd_event_exit(frontend->proc->event, 0) >= 0;
}

static const struct memory_ops ops = {
	.commit = commit,
	.deposit = deposit,
	.redeem = redeem,
	.fetch = fetch,
	.transfer = transfer,
	.forget = forget,
};

/* --- What the workers report --- */

static struct session *find(struct frontend *frontend, const char *device)
{
	for (size_t i = 0; i < frontend->n_sessions; i++)
		if (strcmp(frontend->sessions[i].config->name, device) == 0)
			return &frontend->sessions[i];
	return NULL;
}

static void take_halves(struct session *session, const Bh__Record *record)
{
	Bh__Observed *observed;

	session->seen = record->observed->generation;
	observed = record_copy_observed(record->observed);
	check(observed);
	if (!session_is_loaded(session)) {
		Bh__Desired *desired = record_copy_desired(record->desired);

		check(desired);
		session_loaded(session, desired, observed);
		return;
	}
	if (record->desired)
		session_memory_back(session, record->desired->generation, session->asked);
	session_observed(session, observed);
	session_released(session, record->released);
}

static void take_record(struct frontend *frontend, const Bh__Record *record)
{
	struct session *session = find(frontend, record->device);
	const Bh__Transfer *transfer = record->transfer;

	if (!session || !record->observed || (!session_is_loaded(session) && !record->desired))
		return;
	take_halves(session, record);
	session->seen_transfer =
		transfer && transfer->step == BH__TRANSFER__STEP__ENDED ? transfer->id : 0;
	session_heard_transfer(session, transfer);
}

static void on_observed(void *data, int error, const Bh__Envelope *reply)
{
	struct frontend *frontend = data;

	if (error || !reply) {
		for (size_t i = 0; i < frontend->n_sessions; i++)
			frontend->sessions[i].seen = 0;
		timer_after(frontend->retry, RETRY_USEC);
		return;
	}
	for (size_t i = 0; i < reply->watch_observed_reply->n_records; i++)
		take_record(frontend, reply->watch_observed_reply->records[i]);
	trace_report_set(reply->watch_observed_reply->trace);
	watch(frontend);
}

static void fill_seen(struct session *session, Bh__Seen *seen)
{
	const struct view *view = &session->view;
	bool loaded = session_is_loaded(session);

	session->asked = loaded ? view->desired->generation : 0;
	session->waited = loaded ? view_awaits_transfer(view, session->exchange.transfer_id) : 0;
	bh__seen__init(seen);
	seen->device = session->config->name;
	seen->generation = session->seen;
	seen->transfer = session->seen_transfer;
	seen->waiting = session->waited;
}

static void watch(struct frontend *frontend)
{
	Bh__WatchObserved request = BH__WATCH_OBSERVED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	Bh__Seen seen[CONFIG_DEVICES_MAX], *list[CONFIG_DEVICES_MAX];

	for (size_t i = 0; i < frontend->n_sessions; i++) {
		fill_seen(&frontend->sessions[i], &seen[i]);
		list[i] = &seen[i];
	}
	request.transfers = true;
	request.traces = true;
	request.tracing = trace_report_is_on();
	request.n_seen = frontend->n_sessions;
	request.seen = list;
	request.patient = true;
	body.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED;
	body.watch_observed = &request;
	if (bus_client_call(frontend->bus, &body, BUS_WATCH_MS, on_observed, frontend) < 0)
		on_observed(frontend, -ENOMEM, NULL);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	watch(data);
	return 0;
}

/* --- Life --- */

/* A memory of an earlier release does not know the question; it dials in its own time. */
static void on_greeted(void *data, int error, const uint64_t *tokens, struct fdset *fds)
{
}

static int open_sessions(struct frontend *frontend)
{
	const struct config *config = frontend->proc->config;
	int r;

	r = marks_open(&frontend->marks);
	if (r < 0) {
		log_error("cannot make a file: %s", strerror(-r));
		return r;
	}
	listener_drop_others(config);
	frontend->sessions = calloc(config->n_devices + 1, sizeof(*frontend->sessions));
	check(frontend->sessions);
	for (size_t i = 0; r >= 0 && i < config->n_devices; i++) {
		struct session *session = &frontend->sessions[frontend->n_sessions++];

		session->ops = &ops;
		session->start_anew = start_anew;
		session->context = frontend;
		session->mark = marks_of(frontend->marks, config->devices[i].name);
		r = session_open(session, frontend->proc->event, &config->devices[i]);
	}
	return r;
}

static int open_bus(struct frontend *frontend)
{
	struct proc *proc = frontend->proc;
	_cleanup_free_ char *bus = proc_bus_path(proc, "frontend");
	_cleanup_free_ char *link = proc_link_path(proc, "frontend");
	int r = bus_client_listen(&frontend->bus, proc->event, bus, proc_user(proc, "memory"));

	if (r == 0)
		r = vault_new(&frontend->vault, link, NULL);
	if (r == 0)
		r = vault_watch(frontend->vault, proc->event, NULL, NULL);
	if (r == 0)
		r = vault_ask_greet(frontend->vault, on_greeted, NULL);
	if (r == 0)
		r = sd_event_add_time_relative(proc->event, &frontend->retry, CLOCK_MONOTONIC, 0,
			1000, on_retry, frontend);
	if (r < 0)
		log_error("cannot reach the memory manager: %s", strerror(-r));
	return r;
}

/* The sockets: their directories and group are the operator's choice, which may take rights. */
int frontend_open(struct proc *proc)
{
	struct frontend *frontend = calloc(1, sizeof(*frontend));

	check(frontend);
	proc->data = frontend;
	frontend->proc = proc;
	return open_sessions(frontend);
}

int frontend_start(struct proc *proc)
{
	struct frontend *frontend = proc->data;
	int r = open_bus(frontend);

	if (r < 0)
		return r;
	sd_event_source_set_enabled(frontend->retry, SD_EVENT_OFF);
	trace_report_open(frontend->bus);
	fdstore_drop_rest();
	attached_remove(frontend);
	watch(frontend);
	proc_ready(proc);
	return 0;
}

void frontend_leave(struct proc *proc)
{
	struct frontend *frontend = proc->data;

	if (frontend)
		attached_write(frontend);
	for (size_t i = 0; frontend && i < frontend->n_sessions; i++) {
		const struct session *session = &frontend->sessions[i];

		if (session->door.listen_fd >= 0)
			listener_leave(session->config, session->door.listen_fd);
	}
}

void frontend_stop(struct proc *proc)
{
	struct frontend *frontend = proc->data;

	if (!frontend)
		return;
	trace_report_close();
	bus_client_free(frontend->bus);
	for (size_t i = 0; i < frontend->n_sessions; i++)
		session_close(&frontend->sessions[i]);
	free(frontend->sessions);
	intake_close();
	sd_event_source_disable_unref(frontend->retry);
	vault_free(frontend->vault);
	free(frontend);
	proc->data = NULL;
}
