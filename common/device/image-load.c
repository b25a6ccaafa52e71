/*
 * How a state is judged and put in force. It comes from a file or from another host, so anything
 * may be in it. common/snapshot judges its form; whether this device can take it over is judged
 * here. All of it is judged before anything is changed; the device's own stage, which the device
 * judges itself, comes last.
 *
 * A state with chains in flight is refused. What such a chain holds is in guest memory as it was
 * when the state was saved, and nothing here says that the memory is still the same. A suspended
 * device has none: it completes what it has taken before its last ring stops, or the ring's
 * position offers it again.
 */
#include "device/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "device/plan.h"
#include "snapshot/snapshot.h"
#include "snapshot/stage.h"

static int refuse(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int refuse(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, IMAGE_WHY_BYTES, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static void free_message(void *msg)
{
	if (msg)
		protobuf_c_message_free_unpacked(msg, NULL);
}

void image_close(struct image *image)
{
	free_message(image->state);
	free_message(image->features);
	free_message(image->rings);
	free_message(image->counters);
	*image = (struct image){ 0 };
}

/* --- Stages --- */

static int judge_version(const Bh__Stage *stage, const struct device_ops *ops, char *why)
{
	static const struct snapshot_stage *const generic[] = { &snapshot_stage_features,
		&snapshot_stage_rings, &snapshot_stage_counters };
	uint32_t known = strcmp(stage->name, ops->type) == 0 ? ops->state_version : 0;

	for (size_t i = 0; i < ARRAY_SIZE(generic); i++)
		if (strcmp(stage->name, generic[i]->name) == 0)
			known = generic[i]->version;
	if (!known)
		return refuse(why, "stage %s is unknown to this device", stage->name);
	if (stage->version > known)
		return refuse(why, "stage %s has version %u; this release knows up to %u",
			stage->name, stage->version, known);
	return 0;
}

static void *unpack(const struct image *image, const struct snapshot_stage *row)
{
	ProtobufCMessage *msg = NULL;

	(void)snapshot_stage_unpack(image->state, row, &msg);
	return msg;
}

/* A release that saved no counters is none the worse: the device keeps its own. */
static int open_stages(struct image *image, const struct device_ops *ops, char *why)
{
	for (size_t i = 0; i < image->state->n_stages; i++)
		if (judge_version(image->state->stages[i], ops, why) < 0)
			return -EINVAL;
	image->own = snapshot_stage_find(image->state, ops->type);
	if (!image->own)
		return refuse(why, "stage %s is missing", ops->type);
	image->features = unpack(image, &snapshot_stage_features);
	image->rings = unpack(image, &snapshot_stage_rings);
	image->counters = unpack(image, &snapshot_stage_counters);
	if (!image->features || !image->rings)
		return refuse(why, "there is no memory for its stages");
	return 0;
}

/* --- Features --- */

static int judge_bits(const char *field, uint64_t acked, uint64_t offered, char *why)
{
	uint64_t missing = acked & ~offered;

	if (!missing)
		return 0;
	return refuse(why,
		"stage features: %s has bit %d, which is not offered here (all such bits: 0x%llx)",
		field, __builtin_ctzll(missing), (unsigned long long)missing);
}

static int judge_features(const struct image *image, const struct device *device, char *why)
{
	uint64_t features = image->features->features;
	const Bh__Desired *applied = device->core->applied;
	bool packed = has_bit(features, VIRTIO_F_RING_PACKED);

	if (judge_bits("features", features,
		    device->offer.features | BIT(VHOST_USER_F_PROTOCOL_FEATURES), why) < 0 ||
		judge_bits("protocol_features", image->features->protocol_features,
			image_protocol_features(device), why) < 0)
		return -EINVAL;
	if (applied->features_set && packed != has_bit(applied->features, VIRTIO_F_RING_PACKED))
		return refuse(why,
			"stage features: the state's rings are %s (bit %d), and the negotiated ones are not",
			packed ? "packed" : "split", VIRTIO_F_RING_PACKED);
	return 0;
}

/* --- Rings --- */

static int judge_size(const Bh__RingStage *ring, const struct device *device, char *why)
{
	const Bh__Ring *here = plan_find_ring(device->core->applied, ring->index);

	if (ring->size > device->offer.queue_size_max)
		return refuse(why, "stage rings: ring %u has size %u; at most %u is possible here",
			ring->index, ring->size, device->offer.queue_size_max);
	if (here && here->size && ring->size && here->size != ring->size)
		return refuse(why,
			"stage rings: ring %u has size %u; the VMM has set it up with %u",
			ring->index, ring->size, here->size);
	return 0;
}

static int judge_rings(const struct image *image, const struct device *device, char *why)
{
	for (size_t i = 0; i < image->rings->n_rings; i++) {
		const Bh__RingStage *ring = image->rings->rings[i];

		if (ring->index >= device->offer.n_queues)
			return refuse(why, "stage rings: ring %u; the device has %u", ring->index,
				device->offer.n_queues);
		if (judge_size(ring, device, why) < 0)
			return -EINVAL;
		if (ring->n_in_flight)
			return refuse(why,
				"stage rings: ring %u has %zu chains in flight; save the device "
				"when it has completed them, suspended",
				ring->index, ring->n_in_flight);
	}
	return 0;
}

static int judge_counters(const struct image *image, const struct device *device, char *why)
{
	for (size_t i = 0; image->counters && i < image->counters->n_rings; i++)
		if (image->counters->rings[i]->index >= device->offer.n_queues)
			return refuse(why, "stage counters: ring %u; the device has %u",
				image->counters->rings[i]->index, device->offer.n_queues);
	return 0;
}

/* --- The whole --- */

int image_open(struct image *ret_image, const struct device *device, const uint8_t *data,
	size_t n_bytes, char *why)
{
	struct snapshot_fault fault = { "there is no memory for it" };

	*ret_image = (struct image){ 0 };
	if (snapshot_unpack(data, n_bytes, &ret_image->state, &fault) != 0)
		return refuse(why, "%s", fault.text);
	if (strcmp(ret_image->state->type, device->ops->type) != 0)
		return refuse(why, "it is the state of a device of type %s; this one's is %s",
			ret_image->state->type, device->ops->type);
	if (open_stages(ret_image, device->ops, why) < 0 ||
		judge_features(ret_image, device, why) < 0 ||
		judge_rings(ret_image, device, why) < 0 ||
		judge_counters(ret_image, device, why) < 0)
		return -EINVAL;
	return 0;
}

static void load_counters(const struct image *image, struct device *device)
{
	for (size_t i = 0; image->counters && i < image->counters->n_rings; i++) {
		const Bh__CountersOfRing *ring = image->counters->rings[i];

		device->ledger.queues[ring->index].counters =
			(struct ledger_counters){ .chains = ring->chains,
				.bytes = ring->bytes,
				.dropped = ring->dropped,
				.errors = ring->errors,
				.kicks = ring->kicks,
				.calls = ring->calls };
	}
}

int image_load(const struct image *image, struct device *device, char *why)
{
	struct device_stage stage = { .version = image->own->version,
		.data = image->own->data.data,
		.n_bytes = image->own->data.len,
		.features = image->features->features };
	int r = device->ops->load(device, &stage, why, IMAGE_WHY_BYTES);

	if (r == 0)
		load_counters(image, device);
	return r;
}
