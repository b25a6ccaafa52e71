/*
 * The front-end side of vhost-user, over a blocking stream socket with poll() before every read.
 * Sending has two layers: vu_send_raw() sends arbitrary bytes and descriptors without knowing the
 * protocol, and the rest builds well-formed messages on it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/address.h"
#include "client.h"
#include "lib/patience.h"

#define FDS_MAX 253

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int vu_connect_once(struct vu_client *c, const char *path)
{
	struct sockaddr_un addr;
	int r = address_fill(&addr, path);
	int fd;

	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	c->fd = fd;
	return 0;
}

int vu_connect(struct vu_client *c, const char *path)
{
	int64_t end = now_ms() + test_ms(c->timeout_ms);
	int r;

	for (;;) {
		r = vu_connect_once(c, path);
		if (r != -ENOENT && r != -ECONNREFUSED)
			return r;
		if (now_ms() >= end)
			return r;
		poll(NULL, 0, 5);
	}
}

int vu_listen(const char *path, int *ret_listen_fd)
{
	struct sockaddr_un addr;
	int r = address_fill(&addr, path);
	int fd;

	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	/* the frontend runs as another user */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0666) < 0 ||
		listen(fd, 8) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_listen_fd = fd;
	return 0;
}

static int wait_readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do {
		r = poll(&p, 1, timeout_ms);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r ? 0 : -ETIMEDOUT;
}

int vu_accept(struct vu_client *c, int listen_fd)
{
	int r = wait_readable(listen_fd, test_ms(c->timeout_ms));

	if (r)
		return r;
	c->fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	return c->fd < 0 ? -errno : 0;
}

void vu_close(struct vu_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->back_fd >= 0)
		close(c->back_fd);
	c->fd = -1;
	c->back_fd = -1;
}

void vu_msg_deinit(struct vu_msg *msg)
{
	for (size_t i = 0; i < msg->n_fds; i++)
		close(msg->fds[i]);
	msg->n_fds = 0;
}

static int send_on(int fd, const void *bytes, size_t n_bytes, const int *fds, size_t n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control = { 0 };
	size_t done = 0;

	while (done < n_bytes) {
		struct iovec iov = { (char *)bytes + done, n_bytes - done };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		if (!done && n_fds) {
			msg.msg_control = control.buf;
			msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
			struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
			cm->cmsg_level = SOL_SOCKET;
			cm->cmsg_type = SCM_RIGHTS;
			cm->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
			memcpy(CMSG_DATA(cm), fds, sizeof(int) * n_fds);
		}
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		done += (size_t)n;
	}
	return 0;
}

int vu_send_raw(struct vu_client *c, const void *bytes, size_t n_bytes, const int *fds,
	size_t n_fds)
{
	if (n_fds > FDS_MAX)
		return -EINVAL;
	return send_on(c->fd, bytes, n_bytes, fds, n_fds);
}

static int send_message(int fd, const struct vu_header *head, const void *payload, const int *fds,
	size_t n_fds)
{
	uint8_t buf[8192];

	if (head->size > sizeof(buf) - sizeof(*head))
		return -EMSGSIZE;
	memcpy(buf, head, sizeof(*head));
	if (head->size)
		memcpy(buf + sizeof(*head), payload, head->size);
	return send_on(fd, buf, sizeof(*head) + head->size, fds, n_fds);
}

int vu_send(struct vu_client *c, const struct vu_header *head, const void *payload, const int *fds,
	size_t n_fds)
{
	if (n_fds > FDS_MAX)
		return -EINVAL;
	return send_message(c->fd, head, payload, fds, n_fds);
}

