#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/map.h"
#include "virtq/virtq.h"

/* The memory of a hostile guest, and what holds of every chain that is parsed out of it. */

#define GUEST_BYTES 65536
#define GUEST_REGION_BYTES                                                                         \
	40008 /* of the first of two adjoining regions: a descriptor may lie in both */
#define GUEST_UVA(gpa) ((struct uva){ (gpa) + 0x7f0000000000 })
#define GUEST_RING_SIZE_MAX 64

struct guest {
	uint8_t *mem;    /* our own mapping; guest address 0 */
	struct map *map; /* the device's */
};

/** guest_memory() - the one guest, its memory all zeros */
struct guest *guest_memory(void);

/** guest_ring_size() - a size that this layout may have, out of any byte */
uint32_t guest_ring_size(uint8_t dice, bool packed);

/** guest_check_window() - no chain is in the window twice, or is one of those that `taken` marks
 * by id; each lies in guest memory, and is as long as it says */
void guest_check_window(struct virtq *vq, const struct guest *guest,
	const bool taken[GUEST_RING_SIZE_MAX]);
