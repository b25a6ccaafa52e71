/*
 * One message is in work at a time. Between its steps the process serves its other devices.
 *
 *   IDLE --peeked, its form judged--> DEPOSIT --judged, changes the record--> COMMIT --an effect is due--> WAIT
 *     ^        (without descriptors: no DEPOSIT)                                 |                           |
 *     '------------------------ staged, consumed, sent <-------------------------+-- applied, or too late <--'
 *
 * What is refused fails alone: the change was made in a copy, which is dropped. A handler whose message brings
 * descriptors is called twice: it says first that it wants them kept, and goes on when it is called with their
 * tokens. However long memory is away, the message stays in the socket, and the VMM waits.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "intake.h"
#include "requests.h"

#define WAIT_USEC         (5 * 1000000ULL)
#define COMMIT_RETRY_USEC 20000
#define PROMPT_USEC       100000
#define MESSAGES_A_TURN   32
#define DEPOSITS_MAX      4 /* of one message: memory dies between two steps of it, again and again */

static void finish(struct session *session);

/* --- Blame --- */

static bool in_work(const struct session *session)
{
	return session->phase == PHASE_WAIT || session->phase == PHASE_DEPOSIT ||
		(session->phase == PHASE_COMMIT && session->purpose != FOR_VMM);
}

/* Who dies in this block has died of what this VMM said: of the message in work, or of the next one. */
#define BLAME_MESSAGE(session)                                                                     \
	BLAME_SCOPE((session)->mark, in_work(session) ? (session)->msg.header.request : 0,         \
		in_work(session) ? (session)->msg.header.size : 0)

/* --- Words --- */

void session_log(struct session *session, const char *fmt, ...)
{
	unsigned int kind = session->row ? session->row->request : 0; /* unknown ones have no kind of their own */
	va_list ap;

	va_start(ap, fmt);
	log_limited_v(LOG_WARNING, session->config->name, kind, fmt, ap);
	va_end(ap);
}

int session_refuse(struct session *session, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(session->why, sizeof(session->why), fmt, ap);
	va_end(ap);
	return OUTCOME_REFUSED;
}

static const char *why_not_kept(int r)
{
	switch (r) {
	case -EDQUOT:
		return "the device has as many as one may have";
	case -EMFILE:
		return "the guest has as many as its memory manager may have open (LimitNOFILE=)";
	case -ENOSPC:
		return "the guest's fd store is full (FileDescriptorStoreMax=)";
	default:
		return strerror(-r);
	}
}

enum outcome session_deposit(struct session *session, uint64_t *ret_tokens)
{
	int r = session->deposit_error;

	if (r == 0 && session->n_tokens == session->msg.n_fds) {
		memcpy(ret_tokens, session->tokens, session->n_tokens * sizeof(*ret_tokens));
		return OUTCOME_DONE;
	}
	if (r == 0)
		r = session->ops->deposit(session, session->msg.fds, session->msg.n_fds);
	return r < 0 ? session_refuse(session, "its descriptors cannot be kept: %s", why_not_kept(r))
		     : OUTCOME_LATER;
}

/* --- Commit --- */

/* What a record is composed from: a stopped ring stands in it where it goes on. */
static Bh__Desired *next_record(const struct session *session, const Bh__Desired *from)
{
	Bh__Desired *next = desired_next(from);

	rings_settle(next, session->desired, session->observed, &session->heard);
	return next;
}

static void send_commit(struct session *session)
{
	if (session->ops->commit(session, session->next) < 0)
		session_set_timer(session, COMMIT_RETRY_USEC);
}

void work_commit(struct session *session, enum purpose purpose)
{
	session->purpose = purpose;
	session->phase = PHASE_COMMIT;
	send_commit(session);
}

static void put_in_force(struct session *session)
{
	desired_free(session->before);
	session->before = session->desired;
	session->desired = ptr_steal(&session->next);
}

static void look_at_worker(struct session *session);

static void probe(struct session *session);

/* A VMM asks for one ring after the other: that the worker is gone is found out only once. */
static void await_worker(struct session *session)
{
	session->phase = PHASE_WAIT;
	if (session->worker_gone && session->waited_in_vain && session->row->owes != REPLY_NONE) {
		probe(session);
		return;
	}
	session_set_timer(session, WAIT_USEC);
	look_at_worker(session);
}

