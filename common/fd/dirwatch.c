#include "fd/dirwatch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"

#define CHANGES                                                                                    \
	(IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

static const char *file_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

/* An event without a name is about the directory, or says that events were lost. */
static bool concerns(const struct dirwatch *watch, const char *events, size_t n)
{
	struct inotify_event event;

	for (size_t at = 0; at + sizeof(event) <= n; at += sizeof(event) + event.len) {
		memcpy(&event, events + at, sizeof(event));
		if (event.len == 0 ||
			strcmp(events + at + sizeof(event), file_name(watch->path)) == 0)
			return true;
	}
	return false;
}

static int on_events(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct dirwatch *watch = data;
	char events[4096];
	ssize_t n = read(fd, events, sizeof(events));

	if (n > 0 && concerns(watch, events, (size_t)n))
		watch->on_change(watch->data);
	return 0;
}

static int watch_directory(const struct dirwatch *watch)
{
	_cleanup_free_ char *dir =
		strndup(watch->path, (size_t)(file_name(watch->path) - watch->path));

	check(dir);
	return inotify_add_watch(watch->fd, dir, CHANGES) < 0 ? -errno : 0;
}

/* The former instance of this process may have stored one. */
static int open_instance(const char *stored)
{
	int fd = fdstore_take(stored);

	if (fd >= 0)
		return fd;
	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -errno;
	(void)fdstore_push(stored, fd);
	return fd;
}

int dirwatch_open(struct dirwatch *watch, sd_event *event, const char *stored, const char *path,
	void (*on_change)(void *data), void *data)
{
	int r;

	if (watch->source)
		return watch_directory(watch);
	*watch = (struct dirwatch){ .path = path, .on_change = on_change, .data = data };
	watch->fd = open_instance(stored);
	if (watch->fd < 0)
		return watch->fd;
	r = sd_event_add_io(event, &watch->source, watch->fd, EPOLLIN, on_events, watch);
	if (r < 0) {
		fd_close(watch->fd);
		return r;
	}
	return watch_directory(watch);
}

void dirwatch_close(struct dirwatch *watch)
{
	if (!watch->source)
		return;
	watch->source = sd_event_source_disable_unref(watch->source);
	watch->fd = fd_close(watch->fd);
}
