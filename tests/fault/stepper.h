#ifndef TESTS_FAULT_STEPPER_H
#define TESTS_FAULT_STEPPER_H

/*
 * Stops the product at a chosen step, for good. A step is the beginning or the end of a system
 * call. A tracer, a process of its own, counts the steps of the chosen processes, over all their
 * threads; when the count comes to `kill_at` it kills all of them there: before the call is carried
 * out, or after it and before its caller learns of it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STEPPER_MAX 8
#define STEPPER_NEVER UINT32_MAX

struct stepper_plan {
	pid_t pids[STEPPER_MAX]; /* die together; their steps are counted together */
	unsigned int n_pids;
	pid_t parent;     /* not 0: what this process starts from now on is meant instead */
	uint32_t kill_at; /* 1: the first step | STEPPER_NEVER: only count */
};

struct stepper_report {
	uint32_t n_steps; /* seen up to the end or the kill */
	uint32_t call;    /* number of the system call */
	pid_t pid;        /* the thread that made it */
	bool before;      /* it was not carried out */
	bool accepting;   /* some thread had accepted a connection, and done nothing since */
	bool reached;
};

struct stepper {
	pid_t pid;
	int fd;
};

/* 0 when the tracer holds all of them, or a negative errno */
int stepper_arm(struct stepper *s, const struct stepper_plan *plan);
/* lets go of those that still live; 0 or a negative errno */
int stepper_disarm(struct stepper *s, struct stepper_report *ret);

#endif
