#pragma once

#include <stdint.h>

#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

/* Numbers and layouts of the vhost-user protocol, under the names of its specification. Native
 * byte order. */

/* clang-format off */
enum request {
	GET_FEATURES = 1, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE,
	SET_LOG_FD, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK,
	SET_VRING_CALL, SET_VRING_ERR, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES,
	GET_QUEUE_NUM, SET_VRING_ENABLE, SEND_RARP, NET_SET_MTU, SET_BACKEND_REQ_FD, IOTLB_MSG,
	SET_VRING_ENDIAN, GET_CONFIG, SET_CONFIG, CREATE_CRYPTO_SESSION, CLOSE_CRYPTO_SESSION,
	POSTCOPY_ADVISE, POSTCOPY_LISTEN, POSTCOPY_END, GET_INFLIGHT_FD, SET_INFLIGHT_FD,
	GPU_SET_SOCKET, RESET_DEVICE, VRING_KICK, GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG,
	SET_STATUS, GET_STATUS, GET_SHARED_OBJECT, SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE,
	GET_SHMEM_CONFIG, GET_VRING_BASE_SKIP_DRAIN, _REQUESTS_END,
};

_Static_assert(_REQUESTS_END == 46, "requests are numbered without gaps");

enum backend_request {
	BACKEND_CONFIG_CHANGE_MSG = 2,
	BACKEND_VRING_CALL = 4,
	BACKEND_VRING_ERR = 5,
	BACKEND_SHMEM_MAP = 9,
	BACKEND_SHMEM_UNMAP = 10,
};
/* clang-format on */

struct header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
};

#define HEADER_VERSION 1u
#define HEADER_VERSION_MASK 3u
#define HEADER_REPLY (1u << 2)
#define HEADER_NEED_REPLY (1u << 3)

#define FDS_MAX 8 /* of one message */

struct vring_state {
	uint32_t index;
	uint32_t num;
};

struct vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

#define VRING_ADDR_LOG (1u << 0)

struct memory_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t offset;
};

struct memory_table {
	uint32_t n;
	uint32_t padding;
	struct memory_region regions[FDS_MAX];
};

struct memory_single {
	uint64_t padding;
	struct memory_region region;
};

struct config_header {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
};

struct inflight_area {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t n_queues;
	uint16_t queue_size;
	uint32_t padding;
};

struct log_area {
	uint64_t mmap_size;
	uint64_t mmap_offset;
};

struct device_state {
	uint32_t direction;
	uint32_t phase;
};

struct shmem_config {
	uint32_t n; /* of the sizes that are not 0 */
	uint32_t padding;
	uint64_t sizes[VHOST_USER_SHMEM_REGIONS]; /* by the region's id */
};

struct shmem_mapping {
	uint8_t region;
	uint8_t padding[7];
	uint64_t fd_offset;
	uint64_t offset;
	uint64_t size;
	uint64_t flags;
};

#define SHMEM_MAPPING_WRITABLE (1u << 0)

#define CONFIG_MIGRATION 1u
#define DEVICE_STATE_SAVE 0u
#define DEVICE_STATE_LOAD 1u
#define DEVICE_STATE_STOPPED 0u /* the phase */

_Static_assert(sizeof(struct header) == 12, "as on the wire");
_Static_assert(sizeof(struct vring_addr) == 40, "as on the wire");
_Static_assert(sizeof(struct memory_table) == 8 + FDS_MAX * 32, "as on the wire");
_Static_assert(sizeof(struct memory_single) == 40, "as on the wire");
_Static_assert(sizeof(struct log_area) == 16, "as on the wire");
_Static_assert(sizeof(struct inflight_area) == 24, "as on the wire");
_Static_assert(sizeof(struct shmem_config) == 2056, "as on the wire");
_Static_assert(sizeof(struct shmem_mapping) == 40, "as on the wire");
