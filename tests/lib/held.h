#pragma once

#include <sys/types.h>

/** held_by() - the descriptors that a process has open: one line per kind ("memfd:guest",
 * "eventfd" ...) with its count, sorted; malloc'ed; NULL: no memory, "": no such process */
char *held_by(pid_t pid);
