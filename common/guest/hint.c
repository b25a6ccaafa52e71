#include "guest/hint.h"

#include "base/bytes.h"

int map_hint_find(struct map_hint *hint, struct gpa start, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span)
{
	struct map_span region;

	if (n_bytes == 0 || !map_hint_holds(hint, start, n_bytes)) {
		if (n_bytes == 0 || !map_region_at(hint->map, start, &region))
			return map_find(hint->map, start, n_bytes, access, ret_span);
		hint->start = region.gpa.val;
		hint->n_bytes = region.n_bytes;
		hint->mem = region.mem;
		hint->gpa = region.gpa;
	}
	n_bytes = MIN(n_bytes, hint->n_bytes - (start.val - hint->start));
	*ret_span = map_hint_span(hint, start, n_bytes);
	return 0;
}
