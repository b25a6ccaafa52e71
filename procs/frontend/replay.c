/*
 * The steps, and what tells them apart afterwards:
 *
 *   step      what is done                                       peek offset      pipe
 *   peek      header and payload are looked at                   below MARK       empty
 *   handle    the record is changed and committed                below MARK       empty
 *   begin     the offset is set to a mark                        MARK + bytes     empty
 *   stage     the reply goes into the pipe, by one write         MARK + bytes     full
 *   consume   the message is taken out of the socket             MARK             full
 *   send      splice() moves the reply from pipe to socket       MARK             empty
 *
 * The kernel lowers the peek offset by what is taken out of the socket, so a message cannot be
 * consumed without that being recorded. Sending needs no record either: the reply is in the pipe
 * or in the socket. A frontend that finds a message begun and no reply staged handles the message
 * again; every change of a record may be made twice.
 *
 * splice() cannot carry a descriptor. A reply with one is sent by sendmsg() first and then taken
 * out of the pipe, and a lock tells whether it was sent. The descriptor that goes out is opened
 * for this reply alone, and the file is locked through it (an open file description lock). If the
 * frontend dies before sending, the last copy is closed and the lock is gone. If the descriptor is
 * in the VMM's socket, or the VMM holds or maps it, the lock is still held. The reply is sent
 * twice only if the VMM lets go of the memory between the sending and the successor's check.
 *
 * Messages that are committed with one behind them, and owe no reply, are taken out by themselves,
 * under a mark of their own (MARK_DONE + bytes): they are in force, and none of them is handled
 * again.
 *
 * A message that came in parts (parts.h) has left the socket by the time it is whole. Dropping
 * what was gathered consumes it, and no mark is set for it.
 *
 * A message in several pieces with descriptors leaves the socket in as many steps. The offset then
 * says how many of its bytes are left, and those do not begin with a header of just that length.
 */
#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"

#define MARK (1 << 20)
#define MARK_DONE (MARK + (1 << 19)) /* no message that is begun has so many bytes */

int replay_open(struct replay *replay, const char *device)
{
	return stage_open(&replay->stage, "reply", device);
}

void replay_close(struct replay *replay)
{
	stage_close(&replay->stage);
	parts_close(&replay->parts);
}

void replay_drop(struct replay *replay, const char *device)
{
	stage_empty(&replay->stage);
	parts_drop(&replay->parts, device);
}

/* --- Steps --- */

static int set_offset(int fd, int offset)
{
	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0 ? -errno : 0;
}

static int consume(int fd, size_t n)
{
	uint8_t buf[8192];

	while (n) {
		ssize_t got = recv(fd, buf, MIN(n, sizeof(buf)), MSG_DONTWAIT);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		n -= (size_t)got;
	}
	return 0;
}

int replay_look(struct replay *replay, int fd, const char *device, struct message *ret_msg,
	const char **ret_text)
{
	size_t there = wire_bytes_there(fd);
	int r = parts_begun(&replay->parts) ? WIRE_E_PARTIAL : wire_peek(fd, 0, ret_msg, ret_text);

	/* nothing was there: what has come since is a message like any other, and is looked at
	 * when the loop says so */
	if (r == WIRE_E_PARTIAL && !parts_begun(&replay->parts) && there == 0)
		return r;
	return r == WIRE_E_PARTIAL ? parts_take(&replay->parts, fd, device, ret_msg, ret_text) : r;
}

int replay_begin(int fd, const struct message *msg)
{
	return msg->in_parts ? 0 : set_offset(fd, MARK + (int)wire_bytes(msg));
}

int replay_stage(struct replay *replay, uint32_t request, const void *payload, size_t n)
{
	struct header header = {
		.request = request, .flags = HEADER_VERSION | HEADER_REPLY, .size = (uint32_t)n
	};
	uint8_t buf[STAGE_BYTES_MAX];

	check(n <= sizeof(buf) - sizeof(header));
	memcpy(buf, &header, sizeof(header));
	if (n)
		memcpy(buf + sizeof(header), payload, n);
	return stage_lay(&replay->stage, buf, sizeof(header) + n);
}

int replay_consume(struct replay *replay, int fd, const struct message *msg)
{
	if (msg->in_parts) {
		parts_done(&replay->parts);
		return 0;
	}
	return consume(fd, wire_bytes(msg));
}

int replay_consume_first(int fd, size_t n_bytes)
{
	int r = set_offset(fd, MARK_DONE + (int)n_bytes);

	check(n_bytes < MARK_DONE - MARK);
	return r < 0 ? r : consume(fd, n_bytes);
}

int replay_send(struct replay *replay, int fd)
{
	return stage_send(&replay->stage, fd);
}

/* --- A reply with a descriptor --- */

size_t replay_look_at_staged(const struct replay *replay, void *buf, size_t n)
{
	return stage_look(&replay->stage, buf, n);
}

static int send_with_fd(int fd, const void *buf, size_t n, int file)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)buf, n };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
	ssize_t done;

	*cmsg = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
	};
	memcpy(CMSG_DATA(cmsg), &file, sizeof(file));
	do
		done = sendmsg(fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done == (ssize_t)n ? 0 : -EPIPE;
}

int replay_send_fd(struct replay *replay, int fd, int file)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_close_ int own = file_open_again(file, O_RDWR);
	uint8_t reply[STAGE_BYTES_MAX];
	size_t n;
	int r;

	if (own < 0)
		return own;
	if (fcntl(own, F_OFD_SETLK, &lock) == 0) {
		n = replay_look_at_staged(replay, reply, sizeof(reply));
		r = n ? send_with_fd(fd, reply, n, own) : -EIO;
		if (r < 0)
			return r;
	} else if (errno != EAGAIN && errno != EACCES) {
		return -errno;
	}
	stage_empty(&replay->stage);
	return 0;
}

/* --- After a death --- */

/* How many bytes of what was begun are still in the socket; 0 = none. */
static size_t left_of_begun(int fd, bool *ret_done)
{
	int offset = 0;
	socklen_t len = sizeof(offset);

	if (getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &len) < 0 || offset <= MARK)
		return 0;
	*ret_done = offset >= MARK_DONE;
	return (size_t)(offset - (*ret_done ? MARK_DONE : MARK));
}

static bool is_untouched(int fd, size_t left)
{
	struct header header;
	pid_t sender;

	return left >= sizeof(header) && wire_peek_header(fd, &header, &sender) == 0 &&
		header.size == left - sizeof(header);
}

enum replay_step replay_resume(struct replay *replay, int fd)
{
	bool done = false;
	size_t left = left_of_begun(fd, &done);

	if (stage_bytes(&replay->stage)) {
		if (parts_whole(&replay->parts))
			parts_done(&replay->parts);
		(void)consume(fd, left);
		return REPLAY_SEND;
	}
	if (!left)
		return REPLAY_IDLE;
	if (!done && is_untouched(fd, left))
		return REPLAY_AGAIN;
	(void)consume(fd, left);
	return REPLAY_IDLE;
}
