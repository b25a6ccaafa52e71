#pragma once

#include "wl.h"

/* The descriptors of VFDs: kept by the memory manager, watched by the loop, mapped by the VMM,
 * named by the records in queues. */

#define ENDS_REMOTE 0x10000u /* of a handle, beside a slot: a pipe's other end */

/** ends_keep() - keep what the VFD has in its files, for a successor
 * Errors: 0 | negative errno of the vault. */
int ends_keep(struct wl *wl, const struct vfd *vfd);
/** ends_take() - get back what a former instance kept for it */
void ends_take(struct wl *wl, const struct vfd *vfd);

/** ends_name() - a record that was appended names these handles: what they stand for stays until
 * they are sent */
void ends_name(struct wl *wl, const uint32_t *handles, uint32_t n);
/** ends_count_named() - name what all queues name, in a new process, and drop what nobody needs */
void ends_count_named(struct wl *wl);
/** ends_release() - drop what the VFD does not need any more, after is_sent was set */
void ends_release(struct wl *wl, struct vfd *vfd);

/** ends_stream() - the VFD as a stream; borrowed */
struct stream ends_stream(struct wl *wl, const struct vfd *vfd);

/** ends_flush() - send what is in the VFD's queue, as far as it goes, and the rest when it can be
 * sent; the out ring is woken then. Returns whether a guest may send more: what is queued is below
 * a limit. A VFD that is closed goes when all was sent. */
bool ends_flush(struct wl *wl, struct vfd *vfd);

/** ends_has_room() - likewise, without sending */
bool ends_has_room(struct wl *wl, const struct vfd *vfd);

/** ends_watch() - from now on the in ring is woken when there is something to read */
void ends_watch(struct wl *wl, const struct vfd *vfd);
/** ends_read() - whether there may be more to read; if not, it is waited for */
void ends_read(struct wl *wl, const struct vfd *vfd, bool more);

/** ends_end() - the other end is gone: the guest is told, and what it sends is refused */
void ends_end(struct wl *wl, struct vfd *vfd);
/** ends_read_later() - there is more to read, but not now: the in ring is woken after a while */
void ends_read_later(struct wl *wl, const struct vfd *vfd);

/** ends_map() - have the VMM map it, at the place that vfd_map() has found
 * Returns whether that is possible. */
bool ends_map(struct wl *wl, const struct vfd *vfd);

/** ends_restore() - likewise for a map that a former instance has asked for */
bool ends_restore(struct wl *wl, const struct vfd *vfd);
/** ends_unmap() - the counterpart; fine without a map */
void ends_unmap(struct wl *wl, struct vfd *vfd);

/** ends_abandon() - the VFD's open message is not delivered: what came along and the guest does not
 * know is dropped */
void ends_abandon(struct wl *wl, struct vfd *vfd);
/** ends_close() - the VFD goes, with its map and its descriptors. What is in its queue is sent
 * before, and a descriptor that another queue names goes when it is sent. */
void ends_close(struct wl *wl, struct vfd *vfd);
/** ends_drop() - likewise, without sending what is in its queue */
void ends_drop(struct wl *wl, struct vfd *vfd);
/** ends_forget() - the process ends: the event sources are freed */
void ends_forget(struct wl *wl, unsigned int slot);
