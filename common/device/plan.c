#include "device/plan.h"

#include "base/bytes.h"
#include "device/log.h"
#include "device/rings.h"

#define RING_FEATURES                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |                         \
		BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER))

const Bh__Ring *plan_find_ring(const Bh__Desired *desired, uint32_t index)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->index == index)
			return desired->rings[i];
	return NULL;
}

/* --- The whole device --- */

uint64_t plan_features(const Bh__Desired *desired)
{
	return desired->features & ~BIT(VHOST_F_LOG_ALL);
}

bool plan_resets(const struct device *device, const Bh__Desired *desired)
{
	const struct ledger_header *header = device->ledger.header;

	return header->session != desired->session || header->reset_epoch != desired->reset_epoch ||
		(header->status != 0 && desired->status == 0);
}

static bool has_config_writes(const struct device *device, const Bh__Desired *desired)
{
	for (size_t i = 0; i < desired->n_config_writes; i++)
		if (desired->config_writes[i]->seq > device->ledger.header->config_write_seq)
			return true;
	return false;
}

bool plan_wants_region(const Bh__Desired *desired, const struct mapped_region *mapped)
{
	for (size_t i = 0; i < desired->n_regions; i++)
		if (mapped_is(mapped, desired->regions[i]))
			return true;
	return false;
}

static bool memory_leaves(const struct device *device, const Bh__Desired *desired)
{
	const struct device_core *core = device->core;

	for (size_t i = 0; i < core->n_mapped; i++)
		if (!plan_wants_region(desired, &core->mapped[i]))
			return true;
	return false;
}

static bool memory_comes(const struct device *device, const Bh__Desired *desired)
{
	for (size_t i = 0; i < desired->n_regions; i++)
		if (!core_has_mapped(device->core, desired->regions[i]))
			return true;
	return false;
}

/* --- A ring --- */

static bool must_stop(const struct device *device, const Bh__Desired *desired, const Bh__Ring *ring)
{
	const struct ring_state *state;

	if (!ring || !ring->started)
		return true;
	if ((device->features ^ desired->features) & RING_FEATURES ||
		inflight_token(desired) != device->core->inflight.token)
		return true;
	state = &device->core->rings[ring->index];
	return state->start_id != ring->start_id || state->size != ring->size ||
		state->desc_uva != ring->desc_uva || state->avail_uva != ring->avail_uva ||
		state->used_uva != ring->used_uva;
}

static bool changes(const struct device_queue *queue, const Bh__Ring *ring)
{
	const struct ring_state *state = &queue->device->core->rings[queue->index];

	if (state->kick_token != ring->kick_token || state->err_token != ring->err_token ||
		queue->enabled != ring->enabled || queue->poll != ring->poll)
		return true;
	if (!queue->vq)
		return ring_wants_start(queue->device, ring) || ring_was_left(queue->device, ring);
	return atomic_load(&queue->drain) != DRAIN_NONE || state->log_gpa != ring_log_gpa(ring);
}

static enum ring_plan plan_ring(const struct device_queue *queue, const Bh__Desired *desired)
{
	const struct device *device = queue->device;
	const Bh__Ring *ring = plan_find_ring(desired, queue->index);
	uint64_t call_token = device->core->rings[queue->index].call_token;

	if (queue->vq && must_stop(device, desired, ring))
		return RING_STOPS;
	if (!ring)
		return ring_is_known(queue) ? RING_CHANGES : RING_STAYS;
	if (changes(queue, ring))
		return RING_CHANGES;
	if (call_token == ring->call_token)
		return RING_STAYS;
	return queue->vq && call_token && ring->call_token ? RING_RECALLED : RING_CHANGES;
}

void plan_make(struct plan *plan, const struct device *device, const Bh__Desired *desired)
{
	plan->memory_leaves = memory_leaves(device, desired);
	plan->whole = !device->core->applied || device->connected != desired->connected ||
		plan_resets(device, desired) || device->features != plan_features(desired) ||
		!log_is_in_force(device, desired) ||
		inflight_token(desired) != device->core->inflight.token ||
		has_config_writes(device, desired) || plan->memory_leaves ||
		memory_comes(device, desired);
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		plan->rings[i] = (uint8_t)plan_ring(&device->queues[i], desired);
}
