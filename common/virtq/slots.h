#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtq/payload.h"
#include "virtq/ring.h"

/*
 * Slots: a parsed chain lives in one from the moment it enters the window until it is completed.
 * All storage is reserved when the ring starts (slots.c says how it is touched), so nothing here
 * allocates.
 */

#define SLOT_SPANS 6 /* that a slot holds itself: it fills three cache lines */

enum { SLOT_FREE, SLOT_IN_WINDOW, SLOT_TAKEN };

/** struct slot - a parsed chain and where it stands */
struct slot {
	struct virtq_chain chain; /* first: a chain's address is its slot's */
	uint16_t pos;             /* packed: ring slot of its first descriptor */
	uint16_t entry,
		last; /* packed: its first and last entry in the in-flight region, once taken */
	uint8_t state;
	bool again; /* in flight when the former worker died: the region has it already */
	struct iovec few[SLOT_SPANS];
	struct gpa few_gpas[SLOT_SPANS]; /* where each of `few` is for the guest */
};

/** struct block - the spans of a chain that outgrew its slot */
struct block {
	struct iovec spans[VIRTQ_CHAIN_SPANS_MAX];
	struct gpa gpas[VIRTQ_CHAIN_SPANS_MAX];
};

/** struct staged - a completed chain that the driver does not see yet */
struct staged {
	uint32_t id;
	uint32_t len;
	uint16_t n_slots;
	uint16_t entry, last;
	uint16_t spoken_for; /* the next one's used entry may stand for this one, too */
};

/**
 * lazy_new() - an array of zeros whose memory is taken as it is touched
 *
 * Errors:  NULL when there is no memory.
 * Owner:   the caller; freed by lazy_free() with the same n and size.
 */
void *lazy_new(size_t n, size_t size);

/** lazy_free() - free what lazy_new() gave; NULL is fine */
void lazy_free(void *mem, size_t n, size_t size);

/** slots_new() - all arrays of a ring of vq->size; 0 | -ENOMEM: slots_free() frees what was
 * allocated */
int slots_new(struct virtq *vq);

/** slots_free() - free what slots_new() allocated, even if it failed half-way */
void slots_free(struct virtq *vq);

/**
 * block_get() - move a chain whose spans outgrow its slot to a block
 * @n: [in] spans that the chain has now; they are copied
 *
 * Errors:  false when all blocks are in use; the ring then parses nothing until block_put().
 */
bool block_get(struct virtq *vq, struct slot *slot, unsigned int n);

/** slot_gpas() - where each span of the chain is for the guest */
static inline struct gpa *slot_gpas(struct slot *slot)
{
	if (likely(slot->chain.iov == slot->few))
		return slot->few_gpas;
	return ((struct block *)(void *)slot->chain.iov)->gpas;
}

/** block_put() - a chain gives the block with its spans back */
void block_put(struct virtq *vq, const struct iovec *spans);

/** slot_get() - an empty slot; there is one for each descriptor of the ring, so it never fails */
static inline struct slot *slot_get(struct virtq *vq)
{
	struct slot *slot =
		&vq->slots[likely(vq->n_free) ? vq->free_slots[--vq->n_free] : vq->n_dealt++];

	slot->chain = (struct virtq_chain){ .iov = slot->few };
	slot->again = false;
	return slot;
}

/** slot_put() - give a slot back, with the chain in it */
static inline void slot_put(struct virtq *vq, struct slot *slot)
{
	if (unlikely(slot->chain.iov != slot->few))
		block_put(vq, slot->chain.iov);
	slot->state = SLOT_FREE;
	vq->free_slots[vq->n_free++] = (uint16_t)(slot - vq->slots);
}

/** window_push() - a whole chain enters the window, as its last; id is below the ring's size and
 * not busy */
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

/** window_slot() - the i-th of the window, from the oldest; i is below window_len */
static inline struct slot *window_slot(struct virtq *vq, uint32_t i)
{
	return &vq->slots[vq->window[(vq->window_head + i) & vq->size_max_mask]];
}

/** window_take() - the i-th of the window is the device's; the caller moves the window and counts
 * its ring slots */
static inline struct slot *window_take(struct virtq *vq, uint32_t i)
{
	struct slot *slot = window_slot(vq, i);

	slot->state = SLOT_TAKEN;
	return slot;
}
