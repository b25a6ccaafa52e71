#pragma once

#include <systemd/sd-event.h>

/*
 * The level of the log while a process runs, by the signals that systemd itself uses for that:
 * SIGRTMIN+22 shows lines of LOG_DEBUG, SIGRTMIN+23 does not. A process that starts begins with
 * what its environment says (log.h).
 */

#define LEVELS_DEBUG (SIGRTMIN + 22)
#define LEVELS_USUAL (SIGRTMIN + 23)

/** levels_watch() - block these signals, and handle them in the loop; before the first thread
 * Errors: 0 | negative errno. */
int levels_watch(sd_event *event);
