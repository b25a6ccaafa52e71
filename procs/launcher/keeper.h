#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fd/fdlink.h"

/*
 * The keeper of a guest is a process that holds what the guest's processes store. The launcher
 * serves many guests, so it never holds, closes or inherits a descriptor that a VMM or a guest has
 * influence on: closing one may block on whatever is behind it (a file server, a peer that does not
 * read). It then blocks the keeper of that guest alone.
 */

struct keeper; /* the launcher's end */

/** struct keeper_events - what the launcher is told; `child` is a process's title, its role and
 * instance. Called from the event loop */
struct keeper_events {
	/** ready() - the process has said READY=1 */
	void (*ready)(void *data, const char *child);
	/** status() - what the process says of its own state, for the operator; one line that can
	 * be displayed */
	void (*status)(void *data, const char *child, const char *text);
	/** silent() - the process gave no sign of life in time */
	void (*silent)(void *data, const char *child);
	/** dropped() - the process no longer stores its VMM's connection; listener_left: a
	 * listening socket is still stored */
	void (*dropped)(void *data, const char *child, const char *name, bool listener_left);
	/** lost() - the keeper has ended, and everything that was stored is lost */
	void (*lost)(void *data);
};

/**
 * keeper_new() - start the process
 * @user:   [in] as which it runs; 0 = as we do
 * @name:   [in] of the guest, for the log; borrowed
 * @events: [in] borrowed for the keeper's life, as data
 *
 * Errors: 0 | negative errno.
 */
int keeper_new(struct keeper **ret_keeper, sd_event *event, const char *name, uid_t user,
	const struct keeper_events *events, void *data);

/** keeper_adopt() - one that a former launcher started; fd is consumed always */
int keeper_adopt(struct keeper **ret_keeper, sd_event *event, const char *name, pid_t pid, int fd,
	const struct keeper_events *events, void *data);

/** keeper_free() - end the process, which closes everything that was stored. NULL is fine; returns
 * NULL */
struct keeper *keeper_free(struct keeper *keeper);

/** keeper_pid() - its process, for the lock file and for the next launcher */
pid_t keeper_pid(const struct keeper *keeper);

/** keeper_fd() - our end of its connection, borrowed, for the next launcher; -1 where keeper is
 * NULL */
int keeper_fd(const struct keeper *keeper);

/*
 * Orders about one process. None of them waits. Descriptors are borrowed.
 * Errors: 0 | -EAGAIN: the keeper is blocked, and its queue is full; try again later | another
 *         negative errno.
 */

/** keeper_open() - listen to what the process says on its notification socket, in the place of an
 * older one */
int keeper_open(struct keeper *keeper, const char *child, int notify_fd);

/** keeper_start() - the process is being started: send what it stored to store_fd, and expect a
 * first sign of life within start_usec, and then one every watchdog_usec (0 = none is expected) */
int keeper_start(struct keeper *keeper, const char *child, int store_fd, uint64_t start_usec,
	uint64_t watchdog_usec);

/** keeper_end() - the process has ended: no sign of life is expected */
int keeper_end(struct keeper *keeper, const char *child);

/** keeper_heard() - handle a notification that the launcher received itself, from a process of a
 * former release */
int keeper_heard(struct keeper *keeper, const char *child, const char *text, const int *fds,
	size_t n_fds);

/** keeper_add() - store a descriptor for the process, as if it had stored it itself */
int keeper_add(struct keeper *keeper, const char *child, const char *name, int fd);

/** keeper_forget() - the process will not be started again: close what it stored */
int keeper_forget(struct keeper *keeper, const char *child);

/* keep.c: the process itself */
/** keep() - serve the launcher at the other end of that socket until it is gone; returns the exit
 * status */
int keep(int fd, const char *name);
