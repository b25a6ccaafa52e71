/* inotify reports changes of the directory. Only a missing file is polled for. */
#include "socket-file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/timer.h"

#define AGAIN_USEC 1000000
#define CHANGES                                                                                    \
	(IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

static bool is_there(const struct socket_file *file)
{
	struct stat st;

	return lstat(file->path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino;
}

/* This process may not be allowed to look at the path. It then takes the reported change for
 * granted. */
static void look(struct socket_file *file)
{
	if (is_there(file) || file->on_lost(file->data) == 0)
		return;
	timer_after(file->again, AGAIN_USEC);
}

static int on_again(sd_event_source *source, uint64_t usec, void *data)
{
	look(data);
	return 0;
}

static int on_change(sd_event_source *source, const struct inotify_event *event, void *data)
{
	struct socket_file *file = data;
	const char *name = strrchr(file->path, '/');

	if (event->len == 0 || !name || strcmp(event->name, name + 1) == 0)
		look(file);
	return 0;
}

static void watch_directory(struct socket_file *file)
{
	const char *end = strrchr(file->path, '/');
	char dir[128];

	if (!end || (size_t)(end - file->path) >= sizeof(dir))
		return;
	snprintf(dir, sizeof(dir), "%.*s", end == file->path ? 1 : (int)(end - file->path),
		file->path);
	(void)sd_event_add_inotify(file->event, &file->changes, dir, CHANGES, on_change, file);
}

int socket_file_watch(struct socket_file *file, sd_event *event, const char *path,
	int (*on_lost)(void *data), void *data)
{
	struct stat st;
	int r;

	socket_file_forget(file);
	if (lstat(path, &st) < 0)
		return -errno;
	*file = (struct socket_file){ .event = event,
		.path = path,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.on_lost = on_lost,
		.data = data };
	r = sd_event_add_time_relative(event, &file->again, CLOCK_MONOTONIC, 0, 1000, on_again,
		file);
	if (r < 0)
		return r;
	watch_directory(file);
	return sd_event_source_set_enabled(file->again, SD_EVENT_OFF);
}

void socket_file_forget(struct socket_file *file)
{
	sd_event_source_disable_unref(file->changes);
	sd_event_source_disable_unref(file->again);
	*file = (struct socket_file){ 0 };
}
