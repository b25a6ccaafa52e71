#ifndef TESTS_LIB_WL_GUEST_H
#define TESTS_LIB_WL_GUEST_H

/*
 * The guest's side of virtio-wl, over any transport (struct wl_link). The definitions are
 * deliberately independent of the product's own, as in vu.h. Nothing here needs more than the C
 * library: programs inside a guest are linked with it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WL_NEW = 0x100,
	WL_CLOSE,
	WL_SEND,
	WL_RECV,
	WL_NEW_CTX,
	WL_NEW_PIPE,
	WL_HUP,
	WL_NEW_DMABUF,
	WL_DMABUF_SYNC,
	WL_SEND_FOREIGN_ID,
	WL_NEW_CTX_NAMED,
	WL_OK = 0x1000,
	WL_VFD_NEW,
	WL_VFD_NEW_DMABUF,
	WL_ERR = 0x1100,
	WL_OUT_OF_MEMORY,
	WL_INVALID_ID,
	WL_INVALID_TYPE,
	WL_INVALID_FLAGS,
	WL_INVALID_CMD,
};

enum {
	WL_F_TRANS_FLAGS = 1,
	WL_F_SEND_FENCES = 2,
	WL_F_USE_SHMEM = 3,
};

#define WL_DEVICE_ID 63
#define WL_WRITE 1u /* flags of a VFD */
#define WL_READ 2u
#define WL_HOST_ID 0x40000000u /* set in the ids that the device chooses */
#define WL_NO_PFN 0x100000u
#define WL_MAX_VFDS 28
#define WL_EVENT_BYTES 4096
#define WL_RECV_BYTES 3968
#define WL_SEND_BYTES 32768 /* of data in a wl_send(); more than one page, less than a slot */
#define WL_SLOT_BYTES 65536

/* Any command with an id, flags and a size, any answer, and the events NEW and HUP. */
struct wl_msg {
	uint32_t type, hdr_flags;
	uint32_t id, flags;
	uint64_t pfn;
	uint32_t size, pad;
	uint8_t rest[32]; /* a name from byte 28 on, the planes of a dmabuf */
};

/* SEND and RECV; n_vfds ids follow, then data */
struct wl_data {
	uint32_t type, hdr_flags;
	uint32_t id, n_vfds;
	uint32_t ids[];
};

struct wl_link;

struct wl_link_ops {
	/* makes a request available: its slot | -EAGAIN all are in use | -E2BIG | other errno */
	int (*post)(struct wl_link *l, const void *request, size_t n_bytes);
	/* bytes of the answer of that slot, which is free then | -EAGAIN not yet | other errno */
	int (*answer)(struct wl_link *l, int slot, void *ret_answer, size_t n_bytes);
	/* bytes of the next event, at most WL_EVENT_BYTES | -EAGAIN none yet | other errno */
	int (*event)(struct wl_link *l, void *ret_event);
	/* until something may have come: an answer, an event, or another descriptor's turn */
	void (*wait)(struct wl_link *l, int timeout_ms);
};

struct wl_link {
	const struct wl_link_ops *ops;
	uint8_t *window; /* shared memory region 0, mapped */
	uint64_t window_bytes;
	int fds[3];     /* readable when ops->event() may have one; -1: not used */
	int poll_ms;    /* how long to wait for them at most: 1 where there are none; else -1 */
	int timeout_ms; /* for an answer */
};

/*
 * All of these wait for the answer, and return 0, the type of an answer that is an error
 * (positive), -EPROTO for an answer that does not belong to the request, or another errno.
 */
int wl_request(struct wl_link *l, const void *request, size_t n_bytes, struct wl_msg *ret_answer);
int wl_new(struct wl_link *l, uint32_t id, uint32_t n_bytes, struct wl_msg *ret_answer);
/* name NULL: the unnamed compositor */
int wl_new_ctx(struct wl_link *l, uint32_t id, const char *name);
/* flags: WL_WRITE the guest writes, WL_READ it reads */
int wl_new_pipe(struct wl_link *l, uint32_t id, uint32_t flags);
int wl_close(struct wl_link *l, uint32_t id);
int wl_send(struct wl_link *l, uint32_t id, const uint32_t *ids, uint32_t n_ids, const void *data,
	size_t n_bytes);

/* the bytes of a SEND in a buffer of WL_SLOT_BYTES; their number */
size_t wl_put_send(void *buf, uint32_t id, const uint32_t *ids, uint32_t n_ids, const void *data,
	size_t n_bytes);
/* where a VFD's memory is; NULL unless all of it is in the window */
void *wl_memory(const struct wl_link *l, const struct wl_msg *vfd_new);
/* data of a RECV of n_bytes, and their number in *ret_n; NULL if it is malformed */
const void *wl_recv_data(const struct wl_data *recv, size_t n_bytes, size_t *ret_n);
/* waits for the next event: its bytes | -ETIMEDOUT | other errno */
int wl_wait_event(struct wl_link *l, void *ret_event, int timeout_ms);

#endif
