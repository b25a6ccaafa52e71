#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "socket-file.h"

/*
 * The listening socket of a device in server mode, and its file, which is made again when somebody
 * removes it. Whoever comes while nobody is let in waits in the socket's queue.
 */

/** struct door - of one device; door_open() fills it */
struct door {
	int listen_fd; /* -1 = there is none */
	/* whoever started this process has made the socket, and has to make its file */
	bool passed;
	struct socket_file file; /* listen_fd's */
	sd_event_source *source;
	sd_event *event; /* borrowed, as is all below */
	const struct config_device *config;
	void (*on_knock)(void *data);
	bool (*start_anew)(void *data);
	void *data;
};

#define DOOR_NULL                                                                                  \
	{                                                                                          \
		.listen_fd = -1                                                                    \
	}

/**
 * door_open() - listen; nobody is let in yet
 * @on_knock:   called from the loop, as long as somebody waits and door_let_in() says so
 * @start_anew: end this process, to do at the next start what takes rights; false, or NULL: that
 *              has none either
 *
 * Errors: 0 | negative errno, which is logged.
 */
int door_open(struct door *door, sd_event *event, const struct config_device *config,
	void (*on_knock)(void *data), bool (*start_anew)(void *data), void *data);
/** door_close() - listen no more; the file stays. Fine with DOOR_NULL */
void door_close(struct door *door);

/** door_let_in() - whether on_knock() is called; nothing where there is no listening socket */
void door_let_in(struct door *door, bool yes);
