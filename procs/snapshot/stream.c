/*
 * O_NONBLOCK belongs to the open file, which whoever passed the descriptor still shares: he could
 * clear it under a read() and stop this process. splice() between two pipes is told not to block in
 * the call itself. So the bytes go through a pipe of our own, the lock, as through a ship's: from
 * the stream into the lock, and from there into memory, or the other way.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define LOCK_BYTES (64u * 1024) /* of a pipe, as the kernel makes it; one may hold less */

struct stream {
	int fd;
	int lock[2];      /* the end to read from, and the end to write to */
	size_t n_in_lock; /* only while writing: reading leaves it empty */
	uint8_t *bytes;
	size_t n, n_room; /* reading: what is there, and what there is room for */
	size_t at;        /* writing: what has gone into the lock */
	size_t n_max;
	sd_event_source *source;
	stream_fn *fn;
	void *data;
};

static void close_all(struct stream *stream)
{
	stream->source = sd_event_source_disable_unref(stream->source);
	stream->fd = fd_close(stream->fd);
	stream->lock[0] = fd_close(stream->lock[0]);
	stream->lock[1] = fd_close(stream->lock[1]);
}

struct stream *stream_free(struct stream *stream)
{
	if (!stream)
		return NULL;
	close_all(stream);
	free(stream->bytes);
	free(stream);
	return NULL;
}

const uint8_t *stream_bytes(const struct stream *stream, size_t *ret_n)
{
	*ret_n = stream->n;
	return stream->bytes;
}

/* Whoever waits for the end of the pipe gets it before anybody is told. Only the bytes are kept:
 * whoever asked for them may ask again. */
static int finish(struct stream *stream, const char *error)
{
	close_all(stream);
	stream->fn(stream->data, error);
	return 0;
}

/* --- Reading --- */

static bool make_room(struct stream *stream, size_t n)
{
	size_t room = MAX(stream->n + n, 2 * stream->n_room);
	uint8_t *bytes;

	if (stream->n + n <= stream->n_room)
		return true;
	bytes = realloc(stream->bytes, room);
	if (!bytes)
		return false;
	stream->bytes = bytes;
	stream->n_room = room;
	return true;
}

/* What went into the lock can be read at once. */
static bool empty_lock(struct stream *stream, size_t n)
{
	while (n) {
		ssize_t got = read(stream->lock[0], stream->bytes + stream->n, n);

		if (got <= 0)
			return false;
		stream->n += (size_t)got;
		n -= (size_t)got;
	}
	return true;
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct stream *stream = data;
	ssize_t n = splice(fd, NULL, stream->lock[1], NULL, LOCK_BYTES, SPLICE_F_NONBLOCK);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return finish(stream, "the stream cannot be read");
	if (n == 0)
		return finish(stream, NULL);
	if (stream->n + (size_t)n > stream->n_max)
		return finish(stream, "the stream is longer than any state can be");
	if (!make_room(stream, (size_t)n) || !empty_lock(stream, (size_t)n))
		return finish(stream, "there is no memory for the stream");
	return 0;
}

/* --- Writing --- */

static bool fill_lock(struct stream *stream)
{
	ssize_t n;

	if (stream->n_in_lock || stream->at == stream->n)
		return true;
	n = write(stream->lock[1], stream->bytes + stream->at,
		MIN(stream->n - stream->at, (size_t)LOCK_BYTES));
	if (n <= 0)
		return false;
	stream->at += (size_t)n;
	stream->n_in_lock = (size_t)n;
	return true;
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct stream *stream = data;
	ssize_t n;

	if (!fill_lock(stream))
		return finish(stream, "there is no memory for the stream");
	n = splice(stream->lock[0], NULL, fd, NULL, stream->n_in_lock, SPLICE_F_NONBLOCK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return finish(stream, "the stream was closed before all of it was read");
	stream->n_in_lock -= (size_t)n;
	return stream->n_in_lock || stream->at < stream->n ? 0 : finish(stream, NULL);
}

/* --- The beginning --- */

/* NULL: errno says why. */
static struct stream *new_stream(int fd, stream_fn *fn, void *data)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream) {
		fd_close(fd);
		return NULL;
	}
	*stream = (struct stream){ .fd = fd, .lock = { -1, -1 }, .fn = fn, .data = data };
	if (fcntl(fd, F_GETPIPE_SZ) >= 0 && pipe2(stream->lock, O_CLOEXEC | O_NONBLOCK) == 0)
		return stream;
	return stream_free(stream);
}

static int listen_to(struct stream **ret, struct stream *stream, sd_event *event, uint32_t events,
	sd_event_io_handler_t fn)
{
	int r = sd_event_add_io(event, &stream->source, stream->fd, events, fn, stream);

	if (r < 0)
		stream_free(stream);
	else
		*ret = stream;
	return r < 0 ? r : 0;
}

int stream_read(struct stream **ret, sd_event *event, int fd, size_t n_max, stream_fn *fn,
	void *data)
{
	struct stream *stream = new_stream(fd, fn, data);

	if (!stream)
		return -errno;
	stream->n_max = n_max;
	return listen_to(ret, stream, event, EPOLLIN, on_readable);
}

int stream_write(struct stream **ret, sd_event *event, int fd, const uint8_t *bytes, size_t n,
	stream_fn *fn, void *data)
{
	struct stream *stream = new_stream(fd, fn, data);

	if (!stream)
		return -errno;
	stream->bytes = malloc(n);
	if (!stream->bytes) {
		stream_free(stream);
		return -ENOMEM;
	}
	memcpy(stream->bytes, bytes, n);
	stream->n = n;
	return listen_to(ret, stream, event, EPOLLOUT, on_writable);
}
