#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fd/kind.h"
#include "protocol.h"

/*
 * Messages on a VMM's socket: framing, and the intake of descriptors, which is done nowhere else.
 *
 * A message is looked at (peeked) and stays in the socket until it was handled: taking it out is for
 * replay.h. Looking moves the socket's peek offset.
 */

#define PAYLOAD_MAX 4096u  /* kept of a payload: more than any message that is served has */
#define SKIP_MAX    65536u /* what is longer is no message */

struct message {
	struct header header;
	union {
		uint8_t bytes[PAYLOAD_MAX];
		uint64_t u64;
		struct vring_state state;
		struct vring_addr addr;
		struct memory_table table;
		struct memory_single single;
		struct config_header config;
		struct inflight_area inflight;
	} payload;
	int fds[FDS_MAX];     /* owned; -1 = taken by a handler */
	size_t n_fds;
	bool fds_in_sight;    /* some came with it, or with a message behind it: see wire_take_fds() */
	char foreign[FD_KIND_TEXT_BYTES]; /* of those that are not taken: what the first is; empty = none is */
	bool doubtful_fds;    /* they may belong to a message behind this one */
	bool too_many_fds;    /* more than FDS_MAX came: the others are closed */
	bool too_long;        /* the payload has more than PAYLOAD_MAX bytes */
};

enum {
	_WIRE_E_OK = 0,
	WIRE_E_PARTIAL,       /* the rest has not arrived yet */
	WIRE_E_CLOSED,        /* the peer is gone, and sent nothing that is whole */
	WIRE_E_FRAMING,       /* what came is no message, and nobody knows where the next one begins */
};

/** wire_bytes() - of the whole message */
static inline size_t wire_bytes(const struct message *msg)
{
	return sizeof(msg->header) + msg->header.size;
}

/**
 * wire_peek() - look at the next message
 * @fd:       non-blocking
 * @ret_msg:  [out] holds no descriptors before, and none afterwards: they are only told of
 * @ret_text: [out] for WIRE_E_FRAMING: what is wrong
 *
 * Errors: 0 | WIRE_E_*.
 */
int wire_peek(int fd, struct message *ret_msg, const char **ret_text);

/**
 * wire_take_fds() - have the descriptors of a message that was looked at
 * @n_judged: of those that are in sight, as many from the first on may be in this process's table (intake.h); what
 *            has arrived since is not touched
 *
 * Errors: 0 | WIRE_E_CLOSED | WIRE_E_FRAMING, with ret_text.
 */
int wire_take_fds(int fd, struct message *msg, size_t n_judged, const char **ret_text);

/** wire_peek_header() - the first part of that: 0 | WIRE_E_*, but FRAMING. Descriptors stay where they are. */
int wire_peek_header(int fd, struct header *ret);

/** wire_drop() - close the descriptors that are still in it */
void wire_drop(struct message *msg);

/** wire_hung_up() - whether the peer sends no more */
bool wire_hung_up(int fd);

/** wire_request() - a request of ours on the back-end channel, without an answer; never blocks */
int wire_request(int fd, uint32_t request);
