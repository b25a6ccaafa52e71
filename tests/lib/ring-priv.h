#ifndef TESTS_LIB_RING_PRIV_H
#define TESTS_LIB_RING_PRIV_H

/* Shared by ring.c and the two layouts. */

#include "ring.h"

struct ring_buf {
	bool busy;
	uint16_t n_desc; /* descriptors in the ring itself */
	uint16_t slot;   /* packed: the first one */
	uint16_t n_segs;
	uint64_t table; /* indirect table of this id, 0 until needed */
	uint64_t hash;  /* of the readable bytes */
	void *cookie;
	struct ring_seg segs[RING_MAX_SEGS];
};

int ring_fault(struct ring *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* split: ring->avail is {flags, idx, ring[size], used_event}, ring->used {flags, idx,
 * {id,len}...} */
int split_post(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t *ret_id);
bool split_has_used(const struct ring *r);
int split_next_used(struct ring *r, uint16_t *ret_id, uint32_t *ret_len);
void split_release(struct ring *r, uint16_t id);
bool split_needs_kick(struct ring *r);
void split_arm(struct ring *r);
uint32_t split_base(const struct ring *r);

/* packed: ring->avail is the driver's event suppression area, ring->used the device's */
int packed_post(struct ring *r, const struct ring_seg *segs, uint16_t n, uint16_t *ret_id);
bool packed_has_used(const struct ring *r);
int packed_next_used(struct ring *r, uint16_t *ret_id, uint32_t *ret_len);
void packed_release(struct ring *r, uint16_t id);
bool packed_needs_kick(struct ring *r);
void packed_arm(struct ring *r);
uint32_t packed_base(const struct ring *r);

/* writes the indirect table of buffer `id`; returns its guest address, or 0 */
uint64_t ring_fill_table(struct ring *r, uint16_t id, const struct ring_seg *segs, uint16_t n);

#endif
