#pragma once

#include <stdbool.h>

struct launcher;

/** state_serves() - whether this program can take the place of a launcher that hands over in that form */
bool state_serves(const char *form);
/** state_hand_over() - run the program at our path in our place; returns only when that failed (logged) */
void state_hand_over(struct launcher *launcher);
/** state_take_over() - what a former launcher left in that memfd (consumed always). 0 | negative errno: it
 * cannot be read (logged); the former's processes die with us */
int state_take_over(struct launcher *launcher, int fd);
