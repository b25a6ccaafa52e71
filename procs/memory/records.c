/*
 * The records: what the VMM wants, written by the frontend, and what the worker offers and has done. A half
 * is replaced whole, in the record file first: who is killed after that has committed, who is killed
 * before has not.
 */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "fd/fdstore.h"
#include "regions.h"

#define RENEW_USEC 2000000
#define HEARING_USEC 1000000
#define HEARING_MAX_USEC 60000000U

static ProtobufCMessage *copy_message(const ProtobufCMessage *msg)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	if (!buf)
		return NULL;
	protobuf_c_message_pack(msg, buf);
	return protobuf_c_message_unpack(msg->descriptor, NULL, n, buf);
}

/* --- Open and close --- */

/* One that could shrink would end whoever reads it. */
static bool is_ledger(int fd, const struct stat *st)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && st->st_size > 0 && st->st_size <= LEDGER_BYTES_MAX;
}

static void take_ledger(struct device *device)
{
	char name[128];
	struct stat st;

	snprintf(name, sizeof(name), "l.%s", device->config->name);
	device->ledger_fd = fdstore_take(name);
	if (device->ledger_fd < 0)
		return;
	if (fstat(device->ledger_fd, &st) == 0 && is_ledger(device->ledger_fd, &st)) {
		device->ledger_bytes = (uint64_t)st.st_size;
		return;
	}
	log_device(LOG_ERR, device->config->name, "the kept ledger cannot be used, and is begun anew");
	(void)fdstore_remove(name);
	device->ledger_fd = fd_close(device->ledger_fd);
}

int records_open(struct device *device)
{
	int r;

	device->ledger_fd = -1;
	r = vault_open(&device->vault, device->config->name);
	if (r < 0)
		return r;
	vault_restore(device->vault);
	take_ledger(device);
	r = copies_open(&device->copies, device->config->name, &device->desired, &device->observed);
	if (r == 0 && quarantine_is_ours(device))
		r = quarantine_enter(device);
	if (r == 0)
		vault_adopt(device->vault, device->desired, device->observed);
	return r;
}

void records_close(struct device *device)
{
	if (device->desired)
		bh__desired__free_unpacked(device->desired, NULL);
	if (device->observed)
		bh__observed__free_unpacked(device->observed, NULL);
	copies_close(device->copies);
	vault_close(device->vault);
	fd_close(device->ledger_fd);
}

int records_take_desired(struct device *device, const Bh__Desired *desired)
{
	Bh__Desired *copy = (Bh__Desired *)copy_message(&desired->base);

	if (!copy)
		return -ENOMEM;
	bh__desired__free_unpacked(device->desired, NULL);
	device->desired = copy;
	return 0;
}

/* --- What the frontend commits --- */

static const Bh__Region *find_region(const Bh__Desired *desired, uint64_t token, uint64_t gpa)
{
	for (size_t i = 0; i < desired->n_regions; i++)
		if (desired->regions[i]->token == token && desired->regions[i]->gpa == gpa)
			return desired->regions[i];
	return NULL;
}

/* Regions that were there before were judged then; only the seal is carried on. */
static int check_regions(struct device *device, Bh__Desired *desired, char *text, size_t n_text)
{
	for (size_t i = 0; i < desired->n_regions; i++) {
		Bh__Region *region = desired->regions[i];
		const Bh__Region *old = find_region(device->desired, region->token, region->gpa);

		if (old && old->size_bytes == region->size_bytes &&
			old->offset_bytes == region->offset_bytes)
			region->sealed = old->sealed;
		else if (regions_check_file(vault_get(device->vault, region->token), region, text, n_text))
			return 1;
	}
	return 0;
}

static int check_inflight(struct device *device, const Bh__Inflight *inflight, char *text, size_t n_text)
{
	return inflight && regions_check_inflight(vault_get(device->vault, inflight->token), inflight, text, n_text);
}

/** struct deposit_check - whether what a record names is there; the first that is not */
struct deposit_check {
	const struct vault *vault;
	char *text;
	size_t n_text;
};

static int check_deposit(void *data, const struct record_token *token)
{
	const struct deposit_check *check = data;
	char place[32] = "";

	if (vault_get(check->vault, token->token) >= 0)
		return 0;
	if (token->place == RECORD_REGION)
		snprintf(place, sizeof(place), "a memory region");
	else if (token->place == RECORD_INFLIGHT)
		snprintf(place, sizeof(place), "the in-flight region");
	else if (token->place == RECORD_KEPT_BY_WORKER)
		snprintf(place, sizeof(place), "the worker");
	else
		snprintf(place, sizeof(place), "ring %u", token->index);
	snprintf(check->text, check->n_text, "%s names a descriptor that was not deposited", place);
	return 1;
}

