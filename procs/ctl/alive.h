#pragma once

#include <stdint.h>
#include <sys/types.h>

/**
 * alive_ms() - for how long a process has run, to 10 ms
 *
 * Errors: -ESRCH: it is gone, or a zombie | -EACCES: /proc does not show it, which is no reason to
 *         think that it is gone.
 */
int64_t alive_ms(pid_t pid);
