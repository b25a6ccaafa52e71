#pragma once

/*
 * Bits and limits of vhost-user, under the names of its specification; no header of the system has
 * them. Where the specification gives a number without a name, the name is QEMU's. Feature bits are
 * numbers, for BIT() of base/bytes.h.
 *
 * Spec: vhost-user, "Feature negotiation", "Protocol features", "Memory region description", "Vring
 *       descriptor index".
 */

#include <linux/vhost_types.h> /* VHOST_F_LOG_ALL, VHOST_VRING_F_LOG */

#define VHOST_USER_F_PROTOCOL_FEATURES 30 /* a virtio feature bit that the driver never sees */

enum {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
	VHOST_USER_PROTOCOL_F_RARP = 2,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_MTU = 4,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CROSS_ENDIAN = 6,
	VHOST_USER_PROTOCOL_F_CRYPTO_SESSION = 7,
	VHOST_USER_PROTOCOL_F_PAGEFAULT = 8,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10,
	VHOST_USER_PROTOCOL_F_HOST_NOTIFIER = 11,
	VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS = 14,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
	VHOST_USER_PROTOCOL_F_XEN_MMAP = 17,
	VHOST_USER_PROTOCOL_F_SHARED_OBJECT = 18,
	VHOST_USER_PROTOCOL_F_DEVICE_STATE = 19,
	VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT = 20,
	VHOST_USER_PROTOCOL_F_GPA_ADDRESSES = 21,
	VHOST_USER_PROTOCOL_F_SHMEM = 22,
	VHOST_USER_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN = 23,
};

/* memory regions of one guest: what QEMU's own back-end library takes */
#define VHOST_USER_MAX_RAM_SLOTS 509
/* SET_VRING_KICK, _CALL and _ERR have 8 bits for a ring's index */
#define VHOST_USER_MAX_QUEUES 256
#define VHOST_USER_MAX_CONFIG_SIZE 256u /* bytes of configuration space that a message may carry */
#define VHOST_USER_SHMEM_REGIONS 256    /* ids of shared memory regions, as in GET_SHMEM_CONFIG */
#define VHOST_USER_VRING_IDX_MASK 0xffu
/* the message carries no descriptor: poll, or signal nobody */
#define VHOST_USER_VRING_NOFD_MASK (1u << 8)
