/*
 * Entries wait here until memory has taken the ones before them. When there is no room, the newest
 * is dropped: a reader then knows where the gap is, and that what it has is without gaps.
 */
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "exchange.h"
#include "trace-text.h"

bool trace_on;

static struct {
	struct trace_taken waiting;
	void (*fn)(void *data);
	void *data;
} trace;

void trace_call(void (*fn)(void *data), void *data)
{
	trace.fn = fn;
	trace.data = data;
}

void trace_free(struct trace_taken *taken)
{
	while (taken->n)
		bh__trace_entry__free_unpacked(taken->entries[--taken->n], NULL);
	taken->dropped = 0;
}

void trace_set(bool on)
{
	trace_on = on;
	if (!on)
		trace_free(&trace.waiting);
}

void trace_take(struct trace_taken *ret)
{
	*ret = trace.waiting;
	trace.waiting.n = 0;
	trace.waiting.dropped = 0;
}

/* --- Entries --- */

static char *copy(const char *text)
{
	char *own = strdup(text);

	check(own);
	return own;
}

/* NULL = there is no room. */
static Bh__TraceEntry *add(const char *device, Bh__TraceEntry__Kind kind, const char *name,
	const char *text)
{
	Bh__TraceEntry *entry;
	struct timespec now;

	if (trace.waiting.n == TRACE_ENTRIES_MAX) {
		trace.waiting.dropped++;
		return NULL;
	}
	entry = malloc(sizeof(*entry));
	check(entry);
	bh__trace_entry__init(entry);
	clock_gettime(CLOCK_REALTIME, &now);
	entry->time_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	entry->kind = kind;
	entry->device = copy(device);
	entry->name = copy(name);
	entry->text = copy(text);
	trace.waiting.entries[trace.waiting.n++] = entry;
	return entry;
}

static void tell(void)
{
	if (trace.fn)
		trace.fn(trace.data);
}

static const char *name_of(const struct exchange *x, char *buf, size_t n)
{
	if (x->row)
		return x->row->name;
	snprintf(buf, n, "%u", x->msg.header.request);
	return buf;
}

static Bh__TraceEntry *add_of(const struct exchange *x, Bh__TraceEntry__Kind kind, const char *text)
{
	char buf[16];

	return add(x->config->name, kind, name_of(x, buf, sizeof(buf)), text);
}

void trace_message(const struct exchange *x)
{
	char text[TRACE_TEXT_BYTES];
	Bh__TraceEntry *entry;

	trace_text(x->msg.header.request, false, x->msg.payload.bytes,
		x->msg.too_long ? 0 : x->msg.header.size, text);
	entry = add_of(x, BH__TRACE_ENTRY__KIND__MESSAGE, text);
	if (entry) {
		entry->n_fds = (uint32_t)x->msg.n_fds;
		entry->need_reply = x->msg.header.flags & HEADER_NEED_REPLY;
	}
	tell();
}

void trace_reply(const struct exchange *x, const void *payload, size_t n)
{
	char text[TRACE_TEXT_BYTES];

	if (x->reply_row)
		trace_text(x->msg.header.request, true, payload, n, text);
	else
		snprintf(text, sizeof(text), "%s", *x->why ? "failed" : "done");
	(void)add_of(x, BH__TRACE_ENTRY__KIND__REPLY, text);
	tell();
}

void trace_refused(const struct exchange *x)
{
	(void)add_of(x, BH__TRACE_ENTRY__KIND__REFUSED, x->why);
	tell();
}

void trace_event(const char *device, const char *text)
{
	(void)add(device, BH__TRACE_ENTRY__KIND__EVENT, "", text);
	tell();
}
