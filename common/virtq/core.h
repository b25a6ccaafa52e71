#pragma once

#include <stdatomic.h>

#include "base/blame.h"
#include "base/bytes.h"
#include "base/sanitizer.h"
#include "virtq/inflight.h"
#include "virtq/virtq.h"

/* What the files of this library share; not for devices. */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian and read as they are");

/* The specification's numbers of these two are bits. */
#define DESC_F_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define DESC_F_USED (1 << VRING_PACKED_DESC_F_USED)
#define DESC_BYTES 16

/** struct desc - the copy of a descriptor of either layout */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t link; /* split: next; packed: id */
};

static inline struct desc desc_of(uint64_t word0, uint64_t word1, bool packed)
{
	uint16_t first = (uint16_t)(word1 >> 32), second = (uint16_t)(word1 >> 48);

	return (struct desc){ .addr = word0, .len = (uint32_t)word1,
		.flags = packed ? second : first, .link = packed ? first : second };
}

#define SLOT_SPANS 5         /* what a slot holds itself: two cache lines in all */
#define SPAN_BLOCKS_MAX 128  /* longer chains that may be parsed and not completed at a time */
#define SPAN_BLOCK_BYTES (VIRTQ_CHAIN_SPANS_MAX * sizeof(struct iovec))
#define FILL_BATCH 32
#define VIRTQ_CHAIN_DESCS_MAX (2 * VIRTQ_CHAIN_SPANS_MAX) /* some may be empty */

enum { SLOT_FREE, SLOT_IN_WINDOW, SLOT_TAKEN };

/** struct slot - a parsed chain and where it stands */
struct slot {
	struct virtq_chain chain; /* first: a chain's address is its slot's */
	uint16_t pos;             /* packed: ring slot of its first descriptor */
	uint16_t entry, last;     /* packed: its first and last entry in the in-flight region, once taken */
	uint8_t state;
	bool again;               /* in flight when the former worker died: the region has it already */
	struct iovec few[SLOT_SPANS];
};

/** struct staged - a completed chain that the driver does not see yet */
struct staged {
	uint32_t id;
	uint32_t len;
	uint16_t n_slots;
	uint16_t entry, last;
	uint16_t pad;
};

/** struct split_ring - in guest memory, but for the copies of indices */
struct split_ring {
	const uint64_t *desc;    /* two words each */
	const uint16_t *avail;   /* flags, idx, ring[size], used_event */
	uint16_t *used;          /* flags, idx, size x { u32 id, u32 len }, avail_event */
	struct inflight_split *region;
	uint16_t avail_seen;     /* the driver's index when last looked at */
	uint16_t last_batch_head;
};

/** struct packed_ring - in guest memory, but for `copies` and `next` */
struct packed_ring {
	uint64_t *desc;           /* two words each */
	const uint32_t *driver;   /* event suppression: u16 off_wrap, u16 flags */
	uint32_t *device;
	struct inflight_packed *region;
	uint64_t *copies;         /* of what was parsed, by ring slot; two words each */
	uint16_t *next;           /* our own free list of entries; the region's is written, never read */
	uint16_t free_head;
	struct desc *again;       /* copies of what was in flight, by entry; NULL when nothing was */
	uint16_t *again_next, *again_num;
	uint32_t live_slots;      /* ring slots parsed, and not given back to the driver */
};

/* Positions. Split: free running. Packed: slot in bits 0-14, wrap counter in bit 15. */
struct virtq {
	struct map *map;
	struct map_hint hint;
	struct ledger_queue *ledger;
	uint32_t size;
	uint32_t size_max_mask;   /* window is a ring of this + 1 */
	bool packed, event_idx, indirect;
	bool call_known;          /* since_call counts from a notification that we know of */
	bool starved;             /* no storage for a long chain until one is completed */
	const char *error;        /* the ring is broken */
	uint64_t counter;         /* of the next chain that is taken */
	uint32_t since_call;      /* published since the driver was asked; packed: ring slots */

	uint16_t parsed;          /* behind the window */
	uint16_t taken;           /* behind what was taken */
	uint16_t used;            /* behind what was published */
	uint16_t n_staged;
	uint32_t window_head, window_len;
	uint32_t window_slots;    /* ring slots that the window holds */
	uint32_t n_free;          /* slots that were put back */
	uint32_t n_dealt;         /* slots that were ever got */
	union {
		struct split_ring split;
		struct packed_ring ring;
	};

