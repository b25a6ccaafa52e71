#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * Whose connection it is. That it is open does not tell: a VMM may have passed its end to any other
 * process, even to the frontend, and may be dead by now. It may also have passed it to its
 * successor, and the device goes on with that. What counts is the process that sent the last
 * message or, until there is one, the process that connected. The kernel names both, so neither can
 * lie.
 */

/** struct peer - the process at the other end, as far as it is known */
struct peer {
	pid_t pid;   /* for the log */
	int pidfd;   /* -1 = not known */
	bool gone;   /* it was dead already when it was looked for */
	bool stored; /* the fd store has it: it is not the one that connected */
};

#define PEER_NULL                                                                                  \
	{                                                                                          \
		.pidfd = -1                                                                        \
	}

/** peer_begin() - a connection that is new; from now on the kernel names who speaks */
void peer_begin(struct peer *peer, int conn_fd);

/** peer_resume() - a connection that a former process of ours had for this device */
void peer_resume(struct peer *peer, int conn_fd, const char *device);

/** peer_heard() - this process has spoken; 0 = it is none that can be seen from here. Whether it
 * is another now */
bool peer_heard(struct peer *peer, pid_t pid, const char *device);

/** peer_is_gone() - whether the process is dead; one that is not known is taken to be alive */
bool peer_is_gone(const struct peer *peer);

/** peer_forget() - the connection is closed */
void peer_forget(struct peer *peer, const char *device);
