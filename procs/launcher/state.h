#pragma once

#include <stdbool.h>

struct launcher;

/** state_serves() - whether this program can take over from a launcher that hands over in that form
 * (a number) */
bool state_serves(const char *form);
/** state_hand_over() - execute the program at our path in this process; returns only if that failed
 * (logged) */
void state_hand_over(struct launcher *launcher);
/** state_take_over() - continue with what the former launcher left in that memfd (consumed always)
 * Errors: 0 | negative errno, logged: it cannot be read, and the former launcher's processes end
 *         with us. */
int state_take_over(struct launcher *launcher, int fd);
