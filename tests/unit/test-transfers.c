/*
 * The transfers in memory: each event at each step, who is told what, and what a process that was
 * taken over may not do. memory is in this process, without a bus (tests/fuzz/memory-rig.h).
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "fuzz/memory-rig.h"
#include "lib/run.h"

#define FIRST BH__TRANSFER__STEP__FIRST
#define SECOND BH__TRANSFER__STEP__SECOND
#define ENDED BH__TRANSFER__STEP__ENDED

static struct transfer *transfer;
static struct served *device;
static int other_end = -1;
static char refused[TRANSFER_ERROR_BYTES];
static uint64_t id;

/* --- Questions --- */

static void ask(enum rig_peer peer, Bh__Envelope *body)
{
	size_t n = bh__envelope__get_packed_size(body);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	bh__envelope__pack(body, buf);
	rig_ask(peer, buf, n);
}

static void commit(uint64_t session, bool connected)
{
	Bh__CommitDesired commit = BH__COMMIT_DESIRED__INIT;
	Bh__Desired desired = BH__DESIRED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	desired.generation = device->desired->generation + 1;
	desired.session = session;
	desired.connected = connected;
	commit.device = (char *)"net0";
	commit.desired = &desired;
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED;
	body.commit_desired = &commit;
	ask(RIG_FRONTEND, &body);
}

static void say(enum rig_peer peer, Bh__ReportTransfer *report)
{
	Bh__Envelope body = BH__ENVELOPE__INIT;

	body.body_case = BH__ENVELOPE__BODY_REPORT_TRANSFER;
	body.report_transfer = report;
	ask(peer, &body);
}

static void report(enum rig_peer peer, uint64_t number, const char *error)
{
	Bh__ReportTransfer report = BH__REPORT_TRANSFER__INIT;
	Bh__RingState ring = BH__RING_STATE__INIT, *rings = &ring;

	ring.index = 1;
	ring.position = 77;
	report.device = (char *)"net0";
	report.id = number;
	report.error = (char *)error;
	report.state.data = (uint8_t *)"state";
	report.state.len = strlen("state");
	report.rings = &rings;
	report.n_rings = 1;
	say(peer, &report);
}

static void watch_desired(uint64_t seq, bool takes_part)
{
	Bh__WatchDesired watch = BH__WATCH_DESIRED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	watch.device = (char *)"net0";
	watch.generation = device->desired->generation;
	watch.patient = true;
	watch.transfers = takes_part;
	watch.transfer_seq = seq;
	body.body_case = BH__ENVELOPE__BODY_WATCH_DESIRED;
	body.watch_desired = &watch;
	ask(RIG_NET0, &body);
}

static void watch_transfers(enum rig_peer peer, uint64_t seq)
{
	Bh__WatchTransfers watch = BH__WATCH_TRANSFERS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	watch.transfer_seq = seq;
	watch.patient = true;
	body.body_case = BH__ENVELOPE__BODY_WATCH_TRANSFERS;
	body.watch_transfers = &watch;
	ask(peer, &body);
}

static void watch_observed(uint64_t seen_id, uint64_t waiting, bool takes_part)
{
	Bh__WatchObserved watch = BH__WATCH_OBSERVED__INIT;
	Bh__Seen seen = BH__SEEN__INIT, *list = &seen;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	seen.device = (char *)"net0";
	seen.generation = 99;
	seen.transfer = seen_id;
	seen.waiting = waiting;
	watch.seen = &list;
	watch.n_seen = 1;
	watch.patient = true;
	watch.transfers = takes_part;
	body.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED;
	body.watch_observed = &watch;
	ask(RIG_FRONTEND, &body);
}

static const Bh__WatchDesiredReply *told_worker(void)
{
	ck_assert_ptr_nonnull(rig_answer(RIG_NET0));
	return rig_answer(RIG_NET0)->watch_desired_reply;
}

static const Bh__WatchTransfersReply *told(enum rig_peer peer)
{
	ck_assert_ptr_nonnull(rig_answer(peer));
	ck_assert_int_eq(rig_answer(peer)->body_case, BH__ENVELOPE__BODY_WATCH_TRANSFERS_REPLY);
	return rig_answer(peer)->watch_transfers_reply;
}

