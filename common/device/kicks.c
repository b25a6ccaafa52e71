/*
 * How a serving thread sleeps: it asks drivers for kicks and checks the rings once more
 * (kicks_ask()), then waits on an epoll set of its wake descriptor, the kick descriptors of its
 * rings, and the host descriptor if a ring waits for it.
 */
#include "device/kicks.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "base/blame.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "device/calls.h"

#define POLL_MS                                                                                    \
	DEVICE_DEAF_MS /* how often an idle ring without a kick descriptor is polled, in ms */
#define EVENTS_MAX 8
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* Edge-triggered: a descriptor that is always readable wakes the thread only once. */
static void listen_to(struct device_group *group, struct device_queue *queue)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = queue };

	queue->deaf = false;
	if (queue->kick_fd >= 0)
		(void)epoll_ctl(group->epoll_fd, EPOLL_CTL_ADD, queue->kick_fd, &event);
}

void kicks_open(struct device_group *group)
{
	struct epoll_event wake = { .events = EPOLLIN, .data.ptr = &group->wake_fd };

	fd_close(group->epoll_fd);
	group->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	check(group->epoll_fd >= 0);
	group->host_armed = false;
	check(epoll_ctl(group->epoll_fd, EPOLL_CTL_ADD, group->wake_fd, &wake) == 0);
	for (unsigned int i = 0; i < group->n_queues; i++)
		listen_to(group, group->queues[i]);
}

bool kicks_ask(struct device_group *group)
{
	bool more = false;

	for (unsigned int i = 0; i < group->n_queues; i++)
		if (group->queues[i]->wait == DEVICE_KICK)
			more |= virtq_kick_on(group->queues[i]->vq);
	return more;
}

static void forbid(struct device_group *group)
{
	for (unsigned int i = 0; i < group->n_queues; i++)
		virtq_kick_off(group->queues[i]->vq);
}

/* --- Asleep --- */

static bool any_waits(const struct device_group *group, enum device_wait wait)
{
	for (unsigned int i = 0; i < group->n_queues; i++)
		if (group->queues[i]->wait == wait)
			return true;
	return false;
}

static void watch_host(struct device_group *group, bool want)
{
	struct epoll_event event = { .events = want ? EPOLLIN : 0, .data.ptr = &group->host_fd };

	if (group->host_fd < 0 || want == group->host_armed)
		return;
	if (epoll_ctl(group->epoll_fd, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, group->host_fd,
		    &event) == 0)
		group->host_armed = want;
}

static int sleep_ms(const struct device_group *group)
{
	for (unsigned int i = 0; i < group->n_queues; i++)
		if (group->queues[i]->poll || group->queues[i]->deaf)
			return POLL_MS;
	return any_waits(group, DEVICE_SOON) ? DEVICE_WAIT_MS : -1;
}

/* As epoll_wait(), and no longer than until a notification is due. Kernels before 5.11 count in
 * milliseconds. */
static int wait_owing(const struct device_group *group, struct epoll_event *events, int max_ms)
{
	uint64_t ns = calls_left_ns(group);
	struct timespec left;
	int n;

	if (max_ms >= 0)
		ns = MIN(ns, (uint64_t)max_ms * NS_PER_MS);
	left = (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S) };
	n = epoll_pwait2(group->epoll_fd, events, EVENTS_MAX, &left, NULL);
	if (n < 0 && errno == ENOSYS)
		n = epoll_wait(group->epoll_fd, events, EVENTS_MAX, (int)(ns / NS_PER_MS) + 1);
	return n;
}

static int wait_for_events(const struct device_group *group, struct epoll_event *events)
{
	int ms = sleep_ms(group);

	if (unlikely(group->owes))
		return wait_owing(group, events, ms);
	return epoll_wait(group->epoll_fd, events, EVENTS_MAX, ms);
}

/* --- Awake --- */

static void drain_wake(const struct device_group *group)
{
	uint64_t n;

	if (read(group->wake_fd, &n, sizeof(n)) < 0)
		return;
}

static void drain_kick(struct device_group *group, struct device_queue *queue)
{
	if (device_queue_drain_kick(queue))
		return;
	(void)epoll_ctl(group->epoll_fd, EPOLL_CTL_DEL, queue->kick_fd, NULL);
	queue->deaf = true;
}

static void drain(struct device_group *group, const struct epoll_event *event)
{
	if (event->data.ptr == &group->wake_fd)
		drain_wake(group);
	else if (event->data.ptr != &group->host_fd)
		drain_kick(group, event->data.ptr);
}

static void listen_again(struct device_group *group)
{
	for (unsigned int i = 0; i < group->n_queues; i++)
		if (group->queues[i]->deaf)
			listen_to(group, group->queues[i]);
}

void kicks_sleep(struct device_group *group)
{
	struct epoll_event events[EVENTS_MAX];
	int n;

	blame_unset();
	watch_host(group, any_waits(group, DEVICE_HOST));
	n = wait_for_events(group, events);
	for (int i = 0; i < n; i++)
		drain(group, &events[i]);
	if (n == 0 && !group->owes)
		listen_again(group);
	forbid(group);
}
