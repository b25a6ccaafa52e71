/*
 * A stream that loses or doubles one byte is dead, so that all that is under way lies where the
 * death of the process does not reach it:
 *
 *  from the host The message stays in the socket while it is published: it is only peeked.
 *                  SO_PEEK_OFF, which the kernel keeps with the socket, is the number of bytes that
 *                  were peeked and not consumed. A peek that fills its buffer looks for descriptors
 *                  in what follows, too. They are then returned with an earlier message than the
 *                  one to which they are attached, and not a second time: `fds_given` says so until
 *                  they are consumed.
 *  to the host     Records wait in the journal's queue (sendq.c), and the kernel notes there how
 *                  much of the first one it has taken (journal.c).
 *
 * Pipes can be neither peeked nor written with such a note: see stream-pipe.c.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "stream-pipe.h"
#include "virtq/payload.h"

#define FLUSH_BUDGET 128u /* records at a time */

const char *const streams_names[STREAMS_N_KEPT] = { "journal", "pull.r", "pull.w", "push.r",
	"push.w" };

/* --- What all streams share --- */

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = fd_close(fds[i]);
}

int streams_create(int ret_fds[STREAMS_N_KEPT])
{
	int fds[STREAMS_N_KEPT] = { -1, -1, -1, -1, -1 };
	int r = 0;

	if (pipe2(fds + 1, O_CLOEXEC | O_NONBLOCK) < 0 ||
		pipe2(fds + 3, O_CLOEXEC | O_NONBLOCK) < 0)
		r = -errno;
	else
		r = fds[0] = journal_create();
	if (r < 0) {
		close_all(fds, STREAMS_N_KEPT);
		return r;
	}
	memcpy(ret_fds, fds, sizeof(fds));
	return 0;
}

static bool are_pipes(const struct streams *streams)
{
	const int fds[] = { streams->pull[0], streams->pull[1], streams->push[0],
		streams->push[1] };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fcntl(fds[i], F_GETPIPE_SZ) < 0)
			return false;
	return true;
}

int streams_open(struct streams *streams, const int fds[STREAMS_N_KEPT])
{
	int r;

	*streams = (struct streams){
		.pull = { fds[1], fds[2] }, .push = { fds[3], fds[4] }, .glass = { -1, -1 }
	};
	r = journal_map(&streams->journal, fds[0]);
	if (r == 0 && !are_pipes(streams))
		r = -EINVAL;
	if (r == 0 && pipe2(streams->glass, O_CLOEXEC | O_NONBLOCK) < 0)
		r = -errno;
	if (r < 0) {
		streams_close(streams);
		return r;
	}
	stream_pipe_settle(streams);
	for (uint32_t slot = 0; slot < STREAM_SLOTS; slot++) {
		struct sendq q = sendq_of(&streams->journal, slot);

		(void)sendq_settle(&q);
	}
	return 0;
}

void streams_close(struct streams *streams)
{
	journal_unmap(&streams->journal);
	close_all(streams->pull, 2);
	close_all(streams->push, 2);
	close_all(streams->glass, 2);
}

static void give_back(struct streams *streams, uint32_t slot, uint32_t bytes)
{
	if (bytes > 0)
		journal_punch(&streams->journal, slot, 0);
}

/* --- From the host to the guest --- */

static int set_peek_offset(int fd, int offset)
{
	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0 ? -errno : 0;
}

/* How many bytes were peeked, and not consumed. */
static int peek_offset(int fd)
{
	int offset = 0;
	socklen_t n = sizeof(offset);

	return getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &n) < 0 ? 0 : offset;
}

int stream_begin(const struct stream *stream)
{
	return stream->kind == STREAM_SOCKET ? set_peek_offset(stream->fd, 0) : 0;
}

/** union control - room for the descriptors of one message */
union control {
	char bytes[CMSG_SPACE(STREAM_MESSAGE_FDS * sizeof(int))];
	struct cmsghdr align;
};

static void take_fds(struct msghdr *msg, struct stream_message *ret)
{
	ret->n_fds = 0;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		ret->n_fds = (uint32_t)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(ret->fds, CMSG_DATA(cmsg), ret->n_fds * sizeof(int));
	}
}

