/*
 * The steps of a message, as a table at the end of this file. One message is in work at a time;
 * between its steps the process serves its other devices.
 *
 *    .----------- JOIN
 *    v             ^
 *   PEEK -> CHECK -> JUDGE -> COMMIT -> TAKE -> WAIT <-> PROBE            SEND -> PEEK
 *                     ^  |                        |  |                      ^
 *                     |  v                        v  v                      |
 *                DEPOSIT, TRANSFER,              UNDO -> STAGE -> CONSUME --'
 *                    PENDING
 *
 * Each step may go to STAGE at once: what is refused fails alone, since the change was made in a
 * copy of the record. Steps that ask for something have a second half, which is run when the answer
 * is there; each half returns the step that comes next. However long memory is away, the message
 * stays in the socket, and the VMM waits.
 *
 * A commit costs more than all the rest of a message. A message that owes no answer therefore joins
 * a batch (batch.h) if the next one is in the socket already, which is judged by the record as the
 * batch makes it, and committed with it. Where the message is about nothing that runs, the step
 * LINGER, between JUDGE and JOIN, gives the next one a moment to come: a commit wakes a dozen
 * threads, which take the processor from a VMM that is about to say more. Nobody can tell that from
 * messages that were committed one by one, since the worker applies the newest record and leaves
 * out what lay between. Only what memory itself would have refused must not be covered up by what
 * comes later, so a message that memory may refuse ends its batch.
 *
 * What the VMM may rely on after the death of this process, at any step, is in replay.c.
 */
#include "steps.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "judging.h"
#include "requests.h"
#include "trace.h"

/* What a VMM asks is answered by the ledger then. */
#define ANSWER_USEC (5 * 1000000ULL)
/* A change is refused then: not before the watchdog has ended a worker that is stuck, and its
 * successor has had the time to start on a host that is busy. */
#define CHANGE_USEC (20 * 1000000ULL)
#define COMMIT_RETRY_USEC 20000
#define TURN_RETRY_USEC 1000000
#define PROMPT_USEC 100000
#define DEPOSITS_MAX 4 /* of one message: memory dies between two steps of it, again and again */

/* --- Commit --- */

static enum step ask_memory(struct exchange *x)
{
	bool applied = x->step == STEP_COMMIT && x->then == STEP_WAIT;

	exchange_await(x, AWAITS_MEMORY, 0);
	if (x->ops->commit(x->session, x->next, applied) < 0)
		exchange_await(x, AWAITS_TIME, COMMIT_RETRY_USEC);
	return STEP_AWAIT;
}

enum says { SAYS_YES, SAYS_NO, SAYS_NOTHING };

/* Memory's answer. Where it leaves open whether the record was committed, the step begins anew:
 * to say it twice is harmless. */
static enum says memory_says(struct exchange *x)
{
	if (x->error == -ECONNRESET || x->error == -ETIMEDOUT) {
		if (x->error == -ETIMEDOUT && !x->commit_late)
			log_limited(LOG_WARNING, x->config->name, 0,
				"the memory manager does not answer; the VMM waits until it does");
		x->commit_late = true;
		exchange_await(x, AWAITS_TIME, COMMIT_RETRY_USEC);
		return SAYS_NOTHING;
	}
	return x->error || *x->said ? SAYS_NO : SAYS_YES;
}

/* What was in force before is the caller's. */
static Bh__Desired *put_in_force(struct exchange *x)
{
	x->commit_late = false;
	return view_put_in_force(x->view, ptr_steal(&x->next));
}

/* Memory may have died after it took the descriptors: what no record named then is gone from its
 * vault. */
static enum step refused(struct exchange *x)
{
	x->next = desired_free(x->next);
	if (x->batch.n) {
		batch_take_apart(&x->batch);
		exchange_put_back(x);
		return STEP_PEEK;
	}
	if (x->n_tokens && x->n_deposits < DEPOSITS_MAX) {
		x->n_tokens = 0;
		return STEP_JUDGE;
	}
	exchange_refuse(x, "%s", x->said);
	return STEP_STAGE;
}

static enum step in_force(struct exchange *x)
{
	Bh__Desired *former = put_in_force(x);

	if (x->changes && !x->batch.desired)
		x->before = ptr_steal(&former);
	else if (x->changes)
		x->before = ptr_steal(&x->batch.desired);
	desired_free(former);
	return x->batch.n ? STEP_TAKE : x->then;
}

static enum step committed(struct exchange *x)
{
	switch (memory_says(x)) {
	case SAYS_NOTHING:
		return STEP_AWAIT;
	case SAYS_NO:
		return refused(x);
	case SAYS_YES:
		break;
	}
	return in_force(x);
}

/* Its messages have done no harm. */
static enum step take_batch(struct exchange *x)
{
	struct batch *batch = &x->batch;
	int r = replay_consume_first(x->conn_fd, batch->n_bytes);

