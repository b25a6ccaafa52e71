/*
 * Whoever reports may have been taken over, so a report counts only with the id of a transfer that
 * waits for this very process. The loop's timer is armed only while a transfer is under way.
 */
#include "transfers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/timer.h"
#include "fd/kind.h"
#include "judge.h"
#include "watch.h"

/* How long after its start the snapshot process may not be there yet. */
#define SNAPSHOT_COMES_USEC 10000000

static uint64_t now_of(const struct memory *memory)
{
	uint64_t now;

	sd_event_now(memory->proc->event, CLOCK_MONOTONIC, &now);
	return now;
}

/* --- Changes --- */

static void arm(struct memory *memory)
{
	uint64_t due = UINT64_MAX;

	for (size_t i = 0; i < memory->n_devices; i++)
		if (transfer_turn(&memory->devices[i].transfer) != SIDE_NOBODY)
			due = MIN(due, memory->devices[i].transfer.due_usec);
	timer_stop(memory->deadlines);
	if (due == UINT64_MAX)
		return;
	(void)sd_event_source_set_time(memory->deadlines, due);
	(void)sd_event_source_set_enabled(memory->deadlines, SD_EVENT_ONESHOT);
}

/* was: whose turn it was. Only those hear of it whose turn it was or is: whoever else is woken
 * takes the processor from them, while a guest stands still.
 * by: has done its step itself, and need not be told; NULL = nobody has. */
static void changed(struct memory *memory, struct served *device, enum transfer_side was,
	struct peer *by)
{
	enum transfer_side turn = transfer_turn(&device->transfer);

	if (was == SIDE_WORKER || turn == SIDE_WORKER)
		device->transfer_seq++;
	if (by && by->device)
		by->known_seq = device->transfer_seq;
	if ((was == SIDE_SNAPSHOT && !by) || turn == SIDE_SNAPSHOT)
		memory->snapshot_seq++;
	memory->transfer_seq++;
	arm(memory);
	fault_point("memory-transfer", device->transfer.id ? device->transfer.step + 1 : 0);
	watch_tell_transfer(memory, device);
}

static void fail(struct memory *memory, struct served *device, const char *text)
{
	enum transfer_side was = transfer_turn(&device->transfer);

	transfer_fail(&device->transfer, text);
	changed(memory, device, was, NULL);
}

static void cancel(struct memory *memory, struct served *device)
{
	enum transfer_side was = transfer_turn(&device->transfer);

	log_device(LOG_DEBUG, device->config->name, "the transfer of its state was cancelled");
	transfer_clear(&device->transfer);
	changed(memory, device, was, NULL);
}

static int on_due(sd_event_source *source, uint64_t usec, void *data)
{
	struct memory *memory = data;
	uint64_t now = now_of(memory);

	for (size_t i = 0; i < memory->n_devices; i++) {
		struct served *device = &memory->devices[i];

		if (transfer_turn(&device->transfer) != SIDE_NOBODY &&
			device->transfer.due_usec <= now)
			fail(memory, device, transfer_late(&device->transfer));
	}
	arm(memory);
	return 0;
}

int transfers_open(struct memory *memory)
{
	uint32_t first;
	int r;

	/* a peer that knows the changes of our predecessor must not take ours for the same ones */
	check(getrandom(&first, sizeof(first), 0) == sizeof(first));
	memory->transfer_seq = memory->snapshot_seq = first + UINT64_C(1);
	for (size_t i = 0; i < memory->n_devices; i++)
		memory->devices[i].transfer_seq = first + UINT64_C(1);
	r = sd_event_add_time(memory->proc->event, &memory->deadlines, CLOCK_MONOTONIC, 0, 100000,
		on_due, memory);
	return r < 0 ? r : sd_event_source_set_enabled(memory->deadlines, SD_EVENT_OFF);
}

void transfers_close(struct memory *memory)
{
	memory->deadlines = sd_event_source_disable_unref(memory->deadlines);
	for (size_t i = 0; i < memory->n_devices; i++)
		transfer_clear(&memory->devices[i].transfer);
}

/* --- The beginning --- */

__attribute__((format(printf, 3, 4))) static bool refuse(char *text, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, n, fmt, ap);
	va_end(ap);
	return false;
}

/* It is neither read nor written here, and of a kind that never makes anybody wait. */
static bool judge_stream(int fd, bool load, char *text, size_t n)
{
	char kind[FD_KIND_TEXT_BYTES];
	int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

	if (fd_kind_of(fd, kind) != FD_PIPE)
		return refuse(text, n, "the stream is %s; a pipe is due", kind);
	if (mode == (load ? O_WRONLY : O_RDONLY))
		return refuse(text, n, "the stream cannot be %s", load ? "read" : "written to");
	return true;
}

static bool has_peer_without(const struct memory *memory, const struct served *device)
{
	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].device == device && memory->peers[i].watch &&
			!memory->peers[i].transfers)
			return true;
	return false;
}

static bool has_snapshot(const struct memory *memory)
{
	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].role->asks == ROLE_SNAPSHOT && memory->peers[i].connects)
			return true;
	return now_of(memory) - memory->started_usec < SNAPSHOT_COMES_USEC;
}

static bool judge_start(const struct memory *memory, const struct served *device,
	const struct transfer *start, char *text, size_t n)
{
	if (!start->owner &&
		(!device->desired->connected || device->desired->session != start->session))
		return refuse(text, n, "the VMM that asks is not connected any more");
	if (served_is_deadly(device) || *served_quarantine(device))
		return refuse(text, n, "the device is in quarantine");
	if (transfer_turn(&device->transfer) != SIDE_NOBODY)
		return refuse(text, n, "another transfer of its state is under way");
	if (has_peer_without(memory, device))
		return refuse(text, n, "its process is of a release that saves and loads no state");
	if (!has_snapshot(memory))
		return refuse(text, n, "the process 'snapshot' does not run");
	return true;
}

