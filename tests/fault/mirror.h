#ifndef TESTS_FAULT_MIRROR_H
#define TESTS_FAULT_MIRROR_H

/* A TAP in a network namespace of this process's own, and a host behind it that sends back what it
 * hears. */

#include <sys/types.h>

#define MIRROR_TAP "mirror0"

/* 0 or a negative errno; -EPERM, -ENOENT: there can be none here */
int mirror_open(pid_t *ret_pid);
void mirror_close(pid_t pid);

#endif