static const Bh__Record *told_frontend(void)
{
	ck_assert_ptr_nonnull(rig_answer(RIG_FRONTEND));
	ck_assert_int_eq(rig_answer(RIG_FRONTEND)->body_case,
		BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY);
	ck_assert_uint_ge(rig_answer(RIG_FRONTEND)->watch_observed_reply->n_records, 1);
	return rig_answer(RIG_FRONTEND)->watch_observed_reply->records[0];
}

/* --- What the links bring --- */

static struct peer ctl;

static struct peer *link_of(enum rig_peer peer)
{
	return peer == RIG_CTL ? &ctl : &rig_memory.peers[peer];
}

static uint64_t start_over(enum rig_peer peer, int fd, bool load, uint64_t session)
{
	Bh__StartTransfer start = BH__START_TRANSFER__INIT;

	start.device = (char *)"net0";
	start.load = load;
	start.session = session;
	*refused = '\0';
	return transfers_start(link_of(peer), &start, fd, refused, sizeof(refused));
}

static void start(enum rig_peer peer, bool load)
{
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	fd_close(other_end);
	other_end = ends[load];
	id = start_over(peer, ends[!load], load, peer == RIG_CTL ? 0 : 7);
	ck_assert_str_eq(refused, "");
	ck_assert_uint_ne(id, 0);
}

static int take_of(const char *name, uint64_t number)
{
	Bh__TakeStream take = BH__TAKE_STREAM__INIT;

	take.device = (char *)name;
	take.id = number;
	return transfers_take(&rig_memory, &take);
}

static void take(void)
{
	int fd = take_of("net0", id);

	ck_assert_int_ge(fd, 0);
	fd_close(fd);
}

static void set_up(void)
{
	static const struct role role = { .name = "ctl", .asks = ROLE_CTL };

	rig_open(NULL);
	device = &rig_memory.devices[0];
	transfer = &device->transfer;
	rig_memory.peers[RIG_SNAPSHOT].connects = 1;
	ctl = (struct peer){ .memory = &rig_memory,
		.name = (char *)"ctl",
		.role = &role,
		.link_fd = -1,
		.bell_fd = -1 };
	commit(7, true);
}

static void tear_down(void)
{
	other_end = fd_close(other_end);
	rig_close();
}

/* --- Each event at each step --- */

enum place {
	SAVE_FIRST,
	SAVE_SECOND,
	SAVE_TAKEN,
	LOAD_FIRST,
	LOAD_TAKEN,
	LOAD_SECOND,
	AFTER, /* a save that was completed */
	_PLACES,
};

enum result {
	SAME,
	NEXT, /* SECOND */
	DONE, /* ENDED without an error */
	FAIL, /* ENDED with one */
	GONE,
};

static void go_to(enum place place, enum rig_peer owner)
{
	start(owner, place >= LOAD_FIRST && place <= LOAD_SECOND);
	if (place == SAVE_SECOND || place == SAVE_TAKEN || place == AFTER)
		report(RIG_NET0, id, "");
	if (place == SAVE_TAKEN || place == LOAD_TAKEN || place == LOAD_SECOND || place == AFTER)
		take();
	if (place == LOAD_SECOND || place == AFTER)
		report(RIG_SNAPSHOT, id, "");
}

static void worker_done(void)
{
	report(RIG_NET0, id, "");
}

static void worker_failed(void)
{
	report(RIG_NET0, id, "stage \"rings\": ring 3 is not there");
}

static void snapshot_done(void)
{
	report(RIG_SNAPSHOT, id, "");
}

static void snapshot_failed(void)
{
	report(RIG_SNAPSHOT, id, "the checksum is wrong");
}

static void stranger_done(void)
{
	report(RIG_WITNESS, id, "");
	report(RIG_WITNESS, id, "it is wrong");
}

static void wrong_id(void)
{
	static const uint64_t wrong[] = { 0, 3, UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		report(RIG_NET0, wrong[i], "");
		report(RIG_SNAPSHOT, wrong[i], "it is wrong");
		ck_assert_int_eq(take_of("net0", wrong[i]), -ENOENT);
	}
	ck_assert_int_eq(take_of("witness", id), -ENOENT);
	ck_assert_int_eq(take_of("none", id), -ENOENT);
}

