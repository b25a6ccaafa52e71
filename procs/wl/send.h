#pragma once

#include "request.h"
#include "wl.h"

/* What the guest sends: data into the queue of a VFD, with the descriptors of other VFDs. */

#define SEND_WAITS 1 /* for the resource bridge */

/**
 * send_execute() - put the data of a SEND into the queue, once, and send what can be sent
 * @note: [out] set on 0: what follows, and whether the guest's answer is to be held
 *
 * Returns 0 | SEND_WAITS | an answer that refuses it (VIRTIO_WL_RESP_*). Nothing is queued but on
 * 0.
 */
uint32_t send_execute(struct wl *wl, const struct request *request, const struct virtq_chain *chain,
	struct wl_note *note);

/** send_follow() - the record of this note is queued for good, and its pipes are sent */
void send_follow(struct wl *wl, const struct wl_note *note);
