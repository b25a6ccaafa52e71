/*
 * How a state is judged and put in force. It comes from a file or from another host, so anything may
 * be in it. All of it is judged before anything is changed; the device's own stage, which the device
 * judges itself, comes last.
 *
 * A state with chains in flight is refused. What such a chain holds is in guest memory as it was when
 * the state was saved, and nothing here says that the memory is still the same. A suspended device
 * has none: it completes what it has taken before its last ring stops, or the ring's position
 * offers it again.
 */
#include "device/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "device/plan.h"

#define UNPACK_MAX_BYTES (8u * 1024 * 1024)
#define TEXT_BYTES 40

static int refuse(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int refuse(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, IMAGE_WHY_BYTES, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Untrusted text, cut short and safe to display. */
static const char *shown(const char *text, char *buf)
{
	snprintf(buf, TEXT_BYTES, "%s", text);
	return text_clean(buf);
}

/* --- Messages --- */

/* A small hostile message can unpack to much memory. */
static void *capped_alloc(void *data, size_t n)
{
	size_t *left = data;

	if (n > *left)
		return NULL;
	*left -= n;
	return malloc(n);
}

static void capped_free(void *data, void *p)
{
	free(p);
}

static void *unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t n)
{
	size_t left = UNPACK_MAX_BYTES;
	ProtobufCAllocator allocator = { capped_alloc, capped_free, &left };

	return protobuf_c_message_unpack(descriptor, &allocator, n, data);
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

/** struct stages - what was found: a message for each of the generic ones */
struct stages {
	ProtobufCMessage *messages[3];
	const Bh__Stage *own;
};

static const struct {
	const char *name;
	const ProtobufCMessageDescriptor *descriptor;
} generic[] = {
	{ "features", &bh__features_stage__descriptor },
	{ "rings", &bh__rings_stage__descriptor },
	{ "counters", &bh__counters_stage__descriptor },
};

static int open_generic(struct stages *stages, size_t i, const Bh__Stage *stage, char *why)
{
	if (stages->messages[i])
		return refuse(why, "stage %s is there twice", stage->name);
	if (stage->version != 1)
		return refuse(why, "stage %s has version %u; this release knows version 1",
			stage->name, stage->version);
	stages->messages[i] = unpack(generic[i].descriptor, stage->data.data, stage->data.len);
	return stages->messages[i] ? 0 : refuse(why, "stage %s is not in form", stage->name);
}

static int open_own(struct stages *stages, const struct device_ops *ops, const Bh__Stage *stage,
	char *why)
{
	if (stages->own)
		return refuse(why, "stage %s is there twice", ops->type);
	if (stage->version < 1 || stage->version > ops->state_version)
		return refuse(why, "stage %s has version %u; this release knows version 1 to %u",
			ops->type, stage->version, ops->state_version);
	stages->own = stage;
	return 0;
}

static int open_stage(struct stages *stages, const struct device_ops *ops, const Bh__Stage *stage,
	char *why)
{
	char text[TEXT_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(generic); i++)
		if (strcmp(stage->name, generic[i].name) == 0)
			return open_generic(stages, i, stage, why);
	if (strcmp(stage->name, ops->type) == 0)
		return open_own(stages, ops, stage, why);
	return refuse(why, "stage %s is unknown to this release", shown(stage->name, text));
}

static int open_stages(struct image *image, const struct device_ops *ops, char *why)
{
	struct stages stages = { .own = NULL };
	int r = 0;

	for (size_t i = 0; i < image->state->n_stages && r == 0; i++)
		r = open_stage(&stages, ops, image->state->stages[i], why);
	image->features = (void *)stages.messages[0];
	image->rings = (void *)stages.messages[1];
	image->counters = (void *)stages.messages[2];
	image->own = stages.own;
	if (r < 0)
		return r;
	if (!image->features)
		return refuse(why, "stage features is missing");
	if (!image->rings)
		return refuse(why, "stage rings is missing");
	return image->own ? 0 : refuse(why, "stage %s is missing", ops->type);
}

/* --- Features --- */

static int judge_bits(const char *field, uint64_t acked, uint64_t offered, char *why)
{
	uint64_t missing = acked & ~offered;

	if (!missing)
		return 0;
	return refuse(why, "%s: bit %d was acked, and is not offered here (all such bits: 0x%llx)",
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
			"features: the state's rings are %s (bit %d), and the negotiated ones are not",
			packed ? "packed" : "split", VIRTIO_F_RING_PACKED);
	return 0;
}

/* --- Rings --- */

static bool packed_position_fits(const Bh__RingStage *ring)
{
	uint32_t avail = ring->position & 0x7fff, used = ring->position >> 16 & 0x7fff;
	bool lapped = (ring->position ^ ring->position >> 16) & 0x8000;

	if (!ring->size)
		return true;
	if (ring->position >> 16 == 0) /* older front-ends give only the available half */
		return avail < ring->size;
	/* from the used position to the available one it is one lap at most */
	return avail < ring->size && used < ring->size && (lapped ? avail <= used : avail >= used);
}

static int judge_size(const Bh__RingStage *ring, const struct device *device, bool packed,
	char *why)
{
	const Bh__Ring *here = plan_find_ring(device->core->applied, ring->index);

	if (ring->size > device->offer.queue_size_max)
		return refuse(why, "ring %u: size %u; %u at most is possible here", ring->index,
			ring->size, device->offer.queue_size_max);
	if (!packed && ring->size && !is_power_of_2(ring->size))
		return refuse(why, "ring %u: size %u; that of a split ring is a power of 2",
			ring->index, ring->size);
	if (here && here->size && ring->size && here->size != ring->size)
		return refuse(why, "ring %u: size %u; the VMM has set it up with %u", ring->index,
			ring->size, here->size);
	return 0;
}

static int judge_in_flight(const Bh__RingStage *ring, char *why)
{
	for (size_t i = 0; i < ring->n_in_flight; i++)
		if (ring->in_flight[i] >= ring->size)
			return refuse(why, "ring %u: in_flight has %u, in a ring of %u",
				ring->index, ring->in_flight[i], ring->size);
	if (ring->n_in_flight)
		return refuse(why,
			"ring %u: in_flight has %zu chains; only the state of a device that has "
			"completed its chains can be loaded: save it while it is suspended",
			ring->index, ring->n_in_flight);
	return 0;
}

static int judge_ring(const Bh__RingStage *ring, const struct image *image,
	const struct device *device, char *why)
{
	bool packed = has_bit(image->features->features, VIRTIO_F_RING_PACKED);

	if (ring->index >= device->offer.n_queues)
		return refuse(why, "rings: index %u; the device has %u", ring->index,
			device->offer.n_queues);
	if (judge_size(ring, device, packed, why) < 0)
		return -EINVAL;
	if (packed ? !packed_position_fits(ring) : ring->position > UINT16_MAX)
		return refuse(why, "ring %u: position 0x%x is not in a %s ring of %u", ring->index,
			ring->position, packed ? "packed" : "split", ring->size);
	if (ring->running && image->state->suspended)
		return refuse(why, "ring %u: running, in the state of a suspended device",
			ring->index);
	return judge_in_flight(ring, why);
}

static int judge_rings(const struct image *image, const struct device *device, char *why)
{
	bool seen[VHOST_USER_MAX_QUEUES] = { false };

	for (size_t i = 0; i < image->rings->n_rings; i++) {
		const Bh__RingStage *ring = image->rings->rings[i];

		if (judge_ring(ring, image, device, why) < 0)
			return -EINVAL;
		if (seen[ring->index])
			return refuse(why, "rings: index %u is there twice", ring->index);
		seen[ring->index] = true;
	}
	return 0;
}

static int judge_counters(const struct image *image, const struct device *device, char *why)
{
	for (size_t i = 0; image->counters && i < image->counters->n_rings; i++)
		if (image->counters->rings[i]->index >= device->offer.n_queues)
			return refuse(why, "counters: index %u; the device has %u rings",
				image->counters->rings[i]->index, device->offer.n_queues);
	return 0;
}

/* --- The whole --- */

int image_open(struct image *ret_image, const struct device *device, const uint8_t *data,
	size_t n_bytes, char *why)
{
	char text[TEXT_BYTES];

	*ret_image = (struct image){ 0 };
	ret_image->state = unpack(&bh__state__descriptor, data, n_bytes);
	if (!ret_image->state)
		return refuse(why, "it is not in form: no message State");
	if (strcmp(ret_image->state->type, device->ops->type) != 0)
		return refuse(why, "type: it is the state of a device of type %s; this one's is %s",
			shown(ret_image->state->type, text), device->ops->type);
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
