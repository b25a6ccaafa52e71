#pragma once

#include <stdatomic.h>

#include "base/bytes.h"
#include "virtq/virtq.h"

/* What the files of this library share. The layouts are those of virtio 1.2 (2.7, 2.8) and of the
 * vhost-user specification ("Inflight I/O tracking"). */

#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define DESC_F_INDIRECT 4
#define DESC_F_AVAIL (1 << 7)
#define DESC_F_USED (1 << 15)

/** struct desc - a descriptor of either ring */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t a; /* split: flags; packed: id */
	uint16_t b; /* split: next; packed: flags */
};

struct split_used_elem {
	uint32_t id;
	uint32_t len;
};

/** struct split_ring - the three parts of a split ring, in guest memory */
struct split_ring {
	const struct desc *desc;
	const uint16_t *avail;         /* flags, idx, ring[size], used_event */
	uint16_t *used;                /* flags, idx, then size elements, avail_event */
};

struct packed_event {
	uint16_t off_wrap;
	uint16_t flags;
};

struct packed_ring {
	struct desc *desc;
	const struct packed_event *driver;
	struct packed_event *device;
};

struct inflight_split_desc {
	uint8_t inflight;
	uint8_t pad[5];
	uint16_t next;
	uint64_t counter;
};

struct inflight_split {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_split_desc desc[];
};

struct inflight_packed_desc {
	uint8_t inflight;
	uint8_t pad;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

struct inflight_packed {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	uint16_t used_idx;
	uint16_t old_used_idx;
	uint8_t used_wrap;
	uint8_t old_used_wrap;
	uint8_t pad[10];
	struct inflight_packed_desc desc[];
};

_Static_assert(sizeof(struct inflight_split) == 16, "as the specification says");
_Static_assert(sizeof(struct inflight_split_desc) == 16, "as the specification says");
_Static_assert(sizeof(struct inflight_packed) == 32, "as the specification says");
_Static_assert(sizeof(struct inflight_packed_desc) == 32, "as the specification says");

#define SPANS_INLINE 4

/** struct chain - a parsed chain and its storage */
struct chain {
	struct virtq_chain pub;   /* first: what the device holds is turned back into this */
	uint16_t entry;           /* packed: its head in the in-flight region, once taken */
	uint16_t slot;            /* packed: ring slot of its first descriptor */
	bool recovered;           /* was in flight when the former worker died */
	struct iovec few[SPANS_INLINE];
	struct iovec *many;       /* kept for the next long chain */
	unsigned int n_many;
};

/** struct staged - a completed chain that the driver does not see yet */
struct staged {
	uint32_t len;
	uint16_t id;
	uint16_t n_slots;
	uint16_t entry;
};

struct virtq {
	struct virtq_setup setup;
	uint32_t size;
	struct map *map;
	struct ledger_queue *slot;
	union {
		struct split_ring split;
		struct packed_ring packed;
	};
	union {
		void *inflight;
		struct inflight_split *inflight_split;
		struct inflight_packed *inflight_packed;
	};
	uint64_t counter;          /* of the next chain that is taken */
	const char *error;

	/* Positions. Split: free running. Packed: slot below size, with its wrap counter. */
	uint16_t parsed;           /* next to parse: behind the window */
	uint16_t taken;            /* behind what was taken */
	uint16_t used;             /* behind what was published */
	bool parsed_wrap, taken_wrap, used_wrap;
	uint16_t avail_seen;       /* split: the driver's index when last looked at */
	uint32_t since_call;       /* slots published since the driver was last notified */
	bool call_valid;           /* since_call counts from a notification that we know of */

	/* The window: chains parsed and not taken, oldest first. */
	struct chain *chains;      /* size of them */
	uint16_t *free_chains;     /* a stack of indices into chains */
	uint32_t n_free;
	uint16_t *window;          /* a ring of indices into chains, mask + 1 long */
	uint32_t mask;
	uint32_t window_head, window_len;
	uint32_t window_slots;     /* ring slots (split: descriptors) that the window holds */
	uint8_t *busy;             /* split: by head, packed: by id: parsed and not completed */

	/* What was in flight when the former worker died, oldest first. */
	uint16_t *resubmit;
	uint32_t n_resubmit, resubmit_parsed, resubmit_taken;

	struct staged *staged;     /* size of them */
	uint32_t n_staged;
	uint32_t staged_slots;
};

/* parse.c */
struct chain *parse_begin(struct virtq *vq);
/** parse_add() - one descriptor of guest memory into the chain; a broken rule makes the chain bad */
void parse_add(struct virtq *vq, struct chain *chain, const struct desc *desc, bool writable);
/** parse_indirect() - all of an indirect table */
void parse_indirect(struct virtq *vq, struct chain *chain, const struct desc *desc);
void parse_bad(struct chain *chain, const char *rule);
/** parse_end() - the chain is whole: into the window */
void parse_end(struct virtq *vq, struct chain *chain, uint32_t n_descs);
/** parse_drop() - the ring is broken: give the chain back */
void parse_drop(struct virtq *vq, struct chain *chain);
int parse_broken(struct virtq *vq, const char *why);

/* split.c and packed.c: the same steps for either layout */
int split_start(struct virtq *vq);
int split_map(struct virtq *vq);
int split_parse(struct virtq *vq);  /* 1 = one more in the window, 0 = no more, -VIRTQ_E_BROKEN */
void split_take(struct virtq *vq, struct chain *chain);
void split_publish(struct virtq *vq);
bool split_call_due(struct virtq *vq);
void split_kick_off(struct virtq *vq);
bool split_kick_on(struct virtq *vq);

int packed_start(struct virtq *vq);
int packed_map(struct virtq *vq);
int packed_parse(struct virtq *vq);
void packed_take(struct virtq *vq, struct chain *chain);
void packed_publish(struct virtq *vq);
bool packed_call_due(struct virtq *vq);
void packed_kick_off(struct virtq *vq);
bool packed_kick_on(struct virtq *vq);

static inline bool need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/* A process that is killed leaves its stores in memory in the order in which the compiler made them. */
static inline void ledger_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}
