/*
 * The descriptors of a ring. The kick, call and err descriptors come from the VMM and are shared
 * with it. The VMM can change their flags, so this code neither relies on O_NONBLOCK nor sets it
 * (foreign.c).
 */
#include "device/core.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "device/foreign.h"
#include "device/kicks.h"

#define EMPTY_KICKS_MAX 16 /* consecutive, before kicks are ignored for a moment */

static const uint64_t one = 1;

static struct ring_state *state_of(struct device_queue *queue)
{
	return &queue->device->core->rings[queue->index];
}

/* If nobody reads the eventfd, its counter fills up. A wake-up is then pending anyway, and the
 * write must not block. The VMM can make the descriptor blocking at any time, so once a write has
 * blocked, each later write is preceded by a check. */
static void signal_fd(int fd, bool is_socket, atomic_bool *may_block)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (is_socket) {
		(void)send(fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
	if (atomic_load_explicit(may_block, memory_order_relaxed) &&
		(poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)))
		return;
	if (!foreign_write(fd))
		atomic_store_explicit(may_block, true, memory_order_relaxed);
}

/* Finds out how to write to a call descriptor. */
static void look_at_call(struct device_queue *queue, int fd)
{
	struct ring_state *state = state_of(queue);
	struct stat st;

	atomic_store(&state->call_is_socket,
		fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode));
	atomic_store(&state->call_may_block, fd >= 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK));
}

void queue_signal_call(struct device_queue *queue)
{
	struct ring_state *state = state_of(queue);

	if (queue->call_fd < 0)
		return;
	signal_fd(queue->call_fd, state->call_is_socket, &state->call_may_block);
	virtq_counters(queue->vq)->calls++;
}

void queue_set_call(struct device_queue *queue, int fd)
{
	fd_close(queue->call_fd);
	queue->call_fd = fd;
	look_at_call(queue, fd);
	if (queue->vq)
		queue_signal_call(queue); /* earlier calls may have gone to the former descriptor */
}

/* A call that the serving thread makes concurrently may go to either file, or be lost because it
 * was written the wrong way. The call made at the end makes up for it. */
void queue_exchange_call(struct device_queue *queue, int fd)
{
	struct ring_state *state = state_of(queue);

	look_at_call(queue, fd);
	check(dup3(fd, queue->call_fd, O_CLOEXEC) >= 0);
	fd_close(fd);
	signal_fd(queue->call_fd, state->call_is_socket, &state->call_may_block);
}

/* A descriptor can be always readable, and a guest can kick without adding chains. A kick was
 * useful if the ring has received chains since the last one. */
static bool tells_something(struct device_queue *queue)
{
	struct ring_state *state = state_of(queue);
	uint64_t chains = virtq_counters(queue->vq)->chains + virtq_window_len(queue->vq);

	if (chains != state->kicked_at)
		state->n_empty_kicks = 0;
	state->kicked_at = chains;
	if (++state->n_empty_kicks <= EMPTY_KICKS_MAX)
		return true;
	state->n_empty_kicks = 0;
	if (!state->kicks_told)
		log_limited(LOG_WARNING, NULL, 0,
			"ring %u is kicked again and again without a chain: its kicks are heard %u at a time",
			queue->index, EMPTY_KICKS_MAX);
	state->kicks_told = true;
	return false;
}

bool device_queue_waits(const struct device_queue *queue)
{
	return !queue->enabled && queue->waits_until_ns && clock_ns() < queue->waits_until_ns;
}

bool device_queue_drain_kick(struct device_queue *queue)
{
	if (queue->kick_fd < 0)
		return true;
	(void)foreign_read(queue->kick_fd);
	if (!queue->vq)
		return true;
	virtq_counters(queue->vq)->kicks++;
	if (!state_of(queue)->shows)
		queue_look_at_memory(queue);
	return tells_something(queue);
}

void queue_signal_err(struct device_queue *queue)
{
	struct ring_state *state = state_of(queue);
	atomic_bool may_block = true;

	if (state->err_signalled || queue->err_fd < 0)
		return;
	state->err_signalled = true;
	signal_fd(queue->err_fd, false, &may_block);
}

void device_queue_broken(struct device_queue *queue, const char *why)
{
	struct device_core *core = queue->device->core;

	pthread_mutex_lock(&core->broken_lock);
	if (!core->broken[queue->index])
		core->broken[queue->index] = why;
	pthread_mutex_unlock(&core->broken_lock);
	wake_loop(core);
}

unsigned int device_queue_may_take(const struct device_queue *queue)
{
	if (queue->enabled &&
		atomic_load_explicit(&queue->drain, memory_order_relaxed) == DRAIN_NONE)
		return UINT_MAX;
	return virtq_again_len(queue->vq);
}

void device_drained(struct device_queue *queue)
{
	int asked = DRAIN_ASKED;

	if (atomic_compare_exchange_strong(&queue->drain, &asked, DRAIN_DONE))
		wake_loop(queue->device->core);
}
