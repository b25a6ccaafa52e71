#pragma once

#include "exchange.h"

/** steps_run() - let the message in work go on, or look for the next one, as far as it gets without
 * an answer
 *
 * Returns STEP_AWAIT:   an answer is missing (awaits), or there is no message, or no room for the
 * reply;
 *         STEP_DONE:    a message has been answered; the next one may be there already;
 *         STEP_TURNED:  what exchange_change() asked for is in force; STEP_HANG_UP: the connection
 *         is of no use any more (verdict); what is left of the message is still there, for
 *         exchange_forget(). After all but the first, the next call begins with STEP_PEEK.
 */
enum step steps_run(struct exchange *exchange);

/** steps_resume() - a connection that a former process had: what it had come to, and the step to
 * go on with */
void steps_resume(struct exchange *exchange);