static void take_fds(struct msghdr *mh, struct vu_msg *msg)
{
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		size_t n;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
			if (msg->n_fds < VU_MAX_FDS)
				msg->fds[msg->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

static int read_all(int fd, void *to, size_t n, struct vu_msg *msg, int timeout_ms)
{
	int64_t end = now_ms() + test_ms(timeout_ms);
	size_t done = 0;

	while (done < n) {
		char control[CMSG_SPACE(sizeof(int) * VU_MAX_FDS)];
		struct iovec iov = { (char *)to + done, n - done };
		struct msghdr mh = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		int64_t left = end - now_ms();
		ssize_t got;
		int r = wait_readable(fd, left < 0 ? 0 : (int)left);

		if (r)
			return r;
		got = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		take_fds(&mh, msg);
		if (!got)
			return -ECONNRESET;
		done += (size_t)got;
	}
	return 0;
}

static int recv_on(int fd, struct vu_msg *ret_msg, int timeout_ms)
{
	int r;

	ret_msg->n_fds = 0;
	r = read_all(fd, &ret_msg->head, sizeof(ret_msg->head), ret_msg, timeout_ms);
	if (r)
		return r;
	if (ret_msg->head.size > sizeof(ret_msg->body))
		return -EPROTO;
	return read_all(fd, &ret_msg->body, ret_msg->head.size, ret_msg, timeout_ms);
}

/* FNV-1a over everything received: sessions that received the same have the same digest */
static void note(struct vu_client *c, const void *bytes, size_t n_bytes)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n_bytes; i++)
		c->heard = (c->heard ^ p[i]) * UINT64_C(0x100000001b3);
}

int vu_recv(struct vu_client *c, struct vu_msg *ret_msg)
{
	int r = recv_on(c->fd, ret_msg, c->timeout_ms);

	if (!r) {
		c->n_heard++;
		note(c, &ret_msg->head, sizeof(ret_msg->head));
		note(c, &ret_msg->body, ret_msg->head.size);
	}
	if (r == -EPROTO)
		snprintf(c->why, sizeof(c->why), "reply of %u bytes", ret_msg->head.size);
	return r;
}

int vu_recv_reply(struct vu_client *c, uint32_t request, uint32_t size, struct vu_msg *ret_msg)
{
	int r = vu_recv(c, ret_msg);

	if (r)
		return r;
	if (ret_msg->head.flags == VU_REPLY_FLAGS && ret_msg->head.request == request &&
		ret_msg->head.size == size)
		return 0;
	snprintf(c->why, sizeof(c->why), "reply is request %u flags %#x size %u, wanted %u 0x5 %u",
		ret_msg->head.request, ret_msg->head.flags, ret_msg->head.size, request, size);
	vu_msg_deinit(ret_msg);
	return -EPROTO;
}

int vu_recv_ack(struct vu_client *c, uint32_t request)
{
	struct vu_msg msg;
	int r = vu_recv_reply(c, request, sizeof(uint64_t), &msg);

	if (r)
		return r;
	vu_msg_deinit(&msg);
	return msg.body.u64 ? VU_E_REFUSED : 0;
}

int vu_expect_silence(struct vu_client *c, int quiet_ms)
{
	char byte;
	int r = wait_readable(c->fd, quiet_ms);

	if (r == -ETIMEDOUT)
		return 0;
	if (r)
		return r;
	if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
		snprintf(c->why, sizeof(c->why), "bytes came where none are owed");
		return -EPROTO;
	}
	return -ECONNRESET;
}

int vu_expect_close(struct vu_client *c)
{
	int64_t end = now_ms() + test_ms(c->timeout_ms);

	for (;;) {
		int64_t left = end - now_ms();
		char bytes[512];
		int r = wait_readable(c->fd, left < 0 ? 0 : (int)left);

		if (r)
			return r;
		if (recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
			return 0;
	}
}

int vu_backend_recv(struct vu_client *c, struct vu_msg *ret_msg)
{
	return recv_on(c->back_fd, ret_msg, c->timeout_ms);
}

int vu_backend_answer(struct vu_client *c, uint32_t request, uint64_t result)
{
	struct vu_header head = { request, VU_REPLY_FLAGS, sizeof(result) };

	return send_message(c->back_fd, &head, &result, NULL, 0);
}

int vu_backend_request(struct vu_client *c, uint64_t result, struct vu_msg *ret_msg)
{
	int r = vu_backend_recv(c, ret_msg);

	if (r || !(ret_msg->head.flags & VU_NEED_REPLY))
		return r;
	return vu_backend_answer(c, ret_msg->head.request, result);
}
