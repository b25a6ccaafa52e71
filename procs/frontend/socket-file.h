#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "fd/dirwatch.h"

/*
 * The file by which a VMM finds a listening socket. The socket outlives it: when somebody removes
 * the file, or puts another in its place, the socket is open and nobody can reach it.
 */

/** struct socket_file - one that is watched; zeros = none */
struct socket_file {
	sd_event *event; /* borrowed */
	struct dirwatch changes;
	sd_event_source *again;
	const char *path; /* borrowed */
	dev_t dev;
	ino_t ino;
	/* 0 = there is a new one, or nothing can be done | negative errno: call again in a
	 * second */
	int (*on_lost)(void *data);
	void *data;
};

/** socket_file_watch() - call on_lost when what is at the path now is no longer there; replaces a
 * former watch
 * @stored: as in dirwatch_open()
 * Errors: 0 | negative errno: it is not watched. A directory that may not be read cannot be
 * watched, which is no error. */
int socket_file_watch(struct socket_file *file, sd_event *event, const char *stored,
	const char *path, int (*on_lost)(void *data), void *data);

/** socket_file_forget() - fine with one that is not watched */
void socket_file_forget(struct socket_file *file);
