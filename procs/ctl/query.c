/* Queries a memory manager, over one connection at a time. */
#include "query.h"

#include <errno.h>
#include <sys/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "bus/bus.h"
#include "bus/texts.h"
#include "plausible.h"

/* Each step of a transfer ends after 30 s at the latest, and is then another number. */
#define TRANSFER_WAIT_MS 40000

struct query {
	query_fn fn;                  /* for a status query */
	query_transfers_fn transfers; /* for one for transfers */
	query_trace_fn trace;         /* for one for a trace */
	void *data;
	bool released; /* for a release */
	int error;
	bool answered;
};

static void on_reply(void *data, int error, const Bh__Envelope *reply)
{
	struct query *query = data;

	query->error = error;
	if (!error)
		texts_clean((ProtobufCMessage *)&reply->base); /* shown on a terminal */
	if (!error && reply->body_case == BH__ENVELOPE__BODY_GET_STATUS_REPLY &&
		plausible_status(reply->get_status_reply))
		query->error = -EBADMSG;
	else if (!error && reply->body_case == BH__ENVELOPE__BODY_GET_STATUS_REPLY)
		query->fn(reply->get_status_reply, query->data);
	if (!error && reply->body_case == BH__ENVELOPE__BODY_WATCH_TRANSFERS_REPLY)
		query->transfers(reply->watch_transfers_reply, query->data);
	if (!error && reply->body_case == BH__ENVELOPE__BODY_WATCH_TRACE_REPLY)
		query->trace(reply->watch_trace_reply, query->data);
	if (!error && reply->body_case == BH__ENVELOPE__BODY_RELEASE_DEVICE_REPLY)
		query->released = reply->release_device_reply->released;
	query->answered = true;
}

/* The connection to the guest queried last. */
static struct {
	char *path;
	sd_event *event;
	struct bus_client *client;
} line;

sd_event *query_event(void)
{
	if (!line.event && sd_event_new(&line.event) < 0)
		line.event = NULL;
	return line.event;
}

static int open_line(const char *path)
{
	int r;

	if (!query_event())
		return -ENOMEM;
	if (line.path && strcmp(line.path, path) == 0)
		return 0;
	free(line.path);
	line.path = NULL;
	line.client = bus_client_free(line.client);
	r = bus_client_dial(&line.client, line.event, path);
	if (r < 0)
		return r;
	line.path = strdup(path);
	check(line.path);
	return 0;
}

static int ask_once(struct query *query, unsigned int timeout_ms, const Bh__Envelope *body)
{
	int r;

	query->answered = false;
	r = bus_client_call(line.client, body, timeout_ms, on_reply, query);
	while (r >= 0 && !query->answered)
		r = sd_event_run(line.event, UINT64_MAX);
	return r < 0 ? r : query->error;
}

/* Releases before 0.2 had the socket in the guest's own directory. */
static char *path_in(const char *runtime_dir, const char *guest, const char *rest)
{
	char *path;

	check(asprintf(&path, "%s/%s/%s", runtime_dir, guest, rest) >= 0);
	return path;
}

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

char *query_link_path(const char *runtime_dir, const char *guest)
{
	return path_in(runtime_dir, guest, "link/ctl+link.sock");
}

enum answers query_answers(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *path = path_in(runtime_dir, guest, "link/ctl.sock"),
			    *former = path_in(runtime_dir, guest, "ctl.sock");

	return is_socket(path)      ? ANSWERS_MEMORY
		: is_socket(former) ? ANSWERS_FORMER
				    : ANSWERS_NOBODY;
}

/* connect() needs the right to write. */
int query_allowed(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *path = path_in(runtime_dir, guest, "link/ctl.sock"),
			    *former = path_in(runtime_dir, guest, "ctl.sock");

	if (access(path, W_OK) == 0 || access(former, W_OK) == 0)
		return 0;
	return access(path, W_OK) < 0 && errno == EACCES ? -EACCES : -ENOENT;
}

/* Where there is nobody to wait for, nobody is waited for. The folder stays while a memory manager
 * is restarted. */
static int look_first(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *folder = path_in(runtime_dir, guest, "");

	if (query_allowed(runtime_dir, guest) == -EACCES)
		return -EACCES;
	return access(folder, F_OK) < 0 && errno == ENOENT ? -ENOENT : 0;
}

/* If the connection breaks, because the memory manager may be restarting, the request is
 * repeated. All of these requests are idempotent. */
static int ask(struct query *query, const char *runtime_dir, const char *guest,
	unsigned int timeout_ms, const Bh__Envelope *body)
{
	_cleanup_free_ char *path = path_in(runtime_dir, guest,
		query_answers(runtime_dir, guest) == ANSWERS_FORMER ? "ctl.sock" : "link/ctl.sock");
	uint64_t end = clock_ms() + timeout_ms;
	int r;

	r = look_first(runtime_dir, guest);
	if (r == 0)
		r = open_line(path);
	if (r < 0)
		return r;
	do
		r = ask_once(query, timeout_ms, body);
	while (r == -ECONNRESET && clock_ms() < end);
	return r;
}

int query_status(const char *runtime_dir, const char *guest, unsigned int timeout_ms, query_fn fn,
	void *data)
{
	struct query query = { .fn = fn, .data = data };
	Bh__GetStatus request = BH__GET_STATUS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	body.body_case = BH__ENVELOPE__BODY_GET_STATUS;
	body.get_status = &request;
	return ask(&query, runtime_dir, guest, timeout_ms, &body);
}

const char *query_why(int r)
{
	switch (r) {
	case -EBADMSG:
		return "its memory manager says what cannot be; it may have been compromised";
	case -ENOENT:
		return "nobody serves it; 'bulkheadctl status' shows which guests there are";
	case -EACCES:
		return "this user may not ask its memory manager; root may";
	case -ETIMEDOUT:
		return "no answer within 3 s; is it running?";
	default:
		return strerror(-r);
	}
}

int query_release(const char *runtime_dir, const char *guest, char *device, bool *ret_released)
{
	struct query query = { 0 };
	Bh__ReleaseDevice request = BH__RELEASE_DEVICE__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	int r;

	request.device = device;
	body.body_case = BH__ENVELOPE__BODY_RELEASE_DEVICE;
	body.release_device = &request;
	r = ask(&query, runtime_dir, guest, BUS_TIMEOUT_MS, &body);
	if (r == 0)
		*ret_released = query.released;
	return r;
}

int query_transfers(const char *runtime_dir, const char *guest, uint64_t seq, query_transfers_fn fn,
	void *data)
{
	struct query query = { .transfers = fn, .data = data };
	Bh__WatchTransfers request = BH__WATCH_TRANSFERS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	request.transfer_seq = seq;
	request.patient = true;
	body.body_case = BH__ENVELOPE__BODY_WATCH_TRANSFERS;
	body.watch_transfers = &request;
	return ask(&query, runtime_dir, guest, TRANSFER_WAIT_MS, &body);
}

int query_trace(const char *runtime_dir, const char *guest, const char *device, uint64_t next,
	query_trace_fn fn, void *data)
{
	struct query query = { .trace = fn, .data = data };
	Bh__WatchTrace request = BH__WATCH_TRACE__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	if (device)
		request.device = (char *)device;
	request.next = next;
	body.body_case = BH__ENVELOPE__BODY_WATCH_TRACE;
	body.watch_trace = &request;
	return ask(&query, runtime_dir, guest, BUS_WATCH_MS, &body);
}
