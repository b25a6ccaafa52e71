/*
 * Rings that the loop thread serves. These have few chains, but each chain changes state that all
 * threads read. The loop has other work, so a ring that has used up its turns waits a moment. One
 * without a kick descriptor is looked at after each such moment.
 */
#include "device/calls.h"
#include "device/core.h"
#include "device/kicks.h"
#include "device/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"

#define TURNS 16
#define REST_US (1000 * DEVICE_DEAF_MS)
#define ACCURACY_US 1 /* 0 is sd-event's default: a quarter of a second */

/** struct loop_ring - a ring's event sources */
struct loop_ring {
	struct device_queue *queue;
	sd_event_source *kick;
	sd_event_source *rest;
	sd_event_source *wake;
};

/* true: there may be more chains */
static bool serve_turns(struct device_queue *queue)
{
	for (unsigned int i = 0; i < TURNS; i++) {
		queue->wait = queue->device->ops->serve(queue);
		if (queue->wait == DEVICE_MORE)
			return true;
		if (queue->wait != DEVICE_KICK || !virtq_kick_on(queue->vq))
			return false;
	}
	return true;
}

/* Ignores the ring and its kicks for a moment. */
static void rest(struct loop_ring *ring)
{
	(void)sd_event_source_set_enabled(ring->kick, SD_EVENT_OFF);
	if (sd_event_source_set_time_relative(ring->rest, REST_US) >= 0)
		(void)sd_event_source_set_enabled(ring->rest, SD_EVENT_ONESHOT);
}

static void serve_ring(struct loop_ring *ring)
{
	if (serve_turns(ring->queue) || ring->queue->poll)
		rest(ring);
}

static void serve_again(struct loop_ring *ring)
{
	(void)sd_event_source_set_enabled(ring->rest, SD_EVENT_OFF);
	(void)sd_event_source_set_enabled(ring->kick, SD_EVENT_ON);
	serve_ring(ring);
}

static int on_rested(sd_event_source *source, uint64_t usec, void *data)
{
	serve_again(data);
	return 0;
}

static int on_wake(sd_event_source *source, void *data)
{
	serve_again(data);
	return 0;
}

static int on_kick(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct loop_ring *ring = data;

	if (device_queue_drain_kick(ring->queue))
		serve_ring(ring);
	else
		rest(ring);
	return 0;
}

/* Adds a duplicate of the kick descriptor to the loop: the VMM's own may be closed while the loop
 * listens to it. */
static int listen_to(struct loop_ring *ring, sd_event *event, int kick_fd)
{
	_cleanup_close_ int fd = fcntl(kick_fd, F_DUPFD_CLOEXEC, 3);
	int r;

	if (fd < 0)
		return -errno;
	r = sd_event_add_io(event, &ring->kick, fd, EPOLLIN | EPOLLET, on_kick, ring);
	if (r < 0)
		return r;
	(void)sd_event_source_set_io_fd_own(ring->kick, 1);
	(void)fd_steal(&fd);
	return 0;
}

static int add_sources(struct loop_ring *ring, sd_event *event)
{
	int r = sd_event_add_time_relative(event, &ring->rest, CLOCK_MONOTONIC, 0, ACCURACY_US,
		on_rested, ring);

	if (r >= 0)
		r = sd_event_source_set_enabled(ring->rest, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_defer(event, &ring->wake, on_wake, ring);
	if (r >= 0)
		r = sd_event_source_set_enabled(ring->wake, SD_EVENT_OFF);
	if (r >= 0 && ring->queue->kick_fd >= 0)
		r = listen_to(ring, event, ring->queue->kick_fd);
	return r;
}

static struct loop_ring *loop_ring_free(struct loop_ring *ring)
{
	if (!ring)
		return NULL;
	sd_event_source_disable_unref(ring->kick);
	sd_event_source_disable_unref(ring->rest);
	sd_event_source_disable_unref(ring->wake);
	free(ring);
	return NULL;
}

static struct loop_ring *loop_ring_new(struct device_queue *queue)
{
	struct loop_ring *ring = calloc(1, sizeof(*ring));

	check(ring);
	calls_stop(queue); /* it may have been another thread's */
	ring->queue = queue;
	return add_sources(ring, queue->device->event) < 0 ? loop_ring_free(ring) : ring;
}

void loop_ring_wake(struct device_queue *queue)
{
	struct loop_ring *ring = queue->device->core->loop_rings[queue->index];

	if (ring)
		(void)sd_event_source_set_enabled(ring->wake, SD_EVENT_ONESHOT);
}

static bool is_loops(const struct device_queue *queue)
{
	const struct device *device = queue->device;

	return queue->vq && (queue->enabled || device->ops->serves_disabled) &&
		device->ops->group && device->ops->group(device, queue->index) == DEVICE_GROUP_LOOP;
}

void loop_rings_assign(struct device *device)
{
	struct loop_ring **rings = device->core->loop_rings;

	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		rings[i] = loop_ring_free(rings[i]);
		if (is_loops(&device->queues[i]))
			rings[i] = loop_ring_new(&device->queues[i]);
	}
}

void loop_rings_serve(struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->core->loop_rings[i])
			serve_ring(device->core->loop_rings[i]);
}

void loop_rings_free(struct device *device)
{
	struct loop_ring **rings = device->core->loop_rings;

	for (uint32_t i = 0; rings && i < device->offer.n_queues; i++)
		rings[i] = loop_ring_free(rings[i]);
}
