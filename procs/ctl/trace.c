/*
 * One question is asked after the other. The entries that pass while this process is held up by
 * whoever reads its output are kept for a while, then lost, and a line tells how many.
 */
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "bus/bus.h"
#include "query.h"
#include "target.h"

/** struct watching - a trace that goes on */
struct watching {
	uint64_t next; /* 0 = not begun */
	uint64_t n;    /* entries so far */
	uint64_t n_max;
	bool broken; /* nobody reads */
};

static void print_time(uint64_t usec)
{
	time_t seconds = (time_t)(usec / 1000000);
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%H:%M:%S", localtime_r(&seconds, &tm));
	printf("%s.%06" PRIu64 " ", text, usec % 1000000);
}

static const char *mark_of(const Bh__TraceEntry *entry)
{
	switch (entry->kind) {
	case BH__TRACE_ENTRY__KIND__MESSAGE:
		return ">";
	case BH__TRACE_ENTRY__KIND__REPLY:
		return "<";
	case BH__TRACE_ENTRY__KIND__REFUSED:
		return "!";
	default:
		return "-";
	}
}

static void print_entry(const Bh__TraceEntry *entry)
{
	print_time(entry->time_us);
	printf("%s %s%s%s", entry->device, mark_of(entry), *entry->name ? " " : "", entry->name);
	if (*entry->text)
		printf("%s %s", *entry->name ? ":" : "", entry->text);
	if (entry->n_fds)
		printf(" [%" PRIu32 " descriptor%s]", entry->n_fds, entry->n_fds == 1 ? "" : "s");
	if (entry->need_reply)
		printf(" [wants an acknowledgement]");
	putchar('\n');
}

static void on_entries(const Bh__WatchTraceReply *reply, void *data)
{
	struct watching *watching = data;

	if (!watching->next)
		fputs("tracing; Ctrl-C ends\n", stderr);
	watching->next = reply->next;
	if (reply->lost)
		printf("... %" PRIu64 " entries were lost\n", reply->lost);
	for (size_t i = 0; i < reply->n_entries; i++) {
		if (watching->n_max && watching->n == watching->n_max)
			break;
		print_entry(reply->entries[i]);
		watching->n++;
	}
	watching->broken = fflush(stdout) != 0;
}

static int explain(const struct target *target, int r)
{
	switch (r) {
	case -ENODEV:
		fprintf(stderr,
			"guest %s has no device %s; 'bulkheadctl status %s' shows which it has\n",
			target->guest, target->device, target->guest);
		break;
	case -EOPNOTSUPP:
		fprintf(stderr,
			"guest %s: its processes are of a release that cannot trace; 'bulkheadctl upgrade %s' replaces them\n",
			target->guest, target->guest);
		break;
	case -EBUSY:
		fprintf(stderr, "guest %s: too many watch it already\n", target->guest);
		break;
	default:
		fprintf(stderr, "guest %s: %s\n", target->guest, query_why(r));
	}
	return r;
}

static void on_there(const Bh__GetStatusReply *status, void *data)
{
}

/* No answer for a long time means that no VMM has said anything. */
int trace_run(const struct arguments *args, char *text)
{
	struct watching watching = { .n_max = args->count };
	struct target target;
	int r = target_parse(text, &target);

	if (r < 0)
		return r;
	/* the question itself is one that may wait for long */
	r = query_status(args->runtime_dir, target.guest, BUS_TIMEOUT_MS, on_there, NULL);
	if (r < 0)
		return explain(&target, r);
	while (!watching.broken && (!watching.n_max || watching.n < watching.n_max)) {
		r = query_trace(args->runtime_dir, target.guest, target.device, watching.next,
			on_entries, &watching);
		if (r < 0 && !(r == -ETIMEDOUT && watching.next))
			return explain(&target, r);
	}
	return 0;
}
