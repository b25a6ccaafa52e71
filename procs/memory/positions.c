/*
 * Where stopped rings stand by the ledger. A worker that lives reports it; for one that is gone, or does not
 * answer, the ledger is the last word.
 */
#include "memory.h"

#include "virtq/ledger.h"

static bool worker_there(const struct device *device)
{
	const struct memory *memory = device->memory;

	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].device == device && memory->peers[i].link_fd >= 0)
			return true;
	return false;
}

static size_t fill_rings(const struct device *device, const struct ledger *ledger, Bh__RingState **states)
{
	size_t n = 0;

	for (size_t i = 0; i < device->desired->n_rings; i++) {
		const Bh__Ring *ring = device->desired->rings[i];

		if (ring->started || !ring->start_id || ring->index >= ledger->n_queues ||
			ledger->queues[ring->index].start_id != ring->start_id)
			continue;
		states[n]->index = ring->index;
		states[n]->start_id = ring->start_id;
		states[n++]->position = ledger_base(&ledger->queues[ring->index]);
	}
	return n;
}

void positions_fill(const struct device *device, Bh__CommitDesiredReply *reply)
{
	static Bh__RingState states[RINGS_MAX], *list[RINGS_MAX];
	struct ledger ledger;

	reply->worker_gone = !worker_there(device);
	if (device->ledger_fd < 0 || ledger_open_existing(&ledger, device->ledger_fd) < 0)
		return;
	for (size_t i = 0; i < RINGS_MAX; i++) {
		bh__ring_state__init(&states[i]);
		list[i] = &states[i];
	}
	reply->n_rings = fill_rings(device, &ledger, list);
	reply->rings = list;
	ledger_close(&ledger);
}
