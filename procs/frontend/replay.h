#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parts.h"
#include "stage.h"
#include "wire.h"

/*
 * Each message is handled, and its reply sent, exactly once, however often the frontend is killed.
 * The kernel keeps the step, in objects that survive the frontend: the socket's peek offset, and a
 * pipe in which the reply is laid before it goes out.
 */

/** struct replay - of one device */
struct replay {
	struct stage stage; /* of the reply */
	struct parts parts; /* of a message that comes bit by bit */
};

#define REPLAY_NULL                                                                                \
	{                                                                                          \
		.stage = STAGE_NULL, .parts = PARTS_NULL                                           \
	}

/** replay_open() - the pipe that a former process of this device left in the fd store, or a new one
 * Errors: 0 | negative errno. */
int replay_open(struct replay *replay, const char *device);
/** replay_close() - this process's end of it; the fd store keeps the pipe, and what is laid ready
 * in it */
void replay_close(struct replay *replay);

enum replay_step {
	REPLAY_IDLE,  /* no message is in work */
	REPLAY_AGAIN, /* the next message was begun; nobody knows how far: handle it again */
	REPLAY_SEND,  /* the message is done and out of the socket; its reply is still to be sent */
};

/** replay_resume() - what a connection that was taken back had come to; cleans up half-done
 * steps */
enum replay_step replay_resume(struct replay *replay, int fd);

/* The steps of a message, in order. All return 0 | negative errno: the connection is of no use
 * any more. */

/** replay_look() - wire_peek(), or parts_take() where the message comes in parts */
int replay_look(struct replay *replay, int fd, const char *device, struct message *ret_msg,
	const char **ret_text);
/** replay_begin() - it has been handled: what follows concerns this message */
int replay_begin(int fd, const struct message *msg);
/** replay_stage() - lay the reply ready. Left out where there is none.
 * @n: up to STAGE_BYTES_MAX less the header */
int replay_stage(struct replay *replay, uint32_t request, const void *payload, size_t n);
/** replay_consume() - take it out of the socket */
int replay_consume(struct replay *replay, int fd, const struct message *msg);
/** replay_consume_first() - take so many bytes out of the socket: whole messages that have been
 * handled, and owe no reply */
int replay_consume_first(int fd, size_t n_bytes);
/** replay_send() - send what is laid ready; -EAGAIN: the peer reads too slowly, call again later */
int replay_send(struct replay *replay, int fd);

/** replay_look_at_staged() - what is laid ready, and stays so: header and payload
 * Returns how many bytes of it were put into buf; 0 = nothing is laid ready. */
size_t replay_look_at_staged(const struct replay *replay, void *buf, size_t n);

/** replay_send_fd() - replay_send() for a reply with a descriptor
 * @file: borrowed; of a kind that can be opened anew and locked (a memory file), and in the
 *        VMM's hands for no other reason than this reply */
int replay_send_fd(struct replay *replay, int fd, int file);

/** replay_drop() - the connection is gone: so is what was laid ready for it, and what was
 * gathered from it */
void replay_drop(struct replay *replay, const char *device);
