#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/*
 * The in-flight region of one queue, in shared memory.
 * Spec: vhost-user, "Inflight I/O tracking". Native byte order.
 */

#define INFLIGHT_VERSION 1
#define INFLIGHT_ALIGN                                                                             \
	64 /* of each queue's region: the specification says nothing, all peers do so */

/** struct inflight_split_desc - the entry of one head */
struct inflight_split_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;    /* of the heads published with it: the one staged before */
	uint64_t counter; /* the order in which heads were taken */
};

struct inflight_split {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_split_desc desc[];
};

/** struct inflight_packed_desc - a copy of one descriptor, and links; those marked (head) only in
 * the first of a chain */
struct inflight_packed_desc {
	uint8_t inflight; /* (head) */
	uint8_t padding;
	uint16_t next;    /* entry */
	uint16_t last;    /* (head) entry of its last descriptor */
	uint16_t num;     /* (head) descriptors */
	uint64_t counter; /* (head) */
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

/** struct inflight_packed_free - the list of free entries: its head, and the one that is committed.
 * Always written by one store, and so is what follows. */
struct inflight_packed_free {
	uint16_t head;
	uint16_t old_head;
} __attribute__((aligned(4)));

/** struct inflight_packed_used - the used position, and the one that is committed */
struct inflight_packed_used {
	uint16_t idx;
	uint16_t old_idx;
	uint8_t wrap;
	uint8_t old_wrap;
	uint8_t padding[2];
} __attribute__((aligned(8)));

struct inflight_packed {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	struct inflight_packed_free free;
	struct inflight_packed_used used;
	uint8_t padding[8];
	struct inflight_packed_desc desc[];
};

/** inflight_bytes() - of one queue's region; those of several queues lie one behind the other */
static inline size_t inflight_bytes(uint32_t queue_size, bool packed)
{
	size_t n = packed
		? sizeof(struct inflight_packed) + queue_size * sizeof(struct inflight_packed_desc)
		: sizeof(struct inflight_split) + queue_size * sizeof(struct inflight_split_desc);

	return align_up(n, INFLIGHT_ALIGN);
}

_Static_assert(sizeof(struct inflight_split_desc) == 16, "layout of the specification");
_Static_assert(sizeof(struct inflight_split) == 16, "layout of the specification");
_Static_assert(sizeof(struct inflight_packed_desc) == 32, "layout of the specification");
_Static_assert(sizeof(struct inflight_packed) == 32, "layout of the specification");
