#include "view.h"

#include <stdlib.h>

#include "base/check.h"
#include "record/copy.h"

static void free_observed(Bh__Observed *observed)
{
	if (observed)
		bh__observed__free_unpacked(observed, NULL);
}

static void free_transfer(Bh__Transfer *transfer)
{
	if (transfer)
		bh__transfer__free_unpacked(transfer, NULL);
}

void view_load(struct view *view, Bh__Desired *desired, Bh__Observed *observed)
{
	view_deinit(view);
	view->desired = desired;
	view->observed = observed;
}

void view_deinit(struct view *view)
{
	view->desired = desired_free(view->desired);
	free_observed(view->observed);
	view->observed = NULL;
	free_transfer(view->transfer);
	view->transfer = NULL;
}

Bh__Desired *view_next(const struct view *view, const Bh__Desired *from)
{
	Bh__Desired *next = desired_next(from);

	next->generation = view->desired->generation + 1;
	rings_settle(next, view->desired, view->observed, &view->heard);
	return next;
}

Bh__Desired *view_put_in_force(struct view *view, Bh__Desired *next)
{
	Bh__Desired *before = view->desired;

	view->desired = next;
	return before;
}

/* The next report may be of a worker that has not looked at the rings yet: what this one said of
 * them is kept. */
void view_observe(struct view *view, Bh__Observed *observed)
{
	if (view_applied(view))
		rings_hear(&view->heard, view->desired, view->observed->rings,
			view->observed->n_rings);
	free_observed(view->observed);
	view->observed = observed;
}

/* A worker that has applied the record knows better than the ledger where its rings have
 * stopped. */
void view_hear(struct view *view, bool worker_gone, Bh__RingState *const *states, size_t n)
{
	view->worker_gone = worker_gone;
	if (!worker_gone)
		view->waited_in_vain = false;
	if (!view_applied(view))
		rings_hear(&view->heard, view->desired, states, n);
}

/* --- Transfers --- */

static bool has_ended(const struct view *view, uint64_t id)
{
	return view->transfer && view->transfer->id == id &&
		view->transfer->step == BH__TRANSFER__STEP__ENDED;
}

enum view_transfer view_transfer(const struct view *view)
{
	if (!view->desired->transfer)
		return VIEW_TRANSFER_NONE;
	if (has_ended(view, view->desired->transfer))
		return VIEW_TRANSFER_ENDED;
	return view->lost_transfer == view->desired->transfer ? VIEW_TRANSFER_LOST
							      : VIEW_TRANSFER_PENDING;
}

uint64_t view_awaits_transfer(const struct view *view, uint64_t begun)
{
	uint64_t id = begun ?: view->desired->transfer;

	return id == view->lost_transfer || has_ended(view, id) ? 0 : id;
}

static Bh__Transfer *copy_transfer(const Bh__Transfer *transfer)
{
	Bh__Transfer *copy = record_copy_transfer(transfer);

	check(copy);
	return copy;
}

/* What has ended stays known until the VMM has asked, whatever the operator begins meanwhile. */
void view_hear_transfer(struct view *view, const Bh__Transfer *transfer, uint64_t waited)
{
	uint64_t own = view->desired->transfer ?: waited;

	if (own && has_ended(view, own))
		return;
	if (transfer && (!own || transfer->id == own)) {
		free_transfer(view->transfer);
		view->transfer = copy_transfer(transfer);
	} else if (waited) {
		view->lost_transfer = waited;
	}
}