/* Without the worker: by the ledger, or with the word that it came to nothing. */
static void conclude(struct session *session)
{
	session->phase = PHASE_IDLE;
	session_stop_timer(session);
	if (session->row->owes == REPLY_NONE) {
		session_refuse(session, "the worker has not put it in force within %llu s", WAIT_USEC / 1000000);
	} else {
		session_log(session, "message %s of the VMM is answered by the ledger: the worker is away",
			session->row->name);
		session->waited_in_vain = session->worker_gone;
	}
	finish(session);
}

/* Memory has answered. If it was away, the worker has had no chance to hear of the record until now. */
static void after_probe(struct session *session)
{
	bool prompt = clock_us() - session->probe_usec < PROMPT_USEC;

	session->probed = true;
	if (session->worker_gone && (prompt || session->row->owes != REPLY_NONE)) {
		conclude(session);
		return;
	}
	session->phase = PHASE_WAIT;
	session_set_timer(session, prompt ? WAIT_USEC / 5 : WAIT_USEC);
	look_at_worker(session);
}

static void after_commit(struct session *session)
{
	session->phase = PHASE_IDLE;
	switch (session->purpose) {
	case FOR_MESSAGE:
		if (session->wait && !session->hung_up)
			await_worker(session);
		else
			finish(session);
		break;
	case FOR_PROBE:
		after_probe(session);
		break;
	case FOR_UNDO:
		finish(session);
		break;
	case FOR_VMM:
		session->before = desired_free(session->before);
		if (!session->desired->connected)
			session_expect_vmm(session);
		break;
	}
	work_run(session);
}

static void judge(struct session *session);

/* memory may have died after it took the descriptors: what no record named then is gone from its vault. */
static bool try_again(struct session *session)
{
	if (session->purpose != FOR_MESSAGE || !session->n_tokens || session->n_deposits == DEPOSITS_MAX)
		return false;
	session->n_tokens = 0;
	judge(session);
	return true;
}

static void refused(struct session *session, const char *why)
{
	if (session->purpose == FOR_VMM) {
		if (!session->commit_late)
			log_limited(LOG_ERR, session->config->name, 0, "the memory manager refuses the record: %s",
				why);
		session->commit_late = true;
		session_set_timer(session, 50 * COMMIT_RETRY_USEC);
		return;
	}
	session->next = desired_free(session->next);
	session->phase = PHASE_IDLE;
	if (!try_again(session)) {
		if (session->purpose == FOR_MESSAGE)
			session_refuse(session, "%s", why);
		finish(session);
	}
	work_run(session);
}

void session_heard_positions(struct session *session, bool worker_gone, Bh__RingState *const *rings,
	size_t n)
{
	session->worker_gone = worker_gone;
	if (!worker_gone)
		session->waited_in_vain = false;
	/* a worker that has stopped the ring knows better */
	if (session->observed->applied >= session->desired->generation)
		return;
	rings_hear(&session->heard, session->desired, rings, n);
}

void session_committed(struct session *session, int error, const char *why)
{
	BLAME_MESSAGE(session);
	check(session->phase == PHASE_COMMIT && session->next);
	if (error == -ECONNRESET || error == -ETIMEDOUT) {
		if (error == -ETIMEDOUT && !session->commit_late)
			log_limited(LOG_WARNING, session->config->name, 0,
				"the memory manager does not answer; the VMM waits until it does");
		session->commit_late = true;
		session_set_timer(session, COMMIT_RETRY_USEC); /* to say it twice is harmless */
		return;
	}
	if (error || *why) {
		refused(session, error ? strerror(-error) : why);
		return;
	}
	session->commit_late = false;
	put_in_force(session);
	after_commit(session);
}

/* --- A message: wait for the worker --- */

/* What could not be put in force is taken back; where memory no longer has what was before, it stays. */
static void undo(struct session *session)
{
	session->next = next_record(session, session->before);
	session->next->generation = session->desired->generation + 1;
	work_commit(session, FOR_UNDO);
}

