/*
 * A reader asks, is answered, and asks again; nobody waits for it, and what it does not fetch in
 * time is overwritten. Between two questions of the last reader the trace goes on for a while: then
 * the frontend is told to end it.
 */
#include "traces.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/timer.h"
#include "watch.h"

#define END_USEC 5000000
#define ENTRIES_A_REPLY 256 /* of ENTRY_BYTES_MAX each they fit a message */
#define ENTRY_BYTES_MAX 2048
#define ENTRIES_A_REPORT 256

/* --- Answers --- */

static void reply(struct trace_watch *watch, const struct traces_part *part)
{
	Bh__WatchTraceReply answer = BH__WATCH_TRACE_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	answer.next = part->next;
	answer.lost = part->lost;
	answer.n_entries = part->n;
	answer.entries = (Bh__TraceEntry **)part->list;
	body.body_case = BH__ENVELOPE__BODY_WATCH_TRACE_REPLY;
	body.watch_trace_reply = &answer;
	bus_request_reply(ptr_steal(&watch->request), &body);
}

/* A first question is answered without entries: the reader knows then that it misses nothing. */
static bool answer(const struct traces *traces, struct trace_watch *watch)
{
	static struct traces_part part;

	part = (struct traces_part){ .next = traces->next };
	if (!watch->next && !traces->begun)
		return false;
	if (watch->next) {
		traces_read(traces, watch->device, watch->next, ENTRIES_A_REPLY, &part);
		if (part.n == 0 && part.lost == 0) {
			watch->next = part.next;
			return false;
		}
	}
	reply(watch, &part);
	return true;
}

static void answer_all(struct memory *memory)
{
	struct traces *traces = &memory->traces;

	for (size_t i = 0; i < TRACES_WATCHES; i++)
		if (traces->watches[i].request && answer(traces, &traces->watches[i]))
			timer_after(traces->end, END_USEC);
}

/* --- The frontend --- */

int handle_watch_of_frontend(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	int r = handle_watch_observed(context, request, msg);

	answer_all(context);
	return r;
}

static void begin(struct memory *memory)
{
	if (memory->traces.on)
		return;
	memory->traces.on = true;
	memory->traces.next = MAX(memory->traces.next, UINT64_C(1));
	watch_tell_frontend(memory);
}

static int on_end(sd_event_source *source, uint64_t usec, void *data)
{
	struct memory *memory = data;

	for (size_t i = 0; i < TRACES_WATCHES; i++)
		if (memory->traces.watches[i].request)
			return 0;
	memory->traces.on = false;
	traces_clear(&memory->traces);
	watch_tell_frontend(memory);
	return 0;
}

int handle_report_trace(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	struct memory *memory = context;
	const Bh__ReportTrace *report = msg->report_trace;
	Bh__ReportTraceReply done = BH__REPORT_TRACE_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	if (report->n_entries > ENTRIES_A_REPORT)
		return -E2BIG;
	for (size_t i = 0; memory->traces.on && i < report->n_entries; i++) {
		if (bh__trace_entry__get_packed_size(report->entries[i]) > ENTRY_BYTES_MAX)
			traces_skip(&memory->traces, 1);
		else
			traces_add(&memory->traces, report->entries[i]);
	}
	if (memory->traces.on)
		traces_skip(&memory->traces, report->dropped & UINT32_MAX);
	body.body_case = BH__ENVELOPE__BODY_REPORT_TRACE_REPLY;
	body.report_trace_reply = &done;
	bus_request_reply(request, &body);
	answer_all(memory);
	return 0;
}

/* --- bulkheadctl --- */

static void on_gone(void *data, struct bus_request *request)
{
	struct memory *memory = data;

	for (size_t i = 0; i < TRACES_WATCHES; i++)
		if (memory->traces.watches[i].request == request)
			memory->traces.watches[i].request = NULL;
	timer_after(memory->traces.end, END_USEC);
}

static struct trace_watch *find_free(struct traces *traces)
{
	for (size_t i = 0; i < TRACES_WATCHES; i++)
		if (!traces->watches[i].request)
			return &traces->watches[i];
	return NULL;
}

int handle_watch_trace(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	struct memory *memory = context;
	const Bh__WatchTrace *asked = msg->watch_trace;
	struct trace_watch *watch = find_free(&memory->traces);

	if (!watch)
		return -EBUSY;
	if (*asked->device && !peer_any_device(memory, asked->device))
		return -ENODEV;
	if (memory->watch && !memory->traces.can)
		return -EOPNOTSUPP;
	*watch = (struct trace_watch){ .request = request, .next = asked->next };
	snprintf(watch->device, sizeof(watch->device), "%s", asked->device);
	bus_request_on_gone(request, on_gone, memory);
	begin(memory);
	answer_all(memory);
	return 0;
}

/* --- Life --- */

int traces_open(struct memory *memory)
{
	int r = sd_event_add_time(memory->proc->event, &memory->traces.end, CLOCK_MONOTONIC, 0,
		100000, on_end, memory);

	return r < 0 ? r : sd_event_source_set_enabled(memory->traces.end, SD_EVENT_OFF);
}

void traces_close(struct memory *memory)
{
	memory->traces.end = sd_event_source_disable_unref(memory->traces.end);
	traces_clear(&memory->traces);
}
