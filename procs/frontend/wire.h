#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "protocol.h"

/*
 * Messages on a VMM's socket: framing, and the intake of descriptors, which is done nowhere else.
 *
 * A message is looked at (peeked) and stays in the socket until it was handled and is consumed: what the
 * kernel holds survives us. The peek offset is the kernel's, too.
 */

#define PAYLOAD_MAX 4096u
#define SKIP_MAX 65536u /* a longer message is not a message */

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
	} payload;
	int fds[FDS_MAX];
	size_t n_fds;
	size_t n_peeked;      /* bytes of header and payload that were looked at */
	bool bad_fds;         /* more than FDS_MAX */
	bool too_long;        /* the payload is longer than PAYLOAD_MAX; it is not kept */
};

enum {
	WIRE_E_CLOSED = 1,    /* the peer is gone */
	WIRE_E_FRAMING,       /* what came is no message; text says why */
};

/** wire_begin() - prepare a new or taken-over connection: the next peek begins at its first byte */
int wire_begin(int fd);

/**
 * wire_peek() - look at more of the next message
 * @msg: what was looked at so far; zeroed before the first call for a message
 *
 * Returns: 1 the message is whole | 0 more must arrive first | -WIRE_E_*, *ret_text set for FRAMING.
 */
int wire_peek(int fd, struct message *msg, const char **ret_text);

/** wire_consume() - take the message out of the socket, and close the descriptors still in msg; msg is
 * zeroed */
int wire_consume(int fd, struct message *msg);

/** wire_drop_fds() - close the descriptors that came along */
void wire_drop_fds(struct message *msg);

/** wire_drop() - close descriptors and forget, without touching the socket */
void wire_drop(struct message *msg);

/** wire_reply() - flags are exactly those of a reply; 0 | negative errno */
int wire_reply(int fd, uint32_t request, const void *payload, size_t n);

/** wire_request() - a request of ours on the back-end channel, without an answer; never blocks */
int wire_request(int fd, uint32_t request);
