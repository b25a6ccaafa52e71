#pragma once

#include "exchange.h"

/*
 * The steps up to the commit (steps.h): a message is looked at and judged, and ends the batch or
 * goes into it. Each is a half of a step: it returns the step that comes next.
 */

/** judging_log_refusal() - say why the message in work is refused; nothing where it is not */
void judging_log_refusal(const struct exchange *exchange);

/** judging_acks() - whether the message in work is acknowledged, by the record that it is judged
 * by */
bool judging_acks(const struct exchange *exchange);

/** judging_peek() - STEP_PEEK: the message behind those of the batch */
enum step judging_peek(struct exchange *exchange);

/** judging_check() - STEP_CHECK: its form */
enum step judging_check(struct exchange *exchange);

/** judging_judge() - STEP_JUDGE: its meaning, by the record as the messages before it make it */
enum step judging_judge(struct exchange *exchange);

/** judging_deposit() - STEP_DEPOSIT; judging_deposited() - with the vault's answer */
enum step judging_deposit(struct exchange *exchange);
enum step judging_deposited(struct exchange *exchange);

/** judging_transfer() - STEP_TRANSFER; judging_begun() - with memory's answer */
enum step judging_transfer(struct exchange *exchange);
enum step judging_begun(struct exchange *exchange);

/** judging_pending() - STEP_PENDING, both halves */
enum step judging_pending(struct exchange *exchange);

/** judging_linger() - STEP_LINGER; judging_lingered() - when more has come, or nothing in time */
enum step judging_linger(struct exchange *exchange);
enum step judging_lingered(struct exchange *exchange);

/** judging_join() - STEP_JOIN */
enum step judging_join(struct exchange *exchange);
