/* The frontend commits what the VMM wants; a worker reports what it offers, and what it has
 * applied. */
#include "records.h"

#include <errno.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/log.h"
#include "held.h"
#include "judge.h"
#include "record/copy.h"
#include "regions.h"
#include "transfers.h"
#include "watch.h"

/* --- What the frontend commits --- */

static const Bh__Region *find_region(const Bh__Desired *desired, uint64_t token, uint64_t gpa)
{
	for (size_t i = 0; i < desired->n_regions; i++)
		if (desired->regions[i]->token == token && desired->regions[i]->gpa == gpa)
			return desired->regions[i];
	return NULL;
}

/* A region that is in force already was judged then: only the note that it is sealed is copied. */
static int check_regions(struct served *device, Bh__Desired *desired, char *text, size_t n_text)
{
	for (size_t i = 0; i < desired->n_regions; i++) {
		Bh__Region *region = desired->regions[i];
		const Bh__Region *old = find_region(device->desired, region->token, region->gpa);

		if (old && old->size_bytes == region->size_bytes &&
			old->offset_bytes == region->offset_bytes)
			region->sealed = old->sealed;
		else if (regions_check_file(vault_get(device->vault, region->token), region, text,
				 n_text))
			return 1;
	}
	return 0;
}

static int check_inflight(struct served *device, const Bh__Inflight *inflight, char *text,
	size_t n_text)
{
	return inflight &&
		regions_check_inflight(vault_get(device->vault, inflight->token), inflight, text,
			n_text);
}

/* As with regions, a log that is in force already was judged then. */
static int check_log(struct served *device, const Bh__Log *log, char *text, size_t n_text)
{
	const Bh__Log *old = device->desired->log;

	if (!log ||
		(old && old->token == log->token && old->mmap_size == log->mmap_size &&
			old->mmap_offset == log->mmap_offset))
		return 0;
	return regions_check_log(vault_get(device->vault, log->token), log, text, n_text);
}

/** struct deposit_check - looks for the first token of a record that is not in the vault */
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
	else if (token->place == RECORD_LOG)
		snprintf(place, sizeof(place), "the dirty log");
	else if (token->place == RECORD_KEPT_BY_WORKER)
		snprintf(place, sizeof(place), "the worker");
	else
		snprintf(place, sizeof(place), "ring %u", token->index);
	snprintf(check->text, check->n_text, "%s names a descriptor that was not deposited", place);
	return 1;
}

/* Token 0 names nothing and is not visited: a region without a file is refused where files are
 * judged. */
static int check_tokens(const struct served *device, const Bh__Desired *desired,
	const Bh__Observed *observed, char *text, size_t n_text)
{
	struct deposit_check check = { .vault = device->vault, .text = text, .n_text = n_text };

	return record_each_token(desired, observed, check_deposit, &check);
}

static int commit_desired(struct memory *memory, struct served *device, struct bus_request *request,
	const Bh__CommitDesired *commit)
{
	char text[256] = "";
	Bh__Desired *desired;
	int r;

	fault_point("memory", commit->desired->status);
	if (commit->desired->generation <= device->desired->generation) {
		held_answer(request, device, text, true);
		return 0;
	}
	desired = record_copy_desired(commit->desired);
	if (!desired)
		return -ENOMEM;
	if (judge_desired(desired, device->desired->generation, text, sizeof(text)) ||
		judge_desired_steps(desired, device->desired, text, sizeof(text)) ||
		check_tokens(device, desired, NULL, text, sizeof(text)) ||
		check_regions(device, desired, text, sizeof(text)) ||
		check_inflight(device, desired->inflight, text, sizeof(text)) ||
		check_log(device, desired->log, text, sizeof(text))) {
		bh__desired__free_unpacked(desired, NULL);
		vault_committed(device->vault, device->desired);
		held_answer(request, device, text, false);
		return 0;
	}
	r = served_commit(device, desired);
	if (r < 0) {
		bh__desired__free_unpacked(desired, NULL);
		return r;
	}
	transfers_committed(memory, device);
	watch_tell_record(memory, device);
	if (!commit->applied || !held_begin(memory, device, request))
		held_answer(request, device, text, false);
	served_settle(device);
	return 0;
}

int handle_commit_desired(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const Bh__CommitDesired *commit = msg->commit_desired;
	struct served *device = peer_device(context, bus_request_peer(request), commit->device);
	int r;

	if (!device || !commit->desired)
		return -ENOENT;
	if (served_is_deadly(device)) {
		held_answer(request, device, device->desired->quarantine, false);
		return 0;
	}
	blame_set(device->mark, msg->body_case, commit->desired->generation);
	r = commit_desired(context, device, request, commit);
	blame_finish();
	return r;
}

/* --- What a worker reports --- */

static void answer_report(struct bus_request *request, bool not_deposited)
{
	Bh__ReportObservedReply reply = BH__REPORT_OBSERVED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	reply.not_deposited = not_deposited;
	body.body_case = BH__ENVELOPE__BODY_REPORT_OBSERVED_REPLY;
	body.report_observed_reply = &reply;
	bus_request_reply(request, &body);
}

/* A report that cannot be true is ignored rather than refused, because a worker repeats a refused
 * report at once. */
static bool may_be_said(struct served *device, const Bh__Observed *observed,
	bool *ret_not_deposited)
{
	char text[256];

	/* the worker has sent a later one, which overtook it */
	if (observed->applied < device->observed->applied)
		return false;
	if (!judge_observed(observed, device->desired->generation, text, sizeof(text)) &&
		!judge_observed_steps(observed, device->observed, text, sizeof(text))) {
		*ret_not_deposited = check_tokens(device, NULL, observed, text, sizeof(text)) != 0;
		if (!*ret_not_deposited)
			return true;
	}
	log_limited(LOG_WARNING, device->config->name, 0, "ignoring a report of the worker: %s",
		text);
	return false;
}

int handle_report_observed(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const Bh__ReportObserved *report = msg->report_observed;
	struct served *device = peer_device(context, bus_request_peer(request), report->device);
	bool taken, not_deposited = false;
	int r = 0;

	if (!device || !report->observed)
		return -ENOENT;
	if (served_is_deadly(device))
		return -EPERM;
	blame_set(device->mark, msg->body_case, 0);
	taken = may_be_said(device, report->observed, &not_deposited);
	if (taken)
		r = served_report(device, report->observed);
	blame_finish();
	if (r < 0)
		return r;
	if (taken) {
		const struct peer *peer = peer_find(context, bus_request_peer(request));

		pauses_reported(device, peer);
		device->serving = peer;
		served_suspend(device, report->observed->applied, &report->state);
	}
	if (taken)
		held_applied(context, device);
	answer_report(request, not_deposited);
	watch_tell_frontend(context);
	return 0;
}