static void worker_gone(void)
{
	rig_leave(RIG_NET0);
	transfers_link_ended(link_of(RIG_NET0));
}

static void snapshot_gone(void)
{
	rig_leave(RIG_SNAPSHOT);
	transfers_link_ended(link_of(RIG_SNAPSHOT));
}

static void frontend_gone(void)
{
	rig_leave(RIG_FRONTEND);
	transfers_link_ended(link_of(RIG_FRONTEND));
}

static void ctl_gone(void)
{
	transfers_link_ended(link_of(RIG_CTL));
}

static void session_over(void)
{
	commit(7, false);
}

static void session_other(void)
{
	commit(8, true);
}

static void commit_more(void)
{
	commit(7, true);
}

static void time_over(void)
{
	transfer->due_usec = 0;
	(void)sd_event_source_set_time(rig_memory.deadlines, 0);
	rig_turn();
}

static void another(void)
{
	int ends[2];
	bool over = transfer_turn(transfer) == SIDE_NOBODY;

	if (over)
		return; /* that would be another transfer */
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_uint_eq(start_over(RIG_FRONTEND, ends[1], false, device->desired->session), 0);
	ck_assert_ptr_nonnull(strstr(refused, "another transfer"));
	fd_close(ends[0]);
}

static const struct {
	const char *name;
	void (*happen)(void);
	/* of one that the VMM has begun, and what bulkheadctl's has instead, where it differs */
	enum result vmm[_PLACES], ctl[_PLACES];
	const char *error;
} events[] = {
	{ "worker done", worker_done, { NEXT, SAME, SAME, SAME, SAME, DONE, SAME } },
	{ "worker failed", worker_failed, { FAIL, SAME, SAME, SAME, SAME, FAIL, SAME }, { 0 },
		"ring 3" },
	/* what it does not have it cannot have moved */
	{ "snapshot done", snapshot_done, { SAME, FAIL, DONE, FAIL, NEXT, SAME, SAME } },
	{ "snapshot failed", snapshot_failed, { SAME, FAIL, FAIL, FAIL, FAIL, SAME, SAME }, { 0 },
		"checksum" },
	{ "another device's worker", stranger_done, { SAME } },
	{ "a forged id", wrong_id, { SAME } },
	{ "worker gone", worker_gone, { SAME } },
	{ "snapshot gone", snapshot_gone, { SAME, SAME, FAIL, SAME, FAIL, SAME, SAME }, { 0 },
		"in the middle" },
	{ "frontend gone", frontend_gone, { SAME } },
	{ "bulkheadctl gone", ctl_gone, { SAME }, { GONE, GONE, GONE, GONE, GONE, GONE, SAME } },
	{ "VMM gone", session_over, { GONE, GONE, GONE, GONE, GONE, GONE, SAME }, { SAME } },
	{ "another VMM", session_other, { GONE, GONE, GONE, GONE, GONE, GONE, SAME }, { SAME } },
	{ "another commit", commit_more, { SAME } },
	{ "too late", time_over, { FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, SAME }, { 0 },
		"within 30 s" },
	{ "another begins", another, { SAME } },
};

static bool differs(size_t event)
{
	return events[event].happen == ctl_gone || events[event].happen == session_over ||
		events[event].happen == session_other;
}

static void check_result(enum result wanted, Bh__Transfer__Step before, const char *error)
{
	if (wanted == GONE) {
		ck_assert_uint_eq(transfer->id, 0);
		return;
	}
	ck_assert_uint_eq(transfer->id, id);
	if (wanted == SAME)
		ck_assert_int_eq(transfer->step, before);
	else
		ck_assert_int_eq(transfer->step, wanted == NEXT ? SECOND : ENDED);
	if (wanted == FAIL)
		ck_assert(transfer->error && (!error || strstr(transfer->error, error)));
	else
		ck_assert_ptr_null(transfer->error);
	if (transfer->step == ENDED)
		ck_assert(!transfer->state && transfer->stream < 0);
	else
		ck_assert_int_eq(transfer->step == SECOND, transfer->state != NULL);
}

/* _i: the event, the place, and whose transfer it is. A device whose transfer is over, however that
 * went, can have the next one. */
