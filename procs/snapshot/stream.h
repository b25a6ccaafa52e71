#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/*
 * Moves the bytes of one stream, the end of a pipe that somebody else has made and may still hold.
 * It never blocks, whatever is done at the other end or to the pipe's flags, and in one call it
 * moves no more than a pipe holds, so that all streams get their turn.
 *
 * All functions are called from the event loop.
 */

struct stream;

/** stream_fn - it is over; the stream may be freed from within
 * @error: NULL = all was read or written | why not, one sentence */
typedef void stream_fn(void *data, const char *error);

/**
 * stream_read() - read to the end, and up to so many bytes
 * @fd: consumed always
 *
 * More bytes than that are an error: nobody can make it read for ever.
 * Errors: 0 | -EBADF: it is no pipe | other negative errno. */
int stream_read(struct stream **ret, sd_event *event, int fd, size_t n_max, stream_fn *fn,
	void *data);

/** stream_write() - write these bytes (copied), and close
 * @fd: consumed always
 * Errors: 0 | negative errno. */
int stream_write(struct stream **ret, sd_event *event, int fd, const uint8_t *bytes, size_t n,
	stream_fn *fn, void *data);

/** stream_bytes() - what was read; borrowed until stream_free() */
const uint8_t *stream_bytes(const struct stream *stream, size_t *ret_n);

/** stream_free() - close it; its function is called no more. NULL is fine; returns NULL */
struct stream *stream_free(struct stream *stream);
