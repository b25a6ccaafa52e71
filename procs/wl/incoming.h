#pragma once

#include "wl.h"

/* Descriptors that come from the host, with a message: each becomes a VFD. */

/** incoming_make() - make the VFDs of an open message that are not made yet
 * @fds: all descriptors of the message; those that were used are -1 then, the others stay the
 *       caller's
 * Returns false if it has to wait: until VFDs are closed (wl->lacks_room), or for a moment. */
bool incoming_make(struct wl *wl, struct vfd_message *message, int *fds);

/** incoming_map() - have the VMM map those that are memory
 * Returns false if it has to wait for the VMM. */
bool incoming_map(struct wl *wl, const struct vfd_message *message);
