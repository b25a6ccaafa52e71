/* One question to one guest's memory manager. */
#include "query.h"

#include <stdio.h>
#include <systemd/sd-event.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "bus/bus.h"

struct query {
	sd_event *event;
	query_fn fn;
	void *data;
	int error;
};

static void on_status(void *data, int error, const Bh__Envelope *reply)
{
	struct query *query = data;

	query->error = error;
	if (!error)
		query->fn(reply->get_status_reply, query->data);
	sd_event_exit(query->event, 0);
}

int query_status(const char *runtime_dir, const char *guest, unsigned int timeout_ms, query_fn fn, void *data)
{
	struct query query = { .fn = fn, .data = data };
	Bh__GetStatus request = BH__GET_STATUS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	_cleanup_free_ char *path = NULL;
	struct bus_client *client = NULL;
	int r;

	check(asprintf(&path, "%s/%s/ctl.sock", runtime_dir, guest) >= 0);
	body.body_case = BH__ENVELOPE__BODY_GET_STATUS;
	body.get_status = &request;
	r = sd_event_new(&query.event);
	if (r >= 0)
		r = bus_client_dial(&client, query.event, path);
	if (r >= 0)
		r = bus_client_call(client, &body, timeout_ms, on_status, &query);
	if (r >= 0)
		r = sd_event_loop(query.event);
	bus_client_free(client);
	sd_event_unref(query.event);
	return r < 0 ? r : query.error;
}
