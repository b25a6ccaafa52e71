#pragma once

#include "device/wants.h"

/* One ring, and what a record says of it. All of it is the loop's thread's; the ring's group is
 * paused but where said. */

/** ring_apply() - put in force what the record says of a ring that has not to stop */
void ring_apply(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants);

/** ring_recall() - a running ring gets another call descriptor, and nothing else; not paused */
void ring_recall(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants);

/** ring_forget() - the record does not know the ring (the VMM went away): nothing is left of it; it
 * has stopped */
void ring_forget(struct device_queue *queue);

/** ring_stop() - it rests (ring_rests()), and runs no more; its position stays in the ledger */
void ring_stop(struct device_queue *queue);

/** ring_fail() - why the ring does not run; logged once, and the VMM is told by the err descriptor.
 * why: a static text. broken: it stays so until the ring is started anew. */
void ring_fail(struct device_queue *queue, uint64_t start_id, const char *why, bool broken);

/** ring_remap() - guest memory left while the ring rested: it finds its addresses again, or
 * stops */
void ring_remap(struct device_queue *queue);

/** ring_rests() - whether the device holds no chain of the ring. If it does it is asked to give
 * them up, and the loop is woken when it has: the caller comes back then. Not paused. */
bool ring_rests(struct device_queue *queue);

/** ring_is_left() - a former instance died with the ring running, and the VMM has it stopped since:
 * chains that the device had taken are finished before it may be said to have stopped */
static inline bool ring_is_left(const struct device *device, const Bh__Ring *ring)
{
	const struct ledger_queue *slot = &device->ledger.queues[ring->index];

	return device->ops->drain && !ring->started && slot->running && !slot->broken &&
		ring->start_id && slot->start_id == ring->start_id;
}

/** ring_wants_start() - the ring is to run, and no error of that very start speaks against it */
static inline bool ring_wants_start(const struct device *device, const Bh__Ring *ring)
{
	const struct ring_state *state = &device->core->rings[ring->index];

	return (ring->started || ring_is_left(device, ring)) &&
		!(state->broken && state->error_start_id == ring->start_id);
}

/** ring_is_known() - whether there is anything to forget */
static inline bool ring_is_known(const struct device_queue *queue)
{
	return queue->kick_fd >= 0 || queue->call_fd >= 0 || queue->err_fd >= 0 || queue->enabled ||
		queue->device->core->rings[queue->index].start_id;
}
