/*
 * The positions of stopped rings, from the ledger. A live worker reports them; if it is gone or
 * does not answer, the ledger is authoritative.
 */
#include "positions.h"

#include "judge.h"
#include "virtq/ledger.h"

static bool has_stopped(const Bh__Ring *ring)
{
	return !ring->started && ring->start_id;
}

/* Most commits come while a device is being set up or runs: they need not map the ledger. */
static bool any_has_stopped(const Bh__Desired *desired)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (has_stopped(desired->rings[i]))
			return true;
	return false;
}

static size_t fill_rings(const Bh__Desired *desired, const struct ledger *ledger,
	Bh__RingState *states, Bh__RingState **list)
{
	size_t n = 0;

	for (size_t i = 0; i < desired->n_rings; i++) {
		const Bh__Ring *ring = desired->rings[i];

		if (!has_stopped(ring) || ring->index >= ledger->n_queues ||
			ledger->queues[ring->index].start_id != ring->start_id)
			continue;
		bh__ring_state__init(&states[n]);
		states[n].index = ring->index;
		states[n].start_id = ring->start_id;
		states[n].position = ledger_base(&ledger->queues[ring->index]);
		list[n] = &states[n];
		n++;
	}
	return n;
}

void positions_fill(const struct served *device, Bh__CommitDesiredReply *reply)
{
	static Bh__RingState states[VHOST_USER_MAX_QUEUES], *list[VHOST_USER_MAX_QUEUES];
	struct ledger ledger;

	reply->worker_gone = device->n_attached == 0;
	if (!any_has_stopped(device->desired) || device->ledger_fd < 0 ||
		ledger_open_existing(&ledger, device->ledger_fd) < 0)
		return;
	reply->n_rings = fill_rings(device->desired, &ledger, states, list);
	reply->rings = list;
	ledger_close(&ledger);
}
