#pragma once

#include <systemd/sd-event.h>

/*
 * Tells when a file leaves its directory, or another one takes its place. The inotify instance is
 * in the fd store as well: its destruction takes the kernel 5 to 15 ms, by which the death of this
 * process would be noticed later.
 */

/** struct dirwatch - one file; zeros = none. Private to dirwatch.c */
struct dirwatch {
	int fd; /* owned while there is a source */
	sd_event_source *source;
	const char *path;
	void (*on_change)(void *data);
	void *data;
};

/**
 * dirwatch_open() - call on_change whenever the file at path may have gone; an open one only
 *                   watches its directory again, which may be another one by now
 * @stored: its name in the fd store, unique in the process
 * @path:   has a '/'; borrowed, as data is, until dirwatch_close()
 *
 * Errors: 0 | negative errno, e.g. -EACCES: a directory that may not be read cannot be watched;
 *         -EMFILE: inotify instances are limited for each user.
 */
int dirwatch_open(struct dirwatch *watch, sd_event *event, const char *stored, const char *path,
	void (*on_change)(void *data), void *data);

/** dirwatch_close() - stop; the store keeps the instance for the next process. Fine with zeros */
void dirwatch_close(struct dirwatch *watch);
