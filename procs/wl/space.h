#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Places in the shared memory region. What is in use is said by the VFDs that have a map, so there
 * is nothing to save.
 */

#define SPACE_BYTES (UINT64_C(1) << 32)
#define SPACE_PAGE_BYTES 4096
#define SPACE_FULL UINT64_MAX

/** struct space_extent - a part that is in use: whole pages within SPACE_BYTES */
struct space_extent {
	uint64_t offset_bytes;
	uint64_t size_bytes;
};

/**
 * space_find() - a place for n_bytes (whole pages, not 0)
 * @extents: [in] n of them, which do not overlap; they are sorted
 *
 * Small pieces lie together at the lower end of the region, large ones at the upper end: a small
 * one that stays does not cut the place of a large one into pieces.
 *
 * Returns its offset | SPACE_FULL. Cost: O(n log n).
 */
uint64_t space_find(struct space_extent *extents, size_t n, uint64_t n_bytes);