/* The kernel had no room for all descriptors: in the message, whose sender broke the rule, or among
 * ours. */
static int judge_truncated(struct stream_message *ret)
{
	bool too_many = ret->n_fds == STREAM_MESSAGE_FDS;

	close_all(ret->fds, ret->n_fds);
	return too_many ? STREAM_E_HANGUP : STREAM_E_LATER;
}

static int peek_at(int fd, uint32_t max_bytes, struct stream_message *ret)
{
	union control control;
	struct iovec iov = { ret->data, max_bytes };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	if (set_peek_offset(fd, 0) < 0)
		return STREAM_E_HANGUP;
	n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? STREAM_E_AGAIN : STREAM_E_HANGUP;
	fault_point("wl-peeked", (uint64_t)n);
	take_fds(&msg, ret);
	if (msg.msg_flags & MSG_CTRUNC)
		return judge_truncated(ret);
	ret->n_bytes = (uint32_t)n;
	return n > 0 ? 0 : STREAM_E_HANGUP;
}

static void note_peek(struct journal_queue *queue, const struct stream_message *message)
{
	queue->peeked_bytes = 0;
	atomic_signal_fence(memory_order_seq_cst);
	queue->peeked_fds = (uint16_t)message->n_fds;
	atomic_signal_fence(memory_order_seq_cst);
	queue->peeked_bytes = message->n_bytes;
}

/* A message that is peeked again has as many descriptors as before: others may have arrived behind
 * it. */
static int peek_socket(struct streams *streams, const struct stream *stream, uint32_t max_bytes,
	struct stream_message *ret)
{
	struct journal_queue *queue = &streams->journal.queues[stream->slot];
	bool again = queue->peeked_bytes > 0 && max_bytes <= queue->peeked_bytes;
	int r = peek_at(stream->fd, max_bytes, ret);

	if (r)
		return r;
	if (queue->fds_given || (again && queue->peeked_fds == 0)) {
		close_all(ret->fds, ret->n_fds);
		ret->n_fds = 0;
	}
	if (!again)
		note_peek(queue, ret);
	return 0;
}

int stream_peek(struct streams *streams, const struct stream *stream, uint32_t max_bytes,
	struct stream_message *ret)
{
	max_bytes = MIN(max_bytes, STREAM_MESSAGE_BYTES);
	if (stream->kind == STREAM_PIPE)
		return stream_pipe_peek(streams, stream, max_bytes, ret);
	return peek_socket(streams, stream, max_bytes, ret);
}

static void consume_socket(struct streams *streams, const struct stream *stream)
{
	struct journal_queue *queue = &streams->journal.queues[stream->slot];
	int left = peek_offset(stream->fd);

	/* Else a former instance has come further than this, maybe to the end. */
	if (left > 0 && left == (int)queue->peeked_bytes && queue->peeked_fds > 0)
		queue->fds_given = 1;
	for (; left > 0; left = peek_offset(stream->fd))
		if (journal_consume(&streams->journal, stream->slot, stream->fd, (uint32_t)left) <=
			0)
			return;
	queue->peeked_bytes = 0;
}

void stream_consume(struct streams *streams, const struct stream *stream)
{
	if (stream->kind == STREAM_PIPE)
		stream_pipe_consume(streams, stream->slot);
	else
		consume_socket(streams, stream);
}

/* --- From the guest to the host --- */

int stream_reserve(struct streams *streams, uint32_t slot, uint32_t n_fds, uint32_t n_bytes,
	struct iovec ret_room[2])
{
	struct sendq q = sendq_of(&streams->journal, slot);

	if (n_bytes > STREAM_RECORD_MAX || n_fds > STREAM_MESSAGE_FDS)
		return STREAM_E_TOO_BIG;
	return sendq_reserve(&q, n_fds, n_bytes, ret_room) ? 0 : STREAM_E_FULL;
}

void stream_append(struct streams *streams, uint32_t slot, const struct stream_record *record)
{
	struct sendq q = sendq_of(&streams->journal, slot);

	sendq_append(&q, record->n_bytes, record->handles, record->n_fds, record->cookie);
	fault_point("wl-appended", slot);
}

bool stream_was_appended(const struct streams *streams, uint32_t slot, uint64_t cookie)
{
	struct sendq q = sendq_of(&streams->journal, slot);

	return sendq_has(&q, cookie);
}

