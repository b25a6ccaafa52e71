#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtq/ring.h"

/* Positions in a packed ring: the slot in bits 0-14, the wrap counter in bit 15. */

#define POS_WRAP 0x8000u

/** pos_available() - whether a descriptor with these flags is available to a device that stands at
 * pos */
static inline bool pos_available(uint16_t flags, uint16_t pos)
{
	bool wrap = pos & POS_WRAP;

	return !!(flags & DESC_F_AVAIL) == wrap && !!(flags & DESC_F_USED) != wrap;
}

/** pos_advance() - n slots further; n is at most the size of the ring */
static inline uint16_t pos_advance(const struct virtq *vq, uint16_t pos, uint32_t n)
{
	uint32_t next = (pos & ~POS_WRAP) + n;

	if (next >= vq->size)
		return (uint16_t)((next - vq->size) | (~pos & POS_WRAP));
	return (uint16_t)(next | (pos & POS_WRAP));
}

/** packed_distance() - slots from one position to another that is at most one lap ahead */
static inline uint32_t packed_distance(const struct virtq *vq, uint16_t from, uint16_t to)
{
	uint32_t lap = (from ^ to) & POS_WRAP ? vq->size : 0;

	return lap + (to & ~POS_WRAP) - (from & ~POS_WRAP);
}

/** pos_words() - the two words of the descriptor at pos, in guest memory */
static inline uint64_t *pos_words(const struct virtq *vq, uint16_t pos)
{
	return &vq->ring.desc[2 * (size_t)(pos & ~POS_WRAP)];
}

/** store_free() - the region's free list by one store: its head, and the committed one */
static inline void store_free(struct virtq *vq, uint16_t head, uint16_t old_head)
{
	struct inflight_packed_free both = { head, old_head };

	__atomic_store(&vq->ring.region->free, &both, __ATOMIC_RELAXED);
}

/** store_used() - the region's used position by one store: the present one, and the committed
 * one */
static inline void store_used(struct virtq *vq, uint16_t pos, uint16_t old_pos)
{
	struct inflight_packed_used both = { .idx = pos & 0x7fff,
		.old_idx = old_pos & 0x7fff,
		.wrap = pos >> 15,
		.old_wrap = old_pos >> 15 };

	__atomic_store(&vq->ring.region->used, &both, __ATOMIC_RELAXED);
}
