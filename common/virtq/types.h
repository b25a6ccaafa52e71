#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/addr.h"
#include "virtio/virtio.h"

/* What virtq.h and the files below it share: how a ring is started, and what may be wrong with
 * it. */

struct blame_mark;

#define VIRTQ_SIZE_MAX VIRTQUEUE_SIZE_MAX
#define VIRTQ_CHAIN_SPANS_MAX                                                                      \
	1024 /* a longer chain is completed unread, as an error of the driver's */

/** The peer's faults; 0 is success, and negative numbers are errno. */
enum {
	VIRTQ_E_BROKEN =
		1, /* by the driver, or by the VMM in its memory: stop it; virtq_error() says how */
	VIRTQ_E_ADDRESS, /* a ring address is not in guest memory, or misaligned */
	VIRTQ_E_SIZE,    /* size 0, above the maximum, or (split) no power of 2 */
	VIRTQ_E_BASE,    /* a packed base outside the ring */
	/* the map may get a ring's address later (MAP_E_LATER): start it when the map has
	 * changed */
	VIRTQ_E_LATER,
};

/** enum virtq_place - how virtq_start() found out where a ring begins */
enum virtq_place {
	VIRTQ_AS_TOLD, /* by the base, or by what the ledger kept of it */
	VIRTQ_FOUND,   /* the ring contradicts the base and shows its position: it begins there */
	/* the base may be wrong, and the ring does not show a better one: it begins at the base */
	VIRTQ_LOST,
};

/** struct virtq_setup - how a ring starts */
struct virtq_setup {
	uint16_t index;
	uint32_t size;
	bool packed;    /* VIRTIO_F_RING_PACKED acked */
	bool event_idx; /* VIRTIO_RING_F_EVENT_IDX acked */
	bool indirect;  /* VIRTIO_RING_F_INDIRECT_DESC acked */
	/* VIRTIO_F_IN_ORDER acked: the device must complete chains in the order in which it took
	 * them, and a batch may be given back by the entry of its last */
	bool in_order;
	/* the device writes no buffer of this ring, whatever a packed table says */
	bool reads_only;
	bool log;           /* see virtq_set_log() */
	struct gpa log_gpa; /* split: what stands for the used ring's first byte in the log */
	struct uva desc;    /* packed: descriptor ring */
	struct uva avail;   /* packed: driver event suppression */
	struct uva used;    /* packed: device event suppression */
	uint32_t base;      /* as in SET_VRING_BASE; used when start_id is new to the ledger */
	uint64_t start_id;
	struct blame_mark *blame; /* names the chain that killed a worker; borrowed; NULL = none */
	uint64_t inflight_id;     /* names a region that the VMM shares; 0 = the ledger's own */
};
