/*
 * From the host: splice() moves data into `pull`, tee() and read() show a copy of them, and reading
 * them off is the last step. What `pull` holds was taken from the host's pipe, and is not consumed.
 *
 * To the host: data are written into `push`, and spliced into the host's pipe. What the splice has
 * left in `push` was not taken; it is counted, and then removed.
 */
#include "stream-pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fault.h"

static uint32_t held_bytes(const int pipe[2])
{
	int n = 0;

	return ioctl(pipe[0], FIONREAD, &n) == 0 && n > 0 ? (uint32_t)n : 0;
}

static void drain(const int pipe[2])
{
	uint8_t bytes[STREAM_MESSAGE_BYTES];

	for (uint32_t left = held_bytes(pipe); left > 0; left = held_bytes(pipe))
		if (read(pipe[0], bytes, MIN(left, sizeof(bytes))) <= 0)
			return;
}

/* --- From the host --- */

static int pull(struct streams *streams, const struct stream *stream, uint32_t max_bytes)
{
	ssize_t n;

	streams->journal.pipes->pull_slot = stream->slot;
	atomic_signal_fence(memory_order_seq_cst);
	n = splice(stream->fd, NULL, streams->pull[1], NULL, max_bytes, SPLICE_F_NONBLOCK);
	fault_point("wl-pulled", stream->slot);
	if (n == 0)
		return STREAM_E_HANGUP;
	if (n < 0)
		return errno == EAGAIN ? STREAM_E_AGAIN : STREAM_E_HANGUP;
	return 0;
}

/* Show up to max_bytes of what is held, without removing it. */
static uint32_t look(struct streams *streams, uint32_t max_bytes, uint8_t *data)
{
	ssize_t n = tee(streams->pull[0], streams->glass[1], max_bytes, SPLICE_F_NONBLOCK);
	uint32_t got = 0;

	while (n > got) {
		ssize_t r = read(streams->glass[0], data + got, (size_t)n - got);

		if (r <= 0)
			break;
		got += (uint32_t)r;
	}
	return got;
}

int stream_pipe_peek(struct streams *streams, const struct stream *stream, uint32_t max_bytes,
	struct stream_message *ret)
{
	int r = 0;

	if (held_bytes(streams->pull) == 0)
		r = pull(streams, stream, max_bytes);
	else if (streams->journal.pipes->pull_slot != stream->slot)
		r = STREAM_E_LATER;
	if (r)
		return r;
	ret->n_fds = 0;
	ret->n_bytes = look(streams, max_bytes, ret->data);
	return ret->n_bytes > 0 ? 0 : STREAM_E_LATER;
}

void stream_pipe_consume(struct streams *streams, uint32_t slot)
{
	if (streams->journal.pipes->pull_slot == slot)
		drain(streams->pull);
}

/* --- To the host --- */

static void set_push(struct journal_pipes *pipes, enum journal_push push)
{
	atomic_signal_fence(memory_order_seq_cst);
	pipes->push = push;
	atomic_signal_fence(memory_order_seq_cst);
}

static void fill(struct streams *streams, const struct stream *stream, const struct iovec *data)
{
	struct journal_pipes *pipes = streams->journal.pipes;
	ssize_t n;

	pipes->push_slot = stream->slot;
	pipes->push_from = streams->journal.queues[stream->slot].sent;
	set_push(pipes, JOURNAL_PUSH_FILL);
	n = write(streams->push[1], data->iov_base, data->iov_len);
	fault_point("wl-push-filled", stream->slot);
	pipes->push_bytes = n > 0 ? (uint32_t)n : 0;
	set_push(pipes, JOURNAL_PUSH_SPLICE);
}

/* Count what is not in `push` any more, and remove the rest. */
static void finish_push(struct streams *streams)
{
	struct journal_pipes *pipes = streams->journal.pipes;

	if (pipes->push == JOURNAL_PUSH_SPLICE && pipes->push_slot < STREAM_SLOTS)
		streams->journal.queues[pipes->push_slot].sent =
			pipes->push_from + pipes->push_bytes - held_bytes(streams->push);
	set_push(pipes, JOURNAL_PUSH_DRAIN);
	drain(streams->push);
	set_push(pipes, JOURNAL_PUSH_IDLE);
}

int stream_pipe_send(struct streams *streams, const struct stream *stream, const struct iovec *data)
{
	struct journal_pipes *pipes = streams->journal.pipes;
	ssize_t n = -1;

	fill(streams, stream, data);
	errno = EAGAIN;
	if (pipes->push_bytes > 0)
		n = splice(streams->push[0], NULL, stream->fd, NULL, pipes->push_bytes,
			SPLICE_F_NONBLOCK);
	fault_point("wl-pushed", stream->slot);
	n = n < 0 ? -errno : n;
	finish_push(streams);
	return (int)n;
}

void stream_pipe_settle(struct streams *streams)
{
	if (streams->journal.pipes->push != JOURNAL_PUSH_IDLE)
		finish_push(streams);
}
