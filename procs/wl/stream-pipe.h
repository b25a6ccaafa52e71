#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stream.h"

/*
 * The streams that are pipes. Their data go through a pipe of ours that outlives the process: one
 * splice() moves them, and what that pipe holds tells how far it came. For stream.c alone.
 */

/** stream_pipe_settle() - after a restart: finish what the former instance was about */
void stream_pipe_settle(struct streams *streams);

/** stream_pipe_peek() - stream_peek() of a pipe */
int stream_pipe_peek(struct streams *streams, const struct stream *stream, uint32_t max_bytes,
	struct stream_message *ret);

/** stream_pipe_consume() - stream_consume() of a pipe; also for one that is closed */
void stream_pipe_consume(struct streams *streams, uint32_t slot);

/** stream_pipe_send() - send on from these bytes, which the queue's `sent` counts. It may move
 * fewer than all.
 * Returns: the bytes taken | negative errno: none; -EPIPE: nobody reads it any more. */
int stream_pipe_send(struct streams *streams, const struct stream *stream,
	const struct iovec *data);