/* Token 0 names nothing: a region without a file is refused where files are judged. */
static int check_tokens(const struct device *device, const Bh__Desired *desired, const Bh__Observed *observed,
	char *text, size_t n_text)
{
	struct deposit_check check = { .vault = device->vault, .text = text, .n_text = n_text };

	return record_each_token(desired, observed, check_deposit, &check);
}

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

/* Whoever is to be told of something asks as soon as it is done with the last; if not, its question may be lost. */
static void wait_for_question(struct peer *peer)
{
	struct memory *memory = peer->memory;

	if (peer->link_fd < 0)
		return;
	peer->unheard = true;
	if (sd_event_source_get_enabled(memory->hearing, NULL) != 0)
		return;
	memory->hearing_usec = HEARING_USEC;
	(void)sd_event_source_set_time_relative(memory->hearing, memory->hearing_usec);
	(void)sd_event_source_set_enabled(memory->hearing, SD_EVENT_ONESHOT);
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

void records_answer_workers(struct device *device)
{
	struct memory *memory = device->memory;

	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].device == device)
			answer_worker(&memory->peers[i]);
}

static int put_in_force(struct device *device, Bh__Desired *desired)
{
	int r = copies_write_desired(device->copies, desired);

	if (r < 0) {
		bh__desired__free_unpacked(desired, NULL);
		return r;
	}
	bh__desired__free_unpacked(device->desired, NULL);
	device->desired = desired;
	vault_committed(device->vault, desired);
	records_answer_workers(device);
	return 0;
}

static void answer_commit(struct bus_request *request, const struct device *device, char *refused,
	bool stale)
{
	Bh__CommitDesiredReply reply = BH__COMMIT_DESIRED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	reply.generation = device->desired->generation;
	reply.refused = refused;
	reply.stale = stale;
	reply.quarantined = quarantine_is_ours(device);
	positions_fill(device, &reply);
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY;
	body.commit_desired_reply = &reply;
	bus_request_reply(request, &body);
}

static int commit_desired(struct device *device, struct bus_request *request, const Bh__CommitDesired *commit)
{
	char text[256] = "";
	Bh__Desired *desired;
	int r;

	fault_point("memory", commit->desired->status);
	if (commit->desired->generation <= device->desired->generation) {
		answer_commit(request, device, text, true);
		return 0;
	}
	desired = (Bh__Desired *)copy_message(&commit->desired->base);
	if (!desired)
		return -ENOMEM;
	if (judge_desired(desired, device->desired->generation, text, sizeof(text)) ||
		check_tokens(device, desired, NULL, text, sizeof(text)) ||
		check_regions(device, desired, text, sizeof(text)) ||
		check_inflight(device, desired->inflight, text, sizeof(text))) {
		bh__desired__free_unpacked(desired, NULL);
		vault_committed(device->vault, device->desired);
		answer_commit(request, device, text, false);
		return 0;
	}
	r = put_in_force(device, desired);
	if (r < 0)
		return r;
	answer_commit(request, device, text, false);
	return 0;
}

int handle_commit_desired(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const Bh__CommitDesired *commit = msg->commit_desired;
	struct device *device =
		memory_device(context, bus_request_peer(request), commit->device);
	int r;

	if (!device || !commit->desired)
		return -ENOENT;
	if (quarantine_is_ours(device)) {
		answer_commit(request, device, device->desired->quarantine, false);
		return 0;
	}
	blame_set(device->mark, msg->body_case, commit->desired->generation);
	r = commit_desired(device, request, commit);
	blame_finish();
	return r;
}

/* --- Renewal --- */

/* A process of a former release believes that its watch was lost when it hears nothing for three seconds. Armed by such
 * a watch alone, so that nothing ticks while all are patient. */
static void renew_later(struct memory *memory, bool patient)
{
	if (patient || sd_event_source_get_enabled(memory->renewal, NULL) != 0)
		return;
	(void)sd_event_source_set_time_relative(memory->renewal, RENEW_USEC);
	(void)sd_event_source_set_enabled(memory->renewal, SD_EVENT_ONESHOT);
}

/* --- What the worker watches and reports --- */