START_TEST(test_each_event_at_each_step)
{
	size_t event = (size_t)_i / _PLACES / 2;
	enum place place = (enum place)(_i / 2 % _PLACES);
	enum rig_peer owner = _i % 2 ? RIG_CTL : RIG_FRONTEND;
	const enum result *results =
		owner == RIG_CTL && differs(event) ? events[event].ctl : events[event].vmm;
	Bh__Transfer__Step before;

	go_to(place, owner);
	before = transfer->step;
	events[event].happen();
	check_result(results[place], before, events[event].error);
	if (transfer_turn(transfer) != SIDE_NOBODY)
		return;
	commit(7, true);
	start(owner, true);
	ck_assert_int_eq(transfer->step, FIRST);
}
END_TEST

/* --- Beginning --- */

static int new_file(int kind)
{
	int pair[2];

	if (kind == 0)
		return memfd_create("stream", MFD_CLOEXEC);
	if (kind == 1)
		return eventfd(0, EFD_CLOEXEC);
	if (kind == 2)
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	if (kind == 3) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		fd_close(pair[1]);
		return pair[0];
	}
	ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
	fd_close(pair[kind == 4]);
	return pair[kind != 4];
}

/* covers: M24 */
START_TEST(test_only_the_right_end_of_a_pipe_is_a_stream)
{
	for (int kind = 0; kind < 4; kind++)
		for (int load = 0; load < 2; load++) {
			ck_assert_uint_eq(start_over(RIG_FRONTEND, new_file(kind), load, 7), 0);
			ck_assert_ptr_nonnull(strstr(refused, "a pipe is due"));
		}
	ck_assert_uint_eq(start_over(RIG_FRONTEND, new_file(4), false, 7), 0);
	ck_assert_str_eq(refused, "the stream cannot be written to");
	ck_assert_uint_eq(start_over(RIG_FRONTEND, new_file(5), true, 7), 0);
	ck_assert_str_eq(refused, "the stream cannot be read");
	ck_assert_uint_eq(transfer->id, 0);
}
END_TEST

START_TEST(test_who_may_not_begin_is_told_why)
{
	ck_assert_uint_eq(start_over(RIG_FRONTEND, new_file(5), false, 6), 0);
	ck_assert_ptr_nonnull(strstr(refused, "not connected"));
	watch_desired(0, false);
	ck_assert_uint_eq(start_over(RIG_FRONTEND, new_file(5), false, 7), 0);
	ck_assert_ptr_nonnull(strstr(refused, "release"));
	watch_desired(0, true);
	rig_memory.peers[RIG_SNAPSHOT].connects = 0;
	ck_assert_uint_eq(start_over(RIG_CTL, new_file(5), false, 0), 0);
	ck_assert_ptr_nonnull(strstr(refused, "'snapshot' does not run"));
	rig_memory.started_usec = UINT64_MAX / 2; /* it may still come */
	sd_event_now(rig_memory.proc->event, CLOCK_MONOTONIC, &rig_memory.started_usec);
	ck_assert_uint_ne(start_over(RIG_CTL, new_file(5), false, 0), 0);
}
END_TEST

/* A frontend that was killed handles its message again, at whatever step the transfer is by then;
 * another pipe is another transfer. _i: the place */
START_TEST(test_the_same_stream_is_the_same_transfer)
{
	bool load = _i >= LOAD_FIRST && _i <= LOAD_SECOND;
	int ends[2], more;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	other_end = ends[load];
	more = dup(ends[!load]);
	id = start_over(RIG_FRONTEND, ends[!load], load, 7);
	ck_assert_uint_ne(id, 0);
	if (_i == SAVE_SECOND || _i == SAVE_TAKEN || _i == AFTER)
		worker_done();
	if (_i == SAVE_TAKEN || _i == LOAD_TAKEN || _i == LOAD_SECOND || _i == AFTER)
		take();
	if (_i == LOAD_SECOND || _i == AFTER)
		snapshot_done();
	ck_assert_uint_eq(start_over(RIG_FRONTEND, more, load, 7), id);
	ck_assert_str_eq(refused, "");
}
END_TEST

