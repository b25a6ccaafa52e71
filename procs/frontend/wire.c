/*
 * Each look at bytes that carry descriptors yields these descriptors anew, so what a message carries is
 * looked at once: first its header, without room for descriptors; then, when it is known to be there to
 * its last byte, the whole of it. Bytes of one message may come in any number of pieces; the kernel ends
 * a look behind the first piece with descriptors, hence the loops.
 *
 * It does not end it earlier, though: however few bytes are asked for, a look goes on to that first piece
 * and yields its descriptors, be it part of a later message. So more is asked for than the message has:
 * where the look ended tells where the piece with the descriptors ends. Behind the message's end, it may
 * be a later one's, or one piece may hold both; what then counts is whether this message takes any.
 *
 * The first look is without room for descriptors: what they are is to be known before this process has them
 * in its table (intake.h).
 */
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define CONTROL_FDS_MAX 253 /* what the kernel passes at most with one piece: none may be lost unseen */

/* Returns how many there are, whether the message has room for them or not. */
static size_t take_fds(struct message *msg, const struct cmsghdr *cmsg)
{
	size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
		if (msg->n_fds < FDS_MAX) {
			msg->fds[msg->n_fds++] = fd;
			continue;
		}
		msg->too_many_fds = true;
		fd_close(fd);
	}
	return n;
}

static int rewind_peek(int fd)
{
	int zero = 0;

	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)) < 0 ? WIRE_E_CLOSED : 0;
}

static ssize_t look(int fd, struct msghdr *hdr)
{
	ssize_t n;

	do
		n = recvmsg(fd, hdr, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	return n;
}

int wire_peek_header(int fd, struct header *ret)
{
	size_t have = 0;
	int r = rewind_peek(fd);

	while (r == 0 && have < sizeof(*ret)) {
		struct iovec iov = { (uint8_t *)ret + have, sizeof(*ret) - have };
		struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n = look(fd, &hdr);

		if (n < 0 && errno == EAGAIN)
			return WIRE_E_PARTIAL;
		if (n <= 0)
			return WIRE_E_CLOSED;
		have += (size_t)n;
	}
	return r;
}

static const char *judge_header(const struct header *header)
{
	if ((header->flags & HEADER_VERSION_MASK) != HEADER_VERSION)
		return "its header is of another version of the protocol";
	if (header->size > SKIP_MAX)
		return "its header announces more bytes than any message has";
	return NULL;
}

/* One look at the rest of a message, n bytes, without its descriptors; returns how many came, or -1. */
static ssize_t peek_piece(int fd, struct message *msg, void *buf, size_t n)
{
	struct iovec iov = { buf, n };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t got = look(fd, &hdr);

	msg->fds_in_sight |= got > 0 && (hdr.msg_flags & MSG_CTRUNC);
	return got;
}

/* The same with up to *n_fds descriptors, which are counted down. */
static ssize_t take_piece(int fd, struct message *msg, void *buf, size_t n, size_t *n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * CONTROL_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, n };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t got = look(fd, &hdr);

	if (got < 0)
		return -1;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr); cmsg; cmsg = CMSG_NXTHDR(&hdr, cmsg))
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			*n_fds -= MIN(take_fds(msg, cmsg), *n_fds);
	return hdr.msg_flags & MSG_CTRUNC ? -1 : got;
}

/* From its first byte on, with n_fds descriptors. */
static int peek_whole(int fd, struct message *msg, size_t n_fds, const char **ret_text)
{
	static uint8_t buf[sizeof(struct header) + SKIP_MAX + 1];
	size_t have = 0, want = wire_bytes(msg);
	int r = rewind_peek(fd);

	while (r == 0 && have < want) {
		size_t room = sizeof(buf) - have;
		ssize_t n = n_fds ? take_piece(fd, msg, buf + have, room, &n_fds)
				  : peek_piece(fd, msg, buf + have, room);

		if (n <= 0) {
			*ret_text = "descriptors that came with it were lost";
			return WIRE_E_FRAMING;
		}
		have += (size_t)n;
	}
	msg->doubtful_fds = have > want;
	msg->too_long = msg->header.size > PAYLOAD_MAX;
	memcpy(msg->payload.bytes, buf + sizeof(msg->header), MIN(msg->header.size, PAYLOAD_MAX));
	return r;
}

int wire_peek(int fd, struct message *ret_msg, const char **ret_text)
{
	int r, there = 0;

	memset(ret_msg, 0, sizeof(*ret_msg));
	r = wire_peek_header(fd, &ret_msg->header);
	if (r)
		return r;
	*ret_text = judge_header(&ret_msg->header);
	if (*ret_text)
		return WIRE_E_FRAMING;
	if (ioctl(fd, FIONREAD, &there) < 0 || (size_t)there < wire_bytes(ret_msg))
		return wire_hung_up(fd) ? WIRE_E_CLOSED : WIRE_E_PARTIAL;
	return peek_whole(fd, ret_msg, 0, ret_text);
}

int wire_take_fds(int fd, struct message *msg, size_t n_judged, const char **ret_text)
{
	int r = peek_whole(fd, msg, n_judged, ret_text);

	if (r)
		wire_drop(msg);
	return r;
}

void wire_drop(struct message *msg)
{
	for (size_t i = 0; i < msg->n_fds; i++)
		msg->fds[i] = fd_close(msg->fds[i]);
	msg->n_fds = 0;
}

bool wire_hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0;
}

int wire_request(int fd, uint32_t request)
{
	struct header header = { .request = request, .flags = HEADER_VERSION };
	ssize_t n;

	do
		n = send(fd, &header, sizeof(header), MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}