static bool find_fds(const struct stream_source *source, const struct sendq_record *record,
	int fds[JOURNAL_FDS_MAX])
{
	for (uint32_t i = 0; i < record->n_fds; i++) {
		fds[i] = source->fd_of(source->data, record->handles[i]);
		if (fds[i] < 0)
			return false;
	}
	return true;
}

static int judge_send(int error)
{
	switch (-error) {
	case EAGAIN:
	case EINTR:
		return STREAM_E_AGAIN;
	case ENOBUFS:
	case ENOMEM:
	case ETOOMANYREFS: /* as many descriptors wait in sockets as this user may have open */
		return STREAM_E_LATER;
	default:
		return STREAM_E_HANGUP;
	}
}

static int send_socket(struct streams *streams, const struct stream *stream,
	const struct stream_source *source, const struct sendq_record *record)
{
	uint32_t sent = streams->journal.queues[stream->slot].sent;
	struct iovec left[2];
	int fds[JOURNAL_FDS_MAX];
	struct journal_packet packet = { .slot = stream->slot, .socket_fd = stream->fd };
	int r;

	packet.iov = left;
	packet.n_iov = virtq_slice(record->data, 2, sent, record->n_bytes - sent, left);
	if (sent == 0 && record->n_fds > 0) {
		if (!find_fds(source, record, fds))
			return -EBADF;
		packet.fds = fds;
		packet.n_fds = record->n_fds;
	}
	r = journal_send(&streams->journal, &packet);
	if (r > 0 && packet.n_fds > 0)
		source->sent(source->data, record->handles, record->n_fds);
	return r;
}

static int send_pipe(struct streams *streams, const struct stream *stream,
	const struct sendq_record *record)
{
	uint32_t sent = streams->journal.queues[stream->slot].sent;
	struct iovec left[2];

	virtq_slice(record->data, 2, sent, record->n_bytes - sent, left);
	return stream_pipe_send(streams, stream, left);
}

/* Send of the first record what goes. A record without data has nothing to which a descriptor could
 * be attached: it counts as sent. */
static int send_record(struct streams *streams, const struct stream *stream,
	const struct stream_source *source, const struct sendq_record *record)
{
	if (record->n_bytes == 0) {
		source->sent(source->data, record->handles, record->n_fds);
		return 0;
	}
	if (streams->journal.queues[stream->slot].sent == record->n_bytes)
		return 0; /* a former instance died before it removed the record */
	if (stream->kind == STREAM_PIPE)
		return send_pipe(streams, stream, record);
	return send_socket(streams, stream, source, record);
}

int stream_flush(struct streams *streams, const struct stream *stream,
	const struct stream_source *source)
{
	struct sendq q = sendq_of(&streams->journal, stream->slot);
	struct sendq_record record;
	uint64_t end;

	for (uint32_t n = 0; sendq_at(&q, q.queue->tail, &record, &end); n++) {
		int r = n < FLUSH_BUDGET ? send_record(streams, stream, source, &record) : -EAGAIN;

		if (r < 0)
			return judge_send(r);
		if (q.queue->sent == record.n_bytes)
			give_back(streams, stream->slot, sendq_pop(&q, end));
	}
	return 0;
}

uint32_t stream_queued_bytes(const struct streams *streams, uint32_t slot)
{
	struct sendq q = sendq_of(&streams->journal, slot);

	return sendq_used_bytes(&q);
}

void stream_for_handles(const struct streams *streams, uint32_t slot,
	void (*each)(void *data, uint32_t handle), void *data)
{
	struct sendq q = sendq_of(&streams->journal, slot);
	struct sendq_record record;
	uint64_t at = q.queue->tail, next;

	for (; sendq_at(&q, at, &record, &next); at = next)
		if (at != q.queue->tail || q.queue->sent == 0)
			for (uint32_t i = 0; i < record.n_fds; i++)
				each(data, record.handles[i]);
}

void stream_end(struct streams *streams, uint32_t slot)
{
	struct sendq q = sendq_of(&streams->journal, slot);

	stream_pipe_consume(streams, slot);
	give_back(streams, slot, sendq_clear(&q));
}
