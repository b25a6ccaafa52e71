#pragma once

#include <stdint.h>

#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

#define DEVICE_SHMEM_REGIONS_MAX 8

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
	uint32_t poll_us;  /* a serving thread looks for work that long before it sleeps */
	uint8_t config[VHOST_USER_MAX_CONFIG_SIZE]; /* device configuration space */
	uint8_t config_writable[VHOST_USER_MAX_CONFIG_SIZE];
	uint32_t config_bytes;
	uint64_t config_seq; /* see device_config_changed() */
	/* shared memory regions, by their id; 0 bytes = there is none of this id. A power of two of
	 * at least a page. With one the device offers VHOST_USER_PROTOCOL_F_SHMEM, and needs
	 * BACKEND_REQ and BACKEND_SEND_FD. */
	uint64_t shmem_bytes[DEVICE_SHMEM_REGIONS_MAX];
};

#define DEVICE_GROUPS_MAX 64
