/* The inbox: notes of nng's threads, handled in order by the loop's thread. */
#include "bus/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <nng/nng.h>

#include "base/cleanup.h"

static struct bus_loop inbox = { .wake_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

static struct bus_note *take_note(struct bus_loop *loop)
{
	struct bus_note *note;

	pthread_mutex_lock(&loop->lock);
	note = TAILQ_FIRST(&loop->notes);
	if (note) {
		TAILQ_REMOVE(&loop->notes, note, link);
		note->queued = false;
	}
	pthread_mutex_unlock(&loop->lock);
	return note;
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct bus_loop *loop = data;
	struct bus_note *note;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return 0;
	while ((note = take_note(loop)))
		note->fn(note);
	return 0;
}

int bus_loop_get(sd_event *event, struct bus_loop **ret_loop)
{
	int r;

	if (inbox.users == 0) {
		inbox.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (inbox.wake_fd < 0)
			return -errno;
		TAILQ_INIT(&inbox.notes);
		inbox.event = sd_event_ref(event);
		r = sd_event_add_io(event, &inbox.source, inbox.wake_fd, EPOLLIN, on_wake, &inbox);
		if (r < 0) {
			inbox.event = sd_event_unref(inbox.event);
			inbox.wake_fd = fd_close(inbox.wake_fd);
			return r;
		}
	}
	inbox.users++;
	*ret_loop = &inbox;
	return 0;
}

/* nng's threads free what was closed asynchronously; nng_fini() waits for them. */
void bus_loop_put(struct bus_loop *loop)
{
	if (!loop || --loop->users > 0)
		return;
	nng_fini();
	loop->source = sd_event_source_unref(loop->source);
	loop->event = sd_event_unref(loop->event);
	loop->wake_fd = fd_close(loop->wake_fd);
}

void bus_loop_post(struct bus_loop *loop, struct bus_note *note)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&loop->lock);
	if (!note->queued) {
		note->queued = true;
		TAILQ_INSERT_TAIL(&loop->notes, note, link);
	}
	pthread_mutex_unlock(&loop->lock);
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void bus_loop_forget(struct bus_loop *loop, struct bus_note *note)
{
	pthread_mutex_lock(&loop->lock);
	if (note->queued)
		TAILQ_REMOVE(&loop->notes, note, link);
	note->queued = false;
	pthread_mutex_unlock(&loop->lock);
}

bool bus_loop_holds(struct bus_loop *loop, const struct bus_note *note)
{
	bool queued;

	pthread_mutex_lock(&loop->lock);
	queued = note->queued;
	pthread_mutex_unlock(&loop->lock);
	return queued;
}
