/*
 * Serving. Each group has a thread, which gives every ring of the group a turn while there is work.
 * Without work it looks again for a while (polling.h), enables kicks, checks the rings once more,
 * and sleeps. After a start or a change, a thread checks its rings without waiting for a kick.
 *
 * The device bounds each turn, and the thread passes the turnstile after it. So serving threads
 * need no locks for what the loop thread changes while the turnstile is closed.
 */
#include "device/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/blame.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "device/calls.h"
#include "device/core.h"
#include "device/kicks.h"
#include "device/thread.h"

static const uint64_t one = 1;

/* --- The thread --- */

static bool serve_rings(struct device_group *group,
	enum device_wait (*serve)(struct device_queue *queue))
{
	bool more = false;

	for (unsigned int i = 0; i < group->n_queues; i++) {
		struct device_queue *queue = group->queues[i];

		queue->wait = serve(queue);
		more |= queue->wait == DEVICE_MORE;
	}
	return more;
}

/* Guest memory that was unmapped reads as zeros, so the contents of a ring mean nothing. */
static void give_up_rings(struct device_group *group)
{
	for (unsigned int i = 0; i < group->n_queues; i++)
		device_queue_broken(group->queues[i], "the file behind guest memory was cut short");
	/* a device that holds chains is served until it has completed them */
	if (!group->device->ops->drain)
		group->n_queues = 0;
}

/* Whether to give the rings another turn at once, after one in which none had more to do. */
static bool look_again(struct device_group *group)
{
	uint64_t n_chains = 0, now;

	if (!group->polling.limit_ns)
		return false;
	for (unsigned int i = 0; i < group->n_queues; i++)
		n_chains += virtq_counters(group->queues[i]->vq)->chains;
	now = clock_ns();
	if (n_chains != group->n_chains) {
		group->n_chains = n_chains;
		polling_worked(&group->polling, now);
		blame_unset();
	}
	return polling_again(&group->polling, now);
}

static void go_to_sleep(struct device_group *group)
{
	kicks_sleep(group);
	if (group->polling.limit_ns)
		polling_woke(&group->polling, clock_ns());
}

static void *group_main(void *data)
{
	struct device_group *group = data;
	struct device *device = group->device;

	if (!turnstile_enter(&group->turnstile))
		return NULL;
	device_thread_begin(device, group->index);
	do {
		if (unlikely(map_poisoned(device->map)))
			give_up_rings(group);
		if (unlikely(group->owes))
			calls_look(group);
		if (serve_rings(group, device->ops->serve) || look_again(group) || kicks_ask(group))
			continue;
		go_to_sleep(group);
	} while (turnstile_pass(&group->turnstile));
	device_thread_end(device, group->index);
	return NULL;
}

/* --- Members of a group --- */

static uint32_t group_number(const struct device *device, uint32_t index)
{
	return device->ops->group ? device->ops->group(device, index) : index % device->n_groups;
}

struct device_group *group_of(const struct device *device, uint32_t index)
{
	uint32_t number = group_number(device, index);

	return number < device->n_groups ? &device->groups[number] : NULL;
}

static bool is_served(const struct device *device, const struct device_queue *queue)
{
	return queue->vq && (queue->enabled || device->ops->serves_disabled || device->ops->drain);
}

/* Highest index first: frames that the driver sends go before frames for the driver. */
static void collect_rings(struct device_group *group)
{
	struct device *device = group->device;

	group->n_queues = 0;
	for (uint32_t i = device->offer.n_queues; i-- > 0;) {
		struct device_queue *queue = &device->queues[i];

		if (group_of(device, i) != group)
			continue;
		atomic_store(&queue->group, is_served(device, queue) ? group : NULL);
		if (is_served(device, queue))
			group->queues[group->n_queues++] = queue;
	}
}

/* --- Pause and resume --- */

static void wake(struct device_group *group)
{
	if (write(group->wake_fd, &one, sizeof(one)) < 0)
		return; /* counter is full: already awake */
}

static void close_turnstile(struct device_group *group)
{
	if (turnstile_close(&group->turnstile))
		wake(group);
}

void group_pause(struct device_group *group)
{
	close_turnstile(group);
	turnstile_wait(&group->turnstile);
}

void group_go_on(struct device_group *group)
{
	turnstile_open(&group->turnstile);
}

void group_resume(struct device_group *group)
{
	struct device *device = group->device;

	if (group->turnstile.depth == 1) {
		collect_rings(group);
		if (device->ops->resume)
			device->ops->resume(group);
		kicks_open(group);
		group->owes = true; /* perhaps */
	}
	turnstile_open(&group->turnstile);
}

void device_pause(struct device *device)
{
	for (unsigned int i = 0; i < device->n_groups; i++)
		close_turnstile(&device->groups[i]);
	for (unsigned int i = 0; i < device->n_groups; i++)
		turnstile_wait(&device->groups[i].turnstile);
}

void device_resume(struct device *device)
{
	for (unsigned int i = 0; i < device->n_groups; i++)
		group_resume(&device->groups[i]);
}

void device_queue_wake(struct device_queue *queue)
{
	struct device_group *group = atomic_load(&queue->group);

	if (group)
		wake(group);
	else
		loop_ring_wake(queue);
}

/* --- Life cycle --- */

static int group_init(struct device *device, unsigned int i)
{
	struct device_group *group = &device->groups[i];

	*group = (struct device_group){
		.device = device, .index = i, .host_fd = -1, .epoll_fd = -1
	};
	group->polling.limit_ns = device->offer.poll_us * UINT64_C(1000);
	turnstile_init(&group->turnstile);
	group->queues = calloc(device->offer.n_queues, sizeof(struct device_queue *));
	group->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (group->wake_fd < 0)
		return -errno;
	return group->queues ? 0 : -ENOMEM;
}

int serve_new(struct device *device)
{
	uint32_t n = MAX(device->offer.n_groups, 1u);
	int r = 0;

	check(n <= DEVICE_GROUPS_MAX);
	device->groups = calloc(n, sizeof(*device->groups));
	check(device->groups);
	while (device->n_groups < n && r == 0)
		r = group_init(device, device->n_groups++);
	return r;
}

int serve_start(struct device *device)
{
	int r = 0;

	for (unsigned int i = 0; i < device->n_groups && r == 0; i++) {
		struct device_group *group = &device->groups[i];

		kicks_open(group); /* a thread sleeps on this even without rings */
		r = device_thread_start(&group->thread, group_main, group);
		group->has_thread = r == 0;
	}
	return r;
}

void serve_stop(struct device *device)
{
	device_pause(device);
	for (unsigned int i = 0; i < device->n_groups; i++)
		turnstile_quit(&device->groups[i].turnstile);
	for (unsigned int i = 0; i < device->n_groups; i++)
		if (device->groups[i].has_thread)
			pthread_join(device->groups[i].thread, NULL);
	loop_rings_free(device);
}

void serve_free(struct device *device)
{
	for (unsigned int i = 0; i < device->n_groups; i++) {
		struct device_group *group = &device->groups[i];

		fd_close(group->epoll_fd);
		fd_close(group->wake_fd);
		turnstile_deinit(&group->turnstile);
		free(group->queues);
	}
	free(device->groups);
	device->groups = NULL;
	device->n_groups = 0;
}
