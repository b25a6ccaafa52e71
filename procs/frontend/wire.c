/*
 * Framing. A look at a stream socket hands out the descriptors of the bytes looked at; where these have
 * none, it may hand out those of later bytes as well. So what came along counts only for a message that
 * takes descriptors, and only at its first byte; everything else is closed, and stays in the socket with
 * the message it belongs to.
 */
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define CMSG_FDS_MAX 253 /* what the kernel passes at most: none may be lost unseen */

int wire_begin(int fd)
{
	int zero = 0;

	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)) < 0 ? -errno : 0;
}

static void take_fds(struct message *msg, struct msghdr *hdr, bool first)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (first && msg->n_fds < FDS_MAX) {
				msg->fds[msg->n_fds++] = fd;
				continue;
			}
			msg->bad_fds |= first;
			fd_close(fd);
		}
	}
	if (first && (hdr->msg_flags & MSG_CTRUNC))
		msg->bad_fds = true;
}

/* Looks at up to n more bytes; the kernel remembers how far we are. */
static ssize_t peek(int fd, struct msghdr *hdr)
{
	ssize_t got;

	do
		got = recvmsg(fd, hdr, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	return got;
}

static int outcome(ssize_t got)
{
	if (got > 0)
		return 1;
	return got < 0 && errno == EAGAIN ? 0 : -WIRE_E_CLOSED;
}

static const char *judge_header(const struct header *header)
{
	if ((header->flags & HEADER_VERSION_MASK) != HEADER_VERSION)
		return "a header of another version of the protocol";
	if (header->size > SKIP_MAX)
		return "a message longer than any message is";
	return NULL;
}

/* The header alone, without room for descriptors, so that none is handed out. */
static int peek_header(int fd, struct message *msg)
{
	struct iovec iov = { .iov_base = &msg->header, .iov_len = sizeof(msg->header) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t got = peek(fd, &hdr);

	if (wire_begin(fd) < 0)
		return -WIRE_E_CLOSED;
	if (got <= 0)
		return outcome(got);
	return got == sizeof(msg->header);
}

/* Where the bytes from `at` on go: the rest of the header, then the payload (or, of what is too long to be
 * a message, nowhere). */
static size_t place(struct message *msg, struct iovec iov[2], uint8_t *nowhere)
{
	size_t n_header = sizeof(msg->header), at = msg->n_peeked, n = 0;
	size_t left = n_header + msg->header.size - at;

	if (at < n_header) {
		iov[n++] = (struct iovec){ (uint8_t *)&msg->header + at, n_header - at };
		left -= n_header - at;
		at = n_header;
	}
	if (msg->too_long)
		iov[n++] = (struct iovec){ nowhere, MIN(left, (size_t)PAYLOAD_MAX) };
	else if (left)
		iov[n++] = (struct iovec){ msg->payload.bytes + (at - n_header), left };
	return n;
}

/* All of the message, and no byte more. */
static int peek_message(int fd, struct message *msg)
{
	size_t end = sizeof(msg->header) + msg->header.size;
	uint8_t nowhere[PAYLOAD_MAX];

	msg->too_long = msg->header.size > PAYLOAD_MAX;
	while (msg->n_peeked < end) {
		union {
			char buf[CMSG_SPACE(sizeof(int) * CMSG_FDS_MAX)];
			struct cmsghdr align;
		} control;
		struct iovec iov[2];
		struct msghdr hdr = { .msg_iov = iov, .msg_control = control.buf,
			.msg_controllen = sizeof(control.buf) };
		ssize_t got;

		hdr.msg_iovlen = place(msg, iov, nowhere);
		got = peek(fd, &hdr);
		if (got <= 0)
			return outcome(got);
		take_fds(msg, &hdr, msg->n_peeked == 0);
		msg->n_peeked += (size_t)got;
	}
	return 1;
}

int wire_peek(int fd, struct message *msg, const char **ret_text)
{
	int r = msg->n_peeked ? 1 : peek_header(fd, msg);

	if (r <= 0)
		return r;
	*ret_text = judge_header(&msg->header);
	if (*ret_text)
		return -WIRE_E_FRAMING;
	return peek_message(fd, msg);
}

void wire_drop_fds(struct message *msg)
{
	for (size_t i = 0; i < msg->n_fds; i++)
		fd_close(msg->fds[i]);
	msg->n_fds = 0;
}

void wire_drop(struct message *msg)
{
	wire_drop_fds(msg);
	msg->n_peeked = 0;
	msg->bad_fds = msg->too_long = false;
}

int wire_consume(int fd, struct message *msg)
{
	size_t left = sizeof(msg->header) + msg->header.size;
	uint8_t skipped[PAYLOAD_MAX];

	wire_drop(msg);
	while (left) {
		ssize_t got = recv(fd, skipped, MIN(left, sizeof(skipped)), MSG_DONTWAIT);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		left -= (size_t)got;
	}
	return wire_begin(fd);
}

static int send_message(int fd, const struct header *header, const void *payload, int flags)
{
	struct iovec iov[2] = { { (void *)header, sizeof(*header) }, { (void *)payload, header->size } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = header->size ? 2 : 1 };
	ssize_t n;

	do
		n = sendmsg(fd, &hdr, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof(*header) + header->size ? 0 : -EPIPE;
}

/* A VMM that does not read its few answers has no room for them only if it means to: it is cut off. */
int wire_reply(int fd, uint32_t request, const void *payload, size_t n)
{
	struct header header = { .request = request, .flags = HEADER_VERSION | HEADER_REPLY,
		.size = (uint32_t)n };

	return send_message(fd, &header, payload, MSG_DONTWAIT);
}

int wire_request(int fd, uint32_t request)
{
	struct header header = { .request = request, .flags = HEADER_VERSION };

	return send_message(fd, &header, NULL, MSG_DONTWAIT);
}
