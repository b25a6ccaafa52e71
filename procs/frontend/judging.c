/*
 * Nothing in here waits for the commit: the change that a message makes is made in a copy of the
 * record, and the message stays in the socket.
 */
#include "judging.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "intake.h"
#include "requests.h"
#include "trace.h"

/* A VMM says what belongs together in a tenth of this, unless the host is busy. */
#define LINGER_USEC 500

void judging_log_refusal(const struct exchange *x)
{
	if (!*x->why)
		return;
	exchange_log(x, "message %s (%u) of the VMM refused: %s",
		x->row ? x->row->name : "without a name", x->msg.header.request, x->why);
	if (trace_on)
		trace_refused(x);
}

bool judging_acks(const struct exchange *x)
{
	return (x->msg.header.flags & HEADER_NEED_REPLY) &&
		has_bit(exchange_desired(x)->protocol_features, VHOST_USER_PROTOCOL_F_REPLY_ACK);
}

/* --- Peek --- */

static bool takes_fds(const struct message *msg)
{
	const struct request_row *row = requests_find(msg->header.request);

	return row && requests_take_fds(row, msg);
}

/* Descriptors that are not harmless stay where they are, and the message is refused. Those of a
 * message further behind are looked at when it is its turn. */
static int take_descriptors(struct exchange *x, const char **ret_text)
{
	size_t n = 0;
	int r;

	if (x->msg.doubtful_fds && !takes_fds(&x->msg))
		return 0;
	r = intake_look(x->conn_fd, x->msg.at, wire_bytes(&x->msg), &n, x->msg.foreign);
	if (r == 0)
		return wire_take_fds(x->conn_fd, &x->msg, n, ret_text);
	*ret_text = r == -EBUSY
		? "what it handed over before is still being closed, and somebody else decides when"
		: "nobody can be had to look at its descriptors";
	return r == INTAKE_E_FOREIGN ? 0 : WIRE_E_FRAMING;
}

static int look(struct exchange *x, const char **ret_text)
{
	int r = x->batch.n
		? wire_peek(x->conn_fd, x->batch.n_bytes, &x->msg, ret_text)
		: replay_look(&x->replay, x->conn_fd, x->config->name, &x->msg, ret_text);

	return r == 0 && x->msg.fds_in_sight ? take_descriptors(x, ret_text) : r;
}

/* The batch ends here: what it and the message in work change is put in force, and then comes
 * another step. */
static enum step close_batch(struct exchange *x, enum step then)
{
	x->then = then;
	x->changes = x->next;
	if (!x->next)
		x->next = ptr_steal(&x->batch.desired);
	if (x->next)
		return STEP_COMMIT;
	return x->batch.n ? STEP_TAKE : then;
}

/* The message in work is looked at anew when the batch before it is in force. */
static enum step leave_to_itself(struct exchange *x)
{
	exchange_put_back(x);
	return close_batch(x, STEP_DONE);
}

/* A crash in here is blamed on a message that could not be read. */
enum step judging_peek(struct exchange *x)
{
	const char *text = "";
	int r;

	blame_set(x->mark, 0, 0);
	r = look(x, &text);
	if (peer_heard(&x->peer, x->msg.sender, x->config->name))
		x->peer_changed = true;
	blame_finish();
	if (x->batch.n && (r || *x->msg.foreign))
		return leave_to_itself(x);
	x->verdict = r == WIRE_E_FRAMING ? text : NULL;
	return r == 0 ? STEP_CHECK : r == WIRE_E_PARTIAL ? STEP_AWAIT : STEP_HANG_UP;
}

/* --- Check, join --- */

/* Whether the next message may be committed with this one. Descriptors that lie at the border of
 * both are given to one of them only. */
static bool may_join(const struct exchange *x)
{
	const struct message *msg = &x->msg;
	bool answered =
		(msg->header.flags & HEADER_NEED_REPLY) || (x->row && x->row->owes != REPLY_NONE);
	bool judged_by_memory = x->row && (x->row->fd_kinds & FD_MEMORY);

	return !answered && !judged_by_memory && batch_may_grow(&x->batch) && !msg->in_parts &&
		!*msg->foreign && !(msg->doubtful_fds && takes_fds(msg));
}

static bool next_is_there(const struct exchange *x)
{
	return wire_has_whole(x->conn_fd, x->batch.n_bytes + wire_bytes(&x->msg));
}

/* Nobody sees when such a message takes effect: what it is about does not run. */
static bool only_prepares(const struct exchange *x)
{
	const Bh__Desired *desired = exchange_desired(x);
	const struct request_row *row = x->row;
	const Bh__Ring *ring;

	if (!row || *x->why || row->fds_max || (!x->next && !x->batch.n))
		return false;
	if (row->index != INDEX_VRING)
		return !desired_any_started(desired);
	ring = desired_find_ring(desired, row_ring(row, &x->msg));
	return !ring || !ring->started;
}