/* Whoever reads the pipe waits for its end. */
START_TEST(test_no_copy_of_the_stream_is_left)
{
	char byte;

	start(RIG_FRONTEND, false);
	worker_done();
	take();
	ck_assert_int_eq(read(other_end, &byte, 1), 0);
	snapshot_failed();
	start(RIG_FRONTEND, false);
	worker_failed();
	ck_assert_int_eq(read(other_end, &byte, 1), 0);
	start(RIG_FRONTEND, false);
	session_over();
	ck_assert_int_eq(read(other_end, &byte, 1), 0);
	ck_assert_int_eq(take_of("net0", id), -ENOENT);
}
END_TEST

START_TEST(test_a_stream_is_taken_once)
{
	start(RIG_FRONTEND, true);
	take();
	ck_assert_int_eq(take_of("net0", id), -ENOENT);
}
END_TEST

/* --- A state that came with a report --- */

static void suspend(uint64_t generation, size_t n)
{
	static uint8_t bytes[RECORD_STATE_BYTES_MAX + 1] = "early";
	ProtobufCBinaryData state = { n, bytes };

	served_suspend(device, generation, &state);
}

START_TEST(test_state_that_came_with_the_report_is_saved)
{
	watch_desired(0, true);
	watch_transfers(RIG_SNAPSHOT, 0);
	watch_transfers(RIG_SNAPSHOT, told(RIG_SNAPSHOT)->transfer_seq);
	suspend(device->desired->generation, strlen("early"));
	start(RIG_FRONTEND, false);
	ck_assert_int_eq(transfer->step, SECOND);
	ck_assert_ptr_nonnull(rig_memory.peers[RIG_NET0].watch);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[0]->state.len, strlen("early"));
	ck_assert_int_eq(memcmp(told(RIG_SNAPSHOT)->transfers[0]->state.data, "early", 5), 0);
}
END_TEST

/* Of another record; too large; gone with the next report. */
START_TEST(test_state_that_is_none_of_now_is_asked_for)
{
	uint64_t now = device->desired->generation;

	suspend(now - 1, 5);
	start(RIG_FRONTEND, false);
	ck_assert_int_eq(transfer->step, FIRST);
	worker_done();
	take();
	snapshot_done();
	suspend(now, RECORD_STATE_BYTES_MAX + 1);
	start(RIG_FRONTEND, false);
	ck_assert_int_eq(transfer->step, FIRST);
	worker_done();
	take();
	snapshot_done();
	suspend(now, 5);
	suspend(now, 0);
	start(RIG_FRONTEND, false);
	ck_assert_int_eq(transfer->step, FIRST);
}
END_TEST

/* The operator's may be of a device that runs, and whoever loads brings one. */
START_TEST(test_others_do_not_get_that_state)
{
	suspend(device->desired->generation, 5);
	start(_i ? RIG_CTL : RIG_FRONTEND, !_i);
	ck_assert_int_eq(transfer->step, FIRST);
	ck_assert_ptr_null(transfer->state);
}
END_TEST

/* --- Who is told what --- */

START_TEST(test_the_worker_is_told_of_its_turn)
{
	uint64_t seq;

	watch_desired(0, true);
	ck_assert_ptr_null(rig_answer(RIG_NET0));
	start(RIG_FRONTEND, false);
	ck_assert_uint_eq(told_worker()->transfer->id, id);
	ck_assert_uint_eq(told_worker()->transfer->generation, device->desired->generation);
	ck_assert(!told_worker()->transfer->load && !told_worker()->transfer->by_operator);
	seq = told_worker()->transfer_seq;
	watch_desired(0, true); /* a successor, which knows nothing */
	ck_assert_uint_eq(told_worker()->transfer->id, id);
	watch_desired(seq, true);
	session_over();
	ck_assert_uint_ne(told_worker()->transfer_seq, seq);
	ck_assert_ptr_null(told_worker()->transfer);
}
END_TEST

/* What it is not concerned with would only take the processor from those who are. A standby still
 * has the turn that the one that serves has taken. */
