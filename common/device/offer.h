#pragma once

#include <stdint.h>

#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

/** struct device_offer - the capabilities of a device; set by ops->prepare(), constant afterwards
 * except config */
struct device_offer {
	uint64_t features; /* virtio feature bits, including VERSION_1 and ring features */
	/* vhost-user protocol features that the device needs or supports */
	uint64_t protocol_features;
	uint32_t n_queues;  /* rings that may be used */
	uint32_t queue_num; /* the answer to GET_QUEUE_NUM */
	uint32_t queue_size_max;
	uint32_t n_groups; /* serving threads; 0 = one; at most DEVICE_GROUPS_MAX */
	uint8_t config[VHOST_USER_MAX_CONFIG_SIZE]; /* device configuration space */
	uint8_t config_writable[VHOST_USER_MAX_CONFIG_SIZE];
	uint32_t config_bytes;
	uint64_t config_seq; /* see device_config_changed() */
};

#define DEVICE_GROUPS_MAX 64
