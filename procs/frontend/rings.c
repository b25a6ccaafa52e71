/*
 * A ring's position is in three places, and none of them is ever corrected by another: the record
 * has where it began, the worker's report where it stopped, and the ledger where a worker stopped
 * that can report no more. Which one counts is computed when it is asked for, so that a frontend
 * that was just started comes to the same answer.
 */
#include "rings.h"

#include <errno.h>

#include "base/bytes.h"
#include "desired.h"
#include "inband.h"
#include "protocol.h"

#define PACKED_BEGIN 0x80008000u /* both wrap counters are 1 */

static bool in_force(const Bh__Desired *desired, const Bh__Observed *observed)
{
	return observed->applied >= desired->generation;
}

static const Bh__RingState *find_state(const Bh__Observed *observed, uint32_t index)
{
	for (size_t i = 0; i < observed->n_rings; i++)
		if (observed->rings[i]->index == index)
			return observed->rings[i];
	return NULL;
}

/* --- Does it run --- */

bool ring_failed(const Bh__Observed *observed, const Bh__Ring *ring)
{
	const Bh__RingState *state = find_state(observed, ring->index);

	return state && *state->error && state->error_start_id == ring->start_id;
}

bool ring_runs(const Bh__Desired *desired, const Bh__Observed *observed, const Bh__Ring *ring)
{
	return ring->started && ring->has_addresses && ring->size && desired->n_regions &&
		!ring_failed(observed, ring);
}

const Bh__Ring *ring_any_runs(const Bh__Desired *desired, const Bh__Observed *observed)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (ring_runs(desired, observed, desired->rings[i]))
			return desired->rings[i];
	return NULL;
}

/* --- Where it goes on --- */

static bool has_stopped(const Bh__Ring *ring)
{
	return !ring->started && ring->start_id;
}

/* A reporter of a former release does not say which start it speaks of. */
static bool is_about(const Bh__RingState *state, const Bh__Ring *ring)
{
	return state && (state->start_id == ring->start_id || !state->start_id);
}

uint32_t ring_position(const Bh__Desired *desired, const Bh__Observed *observed,
	const struct heard *heard, const Bh__Ring *ring)
{
	const Bh__RingState *state = find_state(observed, ring->index);

	if (!has_stopped(ring))
		return ring->position;
	if (in_force(desired, observed) && is_about(state, ring))
		return state->position;
	if (ring->index <= RING_INDEX_MAX && heard->rings[ring->index].start_id == ring->start_id)
		return heard->rings[ring->index].position;
	return is_about(state, ring) ? state->position : ring->position;
}

void rings_settle(Bh__Desired *next, const Bh__Desired *desired, const Bh__Observed *observed,
	const struct heard *heard)
{
	for (size_t i = 0; i < next->n_rings; i++)
		next->rings[i]->position = ring_position(desired, observed, heard, next->rings[i]);
}

static const Bh__Ring *find_stopped(const Bh__Desired *desired, const Bh__RingState *state)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->index == state->index && has_stopped(desired->rings[i]) &&
			is_about(state, desired->rings[i]))
			return desired->rings[i];
	return NULL;
}

void rings_hear(struct heard *heard, const Bh__Desired *desired, Bh__RingState *const *states,
	size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const Bh__Ring *ring = find_stopped(desired, states[i]);

		if (!ring || ring->index > RING_INDEX_MAX)
			continue;
		heard->rings[ring->index].start_id = ring->start_id;
		heard->rings[ring->index].position = states[i]->position;
	}
}

/* --- Changes --- */

bool ring_hold(const Bh__Desired *desired, const Bh__Observed *observed, Bh__Ring *ring)
{
	if (ring->enabled || !ring_runs(desired, observed, ring))
		return false;
	ring->started = false;
	ring->held = true;
	return true;
}

int rings_hold(const Bh__Desired *desired, const Bh__Observed *observed, Bh__Desired *next)
{
	int n = 0;

	for (size_t i = 0; i < next->n_rings; i++) {
		if (next->rings[i]->enabled && ring_runs(desired, observed, next->rings[i]))
			return -EBUSY;
		n += ring_hold(desired, observed, next->rings[i]);
	}
	return n;
}

bool rings_stop(Bh__Desired *next)
{
	bool any = false;

	for (size_t i = 0; i < next->n_rings; i++) {
		Bh__Ring *ring = next->rings[i];

		any |= ring->started || ring->held;
		ring->started = ring->held = ring->poll = false;
		ring->kick_token = 0;
		ring->in_band &= ~(uint32_t)INBAND_KICK;
		ring->enabled = desired_enables_rings(next);
	}
	return any;
}

/* Under the number of a start that nobody has seen, the record's word of the position counts. */
bool rings_begin_anew(Bh__Desired *next)
{
	bool any = rings_stop(next), packed = has_bit(next->features, VIRTIO_F_RING_PACKED);

	for (size_t i = 0; i < next->n_rings; i++) {
		next->rings[i]->position = packed ? PACKED_BEGIN : 0;
		next->rings[i]->start_id = next->generation;
	}
	return any;
}

void ring_enable(Bh__Desired *next, Bh__Ring *ring, bool enabled)
{
	ring->enabled = enabled;
	if (!enabled || !ring->held)
		return;
	ring->held = false;
	ring->started = true;
	ring->start_id = next->generation;
}