static void end_wait(struct session *session)
{
	const char *error = session->observed->apply_error;

	session_stop_timer(session);
	session->phase = PHASE_IDLE;
	if (session->row->owes == REPLY_NONE && *error) {
		session_refuse(session, "the worker says: %s", error);
		if (session->before) {
			undo(session);
			return;
		}
	}
	finish(session);
}

static void look_at_worker(struct session *session)
{
	if (session->phase == PHASE_WAIT && session->observed->applied >= session->desired->generation)
		end_wait(session);
}

void work_observed(struct session *session)
{
	BLAME_MESSAGE(session);
	look_at_worker(session);
	work_run(session);
}

/* The memory manager is asked once more: what it says now is newer than anything we know, and a worker that
 * comes after that begins with a ring that is stopped. Where it is memory that was away, the worker gets its time. */
static void probe(struct session *session)
{
	session->probe_usec = clock_us();
	session->next = desired_next(session->desired);
	work_commit(session, FOR_PROBE);
}

void work_timeout(struct session *session)
{
	BLAME_MESSAGE(session);
	if (session->phase == PHASE_COMMIT)
		send_commit(session);
	else if (session->phase == PHASE_WAIT && session->probed)
		conclude(session);
	else if (session->phase == PHASE_WAIT)
		probe(session);
	work_run(session);
}

/* --- A message: answer --- */

static bool acks(const struct session *session)
{
	return (session->msg.header.flags & HEADER_NEED_REPLY) &&
		has_bit(session->desired->protocol_features, PF_REPLY_ACK);
}

static int stage_answer(struct session *session)
{
	uint8_t buf[REPLY_BYTES_MAX];
	uint64_t failed = *session->why != '\0';
	uint32_t request = session->msg.header.request;

	if (session->row && session->row->owes != REPLY_NONE)
		return replay_stage(&session->replay, request, buf, requests_reply(session, buf));
	if (!acks(session))
		return 0;
	return replay_stage(&session->replay, request, &failed, sizeof(failed));
}

void work_drop(struct session *session)
{
	if (session->n_tokens == 0)
		intake_empty(&session->msg);
	wire_drop(&session->msg);
	intake_forget();
	session->row = NULL;
	session->n_tokens = 0;
	session->n_deposits = 0;
	session->deposit_error = 0;
	session->wait = session->probed = false;
	*session->why = '\0';
	session->before = desired_free(session->before);
	session->next = desired_free(session->next);
}

void work_forget(struct session *session)
{
	session->ops->forget(session);
	session->redeeming = false;
	session->reply_fd = fd_close(session->reply_fd);
	work_drop(session);
}

static int send_answer(struct session *session)
{
	int r = replay_carries_fd(&session->replay) ? inflight_send(session)
						    : replay_send(&session->replay, session->conn_fd);

	session->phase = r == -EAGAIN ? PHASE_SEND : PHASE_IDLE;
	if (session->phase == PHASE_IDLE)
		session->reply_fd = fd_close(session->reply_fd);
	return r == -EAGAIN ? 0 : r;
}

void session_redeemed(struct session *session, int fd)
{
	BLAME_MESSAGE(session);
	session->redeeming = false;
	session->reply_fd = fd;
	if (fd < 0)
		session_hang_up(session, NULL);
	else
		work_run(session);
}

static void finish(struct session *session)
{
	uint32_t request = session->msg.header.request, size = session->msg.header.size;
	int r = 0;

	if (session->hung_up) {
		work_drop(session);
		return;
	}
	if (*session->why)
		session_log(session, "message %s (%u) of the VMM refused: %s",
			session->row ? session->row->name : "without a name", session->msg.header.request,
			session->why);
	if ((r = stage_answer(session)) == 0 &&
		(r = replay_consume(&session->replay, session->conn_fd, &session->msg)) == 0)
		r = send_answer(session);
	work_drop(session);
	blame_acquit(session->mark, request, size);
	if (r < 0)
		session_hang_up(session, NULL);
}

/* --- A message: take, and judge --- */

static int check_form(struct session *session)
{
	session->row = requests_find(session->msg.header.request);
	if (!session->row)
		return session_refuse(session, "there is no such message");
	return requests_check(session, session->row, &session->msg);
}

