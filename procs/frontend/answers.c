/* What memory and the worker say is noted in the session, which then goes on. */
#include "session.h"

void session_observed(struct session *session, Bh__Observed *observed)
{
	view_observe(&session->view, observed);
	exchange_observed(&session->exchange);
	session_run(session);
}

void session_heard_positions(struct session *session, bool worker_gone, Bh__RingState *const *rings,
	size_t n)
{
	view_hear(&session->view, worker_gone, rings, n);
}

void session_committed(struct session *session, int error, const char *refused)
{
	exchange_committed(&session->exchange, error, refused);
	session_run(session);
}

void session_deposited(struct session *session, int error, const uint64_t *tokens)
{
	exchange_deposited(&session->exchange, error, tokens);
	session_run(session);
}

void session_redeemed(struct session *session, int fd)
{
	exchange_redeemed(&session->exchange, fd);
	session_run(session);
}

void session_fetched(struct session *session, int fd)
{
	if (!inband_fetched(&session->exchange, fd))
		shmem_fetched(&session->exchange, fd);
	session_run(session);
}

void session_memory_back(struct session *session, uint64_t generation, uint64_t asked)
{
	if (!session_is_loaded(session) || generation >= asked || !session->view.desired->connected)
		return;
	session->lost = true;
	session_run(session);
}

void session_begun(struct session *session, int error, uint64_t id, const char *refused)
{
	exchange_begun(&session->exchange, error, id, refused);
	session_run(session);
}

/* Nothing was committed since the operator's transfer began, so the rings stand where they stood,
 * and its positions count. */
static bool is_operators_load(const struct session *session, const Bh__Transfer *transfer)
{
	return transfer->by_operator && transfer->load &&
		transfer->step == BH__TRANSFER__STEP__ENDED && !*transfer->error &&
		transfer->generation == session->view.desired->generation &&
		session->view.desired->connected && exchange_is_idle(&session->exchange);
}

static void take_positions(struct session *session, const Bh__Transfer *transfer)
{
	const struct view *view = &session->view;
	Bh__Desired *next = view_next(view, view->desired);

	desired_take_positions(next, transfer, view->observed->n_queues);
	exchange_change(&session->exchange, next);
}

void session_heard_transfer(struct session *session, const Bh__Transfer *transfer)
{
	view_hear_transfer(&session->view, transfer, session->waited);
	if (transfer && is_operators_load(session, transfer))
		take_positions(session, transfer);
	exchange_transferred(&session->exchange);
	session_run(session);
}