	for (unsigned int i = 0; i < batch->n; i++)
		blame_acquit(x->mark, batch->headers[i].request, batch->headers[i].size);
	batch_taken(batch);
	return r < 0 ? STEP_HANG_UP : x->then;
}

/* --- Wait, probe, undo --- */

static enum step applied(struct exchange *x)
{
	const char *error = x->view->observed->apply_error;

	if (x->row->owes == REPLY_PAYLOAD || !*error)
		return STEP_STAGE;
	exchange_refuse(x, "the worker says: %s", error);
	return x->before ? STEP_UNDO : STEP_STAGE;
}

/* Without the worker: by the ledger, or with the word that it came to nothing. */
static enum step conclude(struct exchange *x)
{
	if (x->row->owes != REPLY_PAYLOAD) {
		exchange_refuse(x, "the worker did not apply it within %llu s",
			CHANGE_USEC / 1000000);
	} else {
		exchange_log(x,
			"answering message %s of the VMM from the ledger: the worker is not running",
			x->row->name);
		x->view->waited_in_vain = x->view->worker_gone;
	}
	return STEP_STAGE;
}

/* A VMM asks for one ring after the other: that the worker is gone is found out only once. */
static enum step wait_for_worker(struct exchange *x)
{
	uint64_t patience = x->row->owes == REPLY_PAYLOAD ? ANSWER_USEC : CHANGE_USEC;

	if (!x->probed && x->view->worker_gone && x->view->waited_in_vain &&
		x->row->owes != REPLY_NONE)
		return STEP_PROBE;
	if (view_applied(x->view))
		return applied(x);
	exchange_await(x, AWAITS_WORKER, x->probed ? x->patience_usec : patience);
	return STEP_AWAIT;
}

static enum step waited(struct exchange *x)
{
	if (view_applied(x->view))
		return applied(x);
	return x->probed ? conclude(x) : STEP_PROBE;
}

/* The same record once more: what memory says now is newer than anything that is known, and a
 * worker that comes after that begins with a ring that is stopped. */
static enum step probe(struct exchange *x)
{
	if (!x->next) {
		x->probe_usec = clock_us();
		x->next = desired_next(x->view->desired);
	}
	return ask_memory(x);
}

/* Memory's answer to a record that repeats or undoes another. Where it refuses, the record stays as
 * it is. */
static enum step settled(struct exchange *x, enum step in_force)
{
	switch (memory_says(x)) {
	case SAYS_NOTHING:
		return STEP_AWAIT;
	case SAYS_NO:
		x->next = desired_free(x->next);
		return STEP_STAGE;
	case SAYS_YES:
		break;
	}
	desired_free(put_in_force(x));
	return in_force;
}

/* Where it is memory that was away, the worker has had no chance to hear of the record until
 * now: it gets its time. */
static enum step probed(struct exchange *x)
{
	bool prompt = clock_us() - x->probe_usec < PROMPT_USEC;
	enum step next = settled(x, STEP_WAIT);

	if (next != STEP_WAIT)
		return next;
	x->probed = true;
	if (x->view->worker_gone && (prompt || x->row->owes != REPLY_NONE))
		return conclude(x);
	x->patience_usec = prompt ? ANSWER_USEC / 5 : ANSWER_USEC;
	return STEP_WAIT;
}

static enum step undo(struct exchange *x)
{
	if (!x->next)
		x->next = view_next(x->view, x->before);
	return ask_memory(x);
}

/* Where memory no longer has what was before, it stays. */
static enum step undone(struct exchange *x)
{
	return settled(x, STEP_STAGE);
}

/* --- Stage, consume, send --- */

static bool owes_reply(const struct exchange *x)
{
	if (x->row->owes == REPLY_AGREED)
		return has_bit(x->view->desired->protocol_features, x->row->needs);
	return x->row->owes != REPLY_NONE;
}

static int stage_reply(struct exchange *x)
{
	uint8_t buf[REPLY_BYTES_MAX];
	uint64_t failed = *x->why != '\0';
	uint32_t request = x->msg.header.request;

	size_t n = sizeof(failed);

	x->reply_row = x->row && owes_reply(x) ? x->row : NULL;
	if (x->reply_row)
		n = requests_reply(x, buf);
	else if (judging_acks(x))
		memcpy(buf, &failed, sizeof(failed));
	else
		return 0;
	if (trace_on)
		trace_reply(x, buf, n);
	return replay_stage(&x->replay, request, buf, n);
}

static enum step stage(struct exchange *x)
{
	judging_log_refusal(x);
	if (replay_begin(x->conn_fd, &x->msg) < 0 || stage_reply(x) < 0)
		return STEP_HANG_UP;
	return STEP_CONSUME;
}

/* The message has done no harm, and nothing of it is needed any more. */
static enum step consume(struct exchange *x)
{
	uint32_t request = x->msg.header.request, size = x->msg.header.size;
	int r = replay_consume(&x->replay, x->conn_fd, &x->msg);

	exchange_drop(x);
	batch_taken_alone(&x->batch);
	blame_acquit(x->mark, request, size);
	return r < 0 ? STEP_HANG_UP : STEP_SEND;
}