START_TEST(test_the_worker_is_told_of_nothing_else)
{
	uint64_t seq;

	watch_desired(0, true);
	start(RIG_FRONTEND, false);
	seq = told_worker()->transfer_seq;
	watch_desired(seq, true);
	worker_done();
	take();
	snapshot_done();
	ck_assert_int_eq(transfer->step, ENDED);
	ck_assert_ptr_nonnull(rig_memory.peers[RIG_NET0].watch);
	ck_assert_uint_ne(device->transfer_seq, seq);
	start(RIG_FRONTEND, false);
	ck_assert_ptr_null(rig_memory.peers[RIG_NET0].watch);
	ck_assert_uint_eq(told_worker()->transfer->id, id);
}
END_TEST

START_TEST(test_the_state_goes_to_the_worker_of_a_load)
{
	watch_desired(0, true);
	start(RIG_CTL, true);
	ck_assert_ptr_null(rig_answer(RIG_NET0));
	take();
	snapshot_done();
	ck_assert(told_worker()->transfer->load && told_worker()->transfer->by_operator);
	ck_assert_uint_eq(told_worker()->transfer->state.len, strlen("state"));
	ck_assert_int_eq(memcmp(told_worker()->transfer->state.data, "state", 5), 0);
}
END_TEST

START_TEST(test_the_snapshot_process_is_told_of_its_turn)
{
	watch_transfers(RIG_SNAPSHOT, 0);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->n_transfers, 0);
	watch_transfers(RIG_SNAPSHOT, told(RIG_SNAPSHOT)->transfer_seq);
	start(RIG_FRONTEND, true);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->n_transfers, 1);
	ck_assert_int_eq(told(RIG_SNAPSHOT)->transfers[0]->step, FIRST);
	watch_transfers(RIG_SNAPSHOT, told(RIG_SNAPSHOT)->transfer_seq);
	session_over();
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->n_transfers, 0);
}
END_TEST

/* A guest stands still meanwhile, and whoever is woken takes the processor from those who work. */
START_TEST(test_the_snapshot_process_is_told_of_nothing_else)
{
	const struct peer *snapshot = &rig_memory.peers[RIG_SNAPSHOT];
	uint64_t seq;

	watch_transfers(RIG_SNAPSHOT, 0);
	seq = told(RIG_SNAPSHOT)->transfer_seq;
	watch_transfers(RIG_SNAPSHOT, seq);
	start(RIG_FRONTEND, false);
	ck_assert_ptr_nonnull(snapshot->watch);
	worker_done();
	ck_assert_uint_ne(told(RIG_SNAPSHOT)->transfer_seq, seq);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[0]->state.len, strlen("state"));
	seq = told(RIG_SNAPSHOT)->transfer_seq;
	take();
	watch_transfers(RIG_SNAPSHOT, seq);
	snapshot_done();
	ck_assert_int_eq(transfer->step, ENDED);
	ck_assert_ptr_nonnull(snapshot->watch);
	watch_transfers(RIG_SNAPSHOT, 0); /* it knows nothing */
	ck_assert_int_eq(told(RIG_SNAPSHOT)->transfers[0]->step, ENDED);
}
END_TEST

/* Whoever has taken the stream has the state. */
START_TEST(test_a_successor_of_the_snapshot_process_gets_no_state)
{
	start(RIG_FRONTEND, false);
	worker_done();
	take();
	watch_transfers(RIG_SNAPSHOT, 0);
	ck_assert_int_eq(told(RIG_SNAPSHOT)->transfers[0]->step, SECOND);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[0]->state.len, 0);
}
END_TEST

static void report_large(enum rig_peer peer, size_t i, size_t n)
{
	Bh__ReportTransfer report = BH__REPORT_TRANSFER__INIT;
	_cleanup_free_ uint8_t *state = calloc(1, n + 1);

	report.device = rig_memory.devices[i].config->name;
	report.id = rig_memory.devices[i].transfer.id;
	report.state.data = state;
	report.state.len = n;
	say(peer, &report);
}

/* Two of the largest do not fit one message. The second comes when the first was taken: its stream
 * may be as slow as it likes. */
