#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fd/fdlink.h"

/*
 * The keeper of a guest: a process that holds what the guest's processes store, so that the launcher, which
 * serves many guests, never holds, closes or inherits a descriptor that a VMM or a guest may have a say in.
 * Closing one may wait for whoever is behind it (a file server, a peer that does not read): then that guest's
 * keeper waits, and nobody else.
 */

struct keeper; /* the launcher's end */

/** struct keeper_events - what the launcher is told of a process, which is named by role and instance */
struct keeper_events {
	void (*ready)(void *data, const char *child);
	void (*silent)(void *data, const char *child);
	void (*dropped)(void *data, const char *child, const char *name, bool listener_left);
	/** lost() - the keeper has ended, and with it all that was stored */
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

/** keeper_free() - end it, and forget what is stored; may be NULL */
struct keeper *keeper_free(struct keeper *keeper);

pid_t keeper_pid(const struct keeper *keeper);
int keeper_fd(const struct keeper *keeper);

/*
 * Orders. None of them waits: a keeper that is busy (it waits for a stranger) and has too many before it
 * already refuses with -EAGAIN, and the caller tries again later. Descriptors are borrowed.
 */
int keeper_open(struct keeper *keeper, const char *child, int notify_fd);
int keeper_start(struct keeper *keeper, const char *child, int store_fd, uint64_t start_usec,
	uint64_t watchdog_usec);
int keeper_end(struct keeper *keeper, const char *child);
int keeper_heard(struct keeper *keeper, const char *child, const char *text, const int *fds, size_t n_fds);
int keeper_add(struct keeper *keeper, const char *child, const char *name, int fd);
int keeper_forget(struct keeper *keeper, const char *child);

/* keep.c: the process itself */
/** keep() - serve the launcher at the other end of that socket until it is gone; returns the exit status */
int keep(int fd, const char *name);