static int identify(int fd, struct transfer *start)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
		return -errno;
	start->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	start->ino = st.stx_ino;
	return 0;
}

/* A VMM whose device is suspended need not wait for the worker, which has handed over the state
 * with its last report. */
static void skip_worker(struct memory *memory, struct served *device)
{
	const struct suspended *suspended = &device->suspended;
	Bh__ReportTransfer report = BH__REPORT_TRANSFER__INIT;

	if (!suspended->state || suspended->generation != device->desired->generation ||
		device->transfer.load || device->transfer.owner)
		return;
	report.state.data = suspended->state;
	report.state.len = suspended->n_state;
	(void)transfer_done(&device->transfer, &report, now_of(memory));
}

uint64_t transfers_start(struct peer *peer, const Bh__StartTransfer *msg, int fd, char *text,
	size_t n)
{
	_cleanup_close_ int stream = fd;
	struct memory *memory = peer->memory;
	struct served *device = peer_any_device(memory, msg->device);
	struct transfer start = { .load = msg->load, .session = msg->session, .stream = -1 };

	if (!device || !judge_stream(stream, msg->load, text, n) || identify(stream, &start) < 0)
		return 0;
	start.owner = peer->role->asks == ROLE_CTL ? peer : NULL;
	start.generation = device->desired->generation;
	if (transfer_is_same(&device->transfer, &start)) {
		device->transfer.owner = start.owner; /* its former link may be about to end */
		return device->transfer.id;
	}
	if (!judge_start(memory, device, &start, text, n))
		return 0;
	start.stream = fd_steal(&stream);
	transfer_begin(&device->transfer, &start, now_of(memory));
	skip_worker(memory, device);
	changed(memory, device, SIDE_NOBODY, NULL);
	return device->transfer.id;
}

/* --- The steps --- */

int transfers_take(struct memory *memory, const Bh__TakeStream *take)
{
	struct served *device = peer_any_device(memory, take->device);
	int fd;

	if (!device || device->transfer.id != take->id ||
		transfer_turn(&device->transfer) != SIDE_SNAPSHOT)
		return -ENOENT;
	fd = transfer_take(&device->transfer);
	if (fd < 0)
		return -ENOENT;
	watch_taken(memory);
	return fd;
}

static bool is_turn_of(const struct peer *peer, const struct transfer *transfer)
{
	if (peer->role->asks == ROLE_SNAPSHOT)
		return transfer_turn(transfer) == SIDE_SNAPSHOT;
	return transfer_turn(transfer) == SIDE_WORKER;
}

/* Nobody can have moved the bytes of a stream that is still here. */
static bool judge_report(const struct peer *peer, const struct transfer *transfer,
	const Bh__ReportTransfer *report, char *text, size_t n)
{
	if (peer->role->asks == ROLE_SNAPSHOT && !transfer->taken)
		return refuse(text, n, "the process 'snapshot' claims a stream that it has not");
	return !judge_transfer(report, transfer->step == BH__TRANSFER__STEP__FIRST, text, n);
}

static void take_report(struct memory *memory, struct served *device, struct peer *peer,
	const Bh__ReportTransfer *report)
{
	struct transfer *transfer = &device->transfer;
	enum transfer_side was = transfer_turn(transfer);
	char text[TRANSFER_ERROR_BYTES];

	if (*report->error)
		fail(memory, device, report->error);
	else if (!judge_report(peer, transfer, report, text, sizeof(text)))
		fail(memory, device, text);
	else if (transfer_done(transfer, report, now_of(memory)) < 0)
		fail(memory, device, "the memory manager has no memory for it");
	else
		changed(memory, device, was, peer);
}

static void answer_report(struct bus_request *request)
{
	Bh__ReportTransferReply reply = BH__REPORT_TRANSFER_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	body.body_case = BH__ENVELOPE__BODY_REPORT_TRANSFER_REPLY;
	body.report_transfer_reply = &reply;
	bus_request_reply(request, &body);
}

int handle_report_transfer(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	const Bh__ReportTransfer *report = msg->report_transfer;
	struct peer *peer = peer_find(context, bus_request_peer(request));
	struct served *device = peer_device(context, peer->name, report->device);

	if (!device)
		return -ENOENT;
	if (report->id != 0 && report->id == device->transfer.id &&
		is_turn_of(peer, &device->transfer)) {
		blame_set(device->mark, msg->body_case, 0);
		take_report(context, device, peer, report);
		blame_finish();
	} else {
		log_device(LOG_DEBUG, report->device,
			"%s reports on a transfer that does not wait for it", peer->name);
	}
	answer_report(request);
	return 0;
}

/* --- Ends from outside --- */

void transfers_link_ended(struct peer *peer)
{
	struct memory *memory = peer->memory;

	for (size_t i = 0; i < memory->n_devices; i++) {
		struct served *device = &memory->devices[i];
		const struct transfer *transfer = &device->transfer;
		enum transfer_side turn = transfer_turn(transfer);

		if (turn == SIDE_NOBODY)
			continue;
		if (transfer->owner == peer)
			cancel(memory, device);
		else if (peer->role->asks == ROLE_SNAPSHOT && turn == SIDE_SNAPSHOT &&
			transfer->taken)
			fail(memory, device, "the process 'snapshot' ended in the middle");
	}
}

void transfers_committed(struct memory *memory, struct served *device)
{
	const struct transfer *transfer = &device->transfer;

	if (transfer_turn(transfer) == SIDE_NOBODY || transfer->owner)
		return;
	if (!device->desired->connected || device->desired->session != transfer->session)
		cancel(memory, device);
}