/* The descriptor that goes with what is laid ready. Only that tells: a former process may have
 * laid it. */
static uint64_t find_token(const struct exchange *x)
{
	struct {
		struct header header;
		uint8_t payload[STAGE_BYTES_MAX - sizeof(struct header)];
	} reply;
	size_t n;

	if (!x->reply_row || !x->reply_row->reply_token)
		return TOKEN_NONE;
	n = replay_look_at_staged(&x->replay, &reply, sizeof(reply));
	if (n < sizeof(reply.header))
		return TOKEN_NONE;
	return x->reply_row->reply_token(x->view->desired, reply.payload, n - sizeof(reply.header));
}

static enum step redeem(struct exchange *x, uint64_t token)
{
	exchange_await(x, AWAITS_VAULT, 0);
	if (token == TOKEN_LOST || x->ops->redeem(x->session, token) < 0)
		return STEP_HANG_UP;
	return STEP_AWAIT;
}

static enum step send_reply(struct exchange *x)
{
	uint64_t token = x->reply_fd < 0 ? find_token(x) : TOKEN_NONE;
	int r;

	if (token != TOKEN_NONE)
		return redeem(x, token);
	r = x->reply_fd >= 0 ? replay_send_fd(&x->replay, x->conn_fd, x->reply_fd)
			     : replay_send(&x->replay, x->conn_fd);
	if (r == -EAGAIN)
		return STEP_AWAIT;
	x->reply_fd = fd_close(x->reply_fd);
	x->reply_row = NULL;
	return r < 0 ? STEP_HANG_UP : STEP_DONE;
}

static enum step redeemed(struct exchange *x)
{
	return x->error ? STEP_HANG_UP : STEP_SEND;
}

/* --- A VMM has come or gone --- */

/* Memory has no reason to refuse that; as long as it does, nothing else can be done. */
static enum step turned(struct exchange *x)
{
	switch (memory_says(x)) {
	case SAYS_NOTHING:
		return STEP_AWAIT;
	case SAYS_NO:
		if (!x->commit_late)
			log_limited(LOG_ERR, x->config->name, 0,
				"the memory manager refuses the record: %s", x->said);
		x->commit_late = true;
		exchange_await(x, AWAITS_TIME, TURN_RETRY_USEC);
		return STEP_AWAIT;
	case SAYS_YES:
		break;
	}
	desired_free(put_in_force(x));
	return STEP_TURNED;
}

/* --- The table --- */

typedef enum step step_fn(struct exchange *x);

/** struct step_row - the halves of a step; `answered` is missing where nothing is asked */
static const struct step_row {
	step_fn *begin;
	step_fn *answered;
} rows[_STEPS] = {
	[STEP_PEEK] = { judging_peek },
	[STEP_CHECK] = { judging_check },
	[STEP_JUDGE] = { judging_judge },
	[STEP_DEPOSIT] = { judging_deposit, judging_deposited },
	[STEP_TRANSFER] = { judging_transfer, judging_begun },
	[STEP_PENDING] = { judging_pending, judging_pending },
	[STEP_LINGER] = { judging_linger, judging_lingered },
	[STEP_JOIN] = { judging_join },
	[STEP_COMMIT] = { ask_memory, committed },
	[STEP_TAKE] = { take_batch },
	[STEP_WAIT] = { wait_for_worker, waited },
	[STEP_PROBE] = { probe, probed },
	[STEP_UNDO] = { undo, undone },
	[STEP_STAGE] = { stage },
	[STEP_CONSUME] = { consume },
	[STEP_SEND] = { send_reply, redeemed },
	[STEP_VMM] = { ask_memory, turned },
};

static enum step take_step(struct exchange *x)
{
	bool is_answer = x->awaits != AWAITS_NOTHING && x->awaits != AWAITS_TIME;
	const struct step_row *row = &rows[x->step];

	exchange_await(x, AWAITS_NOTHING, 0);
	return is_answer ? row->answered(x) : row->begin(x);
}

enum step steps_run(struct exchange *exchange)
{
	enum step next;

	do {
		if (exchange->awaits != AWAITS_NOTHING && !exchange->answered)
			return STEP_AWAIT;
		next = exchange->abandoned && !exchange->next ? STEP_HANG_UP : take_step(exchange);
		if (next < _STEPS)
			exchange->step = next;
	} while (next < _STEPS);
	if (next != STEP_AWAIT)
		exchange->step = STEP_PEEK;
	return next;
}

void steps_resume(struct exchange *exchange)
{
	struct header header;

	/* a message that was begun is looked at like any other: it may be handled twice */
	if (replay_resume(&exchange->replay, exchange->conn_fd) != REPLAY_SEND)
		return;
	exchange->step = STEP_SEND;
	if (replay_look_at_staged(&exchange->replay, &header, sizeof(header)) == sizeof(header))
		exchange->reply_row = requests_find(header.request);
}
