#ifndef TESTS_LIB_VU_H
#define TESTS_LIB_VU_H

/*
 * The vhost-user protocol as the tests see it. It is deliberately independent of the product's own
 * definitions, so that a mistake in either of them makes a test fail.
 */

#include <stdint.h>

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SEND_RARP = 19,
	VU_NET_SET_MTU = 20,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_IOTLB_MSG = 22,
	VU_SET_VRING_ENDIAN = 23,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_CREATE_CRYPTO_SESSION = 26,
	VU_CLOSE_CRYPTO_SESSION = 27,
	VU_POSTCOPY_ADVISE = 28,
	VU_POSTCOPY_LISTEN = 29,
	VU_POSTCOPY_END = 30,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_GPU_SET_SOCKET = 33,
	VU_RESET_DEVICE = 34,
	VU_VRING_KICK = 35,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_STATUS = 39,
	VU_GET_STATUS = 40,
	VU_GET_SHARED_OBJECT = 41,
	VU_SET_DEVICE_STATE_FD = 42,
	VU_CHECK_DEVICE_STATE = 43,
	VU_GET_SHMEM_CONFIG = 44,
	VU_GET_VRING_BASE_SKIP_DRAIN = 45,
	_VU_REQUEST_N = 46,
};

/* header flags */
#define VU_VERSION 0x1u
#define VU_REPLY 0x4u
#define VU_NEED_REPLY 0x8u
#define VU_REPLY_FLAGS (VU_VERSION | VU_REPLY)

/* protocol feature bits */
enum {
	VU_PF_MQ = 0,
	VU_PF_LOG_SHMFD = 1,
	VU_PF_RARP = 2,
	VU_PF_REPLY_ACK = 3,
	VU_PF_MTU = 4,
	VU_PF_BACKEND_REQ = 5,
	VU_PF_CONFIG = 9,
	VU_PF_BACKEND_SEND_FD = 10,
	VU_PF_INFLIGHT_SHMFD = 12,
	VU_PF_RESET_DEVICE = 13,
	VU_PF_INBAND = 14,
	VU_PF_MEM_SLOTS = 15,
	VU_PF_STATUS = 16,
	VU_PF_SHARED_OBJECT = 18,
	VU_PF_DEVICE_STATE = 19,
	VU_PF_BASE_INFLIGHT = 20,
	VU_PF_GPA_ADDRESSES = 21,
	VU_PF_SHMEM = 22,
	VU_PF_SKIP_DRAIN = 23,
};

/* feature bits used by the tests */
enum {
	VU_NET_F_CSUM = 0,
	VU_NET_F_GUEST_CSUM = 1,
	VU_NET_F_MTU = 3,
	VU_NET_F_MAC = 5,
	VU_NET_F_HOST_TSO4 = 11,
	VU_NET_F_MRG_RXBUF = 15,
	VU_NET_F_STATUS = 16,
	VU_NET_F_CTRL_VQ = 17,
	VU_NET_F_MQ = 22,
	VU_F_LOG_ALL = 26,
	VU_F_INDIRECT = 28,
	VU_F_EVENT_IDX = 29,
	VU_F_PROTOCOL_FEATURES = 30,
	VU_F_VERSION_1 = 32,
	VU_F_PACKED = 34,
	VU_F_IN_ORDER = 35,
};

#define VU_BIT(n) (UINT64_C(1) << (n))
#define VU_VRING_NOFD 0x100u /* in the u64 of KICK, CALL and ERR */
#define VU_MAX_FDS 8

struct vu_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

struct vu_state {
	uint32_t index;
	uint32_t num;
};

struct vu_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

#define VU_ADDR_LOG 1u

struct vu_log {
	uint64_t mmap_size;
	uint64_t mmap_offset;
};

struct vu_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t offset;
};

struct vu_config_head {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
};

enum vu_backend_request {
	VU_BACKEND_CONFIG_CHANGE = 2,
	VU_BACKEND_VRING_CALL = 4,
	VU_BACKEND_VRING_ERR = 5,
	VU_BACKEND_SHMEM_MAP = 9,
	VU_BACKEND_SHMEM_UNMAP = 10,
};

#define VU_SHMEM_REGIONS 256

struct vu_shmem_config {
	uint32_t n;
	uint32_t pad;
	uint64_t sizes[VU_SHMEM_REGIONS];
};

struct vu_shmem_map {
	uint8_t region;
	uint8_t pad[7];
	uint64_t fd_offset;
	uint64_t offset;
	uint64_t size;
	uint64_t flags; /* 1: writable */
};

struct vu_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t n_queues;
	uint16_t queue_size;
	uint32_t pad;
};

#endif
