#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * How long a serving thread looks for work before it sleeps. A driver whose next chain comes within
 * the limit is served without a kick, a wake-up and their system calls; one whose chains come
 * further apart costs no time at all. The times are CLOCK_MONOTONIC, in ns, and come from the
 * caller. One thread.
 */

/** struct polling - of one thread; all zero: it never polls */
struct polling {
	uint64_t limit_ns; /* of a window */
	uint64_t window_ns;
	uint64_t work_ns; /* when there was work last */
	uint64_t look_ns; /* when it looked last; 0 = not since there was work */
};

/** polling_worked() - a turn has found work, and is over now */
void polling_worked(struct polling *polling, uint64_t now_ns);

/** polling_again() - a turn has found none: whether to look again instead of sleeping. No, once the
 * window is over, or when another thread wants the processor. */
bool polling_again(struct polling *polling, uint64_t now_ns);

/** polling_woke() - it has slept, and something has woken it up: the next window is as long as
 * would have been enough, or shorter than the last one if the limit would not have been */
void polling_woke(struct polling *polling, uint64_t now_ns);
