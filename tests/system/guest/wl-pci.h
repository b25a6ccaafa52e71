#ifndef TESTS_SYSTEM_GUEST_WL_PCI_H
#define TESTS_SYSTEM_GUEST_WL_PCI_H

/*
 * A driver of a modern virtio-pci device in a user's program: split rings, polled, in one huge
 * page, so that it needs no kernel driver of its own, and no interrupt. Root alone can run it.
 */

#include "../../lib/wl-guest.h"

struct wl_pci;

/*
 * Takes the first device of that virtio ID, starts it, and fills its "in" queue. NULL after an
 * error, of which stderr is told. no_map: the window is memory of this process's own instead,
 * so that nothing of what is painted there arrives.
 */
struct wl_link *wl_pci_open(unsigned int device_id, bool no_map);
/* The device leaves this process's memory alone from now on. May be called by a signal's
 * handler. */
void wl_pci_reset(struct wl_link *l);

#endif
