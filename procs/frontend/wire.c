/*
 * Every peek at bytes that carry descriptors installs those descriptors anew. A message is
 * therefore peeked twice: first its header, without room for descriptors; then, once its last byte
 * has arrived, the whole of it. A message may arrive in any number of pieces, and the kernel ends a
 * peek behind the first piece with descriptors, hence the loops.
 *
 * The kernel does not end a peek any earlier: however few bytes are asked for, it goes on to that
 * first piece and installs its descriptors, even those of a later message. So more bytes are asked
 * for than the message has; the place where the peek ended is the end of the piece with the
 * descriptors. If that is behind the end of the message, the descriptors may belong to a later
 * message, or one piece may hold both. What counts then is whether this message takes any.
 *
 * The first peek has no room for descriptors, because their kind must be known before they enter
 * the table of this process (intake.h).
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

#define CONTROL_FDS_MAX                                                                            \
	253 /* what the kernel passes at most with one piece: none may be lost unseen */

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

static void take_sender(struct message *msg, const struct cmsghdr *cmsg)
{
	struct ucred cred;

	memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
	msg->sender = cred.pid;
}

static int seek(int fd, size_t at)
{
	int offset = (int)at;

	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0 ? WIRE_E_CLOSED
										    : 0;
}

int wire_rewind(int fd)
{
	return seek(fd, 0);
}

static ssize_t look(int fd, struct msghdr *hdr)
{
	ssize_t n;

	do
		n = recvmsg(fd, hdr, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	return n;
}

static void close_fds(const struct cmsghdr *cmsg)
{
	for (size_t i = 0; i < (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
		fd_close(fd);
	}
}

/* Where the kernel does not name the sender, the room for the name has been given to
 * descriptors. */
static pid_t sender_of(struct msghdr *hdr)
{
	struct ucred cred = { 0 };

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_RIGHTS)
			close_fds(cmsg);
		else if (cmsg->cmsg_type == SCM_CREDENTIALS)
			memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
	}
	return cred.pid;
}

size_t wire_bytes_there(int fd)
{
	int n = 0;

	return ioctl(fd, FIONREAD, &n) < 0 ? 0 : (size_t)n;
}

/* The peek offset is set with the first look at a byte, and not before. */
bool wire_is_silent(int fd)
{
	int offset = 0;
	socklen_t len = sizeof(offset);

	return getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &len) == 0 && offset < 0 &&
		wire_bytes_there(fd) == 0;
}

static int peek_bytes(int fd, size_t at, void *buf, size_t n, pid_t *ret_sender)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))]; /* no room for descriptors */
		struct cmsghdr align;
	} control;
	size_t have = 0;
	int r = wire_bytes_there(fd) > at ? seek(fd, at)
		: wire_hung_up(fd)        ? WIRE_E_CLOSED
					  : WIRE_E_PARTIAL;

	*ret_sender = 0;
	while (r == 0 && have < n) {
		struct iovec iov = { (uint8_t *)buf + have, n - have };
		struct msghdr hdr = { .msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.buf,
			.msg_controllen = sizeof(control.buf) };
		ssize_t got = look(fd, &hdr);

		if (got < 0 && errno == EAGAIN)
			return WIRE_E_PARTIAL;
		if (got <= 0)
			return WIRE_E_CLOSED;
		have += (size_t)got;
		*ret_sender = sender_of(&hdr);
	}
	return r;
}

int wire_peek_bytes(int fd, void *buf, size_t n, pid_t *ret_sender)
{
	return peek_bytes(fd, 0, buf, n, ret_sender);
}

int wire_peek_header(int fd, struct header *ret, pid_t *ret_sender)
{
	return wire_peek_bytes(fd, ret, sizeof(*ret), ret_sender);
}

const char *wire_judge_header(const struct header *header)
{
	if ((header->flags & HEADER_VERSION_MASK) != HEADER_VERSION)
		return "its header is of another version of the protocol";
	if (header->size > SKIP_MAX)
		return "its header announces more bytes than any message has";
	return NULL;
}

bool wire_has_whole(int fd, size_t at)
{
	size_t there = wire_bytes_there(fd);
	struct header header;
	pid_t sender;

	return there >= at + sizeof(header) &&
		peek_bytes(fd, at, &header, sizeof(header), &sender) == 0 &&
		!wire_judge_header(&header) && header.size <= PAYLOAD_MAX &&
		there - at - sizeof(header) >= header.size;
}

static size_t take_control(struct message *msg, struct msghdr *hdr)
{
	size_t n = 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_RIGHTS)
			n += take_fds(msg, cmsg);
		else if (cmsg->cmsg_type == SCM_CREDENTIALS)
			take_sender(msg, cmsg);
	}
	return n;
}

/* There is room for the sender's name, which comes first, and for nothing else: what is cut off
 * are descriptors. */
ssize_t wire_peek_piece(int fd, struct message *msg, void *buf, size_t n)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, n };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t got = look(fd, &hdr);

	if (got > 0) {
		(void)take_control(msg, &hdr);
		msg->fds_in_sight |= !!(hdr.msg_flags & MSG_CTRUNC);
	}
	return got;
}

ssize_t wire_take_piece(int fd, struct message *msg, void *buf, size_t n, size_t *n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred)) +
			CMSG_SPACE(sizeof(int) * CONTROL_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, n };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t got = look(fd, &hdr);

	if (got < 0)
		return -1;
	*n_fds -= MIN(take_control(msg, &hdr), *n_fds);
	return hdr.msg_flags & MSG_CTRUNC ? -1 : got;
}

/* From its first byte on, with n_fds descriptors. Without any, those that are in sight count as the
 * message's own as far as they come before the piece that it ends in. */
static int peek_whole(int fd, struct message *msg, size_t n_fds, const char **ret_text)
{
	static uint8_t buf[sizeof(struct header) + SKIP_MAX + 1];
	size_t have = 0, want = wire_bytes(msg);
	int r = seek(fd, msg->at);

	while (r == 0 && have < want) {
		size_t room = sizeof(buf) - have, n_own = msg->n_fds;
		bool has_own = n_own || (n_fds == 0 && msg->fds_in_sight);
		ssize_t n = n_fds ? wire_take_piece(fd, msg, buf + have, room, &n_fds)
				  : wire_peek_piece(fd, msg, buf + have, room);

		if (n <= 0) {
			*ret_text = "descriptors that came with it were lost";
			return WIRE_E_FRAMING;
		}
		have += (size_t)n;
		/* a message that has its own takes none that may be another's */
		while (have > want && n_own && msg->n_fds > n_own)
			fd_close(msg->fds[--msg->n_fds]);
		msg->doubtful_fds = have > want && !has_own;
	}
	msg->too_long = msg->header.size > PAYLOAD_MAX;
	memcpy(msg->payload.bytes, buf + sizeof(msg->header), MIN(msg->header.size, PAYLOAD_MAX));
	return r;
}

int wire_peek(int fd, size_t at, struct message *ret_msg, const char **ret_text)
{
	int r;

	memset(ret_msg, 0, sizeof(*ret_msg));
	ret_msg->at = at;
	r = peek_bytes(fd, at, &ret_msg->header, sizeof(ret_msg->header), &ret_msg->sender);
	if (r)
		return r;
	*ret_text = wire_judge_header(&ret_msg->header);
	if (*ret_text)
		return WIRE_E_FRAMING;
	if (wire_bytes_there(fd) < at + wire_bytes(ret_msg))
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
