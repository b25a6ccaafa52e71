#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/wl.h"

/* A command of the guest's, from bytes to a struct that was checked. Pure: what the ids mean is the
 * caller's matter. */

/* of the readable part, from its beginning: all of a command but the data of a SEND */
#define REQUEST_HEAD_MAX                                                                           \
	(sizeof(struct virtio_wl_ctrl_vfd_send) +                                                  \
		VIRTWL_SEND_MAX_ALLOCS * sizeof(struct virtio_wl_ctrl_vfd_send_vfd_v2))

/** struct request_item - what is to be sent along with data */
struct request_item {
	uint32_t kind; /* VIRTIO_WL_CTRL_VFD_SEND_KIND_*; LOCAL in a SEND */
	uint64_t id;   /* of a VFD, a resource or a fence */
};

/** struct request - a command; fields that its type does not have are 0 */
struct request {
	uint32_t type; /* VIRTIO_WL_CMD_*; SEND stands for SEND_FOREIGN_ID, NEW_CTX for _NAMED */
	uint32_t vfd_id;
	uint32_t flags;
	uint32_t size;
	uint32_t width, height, format;
	char name[VIRTWL_NAME_MAX + 1]; /* of a compositor; "" = the unnamed one; UTF-8 */
	uint32_t n_items;
	struct request_item items[VIRTWL_SEND_MAX_ALLOCS];
	size_t data_at; /* in the readable part, to its end */
	size_t data_bytes;
};

/**
 * request_parse() - check the form of a command
 * @ret:         [out] set only on success
 * @head:        [in]  the first n_head bytes of the readable part: all, or REQUEST_HEAD_MAX
 * @n_bytes:     [in]  bytes of the whole readable part
 * @send_fences: [in]  SEND_FENCES is negotiated
 *
 * Returns 0, or the answer (VIRTIO_WL_RESP_*) that refuses the command. Bytes behind what a command
 * has are ignored: the driver sends more than it needs.
 */
uint32_t request_parse(struct request *ret, const void *head, size_t n_head, size_t n_bytes,
	bool send_fences);
