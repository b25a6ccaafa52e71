/*
 * How a state is made. All of it lies in what a worker leaves behind anyway: the record, the
 * ledger, and device->state. So a save takes microseconds, whoever has served the device before.
 */
#include "device/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "virtq/in-flight.h"

#define N_STAGES 4

/** struct stages - packed one after the other */
struct stages {
	Bh__Stage stages[N_STAGES], *list[N_STAGES];
	size_t n;
};

static Bh__Stage *add_stage(struct stages *stages, const char *name, uint32_t version)
{
	Bh__Stage *stage = &stages->stages[stages->n];

	bh__stage__init(stage);
	stage->name = (char *)name;
	stage->version = version;
	stages->list[stages->n++] = stage;
	return stage;
}

static void add_message(struct stages *stages, const char *name, const ProtobufCMessage *msg)
{
	Bh__Stage *stage = add_stage(stages, name, 1);

	stage->data.len = protobuf_c_message_get_packed_size(msg);
	stage->data.data = malloc(stage->data.len + 1);
	check(stage->data.data);
	protobuf_c_message_pack(msg, stage->data.data);
}

static void free_stages(struct stages *stages)
{
	for (size_t i = 0; i < stages->n; i++)
		free(stages->stages[i].data.data);
}

/* --- Stages --- */

/* Whether guest memory is logged is no matter of the device's state. */
static void add_features(struct stages *stages, const Bh__Desired *applied)
{
	Bh__FeaturesStage msg = BH__FEATURES_STAGE__INIT;

	msg.features = applied->features & ~BIT(VHOST_F_LOG_ALL);
	msg.protocol_features = applied->protocol_features;
	add_message(stages, "features", &msg.base);
}

static void fill_in_flight(Bh__RingStage *stage, const struct virtq *vq)
{
	_cleanup_free_ uint16_t *ids = calloc(stage->size, sizeof(*ids));

	stage->in_flight = calloc(stage->size, sizeof(*stage->in_flight));
	check(ids && stage->in_flight);
	stage->n_in_flight = virtq_in_flight(vq, ids);
	for (size_t i = 0; i < stage->n_in_flight; i++)
		stage->in_flight[i] = ids[i];
}

/* The position of a ring that runs, in the paused device, counts no chain that is in flight. A
 * stopped ring has none. */
static void fill_ring(const struct device *device, const Bh__Ring *ring, Bh__RingStage *stage)
{
	const struct device_queue *queue = &device->queues[ring->index];
	const struct ledger_queue *slot = &device->ledger.queues[ring->index];
	bool served = ring->start_id && slot->start_id == ring->start_id;
	uint32_t told = ring->position;

	/* older front-ends give only the available half of a packed ring's position */
	if (has_bit(device->features, VIRTIO_F_RING_PACKED) && told >> 16 == 0)
		told |= told << 16;
	bh__ring_stage__init(stage);
	stage->index = ring->index;
	stage->size = queue->vq ? slot->size : ring->size;
	stage->position = served ? ledger_base(slot) : told;
	stage->running = queue->vq != NULL;
	if (queue->vq)
		fill_in_flight(stage, queue->vq);
}

static void add_rings(struct stages *stages, const struct device *device)
{
	Bh__RingsStage msg = BH__RINGS_STAGE__INIT;
	Bh__RingStage rings[VHOST_USER_MAX_QUEUES], *list[VHOST_USER_MAX_QUEUES];
	const Bh__Desired *applied = device->core->applied;

	for (size_t i = 0; i < applied->n_rings && msg.n_rings < VHOST_USER_MAX_QUEUES; i++) {
		if (applied->rings[i]->index >= device->offer.n_queues)
			continue;
		fill_ring(device, applied->rings[i], &rings[msg.n_rings]);
		list[msg.n_rings] = &rings[msg.n_rings];
		msg.n_rings++;
	}
	msg.rings = list;
	add_message(stages, "rings", &msg.base);
	for (size_t i = 0; i < msg.n_rings; i++)
		free(rings[i].in_flight);
}

static void fill_counters(Bh__CountersOfRing *msg, uint32_t index,
	const struct ledger_counters *counters)
{
	bh__counters_of_ring__init(msg);
	msg->index = index;
	msg->chains = counters->chains;
	msg->bytes = counters->bytes;
	msg->dropped = counters->dropped;
	msg->errors = counters->errors;
	msg->kicks = counters->kicks;
	msg->calls = counters->calls;
}

static void add_counters(struct stages *stages, const struct device *device)
{
	static const struct ledger_counters none;
	Bh__CountersStage msg = BH__COUNTERS_STAGE__INIT;
	Bh__CountersOfRing rings[VHOST_USER_MAX_QUEUES], *list[VHOST_USER_MAX_QUEUES];

	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		const struct ledger_counters *counters = &device->ledger.queues[i].counters;

		if (memcmp(counters, &none, sizeof(none)) == 0)
			continue;
		fill_counters(&rings[msg.n_rings], i, counters);
		list[msg.n_rings] = &rings[msg.n_rings];
		msg.n_rings++;
	}
	msg.rings = list;
	add_message(stages, "counters", &msg.base);
}

static void add_own(struct stages *stages, const struct device *device)
{
	Bh__Stage *stage = add_stage(stages, device->ops->type, device->ops->state_version);

	stage->data.len = device->ops->save(device, &stage->data.data);
}

/* --- The whole --- */

static int pack(const Bh__State *state, uint8_t **ret_data, size_t *ret_bytes, char *why)
{
	size_t n = bh__state__get_packed_size(state);

	if (n > IMAGE_BYTES_MAX) {
		snprintf(why, IMAGE_WHY_BYTES, "the state has %zu bytes; %u at most can be moved",
			n, IMAGE_BYTES_MAX);
		return -EMSGSIZE;
	}
	*ret_data = malloc(n + 1);
	check(*ret_data);
	*ret_bytes = bh__state__pack(state, *ret_data);
	return 0;
}

int image_save(struct device *device, uint8_t **ret_data, size_t *ret_bytes, char *why)
{
	struct stages stages = { .n = 0 };
	Bh__State state = BH__STATE__INIT;
	struct timespec now;
	int r;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	device_pause(device);
	add_features(&stages, device->core->applied);
	add_rings(&stages, device);
	add_counters(&stages, device);
	add_own(&stages, device);
	device_resume(device);
	state.type = (char *)device->ops->type;
	state.device = (char *)device->config->name;
	state.guest = (char *)device->proc->config->guest;
	state.release = (char *)BULKHEAD_VERSION;
	state.saved_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	state.suspended = device_is_suspended(device);
	state.n_stages = stages.n;
	state.stages = stages.list;
	r = pack(&state, ret_data, ret_bytes, why);
	free_stages(&stages);
	return r;
}