START_TEST(test_large_states_come_one_after_the_other)
{
	uint64_t first, second;

	first = rig_start(RIG_CTL, 0, false);
	second = rig_start(RIG_CTL, 1, false);
	report_large(RIG_NET0, 0, RECORD_STATE_BYTES_MAX);
	report_large(RIG_WITNESS, 1, RECORD_STATE_BYTES_MAX);
	watch_transfers(RIG_SNAPSHOT, 0);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->n_transfers, 2);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[0]->state.len, RECORD_STATE_BYTES_MAX);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[1]->state.len, 0);
	ck_assert_int_eq(told(RIG_SNAPSHOT)->transfers[1]->step, SECOND);
	watch_transfers(RIG_SNAPSHOT, told(RIG_SNAPSHOT)->transfer_seq);
	fd_close(take_of("net0", first));
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[0]->state.len, 0);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[1]->state.len, RECORD_STATE_BYTES_MAX);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->transfers[1]->id, second);
}
END_TEST

START_TEST(test_the_frontend_hears_of_the_end)
{
	start(RIG_FRONTEND, true);
	watch_observed(0, id, true);
	take();
	snapshot_done();
	worker_done();
	ck_assert_uint_eq(told_frontend()->transfer->id, id);
	ck_assert_int_eq(told_frontend()->transfer->step, ENDED);
	ck_assert_str_eq(told_frontend()->transfer->error, "");
	ck_assert_uint_eq(told_frontend()->transfer->n_rings, 1);
	ck_assert_uint_eq(told_frontend()->transfer->rings[0]->index, 1);
	ck_assert_uint_eq(told_frontend()->transfer->rings[0]->position, 77);
	watch_observed(id, 0, true); /* it has seen it */
	ck_assert_ptr_nonnull(rig_memory.watch);
	watch_observed(0, 0, false); /* one of the former release knows of none */
	ck_assert_ptr_nonnull(rig_memory.watch);
}
END_TEST

/* covers: P3 */
START_TEST(test_after_a_restart_of_memory_all_hear_that_it_is_gone)
{
	uint64_t seq, all;

	watch_desired(0, true);
	start(RIG_FRONTEND, false);
	watch_transfers(RIG_SNAPSHOT, 0);
	seq = told_worker()->transfer_seq;
	all = told(RIG_SNAPSHOT)->transfer_seq;
	tear_down();
	set_up();
	watch_desired(seq, true);
	ck_assert_ptr_null(told_worker()->transfer);
	watch_transfers(RIG_SNAPSHOT, all);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->n_transfers, 0);
	watch_observed(0, id, true);
	ck_assert_ptr_null(told_frontend()->transfer);
	report(RIG_NET0, id, "");
	ck_assert_uint_eq(transfer->id, 0);
	/* as many changes as before, and yet others */
	tear_down();
	set_up();
	start(RIG_FRONTEND, false);
	watch_desired(seq, true);
	ck_assert_uint_eq(told_worker()->transfer->id, id);
	watch_transfers(RIG_SNAPSHOT, all);
	ck_assert_uint_eq(told(RIG_SNAPSHOT)->n_transfers, 1);
}
END_TEST

START_TEST(test_several_bulkheadctl_may_wait)
{
	uint64_t seq;

	watch_transfers(RIG_CTL, 0);
	seq = told(RIG_CTL)->transfer_seq;
	for (int i = 0; i < CTL_MAX; i++)
		watch_transfers(RIG_CTL, seq);
	for (int i = 0; i < CTL_MAX; i++)
		ck_assert_ptr_nonnull(rig_memory.ctl_watches[i].request);
	watch_transfers(RIG_CTL, seq);
	ck_assert_ptr_null(rig_answer(RIG_CTL)); /* refused */
	start(RIG_CTL, true);
	ck_assert_uint_eq(told(RIG_CTL)->transfers[0]->id, id);
	for (int i = 0; i < CTL_MAX; i++)
		ck_assert_ptr_null(rig_memory.ctl_watches[i].request);
	watch_transfers(RIG_CTL, told(RIG_CTL)->transfer_seq);
	rig_leave(RIG_CTL);
	ck_assert_ptr_null(rig_memory.ctl_watches[0].request);
}
END_TEST

/* --- What one that was taken over says --- */

