/* dirwatch reports changes of the directory. Only a missing file is polled for. */
#include "socket-file.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/timer.h"

#define AGAIN_USEC 1000000

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

static void on_change(void *data)
{
	look(data);
}

/* dirwatch is asked each time: the directory may be another one by now. */
static void watch_directory(struct socket_file *file, const char *stored)
{
	(void)dirwatch_open(&file->changes, file->event, stored, file->path, on_change, file);
}

int socket_file_watch(struct socket_file *file, sd_event *event, const char *stored,
	const char *path, int (*on_lost)(void *data), void *data)
{
	struct stat st;
	int r = 0;

	if (lstat(path, &st) < 0)
		return -errno;
	file->event = event;
	file->path = path;
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	file->on_lost = on_lost;
	file->data = data;
	if (!file->again)
		r = sd_event_add_time_relative(event, &file->again, CLOCK_MONOTONIC, 0, 1000,
			on_again, file);
	if (r < 0)
		return r;
	watch_directory(file, stored);
	return sd_event_source_set_enabled(file->again, SD_EVENT_OFF);
}

void socket_file_forget(struct socket_file *file)
{
	dirwatch_close(&file->changes);
	sd_event_source_disable_unref(file->again);
	*file = (struct socket_file){ 0 };
}
