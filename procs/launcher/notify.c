/*
 * The notification socket, as systemd's children know it: datagrams of KEY=value lines, perhaps with
 * descriptors; who sent one is what the kernel says.
 */
#include "child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"

#define MESSAGE_MAX 4096
#define FDS_MAX 253
#define NAME_MAX_BYTES 255

struct notification {
	char text[MESSAGE_MAX + 1];
	pid_t pid;
	int fds[FDS_MAX];
	size_t n_fds;
};

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

static int receive(int fd, struct notification *n)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDS_MAX) + CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = n->text, .iov_len = MESSAGE_MAX };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
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

static struct child *find_child(struct launcher *launcher, pid_t pid)
{
	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = 0; j < launcher->guests[i].n_children; j++)
			if (launcher->guests[i].children[j].pid == pid)
				return &launcher->guests[i].children[j];
	return NULL;
}

/* The value of a key on a line of its own, into buf; false: it is not there, or not a name. */
static bool value_of(const char *text, const char *key, char *buf, size_t n)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		size_t end;

		line += *line == '\n';
		if (strncmp(line, key, len) != 0 || line[len] != '=')
			continue;
		end = strcspn(line + len + 1, "\n");
		if (end >= n)
			return false;
		memcpy(buf, line + len + 1, end);
		buf[end] = '\0';
		return true;
	}
	return false;
}

static bool name_is_valid(const char *name)
{
	for (const char *p = name; *p; p++)
		if (*p < ' ' || *p == ':' || *p == 127)
			return false;
	return *name;
}

static bool says(const struct notification *n, const char *key, const char *expected)
{
	char value[16];

	return value_of(n->text, key, value, sizeof(value)) && strcmp(value, expected) == 0;
}

static void obey_store(struct child *child, struct notification *n)
{
	char name[NAME_MAX_BYTES + 1];
	bool named = value_of(n->text, "FDNAME", name, sizeof(name)) && name_is_valid(name);

	if (says(n, "FDSTOREREMOVE", "1") && named) {
		store_remove(&child->store, name);
		launcher_child_dropped(child, name);
	}
	if (!says(n, "FDSTORE", "1"))
		return;
	for (size_t i = 0; i < n->n_fds; i++)
		(void)store_add(&child->store, named ? name : "stored", n->fds[i]);
	n->n_fds = 0;
}

static void obey(struct child *child, struct notification *n)
{
	obey_store(child, n);
	if (says(n, "READY", "1"))
		launcher_child_ready(child);
	if (says(n, "READY", "1") || says(n, "WATCHDOG", "1"))
		child_heard(child, child->launcher->watchdog_usec);
}

static int on_notify(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct launcher *launcher = data;
	struct notification n;

	while (receive(fd, &n) == 0) {
		struct child *child = n.pid ? find_child(launcher, n.pid) : NULL;

		if (child)
			obey(child, &n);
		for (size_t i = 0; i < n.n_fds; i++)
			fd_close(n.fds[i]);
	}
	return 0;
}

int notify_open(struct launcher *launcher)
{
	struct sockaddr_un addr;
	int on = 1, r;

	check(asprintf(&launcher->notify_path, "%s/notify.%d", launcher->runtime_dir, (int)getpid()) >= 0);
	r = address_fill(&addr, launcher->notify_path);
	if (r < 0)
		return r;
	launcher->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (launcher->notify_fd < 0)
		return -errno;
	(void)unlink(launcher->notify_path);
	if (bind(launcher->notify_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		chmod(launcher->notify_path, 0666) < 0 ||
		setsockopt(launcher->notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

int notify_watch(struct launcher *launcher)
{
	int r = sd_event_add_io(launcher->event, &launcher->notify_source, launcher->notify_fd, EPOLLIN,
		on_notify, launcher);

	if (r < 0)
		return r;
	/* what a child stores is stored before its death is looked at */
	return sd_event_source_set_priority(launcher->notify_source, SD_EVENT_PRIORITY_IMPORTANT);
}

void notify_close(struct launcher *launcher)
{
	launcher->notify_source = sd_event_source_disable_unref(launcher->notify_source);
	if (launcher->notify_path)
		(void)unlink(launcher->notify_path);
	fd_close(launcher->notify_fd);
	free(launcher->notify_path);
}
