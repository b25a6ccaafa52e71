#pragma once

#include <stdint.h>

/*
 * virtio-wl, under the names of its driver: commands, answers and events, all little-endian. The
 * specification is that driver, drivers/virtio/virtio_wl.c of the ChromeOS kernel.
 */

#define VIRTIO_ID_WL 63

#define VIRTWL_IN_BUFFER_SIZE 4096 /* of each buffer of the "in" queue */
#define VIRTWL_SEND_MAX_ALLOCS 28  /* VFDs in one message */
#define VIRTWL_VFD_ID_HOST_MASK 0x40000000u
#define VIRTWL_VFD_ID_ILLEGAL_MASK 0x80000000u
#define VIRTWL_PFN_SHIFT 12
#define VIRTWL_NAME_MAX 32
#define VIRTWL_SHMEM_ID 0

enum { VIRTWL_VQ_IN, VIRTWL_VQ_OUT, _VIRTWL_VQ_N };

enum { VIRTIO_WL_F_TRANS_FLAGS = 1, VIRTIO_WL_F_SEND_FENCES, VIRTIO_WL_F_USE_SHMEM };

enum {
	VIRTIO_WL_CMD_VFD_NEW = 0x100, /* also an event */
	VIRTIO_WL_CMD_VFD_CLOSE,
	VIRTIO_WL_CMD_VFD_SEND,
	VIRTIO_WL_CMD_VFD_RECV, /* an event */
	VIRTIO_WL_CMD_VFD_NEW_CTX,
	VIRTIO_WL_CMD_VFD_NEW_PIPE,
	VIRTIO_WL_CMD_VFD_HUP, /* an event */
	VIRTIO_WL_CMD_VFD_NEW_DMABUF,
	VIRTIO_WL_CMD_VFD_DMABUF_SYNC,
	VIRTIO_WL_CMD_VFD_SEND_FOREIGN_ID,
	VIRTIO_WL_CMD_VFD_NEW_CTX_NAMED,
};

enum {
	VIRTIO_WL_RESP_OK = 0x1000,
	VIRTIO_WL_RESP_VFD_NEW,
	VIRTIO_WL_RESP_VFD_NEW_DMABUF,
	VIRTIO_WL_RESP_ERR = 0x1100,
	VIRTIO_WL_RESP_OUT_OF_MEMORY,
	VIRTIO_WL_RESP_INVALID_ID,
	VIRTIO_WL_RESP_INVALID_TYPE,
	VIRTIO_WL_RESP_INVALID_FLAGS,
	VIRTIO_WL_RESP_INVALID_CMD,
};

enum {
	VIRTIO_WL_VFD_WRITE = 1,
	VIRTIO_WL_VFD_READ = 2,
	VIRTIO_WL_VFD_MAP = 2,     /* without TRANS_FLAGS */
	VIRTIO_WL_VFD_CONTROL = 4, /* without TRANS_FLAGS: a socket */
	VIRTIO_WL_VFD_FENCE = 8,
};

enum {
	VIRTIO_WL_DMABUF_SYNC_READ = 1,
	VIRTIO_WL_DMABUF_SYNC_WRITE = 2,
	VIRTIO_WL_DMABUF_SYNC_END = 4,
	VIRTIO_WL_DMABUF_SYNC_VALID_MASK = 7,
};

enum { /* of an entry of SEND_FOREIGN_ID */
	VIRTIO_WL_CTRL_VFD_SEND_KIND_LOCAL,
	VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU,
	VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU_FENCE,
	VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU_SIGNALED_FENCE,
	_VIRTIO_WL_CTRL_VFD_SEND_KIND_N,
};

struct virtio_wl_ctrl_hdr {
	uint32_t type;
	uint32_t flags; /* 0 */
};

/** struct virtio_wl_ctrl_vfd - CLOSE, NEW_CTX; HUP */
struct virtio_wl_ctrl_vfd {
	struct virtio_wl_ctrl_hdr hdr;
	uint32_t vfd_id;
};

/** struct virtio_wl_ctrl_vfd_new - NEW, NEW_PIPE, and their answer; the event NEW. The driver's own
 * is 64 bytes long. */
struct virtio_wl_ctrl_vfd_new {
	struct virtio_wl_ctrl_hdr hdr;
	uint32_t vfd_id;
	uint32_t flags;
	uint64_t pfn; /* of the first page in the shared memory region */
	uint32_t size;
	uint32_t pad;
};

#define VIRTWL_NAME_OFFSET 28 /* of NEW_CTX_NAMED's name[VIRTWL_NAME_MAX] */

/** struct virtio_wl_ctrl_vfd_new_dmabuf - NEW_DMABUF and its answer */
struct virtio_wl_ctrl_vfd_new_dmabuf {
	struct virtio_wl_ctrl_hdr hdr;
	uint32_t vfd_id;
	uint32_t flags;
	uint64_t pfn;
	uint32_t size;
	uint32_t width, height;
	uint32_t format; /* DRM's fourcc */
	uint32_t stride[3];
	uint32_t offset[3];
};

struct virtio_wl_ctrl_vfd_dmabuf_sync {
	struct virtio_wl_ctrl_hdr hdr;
	uint32_t vfd_id;
	uint32_t flags; /* VIRTIO_WL_DMABUF_SYNC_* */
};

/** struct virtio_wl_ctrl_vfd_send - SEND, SEND_FOREIGN_ID: vfd_count entries follow, then data */
struct virtio_wl_ctrl_vfd_send {
	struct virtio_wl_ctrl_hdr hdr;
	uint32_t vfd_id;
	uint32_t vfd_count;
};

/** struct virtio_wl_ctrl_vfd_send_vfd - an entry of SEND_FOREIGN_ID without SEND_FENCES */
struct virtio_wl_ctrl_vfd_send_vfd {
	uint32_t kind;
	uint32_t id;
};

/** struct virtio_wl_ctrl_vfd_send_vfd_v2 - and with it */
struct virtio_wl_ctrl_vfd_send_vfd_v2 {
	uint32_t kind;
	uint32_t pad;
	uint64_t seqno; /* the lower half is the id of the other kinds */
};

/** struct virtio_wl_ctrl_vfd_recv - RECV: vfd_count ids follow, then data */
struct virtio_wl_ctrl_vfd_recv {
	struct virtio_wl_ctrl_hdr hdr;
	uint32_t vfd_id;
	uint32_t vfd_count;
};

#define VIRTWL_RECV_DATA_MAX                                                                       \
	(VIRTWL_IN_BUFFER_SIZE - sizeof(struct virtio_wl_ctrl_vfd_recv) -                          \
		VIRTWL_SEND_MAX_ALLOCS * sizeof(uint32_t))

_Static_assert(sizeof(struct virtio_wl_ctrl_vfd_new_dmabuf) == 64, "as the driver has it");
