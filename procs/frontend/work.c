/*
 * One message is in work at a time. Between its steps the process serves its other devices.
 *
 *   IDLE --peeked, judged, changes the record--> COMMIT --its answer promises an effect--> WAIT
 *     ^                                             |                                        |
 *     '----------------- staged, consumed, sent <---+-------------- applied, or too late <---'
 *
 * What is refused fails alone: the change was made in a copy, which is dropped.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "intake.h"
#include "requests.h"

#define WAIT_USEC         (5 * 1000000ULL)
#define COMMIT_RETRY_USEC 20000
#define MESSAGES_A_TURN   32

static void finish(struct session *session);

/* --- Blame --- */

/* Who dies from here on has died of what this VMM said: of the message in work, or of the next one. */
static void blame_message(struct session *session)
{
	bool in_work = session->phase == PHASE_WAIT ||
		(session->phase == PHASE_COMMIT && session->purpose != FOR_VMM);

	blame_set(session->mark, in_work ? session->msg.header.request : 0,
		in_work ? session->msg.header.size : 0);
}

/* --- Words --- */

void session_log(struct session *session, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!log_allowed(&session->limit))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_device(LOG_WARNING, session->config->name, "%s", text);
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

int session_deposit(struct session *session, uint64_t *ret_tokens)
{
	int r;

	if (session->msg.n_fds == 0)
		return 0;
	r = session->ops->deposit(session, session->msg.fds, session->msg.n_fds, ret_tokens);
	if (r < 0)
		return session_refuse(session, "its descriptors cannot be kept: %s", why_not_kept(r));
	session->deposited = true;
	return 0;
}

/* --- Commit --- */

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

static void give_up_waiting(struct session *session);

/* A VMM asks for one ring after the other: that the worker is gone is found out only once. */
static void await_worker(struct session *session)
{
	session->phase = PHASE_WAIT;
	if (session->worker_gone && session->waited_in_vain && session->row->owes != REPLY_NONE) {
		give_up_waiting(session);
		return;
	}
	session_set_timer(session, WAIT_USEC);
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
	case FOR_ANSWER:
		session->waited_in_vain = session->worker_gone;
		vring_settle(session, true);
		finish(session);
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

static void handle(struct session *session);

/* memory may have died after it took the descriptors: what no record named then is gone from its vault. */
static bool try_again(struct session *session)
{
	if (session->purpose != FOR_MESSAGE || !session->deposited || session->deposited_again)
		return false;
	session->deposited_again = true;
	handle(session);
	return true;
}

static void refused(struct session *session, const char *why)
{
	if (session->purpose == FOR_VMM) {
		if (!session->commit_late)
			log_device(LOG_ERR, session->config->name, "the memory manager refuses the record: %s",
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
	for (size_t i = 0; i < n; i++)
		vring_heard_position(session, rings[i]);
}

void session_committed(struct session *session, int error, const char *why)
{
	check(session->phase == PHASE_COMMIT && session->next);
	blame_message(session);
	if (error == -ECONNRESET || error == -ETIMEDOUT) {
		if (error == -ETIMEDOUT && !session->commit_late)
			log_device(LOG_WARNING, session->config->name,
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
	blame_unset();
}

/* --- A message: wait for the worker --- */

/* What could not be put in force is taken back; where memory no longer has what was before, it stays. */
static void undo(struct session *session)
{
	session->next = desired_next(session->before);
	session->next->generation = session->desired->generation + 1;
	work_commit(session, FOR_UNDO);
}

static void end_wait(struct session *session)
{
	const char *error = session->observed->apply_error;

	session_stop_timer(session);
	vring_settle(session, false);
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
	blame_message(session);
	if (session->phase == PHASE_IDLE)
		vring_settle(session, false);
	look_at_worker(session);
	work_run(session);
	blame_unset();
}

/* The memory manager is asked once more: what it says now is newer than anything we know, and a worker that
 * comes after that begins with a ring that is stopped. */
static void give_up_waiting(struct session *session)
{
	if (session->row->owes == REPLY_NONE) {
		session->phase = PHASE_IDLE;
		session_refuse(session, "the worker has not put it in force within %llu s", WAIT_USEC / 1000000);
		finish(session);
		return;
	}
	session_log(session, "message %s of the VMM is answered by the ledger: the worker is away",
		session->row->name);
	session->next = desired_next(session->desired);
	work_commit(session, FOR_ANSWER);
}

void work_timeout(struct session *session)
{
	blame_message(session);
	if (session->phase == PHASE_COMMIT)
		send_commit(session);
	else if (session->phase == PHASE_WAIT)
		give_up_waiting(session);
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
	if (!session->deposited)
		intake_empty(&session->msg);
	wire_drop(&session->msg);
	intake_forget();
	session->row = NULL;
	session->deposited = session->deposited_again = session->wait = false;
	*session->why = '\0';
	session->before = desired_free(session->before);
	session->next = desired_free(session->next);
}

static int send_answer(struct session *session)
{
	int r = replay_carries_fd(&session->replay) ? inflight_send(session)
						    : replay_send(&session->replay, session->conn_fd);

	session->phase = r == -EAGAIN ? PHASE_SEND : PHASE_IDLE;
	return r == -EAGAIN ? 0 : r;
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
		(r = replay_consume(session->conn_fd, &session->msg)) == 0)
		r = send_answer(session);
	work_drop(session);
	blame_acquit(session->mark, request, size);
	if (r < 0)
		session_hang_up(session, NULL);
}

/* --- A message: take, and judge --- */

static enum outcome decide(struct session *session)
{
	session->row = requests_find(session->msg.header.request);
	if (!session->row)
		return session_refuse(session, "there is no such message");
	if (requests_check(session, session->row, &session->msg))
		return OUTCOME_REFUSED;
	if (!session->row->handle)
		return OUTCOME_DONE;
	session->next = desired_next(session->desired);
	return session->row->handle(session, &session->msg, session->next);
}

static void handle(struct session *session)
{
	enum outcome outcome;

	blame_set(session->mark, session->msg.header.request, session->msg.header.size);
	fault_point("frontend", session->msg.header.request);
	outcome = decide(session);
	/* an acknowledgement promises the effect */
	session->wait = outcome == OUTCOME_WAIT || (outcome == OUTCOME_CHANGED && acks(session));
	if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_WAIT) {
		work_commit(session, FOR_MESSAGE);
		return;
	}
	session->next = desired_free(session->next);
	if (outcome == OUTCOME_SETTLE && (session->row->owes != REPLY_NONE || acks(session)))
		await_worker(session);
	else
		finish(session);
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
	r = wire_peek(session->conn_fd, &session->msg, &text);
	if (r == 0 && session->msg.fds_in_sight)
		r = take_descriptors(session, &text);
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
	blame_message(session);
	run_messages(session);
	blame_unset();
}
