/* The table of stages, and what those may say that every device has. */
#include "snapshot/stage.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "snapshot/message.h"
#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

static const struct snapshot_stage *const stages[] = {
	&snapshot_stage_features,
	&snapshot_stage_rings,
	&snapshot_stage_counters,
#define TYPE(name) &snapshot_stage_##name,
#include "snapshot-types.def"
#undef TYPE
};

const struct snapshot_stage *snapshot_stage_at(size_t i)
{
	return i < ARRAY_SIZE(stages) ? stages[i] : NULL;
}

const Bh__Stage *snapshot_stage_find(const Bh__State *state, const char *name)
{
	for (size_t i = 0; i < state->n_stages; i++)
		if (strcmp(state->stages[i]->name, name) == 0)
			return state->stages[i];
	return NULL;
}

int snapshot_stage_unpack(const Bh__State *state, const struct snapshot_stage *row,
	ProtobufCMessage **ret_msg)
{
	const Bh__Stage *stage = snapshot_stage_find(state, row->name);

	if (!stage)
		return -ENOENT;
	if (stage->version > row->version)
		return -EPROTONOSUPPORT;
	return snapshot_parse(row->type, stage->data.data, stage->data.len, ret_msg);
}

/* --- Features --- */

/* Which bits a device can serve is for the device to say. */
static int judge_features(const ProtobufCMessage *msg, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	return 0;
}

const struct snapshot_stage snapshot_stage_features = {
	.name = "features",
	.version = 1,
	.required = true,
	.type = &bh__features_stage__descriptor,
	.judge = judge_features,
};

/* --- Rings --- */

static int judge_index(uint32_t index, bool seen[VHOST_USER_MAX_QUEUES],
	struct snapshot_fault *fault)
{
	if (index >= VHOST_USER_MAX_QUEUES)
		return snapshot_refuse(fault, "ring %u; the last that is possible is %d", index,
			VHOST_USER_MAX_QUEUES - 1);
	if (seen[index])
		return snapshot_refuse(fault, "ring %u is there twice", index);
	seen[index] = true;
	return 0;
}

static int judge_size(const Bh__RingStage *ring, const struct snapshot_context *context,
	bool packed, struct snapshot_fault *fault)
{
	if (ring->size > VIRTQUEUE_SIZE_MAX)
		return snapshot_refuse(fault, "ring %u: size is %u; at most %u is possible",
			ring->index, ring->size, VIRTQUEUE_SIZE_MAX);
	if (context->features_known && !packed && ring->size && !is_power_of_2(ring->size))
		return snapshot_refuse(fault,
			"ring %u: size is %u; of a split ring it is a power of 2", ring->index,
			ring->size);
	if (ring->running && context->suspended)
		return snapshot_refuse(fault, "ring %u was running, and the device suspended",
			ring->index);
	if (ring->running && ring->size == 0)
		return snapshot_refuse(fault, "ring %u was running with size 0", ring->index);
	return 0;
}

/* Slot in the bits 0-14, wrap counter in bit 15. */
static int judge_slot(const Bh__RingStage *ring, const char *what, uint32_t half,
	struct snapshot_fault *fault)
{
	uint32_t slot = half & 0x7fff;

	if (slot < ring->size)
		return 0;
	return snapshot_refuse(fault, "ring %u: position 0x%x has %s slot %u in a ring of %u",
		ring->index, ring->position, what, slot, ring->size);
}

static int judge_packed(const Bh__RingStage *ring, struct snapshot_fault *fault)
{
	uint32_t avail = ring->position & 0xffff, used = ring->position >> 16;
	uint32_t lap = (avail ^ used) & 0x8000 ? ring->size : 0;
	uint32_t ahead = lap + (avail & 0x7fff) - (used & 0x7fff);
	int r = judge_slot(ring, "available", avail, fault);

	if (r == 0)
		r = judge_slot(ring, "used", used, fault);
	if (r == 0 && ahead > ring->size)
		r = snapshot_refuse(fault,
			"ring %u: position 0x%x has the available slot more than a lap of %u "
			"before the used one",
			ring->index, ring->position, ring->size);
	return r;
}

/* A ring without a size was never set up; what its position is says nothing. */
static int judge_position(const Bh__RingStage *ring, const struct snapshot_context *context,
	bool packed, struct snapshot_fault *fault)
{
	if (!context->features_known || ring->size == 0)
		return 0;
	if (packed)
		return judge_packed(ring, fault);
	if (ring->position <= UINT16_MAX)
		return 0;
	return snapshot_refuse(fault, "ring %u: position is %u; of a split ring it has 16 bits",
		ring->index, ring->position);
}

static int judge_in_flight(const Bh__RingStage *ring, struct snapshot_fault *fault)
{
	uint8_t seen[VIRTQUEUE_SIZE_MAX / 8] = { 0 };

	if (ring->n_in_flight > ring->size)
		return snapshot_refuse(fault, "ring %u: in_flight has %zu entries in a ring of %u",
			ring->index, ring->n_in_flight, ring->size);
	for (size_t i = 0; i < ring->n_in_flight; i++) {
		uint32_t id = ring->in_flight[i];
		uint8_t bit = (uint8_t)(1u << id % 8);

		if (id >= ring->size)
			return snapshot_refuse(fault, "ring %u: in_flight has %u in a ring of %u",
				ring->index, id, ring->size);
		if (seen[id / 8] & bit)
			return snapshot_refuse(fault, "ring %u: in_flight has %u twice",
				ring->index, id);
		seen[id / 8] |= bit;
	}
	return 0;
}

static int judge_rings(const ProtobufCMessage *msg, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	const Bh__RingsStage *stage = (const void *)msg;
	bool packed = has_bit(context->features, VIRTIO_F_RING_PACKED);
	bool seen[VHOST_USER_MAX_QUEUES] = { false };
	int r = 0;

	for (size_t i = 0; r == 0 && i < stage->n_rings; i++) {
		const Bh__RingStage *ring = stage->rings[i];

		r = judge_index(ring->index, seen, fault);
		if (r == 0)
			r = judge_size(ring, context, packed, fault);
		if (r == 0)
			r = judge_position(ring, context, packed, fault);
		if (r == 0)
			r = judge_in_flight(ring, fault);
	}
	return r;
}

const struct snapshot_stage snapshot_stage_rings = {
	.name = "rings",
	.version = 1,
	.required = true,
	.type = &bh__rings_stage__descriptor,
	.judge = judge_rings,
};

/* --- Counters --- */

static int judge_counters(const ProtobufCMessage *msg, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	const Bh__CountersStage *stage = (const void *)msg;
	bool seen[VHOST_USER_MAX_QUEUES] = { false };
	int r = 0;

	for (size_t i = 0; r == 0 && i < stage->n_rings; i++)
		r = judge_index(stage->rings[i]->index, seen, fault);
	return r;
}

const struct snapshot_stage snapshot_stage_counters = {
	.name = "counters",
	.version = 1,
	.type = &bh__counters_stage__descriptor,
	.judge = judge_counters,
};