START_TEST(test_too_much_state_ends_the_transfer)
{
	static const size_t wrong[] = { 0, RECORD_STATE_BYTES_MAX + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		id = rig_start(RIG_CTL, 0, false);
		report_large(RIG_NET0, 0, wrong[i]);
		ck_assert_int_eq(transfer->step, ENDED);
		ck_assert_ptr_nonnull(strstr(transfer->error, "a state of"));
		ck_assert_ptr_null(transfer->state);
	}
	id = rig_start(RIG_CTL, 0, false);
	report_large(RIG_NET0, 0, RECORD_STATE_BYTES_MAX);
	ck_assert_int_eq(transfer->step, SECOND);
}
END_TEST

START_TEST(test_a_text_is_cut_and_cleaned)
{
	char text[4 * TRANSFER_ERROR_BYTES + 1];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memcpy(text, "\x1b[2J\n", 5);
	memcpy(text + TRANSFER_ERROR_BYTES - 1, "\xe2\x82\xac", 3);
	start(RIG_FRONTEND, false);
	report(RIG_NET0, id, text);
	ck_assert_int_eq(strncmp(transfer->error, "?[2J?xxx", 8), 0);
	ck_assert_uint_eq(strlen(transfer->error), TRANSFER_ERROR_BYTES);
	ck_assert_int_eq(transfer->error[TRANSFER_ERROR_BYTES - 1], '?');
}
END_TEST

/* _i: how many rings; the last one is there twice, or cannot be */
START_TEST(test_forged_positions_end_the_transfer)
{
	static Bh__RingState rings[300];
	static Bh__RingState *list[ARRAY_SIZE(rings)];
	Bh__ReportTransfer report = BH__REPORT_TRANSFER__INIT;
	static const size_t numbers[] = { 2, 256, 257, 300 };
	size_t n = numbers[_i];

	for (size_t i = 0; i < n; i++) {
		bh__ring_state__init(&rings[i]);
		rings[i].index = (uint32_t)i;
		list[i] = &rings[i];
	}
	if (n <= 256)
		rings[n - 1].index = n == 2 ? 0 : 256;
	go_to(LOAD_SECOND, RIG_FRONTEND);
	report.device = (char *)"net0";
	report.id = id;
	report.rings = list;
	report.n_rings = n;
	say(RIG_NET0, &report);
	ck_assert_int_eq(transfer->step, ENDED);
	ck_assert_ptr_nonnull(transfer->error);
	ck_assert_uint_eq(transfer->n_rings, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("transfers");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, test_each_event_at_each_step, 0,
		(int)ARRAY_SIZE(events) * _PLACES * 2);
	tcase_add_test(tc, test_only_the_right_end_of_a_pipe_is_a_stream);
	tcase_add_test(tc, test_who_may_not_begin_is_told_why);
	tcase_add_loop_test(tc, test_the_same_stream_is_the_same_transfer, 0, _PLACES);
	tcase_add_test(tc, test_no_copy_of_the_stream_is_left);
	tcase_add_test(tc, test_a_stream_is_taken_once);
	tcase_add_test(tc, test_state_that_came_with_the_report_is_saved);
	tcase_add_test(tc, test_state_that_is_none_of_now_is_asked_for);
	tcase_add_loop_test(tc, test_others_do_not_get_that_state, 0, 2);
	tcase_add_test(tc, test_the_worker_is_told_of_its_turn);
	tcase_add_test(tc, test_the_worker_is_told_of_nothing_else);
	tcase_add_test(tc, test_the_state_goes_to_the_worker_of_a_load);
	tcase_add_test(tc, test_the_snapshot_process_is_told_of_its_turn);
	tcase_add_test(tc, test_the_snapshot_process_is_told_of_nothing_else);
	tcase_add_test(tc, test_a_successor_of_the_snapshot_process_gets_no_state);
	tcase_add_test(tc, test_large_states_come_one_after_the_other);
	tcase_add_test(tc, test_the_frontend_hears_of_the_end);
	tcase_add_test(tc, test_after_a_restart_of_memory_all_hear_that_it_is_gone);
	tcase_add_test(tc, test_several_bulkheadctl_may_wait);
	tcase_add_test(tc, test_too_much_state_ends_the_transfer);
	tcase_add_test(tc, test_a_text_is_cut_and_cleaned);
	tcase_add_loop_test(tc, test_forged_positions_end_the_transfer, 0, 4);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("transfers", add_tests);
}
