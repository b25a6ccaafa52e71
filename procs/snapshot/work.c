/*
 * A piece of work ends with its report, and is kept until memory has another step or none for the
 * transfer: so it is never begun twice. It has no deadline of its own, as memory has one.
 */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "snapshot/snapshot.h"
#include "stream.h"

/* The places where a test ends the process. */
enum {
	POINT_BEGIN = 1, /* nothing was taken yet */
	POINT_TAKEN,
	POINT_MOVED, /* nothing was said of it */
	POINT_REPORTED,
};

struct work {
	const struct hands *hands;
	char *device;
	uint64_t id;
	bool load;
	uint8_t *bytes; /* save: header and state */
	size_t n;
	struct stream *stream;
	struct snapshot_image image; /* load: in the stream's bytes */
	char *error;                 /* NULL = none */
	bool ended;                  /* there is something to report */
};

/* --- The report --- */

/* A report is lost with its connection only: over the next one, memory still waits for it. */
static void on_reported(void *data, int error, const Bh__Envelope *reply)
{
}

static void report(struct work *work)
{
	Bh__ReportTransfer report = BH__REPORT_TRANSFER__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	report.device = work->device;
	report.id = work->id;
	report.error = work->error ?: report.error;
	report.state.data = (uint8_t *)work->image.state;
	report.state.len = work->image.n_state;
	body.body_case = BH__ENVELOPE__BODY_REPORT_TRANSFER;
	body.report_transfer = &report;
	work->ended = true;
	if (bus_client_call(work->hands->bus, &body, BUS_WATCH_MS, on_reported, NULL) < 0)
		log_device(LOG_ERR, work->device, "there is no memory to report on its state");
	fault_point("snapshot", POINT_REPORTED);
}

static void fail(struct work *work, const char *error)
{
	if (!work->error)
		work->error = strdup(error);
	check(work->error);
	report(work);
}

/* --- The stream --- */

static const char *judge_read(struct work *work, struct snapshot_fault *fault)
{
	size_t n;
	const uint8_t *bytes = stream_bytes(work->stream, &n);
	int r = snapshot_check(bytes, n, &work->image, fault);

	if (r == 0)
		return NULL;
	return r == SNAPSHOT_E_REFUSED ? fault->text : "there is no memory to read the state";
}

static void on_moved(void *data, const char *error)
{
	struct work *work = data;
	struct snapshot_fault fault;

	fault_point("snapshot", POINT_MOVED);
	if (!error && work->load)
		error = judge_read(work, &fault);
	if (error)
		fail(work, error);
	else
		report(work);
}

static void on_taken(void *data, int error, const uint64_t *tokens, struct fdset *fds)
{
	struct work *work = data;
	int fd, r;

	if (error) {
		fail(work, "the stream cannot be taken");
		return;
	}
	fault_point("snapshot", POINT_TAKEN);
	fd = fdset_steal(fds, 0);
	r = work->load ? stream_read(&work->stream, work->hands->event, fd, SNAPSHOT_IMAGE_MAX,
				 on_moved, work)
		       : stream_write(&work->stream, work->hands->event, fd, work->bytes, work->n,
				 on_moved, work);
	free(work->bytes);
	work->bytes = NULL;
	if (r < 0)
		fail(work, strerror(-r));
}

/* --- Beginning and end --- */

/* What leaves is in form, too: whoever reads it later must be able to. */
static int prepare(struct work *work, const ProtobufCBinaryData *state,
	struct snapshot_fault *fault)
{
	Bh__State *unpacked;
	int r = snapshot_unpack(state->data, state->len, &unpacked, fault);

	if (r != 0)
		return r;
	bh__state__free_unpacked(unpacked, NULL);
	return snapshot_pack(state->data, state->len, &work->bytes, &work->n);
}

static int begin(struct work *work, const Bh__Transfer *transfer)
{
	struct snapshot_fault fault;
	int r;

	if (!work->device)
		return -ENOMEM;
	r = work->load ? 0 : prepare(work, &transfer->state, &fault);
	if (r == SNAPSHOT_E_REFUSED) {
		fail(work, fault.text);
		return 0;
	}
	if (r < 0)
		return r;
	fault_point("snapshot", POINT_BEGIN);
	return vault_ask_take_stream(work->hands->vault, work->device, work->id, on_taken, work);
}

struct work *work_begin(const struct hands *hands, const Bh__Transfer *transfer)
{
	struct work *work = calloc(1, sizeof(*work));

	if (!work)
		return NULL;
	*work = (struct work){ .hands = hands,
		.device = strdup(transfer->device),
		.id = transfer->id,
		.load = transfer->load };
	return begin(work, transfer) < 0 ? work_end(work) : work;
}

struct work *work_end(struct work *work)
{
	if (!work)
		return NULL;
	vault_forget(work->hands->vault, work);
	stream_free(work->stream);
	free(work->bytes);
	free(work->error);
	free(work->device);
	free(work);
	return NULL;
}

bool work_is_of(const struct work *work, const Bh__Transfer *transfer)
{
	return work->id == transfer->id;
}

void work_go_on(struct work *work)
{
	if (work->ended)
		report(work);
}
