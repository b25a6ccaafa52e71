#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "wire.h"

/*
 * A message that arrives in parts, from a sender that waits until each part has been read. The
 * parts are taken out of the socket as they arrive, and gathered in memory that survives the
 * frontend. A message that is there whole never comes here: it stays in the socket until it is
 * handled (replay.h).
 */

struct parts_file;

/** struct parts - of one device; made when the first part is taken */
struct parts {
	struct parts_file *file; /* NULL = there was none yet */
	int file_fd;
	int carrier_in; /* a pair of sockets, in which the parts' descriptors lie */
	int carrier_out;
};

#define PARTS_NULL                                                                                 \
	{                                                                                          \
		.file_fd = -1, .carrier_in = -1, .carrier_out = -1                                 \
	}

/** parts_resume() - take over what a former process had gathered
 * @conn_fd: the connection that it comes from; -1 = it is gone, and what was gathered, too */
void parts_resume(struct parts *parts, int conn_fd, const char *device);
/** parts_close() - this process's end of what was gathered; the fd store keeps it */
void parts_close(struct parts *parts);

/** parts_begun() - whether something was gathered */
bool parts_begun(const struct parts *parts);

/** parts_whole() - whether a whole message was gathered: it is handled, or being handled, or was */
bool parts_whole(const struct parts *parts);

/**
 * parts_take() - gather what has come, and look at the message when it is whole
 * @ret_msg:  [out] as wire_peek(); in_parts is set; each time it is looked at it yields its
 *            descriptors anew
 * @ret_text: [out] for WIRE_E_FRAMING: what is wrong
 *
 * Errors: 0 | WIRE_E_*.
 */
int parts_take(struct parts *parts, int conn_fd, const char *device, struct message *ret_msg,
	const char **ret_text);

/** parts_done() - the message was handled */
void parts_done(struct parts *parts);

/** parts_drop() - the connection is gone: what was gathered from it, and where it lay */
void parts_drop(struct parts *parts, const char *device);
