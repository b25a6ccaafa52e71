#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/map.h"
#include "virtq/virtq.h"

/*
 * Guest memory and the driver's side of one ring, for tests of the device's side in the same
 * process. Everything is at fixed places, so that a copy of the memory and of the driver is a copy
 * of the guest.
 *
 * The memory is one memfd, mapped as two adjoining regions of half its size each. Rings lie in the
 * first, buffers and indirect tables anywhere in it.
 */

#define UVA_OF(gpa) ((struct uva){ (gpa) + 0x7f0000000000 })

/* For inner loops: ck_assert() tells the runner where it is each time. */
#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("%s", #cond);                                                 \
	} while (0)

struct memory {
	int fd;
	size_t n_bytes;
	uint8_t *mem;    /* the test's own mapping; guest address 0 */
	struct map *map; /* the device's */
};

void memory_init(struct memory *m, size_t n_bytes);
void memory_deinit(struct memory *m);

enum { F_NEXT = 1, F_WRITE = 2, F_INDIRECT = 4, F_AVAIL = 1 << 7, F_USED = 1 << 15 };

/** struct raw_desc - as it lies in memory: a, b are flags, next (split) or id, flags (packed) */
struct raw_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t a, b;
};

/** struct seg - one buffer of a chain */
struct seg {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

struct driver {
	struct memory *m;
	uint32_t size;
	bool packed, event_idx;
	bool in_order;                /* set by driver_in_order() */
	uint64_t desc, avail, used;   /* guest addresses */
	uint16_t n_free;              /* ring slots */
	uint16_t avail_idx, used_idx; /* split: free running; packed: slot */
	bool avail_wrap, used_wrap;
	uint16_t free_head; /* split: list of descriptors; packed: list of ids */
	uint16_t *next;     /* size of each of these, owned */
	uint16_t *slots;    /* by head or id; 0 = not in use */
	uint32_t *cookies;
	uint16_t kicked_at; /* split: index, packed: slots posted, at the last look */
	uint32_t n_posted_slots;
	uint16_t oldest;  /* in order: head or id of the oldest that is in use */
	uint32_t n_batch; /* in order: chains of the last used entry that were not reaped yet */
	uint32_t batch_len;
};

/** driver_init() - an empty ring at guest address `at`; ring_bytes() of memory */
void driver_init(struct driver *d, struct memory *m, uint64_t at, uint32_t size, bool packed);
/** driver_begin_at() - split: as if so many chains had passed already */
void driver_begin_at(struct driver *d, uint16_t index);
/** driver_in_order() - from the beginning, as VIRTIO_F_IN_ORDER asks: descriptors one after the
 * other, and batches are taken by the entry of their last */
void driver_in_order(struct driver *d);
void driver_deinit(struct driver *d);
/** driver_copy() - the same driver over (already copied) other memory */
void driver_copy(struct driver *to, const struct driver *from, struct memory *m);
uint64_t ring_bytes(uint32_t size);

/** driver_post() - make one chain available; false when the ring has no room. table: guest address
 * of an indirect table to use, or 0 */
bool driver_post(struct driver *d, const struct seg *segs, unsigned int n, uint64_t table,
	uint32_t cookie);

/** driver_reap() - 1 one chain came back | 0 none | -1 it breaks a rule, and driver_fault says
 * which */
int driver_reap(struct driver *d, uint32_t *ret_cookie, uint32_t *ret_len);
extern const char *driver_fault;

struct raw_desc *driver_desc(struct driver *d, uint32_t i);
/** driver_publish_raw() - make descriptors available that the test wrote itself: split: this head;
 * packed: n slots, whose AVAIL and USED bits are set here */
void driver_publish_raw(struct driver *d, uint16_t head, uint16_t n);

/** driver_wants_call() - set the event index (split) or suppression (packed): call at the next
 * used */
void driver_calls_on(struct driver *d);
void driver_calls_off(struct driver *d);
bool driver_has_used(struct driver *d);
/** driver_must_kick() - what the device asked for, about what was posted since the last time
 * asked */
bool driver_must_kick(struct driver *d);

struct virtq_setup driver_setup(const struct driver *d, uint64_t start_id);

/** struct rig - a driver and the device it talks to */
struct rig {
	struct memory m;
	struct driver d;
	struct ledger_queue ledger;
	void *inflight;
	struct virtq *vq;
};

#define RIG_BYTES (1 << 22)
#define RIG_BUFFERS (1 << 21) /* buffers from here on: the boundary of the two regions */
#define RIG_TABLE (3 << 19)   /* room for tables */

/** rig_init() - a ring of this kind at guest address 0; not started, so that d may still be
 * changed */
void rig_init(struct rig *rig, uint32_t size, bool packed);
void rig_start(struct rig *rig);
void rig_deinit(struct rig *rig);
/** rig_serve() - fill, take, complete and publish up to n; the number */
unsigned int rig_serve(struct rig *rig, unsigned int n);
/** rig_reap_all() - what came back, checked to be this cookie onwards; the number */
unsigned int rig_reap_all(struct rig *rig, uint32_t cookie);
