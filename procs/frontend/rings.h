#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * What follows for a ring from the two halves of a record. Nothing here waits, sends or keeps
 * anything: desired is what was committed last, observed the worker's last report, and both are
 * only read. What changes is `next`, the record that is being composed.
 */

#define RING_INDEX_MAX 255u

/** struct heard - where rings have stopped, as far as the worker's present report does not say:
 * memory's word, by the ledger, or the worker's own in a former report. All zeros = nothing was
 * heard */
struct heard {
	struct {
		/* the start that the position belongs to; 0 = nothing was heard */
		uint64_t start_id;
		uint32_t position;
	} rings[RING_INDEX_MAX + 1];
};

/** ring_runs() - whether the worker runs this ring, or will as soon as it looks at the record
 * @ring: of desired, or of the record that is composed from it
 * A ring that the worker could not start, or gave up, does not run. */
bool ring_runs(const Bh__Desired *desired, const Bh__Observed *observed, const Bh__Ring *ring);

/** ring_failed() - whether the worker could not start this ring, or has given it up; the next
 * kick descriptor starts it */
bool ring_failed(const Bh__Observed *observed, const Bh__Ring *ring);

/** ring_any_runs() - the first ring of desired that runs; NULL = none does; borrowed from
 * desired */
const Bh__Ring *ring_any_runs(const Bh__Desired *desired, const Bh__Observed *observed);

/**
 * ring_position() - where a ring goes on, as SET_VRING_BASE and GET_VRING_BASE have it
 * @ring: of desired, or of a record that was composed before or from it
 *
 * What a record says itself holds for a ring that is started, and for one whose position was set
 * since it stopped. Any other has been stopped by somebody, and the best word of where is taken, as
 * far as it is about this start: the worker's, once it has applied desired; else what was heard;
 * else what the worker said last; else the record's.
 */
uint32_t ring_position(const Bh__Desired *desired, const Bh__Observed *observed,
	const struct heard *heard, const Bh__Ring *ring);

/** rings_settle() - give all rings of the record that is being composed the position where they
 * go on */
void rings_settle(Bh__Desired *next, const Bh__Desired *desired, const Bh__Observed *observed,
	const struct heard *heard);

/** rings_hear() - note what somebody says of the rings that desired wants stopped; all else is
 * ignored
 * @states: borrowed */
void rings_hear(struct heard *heard, const Bh__Desired *desired, Bh__RingState *const *states,
	size_t n);

/** ring_hold() - a ring of the next record is about to change: if it runs, it stops, and starts
 * when it is enabled
 * @ring: disabled, or not running
 * True: it was stopped, and the worker has to let go of it before the change counts. */
bool ring_hold(const Bh__Desired *desired, const Bh__Observed *observed, Bh__Ring *ring);

/** rings_hold() - ring_hold() for all rings of the next record
 * Errors: how many were stopped | -EBUSY: a ring that is enabled runs, and next is of no use. */
int rings_hold(const Bh__Desired *desired, const Bh__Observed *observed, Bh__Desired *next);

/** rings_stop() - all rings of the next record stop, and are as disabled as at first; where they
 * stood can still be asked for
 * True: the worker may have to let go of one of them. */
bool rings_stop(Bh__Desired *next);

/** rings_begin_anew() - the same, and no ring knows where it stood */
bool rings_begin_anew(Bh__Desired *next);

/** ring_enable() - enable or disable a ring of the next record; one that is held starts when it
 * is enabled */
void ring_enable(Bh__Desired *next, Bh__Ring *ring, bool enabled);
