/*
 * Applies a record to a single ring, while its group is paused or the ring belongs to the loop
 * thread.
 */
#include "device/rings.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/calls.h"
#include "device/serve.h"

#define DESCS_MAX (1u << 20) /* for all rings of a device: each costs the worker about 60 bytes */

/* --- Stop --- */

static const char *start_error(int r)
{
	switch (r) {
	case VIRTQ_E_ADDRESS:
		return "a ring address is misaligned or not in guest memory";
	case VIRTQ_E_SIZE:
		return "the ring size is 0, above the maximum, or no power of 2";
	case VIRTQ_E_BASE:
		return "the base lies outside the ring";
	case VIRTQ_E_BROKEN:
		return "the ring's indices contradict its size, or its in-flight region";
	default:
		return "out of memory";
	}
}

void ring_fail(struct device_queue *queue, uint64_t start_id, const char *why, bool broken)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	if (state->error != why || state->error_start_id != start_id)
		log_limited(LOG_WARNING, NULL, 0, "ring %u stopped: %s", queue->index, why);
	state->error = why;
	state->error_start_id = start_id;
	state->broken = broken;
	queue_signal_err(queue);
}

static void changed(struct device_queue *queue)
{
	if (queue->device->ops->queue_changed)
		queue->device->ops->queue_changed(queue->device, queue);
}

void ring_stop(struct device_queue *queue)
{
	if (!queue->vq)
		return;
	calls_stop(queue);
	queue->vq = virtq_stop(queue->vq);
	queue->device->ledger.queues[queue->index].running = 0;
	queue->device->core->rings[queue->index].break_why = NULL;
	atomic_store(&queue->drain, DRAIN_NONE);
	changed(queue);
}

void ring_remap(struct device_queue *queue)
{
	uint64_t start_id = queue->device->core->rings[queue->index].start_id;
	int r = queue->vq ? virtq_remap(queue->vq) : 0;

	if (r == 0)
		return;
	ring_stop(queue);
	ring_fail(queue, start_id, start_error(r), false);
}

/* --- Drain --- */

static void ask_to_drain(struct device_queue *queue)
{
	struct device_group *group = group_of(queue->device, queue->index);

	if (group)
		group_pause(group);
	atomic_store(&queue->drain, DRAIN_ASKED);
	queue->device->ops->drain(queue);
	if (group)
		group_go_on(group);
}

bool ring_rests(struct device_queue *queue)
{
	if (!queue->vq || !queue->device->ops->drain)
		return true;
	if (atomic_load(&queue->drain) == DRAIN_NONE)
		ask_to_drain(queue);
	return atomic_load(&queue->drain) == DRAIN_DONE;
}

/* --- Descriptors --- */

/* A new token brings a new descriptor; token 0 removes the descriptor. */
static bool replace_fd(int *fdp, uint64_t *now, uint64_t token, struct wants *wants)
{
	if (*now == token)
		return false;
	fd_close(*fdp);
	*fdp = token ? wants_take(wants, token) : -1;
	*now = *fdp >= 0 ? token : 0;
	return true;
}

/* The serving thread may use the descriptor's number at any moment. */
void ring_recall(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];
	int fd = wants_take(wants, ring->call_token);

	if (fd < 0)
		return;
	queue_exchange_call(queue, fd);
	state->call_token = ring->call_token;
}

static bool replace_call(struct device_queue *queue, uint64_t *now, uint64_t token,
	struct wants *wants)
{
	int fd;

	if (*now == token)
		return false;
	fd = token ? wants_take(wants, token) : -1;
	queue_set_call(queue, fd);
	*now = fd >= 0 ? token : 0;
	return true;
}

/* A kick descriptor must be pollable: a regular file would break the loop that serves the ring. */
static void refuse_bad_kick(struct device_queue *queue, const Bh__Ring *ring)
{
	struct stat st;

	if (queue->kick_fd < 0 ||
		(fstat(queue->kick_fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return;
	queue->kick_fd = fd_close(queue->kick_fd);
	ring_fail(queue, ring->start_id, "the kick descriptor is not an eventfd", true);
}

static bool apply_fds(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];
	bool any = replace_fd(&queue->kick_fd, &state->kick_token, ring->kick_token, wants);

	if (any)
		refuse_bad_kick(queue, ring);
	any |= replace_call(queue, &state->call_token, ring->call_token, wants);
	if (!replace_fd(&queue->err_fd, &state->err_token, ring->err_token, wants))
		return any;
	if (state->error && state->error_start_id == ring->start_id)
		queue_signal_err(queue); /* it came too late for that */
	return true;
}

/* --- Start --- */

static void note_start(struct device_queue *queue, const Bh__Ring *ring)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	if (state->start_id != ring->start_id)
		state->err_signalled = false;
	state->shows = false;
	state->n_blank_kicks = 0;
	state->start_id = ring->start_id;
	state->size = ring->size;
	state->desc_uva = ring->desc_uva;
	state->avail_uva = ring->avail_uva;
	state->used_uva = ring->used_uva;
	if (state->error_start_id != ring->start_id) {
		state->error = NULL;
		state->broken = false;
	}
}

/* The memory a ring needs grows with its size, and the guest chooses both size and number of
 * rings. Returns NULL if the ring may be started, else the reason. */
static const char *ring_refused(const struct device *device, const Bh__Ring *ring)
{
	uint64_t n = ring->size;

	if (ring->size > device->offer.queue_size_max)
		return start_error(VIRTQ_E_SIZE);
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq)
			n += device->ledger.queues[i].size;
	return n <= DESCS_MAX ? NULL
			      : "the device's rings together are longer than 1048576 descriptors";
}