static void act(struct session *session, enum outcome outcome)
{
	/* an acknowledgement promises the effect */
	session->wait = outcome == OUTCOME_WAIT || (outcome == OUTCOME_CHANGED && acks(session));
	if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_WAIT) {
		work_commit(session, FOR_MESSAGE);
		return;
	}
	session->next = desired_free(session->next);
	if (outcome == OUTCOME_LATER) {
		session->n_deposits++;
		session->phase = PHASE_DEPOSIT;
	} else if (outcome == OUTCOME_SETTLE && (session->row->owes != REPLY_NONE || acks(session))) {
		await_worker(session);
	} else {
		finish(session);
	}
}

/* The meaning of a message that is right in form. */
static void judge(struct session *session)
{
	enum outcome outcome = OUTCOME_DONE;

	if (session->row->handle) {
		session->next = next_record(session, session->desired);
		outcome = session->row->handle(session, &session->msg, session->next);
	}
	act(session, outcome);
}

static void handle(struct session *session)
{
	blame_set(session->mark, session->msg.header.request, session->msg.header.size);
	fault_point("frontend", session->msg.header.request);
	if (check_form(session))
		act(session, OUTCOME_REFUSED);
	else
		judge(session);
}

void session_deposited(struct session *session, int error, const uint64_t *tokens)
{
	BLAME_MESSAGE(session);
	check(session->phase == PHASE_DEPOSIT);
	session->phase = PHASE_IDLE;
	session->deposit_error = error;
	if (error == 0) {
		session->n_tokens = session->msg.n_fds;
		memcpy(session->tokens, tokens, session->n_tokens * sizeof(*tokens));
	}
	judge(session);
	work_run(session);
}

static bool may_work(const struct session *session)
{
	return session->phase == PHASE_IDLE && session->conn_fd >= 0 && session->desired->connected;
}

/* Those that are not harmless stay where they are, and the message is refused. */
static int take_descriptors(struct session *session, const char **ret_text)
{
	struct message *msg = &session->msg;
	size_t n = 0;
	int r = intake_look(session->conn_fd, wire_bytes(msg), &n, msg->foreign);

	if (r == 0)
		return wire_take_fds(session->conn_fd, msg, n, ret_text);
	*ret_text = r == -EBUSY ? "what it handed over before is still being closed, and somebody else decides when"
				: "nobody can be had to look at its descriptors";
	return r == INTAKE_E_FOREIGN ? 0 : WIRE_E_FRAMING;
}

/* Looks at the next message and handles it; false when there is none. */
static bool take_message(struct session *session)
{
	const char *text = "";
	int r;

	blame_set(session->mark, 0, 0);
	r = replay_look(&session->replay, session->conn_fd, session->config->name, &session->msg, &text);
	if (r == 0 && session->msg.fds_in_sight)
		r = take_descriptors(session, &text);
	if (peer_heard(&session->peer, session->msg.sender, session->config->name))
		session_watch_peer(session);
	blame_finish();
	if (r == 0)
		r = replay_begin(session->conn_fd, &session->msg) < 0 ? WIRE_E_CLOSED : 0;
	switch (r) {
	case 0:
		handle(session);
		return true;
	case WIRE_E_PARTIAL:
		return false;
	case WIRE_E_FRAMING:
		session_hang_up(session, text);
		return false;
	default:
		session_hang_up(session, NULL);
		return false;
	}
}

static bool run_send(struct session *session)
{
	int r = send_answer(session);

	if (r < 0)
		session_hang_up(session, NULL);
	return r == 0 && session->phase == PHASE_IDLE;
}

static void run_messages(struct session *session)
{
	if (session->phase == PHASE_SEND && !run_send(session))
		return;
	for (unsigned int n = 0; may_work(session); n++) {
		if (session->hung_up || session->lost) {
			session_hang_up(session, session->lost ? "the memory manager lost its record (it was "
				"stopped, not restarted); the VMM must connect again" : NULL);
			return;
		}
		if (n == MESSAGES_A_TURN) {
			sd_event_source_set_enabled(session->defer, SD_EVENT_ONESHOT);
			return;
		}
		if (!take_message(session))
			return;
	}
}

void work_run(struct session *session)
{
	BLAME_MESSAGE(session);
	run_messages(session);
}