static enum step join_or(struct exchange *x, enum step then)
{
	if (!may_join(x))
		return close_batch(x, then);
	if (next_is_there(x))
		return STEP_JOIN;
	return then == STEP_STAGE && only_prepares(x) ? STEP_LINGER : close_batch(x, then);
}

enum step judging_linger(struct exchange *x)
{
	exchange_await(x, AWAITS_MORE, LINGER_USEC);
	return STEP_AWAIT;
}

/* What has come may be a part of a message. That is not waited for. */
enum step judging_lingered(struct exchange *x)
{
	return next_is_there(x) ? STEP_JOIN : close_batch(x, STEP_STAGE);
}

enum step judging_join(struct exchange *x)
{
	judging_log_refusal(x);
	batch_add(&x->batch, &x->msg.header, ptr_steal(&x->next));
	exchange_drop(x);
	return STEP_PEEK;
}

enum step judging_check(struct exchange *x)
{
	blame_set(x->mark, x->msg.header.request, x->msg.header.size);
	fault_point("frontend", x->msg.header.request);
	x->row = requests_find(x->msg.header.request);
	if (trace_on)
		trace_message(x);
	if (!x->row)
		exchange_refuse(x, "there is no such message");
	else if (requests_check(x, x->row, &x->msg) == 0)
		return STEP_JUDGE;
	return join_or(x, STEP_STAGE);
}

/* --- Judge, deposit --- */

/* An acknowledgement promises the effect. */
static enum step after_judging(struct exchange *x, enum outcome outcome)
{
	if (x->verdict)
		return STEP_HANG_UP;
	if (outcome == OUTCOME_WAIT || (outcome == OUTCOME_CHANGED && judging_acks(x)))
		return close_batch(x, STEP_WAIT);
	if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_NOTED)
		return join_or(x, STEP_STAGE);
	x->next = desired_free(x->next);
	if (outcome == OUTCOME_LATER)
		return STEP_DEPOSIT;
	if (outcome == OUTCOME_TRANSFER)
		return close_batch(x, STEP_TRANSFER);
	if (outcome == OUTCOME_PENDING)
		return close_batch(x, STEP_PENDING);
	if (outcome == OUTCOME_SETTLE && (x->row->owes != REPLY_NONE || judging_acks(x)))
		return close_batch(x, STEP_WAIT);
	return join_or(x, STEP_STAGE);
}

/* Front-ends say the same again and again. What the worker could not apply it tries again. */
static bool changes_nothing(const struct exchange *x)
{
	return !*x->view->observed->apply_error && desired_is_same(x->next, exchange_desired(x));
}

enum step judging_judge(struct exchange *x)
{
	enum outcome outcome = OUTCOME_DONE;

	if (x->row->handle) {
		x->next = view_next(x->view, exchange_desired(x));
		outcome = x->row->handle(x, &x->msg, x->next);
	}
	if (outcome == OUTCOME_CHANGED && changes_nothing(x))
		outcome = OUTCOME_SETTLE;
	return after_judging(x, outcome);
}

/* What the batch has deposited for nothing is out of the vault when it is in force. */
enum step judging_deposited(struct exchange *x)
{
	return x->deposit_error && x->batch.n ? leave_to_itself(x) : STEP_JUDGE;
}

enum step judging_deposit(struct exchange *x)
{
	int r;

	x->n_deposits++;
	exchange_await(x, AWAITS_VAULT, 0);
	r = x->ops->deposit(x->session, x->msg.fds, x->msg.n_fds);
	if (r == 0)
		return STEP_AWAIT;
	exchange_await(x, AWAITS_NOTHING, 0);
	x->deposit_error = r;
	return judging_deposited(x);
}

/* --- Transfer of the device's state --- */

enum step judging_transfer(struct exchange *x)
{
	bool load = x->msg.payload.device_state.direction == DEVICE_STATE_LOAD;
	int r;

	exchange_await(x, AWAITS_VAULT, 0);
	r = x->ops->transfer(x->session, x->msg.fds[0], load);
	if (r == 0)
		return STEP_AWAIT;
	exchange_begun(x, r, 0, "");
	exchange_await(x, AWAITS_NOTHING, 0);
	return STEP_JUDGE;
}

enum step judging_begun(struct exchange *x)
{
	fault_point("frontend-transfer", 0);
	return STEP_JUDGE;
}

/* Memory ends each transfer in time, or is started anew and knows nothing of it. */
enum step judging_pending(struct exchange *x)
{
	if (view_transfer(x->view) != VIEW_TRANSFER_PENDING)
		return STEP_JUDGE;
	exchange_await(x, AWAITS_TRANSFER, 0);
	return STEP_AWAIT;
}
