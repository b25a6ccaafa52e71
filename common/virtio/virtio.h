#pragma once

/*
 * Bits and limits of virtio, under the names of its specification. Those that the kernel's headers
 * define come from there; the rest is added here, for systems whose headers are older than virtio
 * 1.2. Feature bits are numbers, for BIT() of base/bytes.h.
 *
 * Spec: virtio 1.2, 2.1 Device Status Field, 2.7 Split Virtqueues, 2.8 Packed Virtqueues, 6
 *       Reserved Feature Bits.
 */

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#ifndef VIRTIO_F_NOTIF_CONFIG_DATA
#define VIRTIO_F_NOTIF_CONFIG_DATA 39
#endif

/* "Queue Size": the most descriptors that a ring of either layout has */
#define VIRTQUEUE_SIZE_MAX 32768u

_Static_assert(VIRTIO_RING_F_INDIRECT_DESC == 28 && VIRTIO_RING_F_EVENT_IDX == 29 &&
		VIRTIO_F_VERSION_1 == 32 && VIRTIO_F_RING_PACKED == 34 && VIRTIO_F_IN_ORDER == 35,
	"the numbers of the specification");
