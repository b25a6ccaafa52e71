#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/blame.h"
#include "base/bytes.h"
#include "guest/hint.h"
#include "virtq/access.h"
#include "virtq/inflight-layout.h"
#include "virtq/ledger.h"
#include "virtq/types.h"

/* The state of a ring, which the files of this library share; not for devices. */

struct block;
struct slot;
struct staged;

/** struct split_ring - in guest memory, but for the copies of indices */
struct split_ring {
	const uint64_t *desc;  /* two words each */
	const uint16_t *avail; /* flags, idx, ring[size], used_event */
	uint16_t *used;        /* flags, idx, size x { u32 id, u32 len }, avail_event */
	struct inflight_split *region;
	uint16_t avail_seen; /* the driver's index when last looked at */
	uint16_t last_batch_head;
};

/** struct packed_ring - in guest memory, but for `copies` and `next` */
struct packed_ring {
	uint64_t *desc;         /* two words each */
	const uint32_t *driver; /* event suppression: u16 off_wrap, u16 flags */
	uint32_t *device;
	struct gpa desc_gpa, device_gpa;
	struct inflight_packed *region;
	uint64_t *copies; /* of what was parsed, by ring slot; two words each */
	uint16_t *next;   /* our own free list of entries; the region's is written, never read */
	uint16_t free_head;
	struct desc *again; /* copies of what was in flight, by entry; NULL when nothing was */
	uint16_t *again_next, *again_num;
	uint32_t live_slots; /* ring slots parsed, and not given back to the driver */
};

/** struct virtq - one ring; belongs to the thread that serves it. Positions are free running in the
 * split layout, and in the packed one as packed-pos.h has them */
struct virtq {
	struct map *map;
	struct map_hint hint;
	struct ledger_queue *ledger;
	uint32_t size;
	uint32_t size_max_mask; /* window is a ring of this + 1 */
	bool packed, event_idx, indirect, in_order;
	bool call_known;     /* since_call counts from a notification that we know of */
	bool starved;        /* no storage for a long chain until one is completed */
	bool waits;          /* the next chain is in memory that the map may get later */
	const char *error;   /* the ring is broken */
	uint64_t counter;    /* of the next chain that is taken */
	uint32_t since_call; /* published since the driver was asked; packed: ring slots */

	uint16_t parsed; /* behind the window */
	uint16_t taken;  /* behind what was taken */
	uint16_t used;   /* behind what was published */
	uint16_t n_staged;
	uint32_t window_head, window_len;
	uint32_t window_slots; /* ring slots that the window holds */
	uint32_t n_taken;      /* taken and not completed: they lie before window_head */
	uint32_t n_free;       /* slots that were put back */
	uint32_t n_dealt;      /* slots that were ever got */
	union {
		struct split_ring split;
		struct packed_ring ring;
	};

	struct slot *slots;   /* size */
	uint16_t *free_slots; /* a stack: what was used last is warm */
	uint16_t *window;
	uint8_t *busy;         /* split: by head, packed: by id: parsed, and not yet published */
	struct staged *staged; /* size */

	struct block *blocks; /* n_blocks, touched when needed */
	uint16_t *free_blocks;
	uint32_t n_free_blocks, n_blocks;

	uint16_t *again; /* heads (packed: entries) to be parsed anew, oldest first */
	uint32_t n_again, again_parsed;
	enum virtq_place place;
	/* chains to publish until the mark's, if it is about this ring, is among them */
	uint32_t suspects;
	struct virtq_setup setup;
};

/** blame_head() - a death of this thread is put down to this head from here on */
static inline void blame_head(const struct virtq *vq, uint32_t head)
{
	blame_set(vq->setup.blame, vq->setup.index, head);
}

/** The outcomes of parsing beside VIRTQ_E_BROKEN; 0 = it was parsed */
enum {
	PARSE_E_NONE = 16, /* nothing more is available */
	/* the next chain cannot be parsed now; it was given up, and is still to be parsed */
	PARSE_E_LATER,
};

/** ring_broken() - the driver broke a rule of the ring: nothing more is served; rule is a static
 * text. Returns VIRTQ_E_BROKEN */
int ring_broken(struct virtq *vq, const char *rule);

/** struct ring_part - where the VMM says that a part of the ring is, and what it must be like */
struct ring_part {
	struct uva at;
	uint64_t n_bytes;
	uint64_t align;
	enum map_access access;
};

/** ring_part() - find a part of the ring in guest memory; 0 | VIRTQ_E_ADDRESS | VIRTQ_E_LATER */
int ring_part(const struct virtq *vq, const struct ring_part *part, struct map_span *ret_span);
