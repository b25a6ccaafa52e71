/*
 * The descriptors of a ring. Kick, call and err are handed over by the VMM and shared with it: whatever
 * flags they have are the VMM's, so nothing here relies on O_NONBLOCK, and nothing sets it.
 */
#include "device/core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/log.h"

static const uint64_t one = 1;

static struct ring_state *state_of(struct device_queue *queue)
{
	return &queue->device->core->rings[queue->index];
}

/* A counter that nobody reads fills up; the wake-up is then pending already, and we must not wait. */
static void signal_fd(int fd, bool is_socket, bool may_block)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (is_socket) {
		(void)send(fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
	if (may_block && (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)))
		return;
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

void queue_signal_call(struct device_queue *queue)
{
	struct ring_state *state = state_of(queue);

	if (queue->call_fd < 0)
		return;
	signal_fd(queue->call_fd, state->call_is_socket, state->call_may_block);
	virtq_counters(queue->vq)->calls++;
}

void queue_set_call(struct device_queue *queue, int fd)
{
	struct ring_state *state = state_of(queue);
	struct stat st;

	fd_close(queue->call_fd);
	queue->call_fd = fd;
	state->call_is_socket = fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	state->call_may_block = fd >= 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
	if (queue->vq)
		queue_signal_call(queue); /* calls may have gone to the former one, or to none */
}

void device_queue_call(struct device_queue *queue)
{
	if (virtq_call_due(queue->vq))
		queue_signal_call(queue);
}

/* --- Memory that the guest does not share --- */

#define BLANK_KICKS 2      /* a VMM may kick a ring as it starts it, before there is a driver */
#define BLANK_KICKS_MAX 32 /* a look has its price, and the guest chooses how often it kicks */

/* A driver that is at work has filled one ring at least. */
static bool all_blank(const struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq && !virtq_is_blank(device->queues[i].vq))
			return false;
	return true;
}

/* A VMM that maps the guest's memory privately hands over files that are in order, and stay empty. */
static void look_at_memory(struct device_queue *queue)
{
	struct device *device = queue->device;
	struct ring_state *state = state_of(queue);
	uint64_t session = device->ledger.header->session;

	state->shows = state->n_blank_kicks == BLANK_KICKS_MAX || !virtq_is_blank(queue->vq);
	if (state->shows || ++state->n_blank_kicks < BLANK_KICKS || !all_blank(device) ||
		atomic_exchange(&device->core->blank_session, session) == session)
		return;
	log_limited(LOG_WARNING, NULL, 0, "the guest kicks ring %u, but its memory shows nothing: is guest memory shared "
		    "(QEMU: -object memory-backend-memfd,...,share=on)?", queue->index);
}

void device_queue_drain_kick(struct device_queue *queue)
{
	uint64_t n;
	struct iovec iov = { .iov_base = &n, .iov_len = sizeof(n) };

	if (queue->kick_fd < 0)
		return;
	if (preadv2(queue->kick_fd, &iov, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP) {
		struct pollfd p = { .fd = queue->kick_fd, .events = POLLIN };

		if (poll(&p, 1, 0) == 1 && (p.revents & POLLIN) &&
			read(queue->kick_fd, &n, sizeof(n)) < 0)
			return;
	}
	if (!queue->vq)
		return;
	virtq_counters(queue->vq)->kicks++;
	if (!state_of(queue)->shows)
		look_at_memory(queue);
}

void queue_signal_err(struct device_queue *queue)
{
	struct ring_state *state = state_of(queue);

	if (state->err_signalled || queue->err_fd < 0)
		return;
	state->err_signalled = true;
	signal_fd(queue->err_fd, false, true);
}

void device_queue_broken(struct device_queue *queue, const char *why)
{
	struct device_core *core = queue->device->core;

	pthread_mutex_lock(&core->broken_lock);
	if (!core->broken[queue->index])
		core->broken[queue->index] = why;
	pthread_mutex_unlock(&core->broken_lock);
	if (write(core->wake_fd, &one, sizeof(one)) < 0)
		return;
}
