#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "lib/suite.h"
#include "stepper.h"

/* Who is killed: the processes of one role, or those of all roles at once. */

/** struct victims - of one product; all is borrowed */
struct victims {
	const struct suite *suite;
	const char *const *roles; /* there is one process of each */
	/* the last one has no part in what is tried: its number stands for all of them */
	size_t n_roles;
	int wait_ms;
};

/** victims_pids() - of that role, or of all; up to STEPPER_MAX. Returns how many */
unsigned int victims_pids(const struct victims *victims, size_t victim, pid_t *ret_pids);

/** victims_await() - until a process of each role is there; fails the test if none comes */
void victims_await(const struct victims *victims);

/** victims_kill() - SIGKILL to that role, or to all */
void victims_kill(const struct victims *victims, size_t victim);

/** victims_try() - do the work while the victim dies at a step, and once more when all are back
 * @restart: its successor dies, when it takes over
 * @point: the step; STEPPER_NEVER = it does not die, and its steps are counted
 * Fails the test if the work does. */
struct stepper_report victims_try(const struct victims *victims, size_t victim, bool restart,
	uint32_t point, void (*work)(void));
