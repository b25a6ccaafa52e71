/* One report is under way at a time; what comes meanwhile goes with the next one. */
#include "trace-report.h"

#include "trace.h"

static struct {
	struct bus_client *bus;
	bool open; /* a report is under way */
} line;

static void on_reported(void *data, int error, const Bh__Envelope *reply);

static void report(void *data)
{
	Bh__ReportTrace request = BH__REPORT_TRACE__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	struct trace_taken taken;

	if (line.open || !line.bus)
		return;
	trace_take(&taken);
	request.entries = taken.entries;
	request.n_entries = taken.n;
	request.dropped = taken.dropped;
	body.body_case = BH__ENVELOPE__BODY_REPORT_TRACE;
	body.report_trace = &request;
	if (taken.n)
		line.open =
			bus_client_call(line.bus, &body, BUS_TIMEOUT_MS, on_reported, NULL) == 0;
	trace_free(&taken);
}

/* Where memory is away, what it was told is lost; whether somebody still watches is known when it
 * is back. */
static void on_reported(void *data, int error, const Bh__Envelope *reply)
{
	line.open = false;
	if (trace_on)
		report(NULL);
}

void trace_report_open(struct bus_client *bus)
{
	line.bus = bus;
	trace_call(report, NULL);
}

void trace_report_close(void)
{
	trace_call(NULL, NULL);
	trace_set(false);
	line.bus = NULL;
	line.open = false;
}

void trace_report_set(bool on)
{
	if (on != trace_on)
		trace_set(on);
}

bool trace_report_is_on(void)
{
	return trace_on;
}