	struct slot *slots;       /* size */
	uint16_t *free_slots;     /* a stack: what was used last is warm */
	uint16_t *window;
	uint8_t *busy;            /* split: by head, packed: by id: parsed, and not yet published */
	struct staged *staged;    /* size */

	struct iovec *blocks;     /* n_blocks x VIRTQ_CHAIN_SPANS_MAX, touched when needed */
	uint16_t *free_blocks;
	uint32_t n_free_blocks, n_blocks;

	uint16_t *again;          /* heads (packed: entries) to be parsed anew, oldest first */
	uint32_t n_again, again_parsed;
	enum virtq_place place;
	uint32_t suspects;        /* chains to publish until the mark's, if it is about this ring, is among them */
	struct virtq_setup setup;
};

/*
 * Between two stores that a successor must find in this order. A killed process leaves in memory what it
 * stored, in the order of its instructions, so only the compiler has to be held. Tests compile this
 * library with VIRTQ_STEPS, and die at each of these places in turn.
 */
#ifdef VIRTQ_STEPS
void virtq_step(void);
#define step() virtq_step()
#else
#define step() atomic_signal_fence(memory_order_seq_cst)
#endif

/* Between our store and our load of what the driver stores and loads the other way round. */
static inline void full_fence(void)
{
#if SANITIZES_THREADS /* does not know of fences */
	static atomic_int dummy;

	atomic_fetch_add(&dummy, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Guest memory is read by loads that the compiler may neither repeat nor merge. */
#define guest_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define guest_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define guest_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define guest_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

/* chain.c */
/** lazy_new() - n zeroed items, whose memory is taken as they are touched; NULL: no room. lazy_free() with the same
 * n and size */
void *lazy_new(size_t n, size_t size);
void lazy_free(void *mem, size_t n, size_t size);
int slots_new(struct virtq *vq);
void slots_free(struct virtq *vq);
/** chain_add() - the memory of one descriptor; a broken rule makes the chain bad.
 * False: there is no storage until another chain is completed; the chain must be given up. */
bool chain_add(struct virtq *vq, struct slot *slot, const struct desc *desc);
/** chain_indirect() - all of an indirect table; as chain_add() */
bool chain_indirect(struct virtq *vq, struct slot *slot, const struct desc *desc);
void chain_bad(struct slot *slot, const char *rule);
void block_put(struct virtq *vq, const struct iovec *block);
int ring_broken(struct virtq *vq, const char *rule);

/* split.c and packed.c: the same steps for either layout; n is at most what the window holds */
int split_map(struct virtq *vq);
int split_fill(struct virtq *vq, unsigned int n);
void split_take(struct virtq *vq, unsigned int n);
void split_publish(struct virtq *vq);
bool split_call_due(struct virtq *vq);
void split_kick_off(struct virtq *vq);
bool split_kick_on(struct virtq *vq);

int packed_map(struct virtq *vq);
int packed_fill(struct virtq *vq, unsigned int n);
void packed_take(struct virtq *vq, unsigned int n);
void packed_publish(struct virtq *vq);
bool packed_call_due(struct virtq *vq);
void packed_kick_off(struct virtq *vq);
bool packed_kick_on(struct virtq *vq);

/* recover.c: a ring that is new to the ledger begins, or goes on by what a region says that another device
 * wrote (adopt); one that is not new goes on (recover). 0 | VIRTQ_E_* | -ENOMEM */
int split_begin(struct virtq *vq);
int split_adopt(struct virtq *vq);
int split_recover(struct virtq *vq);
int packed_begin(struct virtq *vq);
int packed_adopt(struct virtq *vq);
int packed_recover(struct virtq *vq);

/* place.c: whether the ring contradicts a base, and where the device stands then; vq->used is the ring's (split) */
enum virtq_place split_find_place(const struct virtq *vq, uint16_t base);
enum virtq_place packed_find_place(const struct virtq *vq, uint16_t base, uint16_t *ret_pos);

/* Who dies from here on has died of this head. */
static inline void blame_head(const struct virtq *vq, uint32_t head)
{
	blame_set(vq->setup.blame, vq->setup.index, head);
}

/* Packed positions: slot in bits 0-14, wrap counter in bit 15. */
#define POS_WRAP 0x8000u

static inline bool pos_available(uint16_t flags, uint16_t pos)
{
	bool wrap = pos & POS_WRAP;

	return !!(flags & DESC_F_AVAIL) == wrap && !!(flags & DESC_F_USED) != wrap;
}

/* n is at most the size of the ring. */
static inline uint16_t pos_advance(const struct virtq *vq, uint16_t pos, uint32_t n)
{
	uint32_t next = (pos & ~POS_WRAP) + n;

	if (next >= vq->size)
		return (uint16_t)((next - vq->size) | (~pos & POS_WRAP));
	return (uint16_t)(next | (pos & POS_WRAP));
}

/* slots from one to the other */
static inline uint32_t packed_distance(const struct virtq *vq, uint16_t from, uint16_t to)
{
	uint32_t lap = (from ^ to) & POS_WRAP ? vq->size : 0;

	return lap + (to & ~POS_WRAP) - (from & ~POS_WRAP);
}

static inline uint64_t *pos_words(const struct virtq *vq, uint16_t pos)
{
	return &vq->ring.desc[2 * (size_t)(pos & ~POS_WRAP)];
}

static inline void store_free(struct virtq *vq, uint16_t head, uint16_t old_head)
{
	struct inflight_packed_free both = { head, old_head };

	__atomic_store(&vq->ring.region->free, &both, __ATOMIC_RELAXED);
}

static inline void store_used(struct virtq *vq, uint16_t pos, uint16_t old_pos)
{
	struct inflight_packed_used both = { .idx = pos & 0x7fff, .old_idx = old_pos & 0x7fff,
		.wrap = pos >> 15, .old_wrap = old_pos >> 15 };

	__atomic_store(&vq->ring.region->used, &both, __ATOMIC_RELAXED);
}

static inline struct slot *slot_get(struct virtq *vq)
{
	struct slot *slot = &vq->slots[likely(vq->n_free) ? vq->free_slots[--vq->n_free] : vq->n_dealt++];

	slot->chain = (struct virtq_chain){ .iov = slot->few };
	slot->again = false;
	return slot;
}

static inline void slot_put(struct virtq *vq, struct slot *slot)
{
	if (unlikely(slot->chain.iov != slot->few))
		block_put(vq, slot->chain.iov);
	slot->state = SLOT_FREE;
	vq->free_slots[vq->n_free++] = (uint16_t)(slot - vq->slots);
}

/* The chain is whole: into the window. */
static inline void window_push(struct virtq *vq, struct slot *slot, uint16_t id, uint32_t n_slots)
{
	slot->chain.id = id;
	slot->chain.n_slots = (uint16_t)n_slots;
	slot->state = SLOT_IN_WINDOW;
	vq->busy[id] = 1;
	vq->window[(vq->window_head + vq->window_len) & vq->size_max_mask] =
		(uint16_t)(slot - vq->slots);
	vq->window_len++;
	vq->window_slots += n_slots;
}

static inline struct slot *window_slot(struct virtq *vq, uint32_t i)
{
	return &vq->slots[vq->window[(vq->window_head + i) & vq->size_max_mask]];
}

/* The caller moves the window. */
static inline struct slot *window_take(struct virtq *vq, uint32_t i)
{
	struct slot *slot = window_slot(vq, i);

	slot->state = SLOT_TAKEN;
	vq->window_slots -= slot->chain.n_slots;
	return slot;
}

/* A chain of one direct descriptor that lies where the last one did: what nearly all are. */
static inline bool chain_simple(struct virtq *vq, struct slot *slot, const struct desc *desc)
{
	uint64_t offset = desc->addr - vq->hint.start;
	struct virtq_chain *chain = &slot->chain;

	if (unlikely(desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)) || unlikely(desc->len == 0) ||
		unlikely(offset >= vq->hint.n_bytes) ||
		unlikely(desc->len > vq->hint.n_bytes - offset))
		return false;
	chain->iov[0] = (struct iovec){ vq->hint.mem + offset, desc->len };
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->n_in = 1;
		chain->in_bytes = desc->len;
	} else {
		chain->n_out = 1;
		chain->out_bytes = desc->len;
	}
	return true;
}
