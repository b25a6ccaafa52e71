/*
 * What a message in work is to those who do not handle it: notes. An answer that comes from memory
 * or the worker is written down, whatever step the message is at; nothing is called from here but
 * what tidies up.
 */
#include "exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "intake.h"

/* --- Words --- */

/* Messages that the table does not know have no kind of their own. */
void exchange_log(const struct exchange *exchange, const char *fmt, ...)
{
	unsigned int kind = exchange->row ? exchange->msg.header.request : 0;
	va_list ap;

	va_start(ap, fmt);
	log_limited_v(LOG_WARNING, exchange->config->name, kind, fmt, ap);
	va_end(ap);
}

int exchange_refuse(struct exchange *exchange, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(exchange->why, sizeof(exchange->why), fmt, ap);
	va_end(ap);
	return OUTCOME_REFUSED;
}

/* --- Descriptors --- */

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

enum outcome exchange_deposit(struct exchange *exchange, uint64_t *ret_tokens)
{
	int r = exchange->deposit_error;

	if (r < 0)
		return exchange_refuse(exchange, "its descriptors cannot be kept: %s",
			why_not_kept(r));
	if (exchange->n_tokens != exchange->msg.n_fds)
		return OUTCOME_LATER;
	memcpy(ret_tokens, exchange->tokens, exchange->n_tokens * sizeof(*ret_tokens));
	return OUTCOME_DONE;
}

enum outcome exchange_transfer(struct exchange *exchange, uint64_t *ret_id)
{
	if (!exchange->transfer_asked)
		return OUTCOME_TRANSFER;
	if (!exchange->transfer_id)
		return exchange_refuse(exchange, "%s", exchange->said);
	*ret_id = exchange->transfer_id;
	return OUTCOME_DONE;
}

/* --- Where it stands --- */

const Bh__Desired *exchange_desired(const struct exchange *exchange)
{
	return exchange->batch.desired ? exchange->batch.desired : exchange->view->desired;
}

bool exchange_in_work(const struct exchange *exchange)
{
	return exchange->step > STEP_PEEK && exchange->step < STEP_STAGE;
}

void exchange_await(struct exchange *exchange, enum awaits what, uint64_t usec)
{
	exchange->awaits = what;
	exchange->answered = false;
	exchange->until_usec = usec ? clock_us() + usec : 0;
}

void exchange_change(struct exchange *exchange, Bh__Desired *next)
{
	check(exchange_is_idle(exchange));
	exchange->next = next;
	exchange->step = STEP_VMM;
}

/* The socket has its descriptors as well: they are not the last when they are closed. */
void exchange_put_back(struct exchange *exchange)
{
	wire_drop(&exchange->msg);
	intake_forget();
	exchange->row = NULL;
	exchange->n_tokens = 0;
	exchange->n_deposits = 0;
	exchange->deposit_error = 0;
	exchange->transfer_asked = false;
	exchange->transfer_id = 0;
	exchange->probed = false;
	*exchange->why = '\0';
	exchange->before = desired_free(exchange->before);
	exchange->next = desired_free(exchange->next);
}

/* Sockets that nobody has made use of are emptied: who closes a full one waits for its peer. */
void exchange_drop(struct exchange *exchange)
{
	if (exchange->n_tokens == 0)
		intake_empty(&exchange->msg);
	exchange_put_back(exchange);
}

void exchange_forget(struct exchange *exchange)
{
	exchange->ops->forget(exchange->session);
	exchange->reply_fd = fd_close(exchange->reply_fd);
	exchange->reply_row = NULL;
	exchange_drop(exchange);
	batch_clear(&exchange->batch);
	exchange->batch.n_alone = 0;
	exchange_await(exchange, AWAITS_NOTHING, 0);
	exchange->step = STEP_PEEK;
	exchange->abandoned = false;
	exchange->verdict = NULL;
}

/* --- Answers --- */

void exchange_committed(struct exchange *exchange, int error, const char *refused)
{
	check(exchange->awaits == AWAITS_MEMORY && exchange->next);
	exchange->error = error;
	snprintf(exchange->said, sizeof(exchange->said), "%s", error ? strerror(-error) : refused);
	exchange->answered = true;
}

void exchange_deposited(struct exchange *exchange, int error, const uint64_t *tokens)
{
	check(exchange->awaits == AWAITS_VAULT && exchange->step == STEP_DEPOSIT);
	exchange->deposit_error = error;
	exchange->n_tokens = error ? 0 : exchange->msg.n_fds;
	if (exchange->n_tokens)
		memcpy(exchange->tokens, tokens, exchange->n_tokens * sizeof(*tokens));
	exchange->answered = true;
}

void exchange_redeemed(struct exchange *exchange, int fd)
{
	check(exchange->awaits == AWAITS_VAULT && exchange->step == STEP_SEND);
	exchange->error = fd < 0 ? fd : 0;
	exchange->reply_fd = fd < 0 ? -1 : fd;
	exchange->answered = true;
}

void exchange_begun(struct exchange *exchange, int error, uint64_t id, const char *refused)
{
	check(exchange->awaits == AWAITS_VAULT && exchange->step == STEP_TRANSFER);
	if (error)
		snprintf(exchange->said, sizeof(exchange->said),
			"the memory manager cannot begin it: %s", strerror(-error));
	else
		snprintf(exchange->said, sizeof(exchange->said), "%s", refused);
	exchange->transfer_id = error ? 0 : id;
	exchange->transfer_asked = true;
	exchange->answered = true;
}

void exchange_transferred(struct exchange *exchange)
{
	if (exchange->awaits == AWAITS_TRANSFER &&
		view_transfer(exchange->view) != VIEW_TRANSFER_PENDING)
		exchange->answered = true;
}

void exchange_observed(struct exchange *exchange)
{
	if (exchange->awaits == AWAITS_WORKER && view_applied(exchange->view))
		exchange->answered = true;
}

void exchange_heard(struct exchange *exchange)
{
	if (exchange->awaits == AWAITS_MORE)
		exchange->answered = true;
}

void exchange_timeout(struct exchange *exchange)
{
	if (exchange->awaits == AWAITS_WORKER || exchange->awaits == AWAITS_MORE ||
		exchange->awaits == AWAITS_TIME)
		exchange->answered = true;
}
