/* Reading notifications. The kernel tells the sender, or the socket does. */
#include "notify.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"

static void take_control(struct msghdr *hdr, struct notification *n)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_RIGHTS) {
			n->n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(n->fds, CMSG_DATA(cmsg), n->n_fds * sizeof(int));
		} else if (cmsg->cmsg_type == SCM_CREDENTIALS) {
			struct ucred cred;

			memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
			n->pid = cred.pid;
		}
	}
}

int notify_receive(int fd, struct notification *n)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * NOTIFY_FDS_MAX) +
			CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = n->text, .iov_len = NOTIFY_TEXT_MAX };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t got = recvmsg(fd, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got < 0)
		return -errno;
	n->n_fds = 0;
	n->pid = 0;
	take_control(&hdr, n);
	n->text[got] = '\0';
	return 0;
}

void notify_release(struct notification *n)
{
	for (size_t i = 0; i < n->n_fds; i++)
		n->fds[i] = fd_close(n->fds[i]);
	n->n_fds = 0;
}

/* The value of KEY=value, and its length; NULL: there is no such line. */
static const char *find_value(const char *text, const char *key, size_t *ret_n)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) != 0 || line[len] != '=')
			continue;
		*ret_n = strcspn(line + len + 1, "\n");
		return line + len + 1;
	}
	return NULL;
}

/* Copy the value; false: there is no such line, or the value does not fit. */
static bool value_of(const char *text, const char *key, char *buf, size_t n)
{
	size_t len;
	const char *value = find_value(text, key, &len);

	if (!value || len >= n)
		return false;
	memcpy(buf, value, len);
	buf[len] = '\0';
	return true;
}

bool notify_status(const char *text, char *buf, size_t n)
{
	size_t len;
	const char *value = find_value(text, "STATUS", &len);

	if (value)
		snprintf(buf, n, "%.*s", (int)len, value);
	return value;
}

static bool name_is_valid(const char *name)
{
	for (const char *p = name; *p; p++)
		if (*p < ' ' || *p == ':' || *p == 127)
			return false;
	return *name;
}

bool notify_name(const char *text, char *buf, size_t n)
{
	return value_of(text, "FDNAME", buf, n) && name_is_valid(buf);
}

bool notify_says(const char *text, const char *key, const char *expected)
{
	char value[16];

	return value_of(text, key, value, sizeof(value)) && strcmp(value, expected) == 0;
}

/* The mode is set before bind(), so the socket never has another one. */
int notify_bind(const char *path, uid_t user)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	int r = address_fill(&addr, path), on = 1;

	if (r < 0)
		return r;
	if (fd < 0 || fchmod(fd, 0600) < 0 || (unlink(path) < 0 && errno != ENOENT) ||
		bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		lchown(path, user, (gid_t)-1) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	return fd_steal(&fd);
}