static void on_worker_gone(void *data, struct bus_request *request)
{
	struct peer *peer = data;

	if (peer->watch == request)
		peer->watch = NULL;
}

int handle_watch_desired(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const char *name = bus_request_peer(request);
	struct device *device = memory_device(context, name, msg->watch_desired->device);
	struct peer *peer = memory_peer(context, name);

	if (!device)
		return -ENOENT;
	/* answered, not dropped: the older one may have come last, and then somebody waits for this one */
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

static void answer_report(struct bus_request *request)
{
	Bh__ReportObservedReply reply = BH__REPORT_OBSERVED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	body.body_case = BH__ENVELOPE__BODY_REPORT_OBSERVED_REPLY;
	body.report_observed_reply = &reply;
	bus_request_reply(request, &body);
}

/* What cannot be is dropped, and not refused: whoever hears of a refusal says the same again, at once. */
static bool may_be_said(struct device *device, const Bh__Observed *observed)
{
	char text[256];

	/* its sender has given it up, and sent another one that overtook it */
	if (observed->applied < device->observed->applied)
		return false;
	if (!judge_observed(observed, device->desired->generation, text, sizeof(text)) &&
		!check_tokens(device, NULL, observed, text, sizeof(text)))
		return true;
	log_limited(LOG_WARNING, device->config->name, 0, "a report of the worker is left out: %s", text);
	return false;
}

/* We count the reports ourselves. */
static int take_report(struct device *device, const Bh__Observed *report)
{
	Bh__Observed *observed = (Bh__Observed *)copy_message(&report->base);
	int r;

	if (!observed)
		return -ENOMEM;
	observed->generation = device->observed->generation + 1;
	r = copies_write_observed(device->copies, observed);
	if (r < 0) {
		bh__observed__free_unpacked(observed, NULL);
		return r;
	}
	bh__observed__free_unpacked(device->observed, NULL);
	device->observed = observed;
	vault_reported(device->vault, observed);
	return 0;
}

int handle_report_observed(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const Bh__ReportObserved *report = msg->report_observed;
	struct device *device =
		memory_device(context, bus_request_peer(request), report->device);
	bool taken;
	int r = 0;

	if (!device || !report->observed)
		return -ENOENT;
	if (quarantine_is_ours(device))
		return -EPERM;
	blame_set(device->mark, msg->body_case, 0);
	taken = may_be_said(device, report->observed);
	if (taken)
		r = take_report(device, report->observed);
	blame_finish();
	if (r < 0)
		return r;
	if (taken)
		device->serving = memory_peer(context, bus_request_peer(request));
	answer_report(request);
	records_answer_frontend(context);
	return 0;
}

/* --- What the frontend watches --- */

static void fill_record(const struct memory *memory, size_t i, Bh__Record *record)
{
	const struct device *device = &memory->devices[i];

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

static struct peer *find_frontend(const struct memory *memory)
{
	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].role->asks & ROLE_FRONTEND)
			return &memory->peers[i];
	return NULL;
}

void records_answer_frontend(struct memory *memory)
{
	Bh__Record records[CONFIG_DEVICES_MAX], *list[CONFIG_DEVICES_MAX];
	struct peer *frontend = find_frontend(memory);
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

	answer_frontend(memory, NULL, 0); /* as a worker's */
	memory->watch = request;
	memory_peer(memory, bus_request_peer(request))->unheard = false;
	memory->patient = msg->watch_observed->patient;
	renew_later(memory, memory->patient);
	bus_request_on_gone(request, on_frontend_gone, memory);
	for (size_t i = 0; i < memory->n_devices; i++)
		memory->seen[i].generation =
			seen_of(msg->watch_observed, memory->devices[i].config->name);
	records_answer_frontend(memory);
	return 0;
}

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

/* One that works hard, or is stopped, asks later; it is left alone for longer each time. */
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
	(void)sd_event_source_set_time_relative(source, memory->hearing_usec);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int add_timer(struct memory *memory, sd_event_source **ret_source, sd_event_time_handler_t fn)
{
	int r = sd_event_add_time(memory->proc->event, ret_source, CLOCK_MONOTONIC, 0, 100000, fn, memory);

	return r < 0 ? r : sd_event_source_set_enabled(*ret_source, SD_EVENT_OFF);
}

int records_renew_watches(struct memory *memory)
{
	int r = add_timer(memory, &memory->renewal, on_renew);

	return r < 0 ? r : add_timer(memory, &memory->hearing, on_hearing);
}
