#pragma once

#include "device/wants.h"

/* Applies a record to a single ring. Loop thread only; the ring's group is paused unless stated
 * otherwise. */

/** ring_apply() - apply the record's entry for a ring that need not stop */
void ring_apply(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants);

/** ring_recall() - replace the call descriptor of a running ring, and nothing else; not paused */
void ring_recall(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants);

/** ring_forget() - discard all of a stopped ring that the record no longer names */
void ring_forget(struct device_queue *queue);

/** ring_stop() - stop a drained ring (ring_rests()); its position stays in the ledger */
void ring_stop(struct device_queue *queue);

/** ring_fail() - note why the ring does not run; logged once, and signalled to the VMM by the err
 * descriptor. why: a static text. broken: the error stays until the next start. */
void ring_fail(struct device_queue *queue, uint64_t start_id, const char *why, bool broken);

/** ring_remap() - look up the addresses of a drained ring again after memory was unmapped; it is
 * stopped if they are gone */
void ring_remap(struct device_queue *queue);

/** ring_rests() - whether the device holds no chain of the ring. If it holds some, the ring is
 * drained, and the loop is woken when that is done: the caller retries then. Not paused. */
bool ring_rests(struct device_queue *queue);

/** ring_was_left() - whether a previous instance died with the ring running, and the VMM has
 * stopped it since: what that one wrote is not marked as dirty yet */
static inline bool ring_was_left(const struct device *device, const Bh__Ring *ring)
{
	const struct ledger_queue *slot = &device->ledger.queues[ring->index];

	return !ring->started && slot->running && !slot->broken && ring->start_id &&
		slot->start_id == ring->start_id;
}

/** ring_is_left() - the same of a device that can drain: chains the device had taken must be
 * completed before the ring is reported as stopped */
static inline bool ring_is_left(const struct device *device, const Bh__Ring *ring)
{
	return device->ops->drain && ring_was_left(device, ring);
}

/** ring_wants_start() - whether the ring must run, and has no error from this very start */
static inline bool ring_wants_start(const struct device *device, const Bh__Ring *ring)
{
	const struct ring_state *state = &device->core->rings[ring->index];

	return (ring->started || ring_is_left(device, ring)) &&
		!(state->broken && state->error_start_id == ring->start_id);
}

#define RING_UNLOGGED UINT64_MAX
/** ring_log_gpa() - where the record wants a ring's used part logged, or RING_UNLOGGED */
static inline uint64_t ring_log_gpa(const Bh__Ring *ring)
{
	return ring->log ? ring->log_gpa : RING_UNLOGGED;
}

/** ring_is_known() - whether there is anything for ring_forget() to discard */
static inline bool ring_is_known(const struct device_queue *queue)
{
	return queue->kick_fd >= 0 || queue->call_fd >= 0 || queue->err_fd >= 0 || queue->enabled ||
		queue->device->core->rings[queue->index].start_id;
}
