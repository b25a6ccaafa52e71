#include "space.h"

#include <stdlib.h>

#define LARGE_BYTES (UINT64_C(1) << 20) /* a buffer of a window, rather than a keymap or a cursor */

static int by_offset(const void *a, const void *b)
{
	const struct space_extent *x = a, *y = b;

	return (x->offset_bytes > y->offset_bytes) - (x->offset_bytes < y->offset_bytes);
}

static uint64_t find_lowest(const struct space_extent *extents, size_t n, uint64_t n_bytes)
{
	uint64_t at = 0;

	for (size_t i = 0; i < n && extents[i].offset_bytes - at < n_bytes; i++)
		at = extents[i].offset_bytes + extents[i].size_bytes;
	return SPACE_BYTES - at >= n_bytes ? at : SPACE_FULL;
}

static uint64_t find_highest(const struct space_extent *extents, size_t n, uint64_t n_bytes)
{
	uint64_t end = SPACE_BYTES;

	for (size_t i = n; i-- > 0;) {
		uint64_t below = extents[i].offset_bytes + extents[i].size_bytes;

		if (end - below >= n_bytes)
			break;
		end = extents[i].offset_bytes;
	}
	return end >= n_bytes ? end - n_bytes : SPACE_FULL;
}

uint64_t space_find(struct space_extent *extents, size_t n, uint64_t n_bytes)
{
	if (n)
		qsort(extents, n, sizeof(*extents), by_offset);
	return (n_bytes < LARGE_BYTES ? find_lowest : find_highest)(extents, n, n_bytes);
}
