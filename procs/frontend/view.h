#pragma once

#include <stdbool.h>

#include "desired.h"
#include "rings.h"

/*
 * What this process knows of a device's record. It changes in three ways only: memory puts a commit
 * in force, the worker reports, memory says where rings stand by the ledger. Nobody else writes to
 * it.
 */

/** struct view - of one device; all zeros = the record is not known yet */
struct view {
	Bh__Desired *desired;   /* as committed; NULL = not known yet */
	Bh__Observed *observed; /* as last heard; NULL = not known yet */
	struct heard heard;     /* where rings have stopped, beside observed */
	Bh__Transfer *transfer; /* of the device's state, as memory last said; NULL = none */
	uint64_t lost_transfer; /* one that memory does not know any more; 0 = none */
	bool worker_gone;       /* no worker was attached at the last commit */
	bool waited_in_vain;    /* for a worker that was gone, and has not come back since */
};

/** view_load() - the record as memory has it; takes both halves */
void view_load(struct view *view, Bh__Desired *desired, Bh__Observed *observed);
/** view_deinit() - free both halves: nothing is known any more */
void view_deinit(struct view *view);

/** view_applied() - whether the worker has applied what was committed last */
static inline bool view_applied(const struct view *view)
{
	return view->observed->applied >= view->desired->generation;
}

/** view_next() - the next record, to be changed and committed; the caller's
 * @from: what it is a copy of: desired, or a former one Its generation is the one behind
 * desired's; rings that have stopped stand in it where they go on. */
Bh__Desired *view_next(const struct view *view, const Bh__Desired *from);

/** view_put_in_force() - memory has committed next (taken); returns what was in force before, the
 * caller's */
Bh__Desired *view_put_in_force(struct view *view, Bh__Desired *next);

/** view_observe() - the worker has reported; takes observed */
void view_observe(struct view *view, Bh__Observed *observed);

/** view_hear() - what memory says when it answers a commit, before that is put in force
 * @states: where rings have stopped by the ledger; borrowed */
void view_hear(struct view *view, bool worker_gone, Bh__RingState *const *states, size_t n);

/** enum view_transfer - how the transfer goes that desired names */
enum view_transfer {
	VIEW_TRANSFER_NONE, /* it names none */
	VIEW_TRANSFER_PENDING,
	VIEW_TRANSFER_ENDED, /* view->transfer is it, and says how */
	VIEW_TRANSFER_LOST,  /* it has failed: memory knows nothing of it */
};

/** view_transfer() - computed anew each time */
enum view_transfer view_transfer(const struct view *view);

/** view_awaits_transfer() - the one whose end memory is to tell of; 0 = none
 * @begun: one that memory has begun and desired does not name yet; 0 = none. A question that is
 *         asked before desired names it may well be the last one: it must name it, too. */
uint64_t view_awaits_transfer(const struct view *view, uint64_t begun);

/** view_hear_transfer() - memory speaks of the device's last transfer
 * @transfer: borrowed; NULL = it knows of none
 * @waited:   the one that it was asked about; 0 = none: it may have spoken before that began */
void view_hear_transfer(struct view *view, const Bh__Transfer *transfer, uint64_t waited);
