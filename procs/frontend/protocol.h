#pragma once

#include <stdint.h>

/* Numbers and layouts of the vhost-user protocol, under the names of its specification. Native byte order. */

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	RESET_OWNER = 4,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	SEND_RARP = 19,
	NET_SET_MTU = 20,
	SET_BACKEND_REQ_FD = 21,
	GET_CONFIG = 24,
	SET_CONFIG = 25,
	GET_MAX_MEM_SLOTS = 36,
	ADD_MEM_REG = 37,
	REM_MEM_REG = 38,
	SET_STATUS = 39,
	GET_STATUS = 40,
	REQUEST_MAX = 45,
};

enum backend_request {
	BACKEND_CONFIG_CHANGE_MSG = 2,
};

#define F_VRING_PACKED 34
#define F_PROTOCOL_FEATURES 30

enum protocol_feature {
	PF_MQ = 0,
	PF_RARP = 2,
	PF_REPLY_ACK = 3,
	PF_MTU = 4,
	PF_BACKEND_REQ = 5,
	PF_CONFIG = 9,
	PF_BACKEND_SEND_FD = 10,
	PF_CONFIGURE_MEM_SLOTS = 15,
	PF_STATUS = 16,
	PF_NONE = 63,
};

struct header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

#define HEADER_VERSION 1u
#define HEADER_VERSION_MASK 3u
#define HEADER_REPLY (1u << 2)
#define HEADER_NEED_REPLY (1u << 3)

#define FDS_MAX 8

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

#define VRING_FD_INDEX_MASK 0xffu
#define VRING_FD_NONE (1u << 8)

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

#define CONFIG_MIGRATION 1u
#define CONFIG_SIZE_MAX 256u

_Static_assert(sizeof(struct header) == 12, "as on the wire");
_Static_assert(sizeof(struct vring_addr) == 40, "as on the wire");
_Static_assert(sizeof(struct memory_table) == 8 + FDS_MAX * 32, "as on the wire");
_Static_assert(sizeof(struct memory_single) == 40, "as on the wire");