/* A VMM whose previous back-end died without reporting its ring positions can only guess them. */
static void tell_place(const struct device_queue *queue, const Bh__Ring *ring)
{
	if (virtq_place(queue->vq) == VIRTQ_AS_TOLD)
		return;
	if (virtq_place(queue->vq) == VIRTQ_FOUND)
		log_limited(LOG_NOTICE, NULL, 0,
			"ring %u: the VMM's position 0x%x does not match the ring; continuing at 0x%x, which does",
			queue->index, ring->position, virtq_base(queue->vq));
	else
		log_limited(LOG_WARNING, NULL, 0,
			"ring %u: the VMM's position 0x%x may be wrong, and the ring does not show the right one; if it stalls, reset the device in the guest",
			queue->index, ring->position);
}

static struct virtq_setup setup_of(const struct device *device, const Bh__Ring *ring)
{
	return (struct virtq_setup){
		.index = (uint16_t)ring->index,
		.size = ring->size,
		.packed = has_bit(device->features, VIRTIO_F_RING_PACKED),
		.event_idx = has_bit(device->features, VIRTIO_RING_F_EVENT_IDX),
		.indirect = has_bit(device->features, VIRTIO_RING_F_INDIRECT_DESC),
		.in_order = has_bit(device->features, VIRTIO_F_IN_ORDER),
		.reads_only = device->ops->reads_only && device->ops->reads_only(ring->index),
		.log = ring->log,
		.log_gpa = { ring->log_gpa },
		.desc = { ring->desc_uva },
		.avail = { ring->avail_uva },
		.used = { ring->used_uva },
		.base = ring->position,
		.start_id = ring->start_id,
		.blame = &device->ledger.header->blame,
	};
}

static int start_virtq(struct virtq **ret_vq, struct device *device, const Bh__Ring *ring)
{
	struct virtq_setup setup = setup_of(device, ring);
	void *inflight = inflight_of(device, &setup, &setup.inflight_id);

	return virtq_start(ret_vq, &setup, device->map, &device->ledger.queues[ring->index],
		inflight);
}

static bool start_ring(struct device_queue *queue, const Bh__Ring *ring)
{
	struct device *device = queue->device;
	struct ledger_queue *slot = &device->ledger.queues[queue->index];
	bool known = slot->start_id == ring->start_id;
	const char *refused = ring_refused(device, ring);
	int r;

	note_start(queue, ring);
	if (refused) {
		ring_fail(queue, ring->start_id, refused, false);
		return false;
	}
	r = start_virtq(&queue->vq, device, ring);
	if (r != 0) {
		queue->vq = NULL;
		ring_fail(queue, ring->start_id, start_error(r), false);
		return false;
	}
	tell_place(queue, ring);
	queue->waits_until_ns =
		known || ring->enabled ? 0 : clock_ns() + DEVICE_WAIT_MS * UINT64_C(1000000);
	device->core->rings[queue->index].error = NULL;
	slot->running = 1;
	if (device->ops->queue_started)
		device->ops->queue_started(device, queue, known);
	calls_start(queue); /* a previous process may have died before it notified */
	return true;
}

static void apply_log(struct device_queue *queue, const Bh__Ring *ring)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	state->log_gpa = ring_log_gpa(ring);
	if (queue->vq)
		virtq_set_log(queue->vq, ring->log, (struct gpa){ ring->log_gpa });
}

static bool can_start(const struct device *device, const Bh__Ring *ring)
{
	return ring->has_addresses && ring->size && device->core->n_mapped &&
		!ring_refused(device, ring);
}

/* The ring has stopped while nobody served it. Going on with it marks what its former server wrote;
 * it takes nothing, and stops at once. */
static void mark_left(struct device *device, const Bh__Ring *ring)
{
	struct virtq *vq = NULL;

	if (!device->map->log || !ring_was_left(device, ring) || !can_start(device, ring))
		return;
	if (start_virtq(&vq, device, ring) == 0)
		virtq_stop(vq);
}

static bool may_start(const struct device *device, const Bh__Ring *ring)
{
	return ring_wants_start(device, ring) && ring->has_addresses && ring->size &&
		device->core->n_mapped;
}

void ring_apply(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants)
{
	bool any = apply_fds(queue, ring, wants);

	any |= queue->enabled != ring->enabled || queue->poll != ring->poll;
	queue->enabled = ring->enabled;
	queue->poll = ring->poll;
	apply_log(queue, ring);
	if (!queue->vq && may_start(queue->device, ring))
		any |= start_ring(queue, ring);
	if (!queue->vq && !ring->started) {
		mark_left(queue->device, ring);
		queue->device->ledger.queues[queue->index].running = 0;
	}
	if (any)
		changed(queue);
}

/* A ring that the record does not name, because the VMM disconnected, loses everything. */
void ring_forget(struct device_queue *queue)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	if (!ring_is_known(queue))
		return;
	queue->kick_fd = fd_close(queue->kick_fd);
	queue_set_call(queue, -1);
	queue->err_fd = fd_close(queue->err_fd);
	queue->enabled = false;
	queue->poll = false;
	*state = (struct ring_state){ 0 };
	changed(queue);
}
