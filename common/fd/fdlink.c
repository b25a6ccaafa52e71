/*
 * One packet is one message: SOCK_SEQPACKET keeps the boundaries, so no framing is needed. A packet
 * whose data or descriptors were truncated is refused as a whole.
 */
#include "fd/fdlink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "fd/peer.h"

/* The mode is set on the socket before bind(), so that no path is followed. */
static int bind_as(int fd, const char *path, mode_t mode, gid_t group)
{
	struct sockaddr_un addr;
	int r = address_fill(&addr, path);
	mode_t former;

	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0 || (unlink(path) < 0 && errno != ENOENT))
		return -errno;
	former = umask(0);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	(void)umask(former);
	if (r == 0 && lchown(path, (uid_t)-1, group) < 0)
		r = -errno;
	return r;
}

/* The socket is renamed to its path once it listens with the right group. An early client finds no
 * socket, rather than one that refuses it. */
int fdlink_listen(const char *path, mode_t mode, gid_t group)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_free_ char *beside = NULL;
	int r;

	if (fd < 0)
		return -errno;
	if (asprintf(&beside, "%s~", path) < 0)
		return -ENOMEM;
	r = bind_as(fd, beside, mode, group);
	if (r < 0)
		return r;
	if (listen(fd, 16) < 0 || rename(beside, path) < 0)
		return -errno;
	return fd_steal(&fd);
}

bool peer_is(const struct ucred *cred, uid_t user)
{
	return cred->uid == user || cred->uid == 0;
}

int fdlink_accept(int listen_fd, uid_t user, pid_t *ret_pid)
{
	_cleanup_close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t n = sizeof(cred);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return -errno;
	if (!peer_is(&cred, user))
		return -EPERM;
	*ret_pid = cred.pid;
	return fd_steal(&fd);
}

int fdlink_connect(const char *path)
{
	_cleanup_close_ int fd = -1;
	struct timeval second = { .tv_sec = 1 };
	struct sockaddr_un addr;
	int r = address_fill(&addr, path);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second)) < 0 ||
		connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return fd_steal(&fd);
}

int fdlink_send(int fd, const Bh__Link *msg, const int *fds, size_t n_fds)
{
	return fdlink_send_any(fd, &msg->base, fds, n_fds, 0);
}

int fdlink_send_any(int fd, const ProtobufCMessage *msg, const int *fds, size_t n_fds, int flags)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDLINK_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct msghdr hdr = { 0 };
	struct iovec iov = { .iov_len = protobuf_c_message_get_packed_size(msg) };
	_cleanup_free_ void *buf = NULL;
	ssize_t n;

	if (iov.iov_len > FDLINK_BYTES_MAX || n_fds > FDLINK_FDS_MAX)
		return -EMSGSIZE;
	buf = malloc(iov.iov_len + 1);
	if (!buf)
		return -ENOMEM;
	protobuf_c_message_pack(msg, buf);
	iov.iov_base = buf;
	hdr.msg_iov = &iov;
	hdr.msg_iovlen = 1;
	if (n_fds) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	do
		n = sendmsg(fd, &hdr, MSG_NOSIGNAL | flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void take_fds(struct msghdr *hdr, struct fdset *ret)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(ret->fds, CMSG_DATA(cmsg), n * sizeof(int));
		ret->n_fds = n;
	}
}

int fdlink_recv(int fd, Bh__Link **ret_msg, struct fdset *ret_fds)
{
	return fdlink_recv_any(fd, &bh__link__descriptor, (ProtobufCMessage **)(void *)ret_msg,
		ret_fds);
}

int fdlink_recv_any(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_msg,
	struct fdset *ret_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDLINK_FDS_MAX)];
		struct cmsghdr align;
	} control;
	_cleanup_free_ uint8_t *buf = malloc(FDLINK_BYTES_MAX);
	struct iovec iov = { .iov_base = buf, .iov_len = FDLINK_BYTES_MAX };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ProtobufCMessage *msg;
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	do
		n = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&hdr, ret_fds);
	if (n == 0)
		return -ECONNRESET;
	if (hdr.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		return -EBADMSG;
	msg = protobuf_c_message_unpack(type, NULL, (size_t)n, buf);
	if (!msg)
		return -EBADMSG;
	*ret_msg = msg;
	return 0;
}
