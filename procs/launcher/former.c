/*
 * Children that a launcher of a former release started send their notifications to its one socket
 * until they are started again. The kernel tells the sender's pid.
 */
#include "former.h"

#include <sys/epoll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "guest.h"
#include "notify.h"

static struct child *find_child(struct launcher *launcher, pid_t pid)
{
	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = 0; j < launcher->guests[i].n_children; j++)
			if (launcher->guests[i].children[j].pid == pid)
				return &launcher->guests[i].children[j];
	return NULL;
}

static int on_notify(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct launcher *launcher = data;
	struct notification n;

	while (notify_receive(fd, &n) == 0) {
		struct child *child = n.pid ? find_child(launcher, n.pid) : NULL;

		if (child)
			(void)keeper_heard(child->home->keeper, child->title, n.text, n.fds,
				n.n_fds);
		notify_release(&n);
	}
	return 0;
}

int former_watch(struct launcher *launcher)
{
	int r = sd_event_add_io(launcher->event, &launcher->notify_source, launcher->notify_fd,
		EPOLLIN, on_notify, launcher);

	if (r < 0)
		return r;
	/* what a child has stored must be handled before its end */
	return sd_event_source_set_priority(launcher->notify_source, SD_EVENT_PRIORITY_IMPORTANT);
}

void former_close(struct launcher *launcher)
{
	launcher->notify_source = sd_event_source_disable_unref(launcher->notify_source);
	if (launcher->notify_path)
		(void)unlink(launcher->notify_path);
	fd_close(launcher->notify_fd);
	free(launcher->notify_path);
}
