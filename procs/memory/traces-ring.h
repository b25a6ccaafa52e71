#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "bus.pb-c.h"

/*
 * What VMMs and frontend have said to each other, for as long as bulkheadctl watches: the newest
 * entries, each with a number. A reader knows by the numbers what it has missed.
 */

#define TRACES_MAX 1024
#define TRACES_WATCHES 4

struct bus_request;

/** struct trace_watch - a question of bulkheadctl that is held */
struct trace_watch {
	struct bus_request *request; /* NULL: none */
	uint64_t next;
	char device[64]; /* empty = all */
};

/** struct traces - of one guest; begins as zeros */
struct traces {
	bool on;    /* somebody watches, or did until a moment ago */
	bool can;   /* the frontend knows how to, as it says (watch.c) ... */
	bool begun; /* ... and does so */
	sd_event_source *end;
	struct trace_watch watches[TRACES_WATCHES];
	Bh__TraceEntry *ring[TRACES_MAX]; /* by their numbers; NULL = it was dropped, or is none */
	uint64_t next;                    /* the number of the next one; never 0 while on */
};

/** traces_have_news() - whether the frontend is to begin, or to end */
static inline bool traces_have_news(const struct traces *traces)
{
	return traces->can && traces->begun != traces->on;
}

/** traces_add() - one more
 * @entry: borrowed; its seq does not count */
void traces_add(struct traces *traces, const Bh__TraceEntry *entry);

/** traces_skip() - n entries were dropped before they came here */
void traces_skip(struct traces *traces, uint64_t n);

/** struct traces_part - an answer */
struct traces_part {
	Bh__TraceEntry *list[TRACES_MAX]; /* borrowed from the ring */
	size_t n;
	uint64_t next;
	uint64_t lost;
};

/** traces_read() - the entries of a device from a number on, n_max at the most and up to the next
 * gap, and how many of all devices are missing before them
 * @device: empty = all
 * @from:   a number that is still to come counts as the next one */
void traces_read(const struct traces *traces, const char *device, uint64_t from, size_t n_max,
	struct traces_part *ret);

/** traces_clear() - drop all */
void traces_clear(struct traces *traces);
