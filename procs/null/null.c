/*
 * The smallest device: it discards what it is given, and completes it with nothing written. It is a
 * template, with exactly what every device needs.
 *
 * The file is in the order of execution: 1 the offer, 2 one turn of a ring, 3 its state, 4 the
 * table.
 */
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "device/device.h"

#define N_QUEUES 2
#define BATCH 64 /* chains per turn */

#define FEATURES                                                                                   \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |                         \
		BIT(VHOST_USER_F_PROTOCOL_FEATURES) | BIT(VIRTIO_F_VERSION_1) |                    \
		BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER))
#define PF(name) BIT(VHOST_USER_PROTOCOL_F_##name)
#define PROTOCOL_FEATURES                                                                          \
	(PF(MQ) | PF(REPLY_ACK) | PF(INFLIGHT_SHMFD) | PF(CONFIGURE_MEM_SLOTS) | PF(STATUS))

/* --- 1 The offer --- */

static int null_prepare(struct device *device)
{
	struct device_offer *offer = &device->offer;

	offer->features = FEATURES;
	offer->protocol_features = PROTOCOL_FEATURES;
	offer->n_queues = offer->queue_num = N_QUEUES;
	offer->queue_size_max = VIRTQ_SIZE_MAX;
	return 0;
}

/* --- 2 A turn --- */

static void discard(struct device_queue *queue, struct virtq_chain *chain)
{
	struct ledger_counters *counters = virtq_counters(queue->vq);

	if (chain->bad)
		counters->errors++;
	else
		counters->bytes += chain->out_bytes;
	virtq_complete(queue->vq, chain, 0);
}

static enum device_wait null_serve(struct device_queue *queue)
{
	int n = virtq_fill(queue->vq, BATCH);

	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	for (int i = 0; i < n; i++) {
		struct virtq_chain *chain = virtq_window(queue->vq, 0);

		virtq_take(queue->vq, 1);
		discard(queue, chain);
	}
	virtq_publish(queue->vq);
	device_queue_call(queue);
	return n == BATCH ? DEVICE_MORE : DEVICE_KICK;
}

/* --- 3 Its state --- */

/* Besides its rings, which every device has, there is nothing to save. */
static size_t null_save(const struct device *device, uint8_t **ret_data)
{
	*ret_data = NULL;
	return 0;
}

static int null_load(struct device *device, const struct device_stage *stage, char *why,
	size_t n_why)
{
	if (stage->n_bytes == 0)
		return 0;
	snprintf(why, n_why, "null: the stage has %zu bytes; 0 are due", stage->n_bytes);
	return -EINVAL;
}

/* --- 4 The table --- */

static const struct device_ops null_ops = {
	.type = "null",
	.prepare = null_prepare,
	.serve = null_serve,
	.state_version = 1,
	.save = null_save,
	.load = null_load,
};

int main(int argc, char *argv[])
{
	return device_main(argc, argv, &null_ops);
}
