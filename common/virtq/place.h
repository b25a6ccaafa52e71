#pragma once

#include "virtq/ring.h"

/* Whether a ring contradicts the base that the VMM gives for it, and which position it shows
 * (place.c). */

/** split_find_place() - VIRTQ_FOUND: the ring's used index, which the caller has put into vq->used,
 * is the place */
enum virtq_place split_find_place(const struct virtq *vq, uint16_t base);

/** packed_find_place() - VIRTQ_FOUND: *ret_pos is the place; it may be written otherwise, too.
 * Without memory for the look, VIRTQ_AS_TOLD. Cost: O(size), with allocations */
enum virtq_place packed_find_place(const struct virtq *vq, uint16_t base, uint16_t *ret_pos);
