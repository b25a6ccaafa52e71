#include "virtq/ring.h"

int ring_broken(struct virtq *vq, const char *rule)
{
	vq->error = rule;
	vq->ledger->broken = 1;
	return VIRTQ_E_BROKEN;
}

int ring_part(const struct virtq *vq, const struct ring_part *part, struct map_span *ret_span)
{
	int r = map_find_uva(vq->map, part->at, part->n_bytes, part->access, ret_span);

	if (r != 0)
		return r == MAP_E_LATER ? VIRTQ_E_LATER : VIRTQ_E_ADDRESS;
	return (uintptr_t)ret_span->mem % part->align ? VIRTQ_E_ADDRESS : 0;
}
