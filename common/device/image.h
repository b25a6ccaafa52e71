#pragma once

#include "base/bytes.h"
#include "device/core.h"
#include "device/shmem-set.h"
#include "snapshot/snapshot.h"

/* The device's state as one message, State (proto/state.proto): how it is made, judged, and put in
 * force. Loop thread only. */

#define IMAGE_BYTES_MAX SNAPSHOT_BODY_MAX
#define IMAGE_WHY_BYTES 256

/* A ring of a device that cannot drain stops at once: the in-flight region has all that it
 * holds. */
#define STOPS_AT_ONCE                                                                              \
	(BIT(VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT) |                                      \
		BIT(VHOST_USER_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN))

/** image_protocol_features() - what the device offers, with what this library serves for it: the
 * dirty log, resets, guest addresses, notifications in band (which need BACKEND_REQ), rings that
 * stop at once, shared memory regions and what they need, and transfers of a state that the device
 * can save and load */
static inline uint64_t image_protocol_features(const struct device *device)
{
	return device->offer.protocol_features | BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) |
		BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) | BIT(VHOST_USER_PROTOCOL_F_GPA_ADDRESSES) |
		BIT(VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS) |
		(device->ops->drain ? 0 : STOPS_AT_ONCE) |
		(shmem_has_regions(device) ? SHMEM_PROTOCOL_FEATURES : 0) |
		(device->ops->save && device->ops->load ? BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE)
							: 0);
}

/** image_save() - pause the device and pack its state
 * @ret_data: [out] set only on 0; from malloc(), the caller's
 * Errors: 0 | -EMSGSIZE: it has more than IMAGE_BYTES_MAX bytes, and why says so. */
int image_save(struct device *device, uint8_t **ret_data, size_t *ret_bytes, char *why);

/** struct image - a state that was judged */
struct image {
	Bh__State *state;
	const Bh__Stage *own; /* in state */
	Bh__FeaturesStage *features;
	Bh__RingsStage *rings;
	Bh__CountersStage *counters; /* NULL = it has none, and the device keeps its own */
};

/** image_open() - judge everything but the device's own stage; changes nothing
 * @ret_image: [out] the caller's, to be given to image_close(), in any case
 * @why:       [out] IMAGE_WHY_BYTES; the field and the rule that it breaks
 * Errors: 0 | -EINVAL. */
int image_open(struct image *ret_image, const struct device *device, const uint8_t *data,
	size_t n_bytes, char *why);

/** image_load() - judge the device's own stage, and put all of the image in force. No ring runs,
 * and the device is paused. Where the rings go on is the VMM's to say: image->rings has it.
 * Errors: 0 | -EINVAL: nothing has changed, and why says what is wrong. */
int image_load(const struct image *image, struct device *device, char *why);

/** image_close() - free what the image has; zeros are fine */
void image_close(struct image *image);
