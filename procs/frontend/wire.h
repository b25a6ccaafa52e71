#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "fd/kind.h"
#include "protocol.h"

/*
 * Messages on a VMM's socket: framing, and the intake of descriptors, which is done nowhere else.
 *
 * A message is looked at (peeked) and stays in the socket until it was handled: taking it out is
 * for replay.h. Looking moves the socket's peek offset.
 */

#define PAYLOAD_MAX 4096u /* kept of a payload: more than any message that is served has */
#define SKIP_MAX 65536u   /* what is longer is no message */

struct message {
	size_t at; /* where it begins, in bytes behind what comes first in the socket */
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
		struct log_area log;
		struct device_state device_state;
	} payload;
	int fds[FDS_MAX]; /* owned; -1 = taken by a handler */
	size_t n_fds;
	pid_t sender;      /* the process that sent it; 0 = the kernel does not say */
	bool fds_in_sight; /* some came with it, or with a message behind it: see wire_take_fds() */
	/* of those that are not taken: what the first is; empty = none is */
	char foreign[FD_KIND_TEXT_BYTES];
	bool doubtful_fds; /* they may belong to a message behind this one */
	bool too_many_fds; /* more than FDS_MAX came: the others are closed */
	bool in_parts;     /* it came in parts, and is no longer in the socket (parts.h) */
	bool too_long;     /* the payload has more than PAYLOAD_MAX bytes */
};

enum {
	_WIRE_E_OK = 0,
	WIRE_E_PARTIAL, /* the rest has not arrived yet */
	WIRE_E_CLOSED,  /* the peer is gone, and sent nothing that is whole */
	WIRE_E_FRAMING, /* what came is no message, and nobody knows where the next one begins */
};

/** wire_bytes() - of the whole message */
static inline size_t wire_bytes(const struct message *msg)
{
	return sizeof(msg->header) + msg->header.size;
}

/**
 * wire_peek() - look at a message
 * @fd:       non-blocking
 * @at:       where it begins, in bytes behind what comes first in the socket: 0 = the next message
 * @ret_msg:  [out] holds no descriptors before, and none afterwards: they are only told of
 * @ret_text: [out] for WIRE_E_FRAMING: what is wrong
 *
 * Errors: 0 | WIRE_E_*.
 */
int wire_peek(int fd, size_t at, struct message *ret_msg, const char **ret_text);

/** wire_has_whole() - whether a message begins there that has all arrived; false as well where
 * framing is lost, or it has more than PAYLOAD_MAX bytes */
bool wire_has_whole(int fd, size_t at);

/** wire_peek_header() - the next message's header, the first part of that: 0 | WIRE_E_*, but
 * FRAMING. Descriptors stay where they are.
 * @ret_sender: [out] the process that sent its last piece; 0 = nothing came, or the kernel does
 * not say */
int wire_peek_header(int fd, struct header *ret, pid_t *ret_sender);

/* --- For parts.c --- */

/** wire_rewind() - the next look begins at what is there first; 0 | WIRE_E_CLOSED */
int wire_rewind(int fd);
/** wire_bytes_there() - that can be read now */
size_t wire_bytes_there(int fd);
/** wire_peek_bytes() - the first n bytes of what is there, as wire_peek_header() */
int wire_peek_bytes(int fd, void *buf, size_t n, pid_t *ret_sender);
/** wire_peek_piece() - a look at up to n bytes, which ends behind the first piece with
 * descriptors; these stay where they are (fds_in_sight), the sender is noted. Returns how many
 * bytes came, or -1 */
ssize_t wire_peek_piece(int fd, struct message *msg, void *buf, size_t n);
/** wire_take_piece() - the same, and the descriptors are added to the message's (with too_many_fds)
 * @n_fds: [in,out] so many may be had, counted down; as for wire_take_fds()
 * Returns how many bytes came, or -1: descriptors may be lost */
ssize_t wire_take_piece(int fd, struct message *msg, void *buf, size_t n, size_t *n_fds);
/** wire_judge_header() - what is wrong with it, so that nobody knows where the next message
 * begins; NULL = nothing */
const char *wire_judge_header(const struct header *header);

/** wire_is_silent() - whether the peer has not sent a single byte since it connected; over all
 * our restarts */
bool wire_is_silent(int fd);

/**
 * wire_take_fds() - have the descriptors of a message that was looked at
 * @n_judged: of those that are in sight, as many from the first on may be in this process's table
 *            (intake.h); what has arrived since is not touched
 *
 * Errors: 0 | WIRE_E_CLOSED | WIRE_E_FRAMING, with ret_text.
 */
int wire_take_fds(int fd, struct message *msg, size_t n_judged, const char **ret_text);

/** wire_drop() - close the descriptors that are still in it */
void wire_drop(struct message *msg);

/** wire_hung_up() - whether the peer sends no more */
bool wire_hung_up(int fd);
